/** The management console of a machine that runs in the foreground, without a daemon: its devices are those of its command line. */
import type { MconsoleResult } from '../contracts/api/index.ts';
import { CONSOLE_NAMES } from '../vmm/index.ts';
import { type DeviceWord, parseDevice, parseUnit } from './devices.ts';
import { dispatch } from './dispatch.ts';
import { ERRNO, type MachineContext, ok, refuse, type Verb } from './verb.ts';
import { cad } from './verbs/cad.ts';
import { go } from './verbs/go.ts';
import { halt } from './verbs/halt.ts';
import { makeHelp } from './verbs/help.ts';
import { proc } from './verbs/proc.ts';
import { reboot } from './verbs/reboot.ts';
import { stack } from './verbs/stack.ts';
import { stop } from './verbs/stop.ts';
import { sysrq } from './verbs/sysrq.ts';

export interface ForegroundContext extends MachineContext {
  /** As uname -a would say it. */
  readonly version: string;
  readonly memoryBytes: number;
  /** `ubd0`, `con0`, … and how they were configured. */
  readonly devices: ReadonlyMap<string, string>;
}

type ForegroundVerb = Verb<ForegroundContext>;

const version: ForegroundVerb = {
  name: 'version',
  usage: 'version',
  help: 'Get kernel version',
  run: (context) => ok(context.version),
};

const config: ForegroundVerb = {
  name: 'config',
  usage: 'config <dev>',
  help: 'Query the configuration of a device',
  run(context, argument) {
    const equals = argument.indexOf('=');
    const device = parseDevice(equals < 0 ? argument : argument.slice(0, equals));
    if (device === undefined) return refuse('Bad configuration option');
    if (equals >= 0) return refuse('The VM is running: halt it to add a device', ERRNO.EBUSY);
    return query(context, device);
  },
};

function query({ memoryBytes, devices }: ForegroundContext, { driver, rest }: DeviceWord): MconsoleResult {
  if (driver === 'mem') return ok(String(memoryBytes));
  if (driver === 'eth' || driver === 'vec') return refuse('No get_config routine defined');
  const unit = parseUnit(rest, driver === 'ubd');
  if (unit === undefined || unit.flags !== '') {
    return refuse(
      driver === 'ubd'
        ? 'ubd_get_config : parse_unit failed'
        : 'line_get_config failed to parse device number',
    );
  }
  return ok(devices.get(`${driver}${unit.unit}`) ?? (driver === 'ubd' ? '' : 'none'));
}

const remove: ForegroundVerb = {
  name: 'remove',
  usage: 'remove <dev>',
  help: 'Remove a device (not from a VM that runs)',
  run(_context, argument) {
    const device = parseDevice(argument);
    if (device === undefined) return refuse('Bad remove option');
    if (device.driver === 'mem') return refuse("Memory doesn't support the remove operation", ERRNO.EBUSY);
    return refuse('Device is currently open', ERRNO.EBUSY);
  },
};

const log: ForegroundVerb = {
  name: 'log',
  usage: 'log <string>',
  help: "Write a string to the VM's console (not to the guest's kernel log)",
  verbatim: true,
  run({ instance }, text) {
    instance.consoles.output(CONSOLE_NAMES[0], new TextEncoder().encode(text.replaceAll(/\r?\n/g, '\r\n')));
    return ok();
  },
};

const VERBS: readonly ForegroundVerb[] = [
  version,
  halt,
  reboot,
  config,
  remove,
  sysrq,
  makeHelp(() => VERBS),
  cad,
  stop,
  go,
  log,
  proc,
  stack,
];

/** Carries out a command's text. */
export function runForegroundCommand(context: ForegroundContext, command: string): Promise<MconsoleResult> {
  return dispatch(VERBS, context, command);
}
