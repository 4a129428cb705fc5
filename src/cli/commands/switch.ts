/** `umlaut switch`: a switch for processes that speak uml_switch's protocol, with its options and its messages. */
import { spawn } from 'node:child_process';
import type { Command } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import type { UmlSwitchEvent } from '../../switchd/uml/control-server.ts';
import { printable } from '../format.ts';
import type { Io } from '../io.ts';

const PATH_DEFAULT = '/tmp/uml.ctl';
const USAGE = 'umlaut switch [-unix CONTROL-SOCKET] [-hub] [-tap DEVICE] [-daemon]';
const SIGNAL_NUMBERS = { SIGINT: 2, SIGTERM: 15 } as const;

type StopSignal = keyof typeof SIGNAL_NUMBERS;

export interface SwitchArguments {
  readonly path: string;
  readonly hub: boolean;
  readonly taps: readonly string[];
  readonly daemon: boolean;
}

export function registerSwitch(program: Command, io: Io): void {
  program
    .command('switch')
    .usage('[-unix CONTROL-SOCKET] [-hub] [-tap DEVICE] [-daemon]')
    .argument('[options...]')
    .allowUnknownOption()
    .description('run a switch as uml_switch does, without the daemon')
    .addHelpText(
      'after',
      `\n-unix SOCKET  its control socket (default ${PATH_DEFAULT}); one that nobody serves any more is replaced` +
        '\n-hub          every frame goes to every port' +
        '\n-tap DEVICE   a TAP device is a port too' +
        '\n-daemon       return as soon as it runs',
    )
    .action(async (_options: string[], _given: object, command: Command) => {
      const given = switchArguments(command.args);
      if (given.daemon) await runInBackground(io);
      else await run(given, io);
    });
}

/** Reads uml_switch's options. Throws AppError. */
export function switchArguments(args: readonly string[]): SwitchArguments {
  const result = { path: PATH_DEFAULT, hub: false, taps: [] as string[], daemon: false };
  const rest = args.values();
  const value = (option: string): string => {
    const next = rest.next().value;
    if (next === undefined || next === '') throw usage(`${option} needs a value`);
    return next;
  };
  for (const arg of rest) {
    if (arg === '-unix') result.path = value(arg);
    else if (arg === '-tap') result.taps.push(value(arg));
    else if (arg === '-hub') result.hub = true;
    else if (arg === '-daemon') result.daemon = true;
    else if (arg === '-compat-v0') throw usage('clients of version 0 of the protocol are not served');
    else throw usage(`${printable(arg)} is no option`);
  }
  return result;
}

function usage(detail: string): AppError {
  return new AppError('invalid_input', detail, { field: 'options', remedy: `Usage: ${USAGE}` });
}

async function run({ path, hub, taps }: SwitchArguments, io: Io): Promise<void> {
  // Loaded here: most commands need nothing of the switch.
  const { UmlSwitch } = await import('../../switchd/uml/control-server.ts');
  const stopped = Promise.withResolvers<StopSignal>();
  const stop = (signal: StopSignal): void => stopped.resolve(signal);
  const onEvent = (event: UmlSwitchEvent): unknown => io.stdout.write(eventText(event));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    const running = await UmlSwitch.start({ path, hub, taps, onEvent, onError: stopped.reject });
    try {
      io.stdout.write(`uml_switch attached to unix socket '${printable(path)}'${hub ? ' as a hub' : ''}\n`);
      tellParent();
      io.exitCode = 128 + SIGNAL_NUMBERS[await stopped.promise];
    } finally {
      await running.close();
    }
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

function eventText(event: UmlSwitchEvent): string {
  switch (event.type) {
    case 'connected':
      return 'New connection\n';
    case 'disconnected':
      return 'Disconnect\n';
    case 'bad-request':
      return `Bad request: ${printable(event.why)}\n`;
    case 'unknown-version':
      return `Request for a port with version ${event.version}, which is not known\n`;
    case 'station': {
      const { mac, port, oldPort } = event.report;
      return ` Addr: ${mac} New port ${port}${oldPort === undefined ? '' : ` old port ${oldPort}`}\n`;
    }
  }
}

/** Ends the waiting of `runInBackground`, in whose child this is. */
function tellParent(): void {
  if (process.send === undefined) return;
  process.send('serving');
  process.disconnect?.();
}

/** Runs the same command without -daemon in a process of its own, and waits until it serves or has failed. */
async function runInBackground(io: Io): Promise<void> {
  const args = process.argv.slice(1).filter((arg) => arg !== '-daemon');
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  child.stderr?.on('data', (text: Uint8Array) => io.stderr.write(Buffer.from(text).toString()));
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('message', () => resolve());
    child.once('close', (code) => {
      io.exitCode = code ?? 1;
      resolve();
    });
  });
  child.stderr?.destroy();
  child.unref();
}
