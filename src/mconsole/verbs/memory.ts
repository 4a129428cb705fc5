/** `config mem`: the guest's memory in bytes; `config mem=+64M`, `mem=-64M`: more or less of it. */
import type { MconsoleResult } from '../../contracts/api/index.ts';
import type { Target } from '../target.ts';
import { attempt, ERRNO, ok, refuse } from '../verb.ts';

const INCREMENT = /^([+-])(\d{1,12})([KMG]?)$/i;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };
const PAGE_BYTES = 4096;

export const queryMemory = (target: Target): MconsoleResult => ok(String(target.memoryBytes()));

export async function setMemory(target: Target, value: string): Promise<MconsoleResult> {
  if (!/^[+-]/.test(value)) return refuse("Expected increment to start with '-' or '+'", ERRNO.EINVAL);
  const parsed = INCREMENT.exec(value);
  if (parsed === null) return refuse('Failed to parse memory increment', ERRNO.EINVAL);
  const bytes = Number(parsed[2]) * UNITS[parsed[3]!.toUpperCase()]!;
  if (bytes % PAGE_BYTES !== 0) return refuse('Failed to parse memory increment', ERRNO.EINVAL);
  return await attempt(() => target.changeMemory(parsed[1] === '-' ? -bytes : bytes));
}
