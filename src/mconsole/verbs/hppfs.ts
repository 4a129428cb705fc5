/** `config hppfs=FOLDER` and `remove hppfs`: files of the guest's /proc that a folder of the host has. */
import type { MconsoleResult } from '../../contracts/api/index.ts';
import type { Target } from '../target.ts';
import { attempt, refuse } from '../verb.ts';

export async function setHppfs(target: Target, name: string, folder: string): Promise<MconsoleResult> {
  if (name !== '' || folder === '') return refuse('Bad configuration option');
  return await attempt(() => target.setHppfs(folder));
}

export async function removeHppfs(target: Target): Promise<MconsoleResult> {
  return await attempt(() => target.setHppfs(undefined));
}
