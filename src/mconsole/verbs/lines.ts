/** `config conN`, `config sslN`, with and without a channel, and `remove`. */
import type { MconsoleResult } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { parseLine } from '../../uml/channels.ts';
import { lineCount, type LineName } from '../../vmm/index.ts';
import { parseUnit } from '../devices.ts';
import type { Target } from '../target.ts';
import { attempt, ERRNO, ok, refuse } from '../verb.ts';

type LineDriver = LineName['driver'];

export function queryLine(target: Target, driver: LineDriver, rest: string): MconsoleResult {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '')
    return refuse('line_get_config failed to parse device number');
  if (parsed.unit >= lineCount(driver)) return refuse('device number out of range');
  return ok(target.line({ driver, number: parsed.unit }) ?? 'none');
}

export async function setLine(
  target: Target,
  driver: LineDriver,
  rest: string,
  value: string,
): Promise<MconsoleResult> {
  if (rest === '') return refuse("Can't configure all devices from mconsole", ERRNO.EINVAL);
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '')
    return refuse("Couldn't parse device number", ERRNO.EINVAL);
  if (parsed.unit >= lineCount(driver)) return refuse('Device number out of range', ERRNO.EINVAL);
  const name = { driver, number: parsed.unit };
  if (!isChannel(value)) {
    // As in UML, the line is then without one.
    await target.setLine(name, 'none');
    return refuse('failed to parse channel pair', -1);
  }
  const result = await attempt(() => target.setLine(name, value));
  return result.ok && value === 'none' ? ok("configured as 'none'") : result;
}

export async function removeLine(target: Target, driver: LineDriver, rest: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '') return refuse("Couldn't parse device number");
  if (parsed.unit >= lineCount(driver)) return refuse('Device number out of range', ERRNO.EINVAL);
  return await attempt(() => target.setLine({ driver, number: parsed.unit }, 'none'));
}

function isChannel(value: string): boolean {
  try {
    parseLine('', value);
    return true;
  } catch (error) {
    if (error instanceof AppError) return false;
    throw error;
  }
}
