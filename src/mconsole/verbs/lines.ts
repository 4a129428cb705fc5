/** `config conN`, `config sslN`: the consoles. Every one is open, on a channel of the daemon. */
import type { MconsoleResult } from '../../contracts/api/index.ts';
import { CONSOLE_NAMES } from '../../vmm/index.ts';
import { type Driver, parseUnit } from '../devices.ts';
import { ERRNO, ok, refuse } from '../verb.ts';

/** sslN is UML's word for a serial line, conN for a virtual console. */
function consoleOf(driver: Driver, unit: number): string {
  return driver === 'ssl' ? `ttyS${unit}` : `hvc${unit}`;
}

const LINES_MAX = 64;

export function queryLine(driver: Driver, rest: string): MconsoleResult {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '')
    return refuse('line_get_config failed to parse device number');
  if (parsed.unit >= LINES_MAX) return refuse('device number out of range');
  const name = consoleOf(driver, parsed.unit);
  return ok(CONSOLE_NAMES.some((known) => known === name) ? `console:${name}` : 'none');
}

export function setLine(driver: Driver, rest: string, value: string): MconsoleResult {
  if (rest === '') return refuse("Can't configure all devices from mconsole", ERRNO.EINVAL);
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '')
    return refuse("Couldn't parse device number", ERRNO.EINVAL);
  if (parsed.unit >= LINES_MAX) return refuse('Device number out of range', ERRNO.EINVAL);
  const name = consoleOf(driver, parsed.unit);
  if (CONSOLE_NAMES.some((known) => known === name)) return refuse('Device is already open', ERRNO.EINVAL);
  if (value === 'none') return { ok: true, err: 0, text: "configured as 'none'" };
  return refuse('failed to parse channel pair', -1);
}

export function removeLine(driver: Driver, rest: string): MconsoleResult {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '')
    return refuse("Couldn't parse device number", ERRNO.EINVAL);
  if (parsed.unit >= LINES_MAX) return refuse('Device number out of range', ERRNO.EINVAL);
  const name = consoleOf(driver, parsed.unit);
  return CONSOLE_NAMES.some((known) => known === name)
    ? refuse('Device is already open', ERRNO.EINVAL)
    : ok();
}
