/** `config hostfs=FOLDER[,append]` and `remove hostfs`: a folder of the host that the guest can mount. */
import type { MconsoleResult } from '../../contracts/api/index.ts';
import { parseHostfs } from '../../uml/hostfs.ts';
import type { Target } from '../target.ts';
import { attempt, refuse } from '../verb.ts';
import { REMOVAL } from './eth.ts';

export async function setHostfs(target: Target, name: string, value: string): Promise<MconsoleResult> {
  if (name !== '') return refuse('Bad configuration option');
  return await attempt(async () => {
    const { root, append } = parseHostfs(value);
    await target.addHostfs(root, append);
  });
}

export async function removeHostfs(target: Target): Promise<MconsoleResult> {
  return await attempt(() => target.removeHostfs(), REMOVAL);
}
