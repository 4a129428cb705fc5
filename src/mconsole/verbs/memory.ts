/** `config mem`: the guest's memory in bytes; `config mem=+64M`, `mem=-64M`: more or less of it from the next start on. */
import type { MconsoleResult } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { ERRNO, ok, refuse, type VerbContext } from '../verb.ts';

const INCREMENT = /^([+-])(\d{1,12})([KMG]?)$/i;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

export async function queryMemory({ services, who, vmId }: VerbContext): Promise<MconsoleResult> {
  return ok(String((await services.vms.get(who, vmId)).memory_bytes));
}

export async function setMemory(context: VerbContext, value: string): Promise<MconsoleResult> {
  const { services, who, vmId, instance } = context;
  if (!/^[+-]/.test(value)) return refuse("Expected increment to start with '-' or '+'", ERRNO.EINVAL);
  const parsed = INCREMENT.exec(value);
  if (parsed === null) return refuse('Failed to parse memory increment', ERRNO.EINVAL);
  if (instance.hasMachine) return refuse('The VM is running: halt it to change its memory', ERRNO.EBUSY);
  const bytes = Number(parsed[2]) * UNITS[parsed[3]!.toUpperCase()]!;
  const { memory_bytes } = services.vms.find(who, vmId);
  const wanted = memory_bytes + (parsed[1] === '-' ? -bytes : bytes);
  if (wanted % 4096 !== 0) return refuse('Failed to parse memory increment', ERRNO.EINVAL);
  try {
    await services.vms.update(who, vmId, { memory_bytes: wanted });
    return ok();
  } catch (error) {
    if (error instanceof AppError) return refuse(error.message, ERRNO.EINVAL);
    throw error;
  }
}
