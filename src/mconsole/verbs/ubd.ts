/** `config ubdN` and `remove ubdN`. */
import { DISKS_MAX, type MconsoleResult } from '../../contracts/api/index.ts';
import { parseUnit } from '../devices.ts';
import type { Target } from '../target.ts';
import { attempt, ERRNO, ok, refuse } from '../verb.ts';
import { ubdFlags } from '../../uml/ubd.ts';
import { REMOVAL } from './eth.ts';

const FLAGS = /^[rsctd]*$/;
const FLAGS_MAX = 6;
const ADDING = {
  not_found: refuse("Couldn't determine size of device's file", ERRNO.ENOENT),
} as const;

export async function queryUbd(target: Target, rest: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, true);
  if (parsed === undefined || parsed.unit >= DISKS_MAX)
    return refuse('ubd_get_config : device number out of range');
  return ok(await target.disk(parsed.unit));
}

export async function setUbd(target: Target, rest: string, value: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, true);
  if (parsed === undefined) return refuse("Couldn't parse device number", ERRNO.EINVAL);
  const { unit, flags } = parsed;
  if (unit >= DISKS_MAX) return refuse('Device number out of range');
  if ((await target.disk(unit)) !== undefined) return refuse('Device is already configured', ERRNO.EBUSY);
  if (flags.length > FLAGS_MAX) return refuse('Too many flags specified', ERRNO.EINVAL);
  if (!FLAGS.test(flags)) {
    return refuse("Expected '=' or flag letter (r, s, c, t or d)", ERRNO.EINVAL);
  }
  const [file = '', backing = '', serial = ''] = value.split(/[,:]/, 3);
  const plain = flags.includes('d');
  if (plain && backing !== '') return refuse("Can't specify both 'd' and a cow file", ERRNO.EINVAL);
  const disk = {
    unit,
    file,
    backing: backing === '' ? undefined : backing,
    serial: serial === '' ? undefined : serial,
    plain,
    ...ubdFlags(flags),
  };
  return await attempt(() => target.addDisk(disk), ADDING);
}

export async function removeUbd(target: Target, rest: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, true);
  if (parsed === undefined) return refuse("Couldn't parse device number");
  if (parsed.unit >= DISKS_MAX)
    return refuse(`Invalid device number - must be between 0 and ${DISKS_MAX - 1}`);
  return await attempt(() => target.removeDisk(parsed.unit), REMOVAL);
}
