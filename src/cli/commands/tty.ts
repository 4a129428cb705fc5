/** `umlaut tty …` and `umlaut trace`: what was written down of guests that were watched. */
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { asciicast, type CastEvent, castEvents } from '../../uml/asciicast.ts';
import { ttyName, ttyRecords } from '../../uml/tty-log.ts';
import { CommandContext } from '../context.ts';
import type { Io } from '../io.ts';
import { parseSeconds, parseSpeed } from '../parse.ts';

interface PlayOptions {
  readonly console?: string;
  readonly speed: number;
  readonly idle?: number;
  readonly timing: boolean;
  readonly all?: boolean;
}

export function registerTty(program: Command, io: Io): void {
  const tty = program.command('tty').description("recordings of guests' consoles");
  tty
    .command('get')
    .argument('<vm>')
    .option('--format <format>', "uml (UML's tty_log, all consoles) or asciicast", 'uml')
    .option('--console <console>', 'for asciicast; the first that has anything when missing')
    .option('-o, --output <file>', 'standard output when missing')
    .description('what was on the consoles of a VM while it was watched with "tty"')
    .action(
      async (
        vm: string,
        options: { format: string; console?: string; output?: string },
        command: Command,
      ) => {
        const context = new CommandContext(command, io);
        const { format, console } = options;
        await save(await context.client.getTtyLog(vm, { format, console }), options.output);
      },
    );
  tty
    .command('play')
    .argument('<file>', "a log of UML's tty_log, or an asciicast of version 2")
    .option('--console <console>', 'of a log that has several; the first that shows anything when missing')
    .option('--speed <factor>', 'times as fast', parseSpeed, 1)
    .option('--idle <seconds>', 'no pause is longer', parseSeconds)
    .option('-n, --no-timing', 'all at once')
    .option('-a, --all', 'what was typed too')
    .description('show a recording as it was')
    .action((file: string, options: PlayOptions) => play(castOf(file, options.console), options, io));
  program
    .command('trace')
    .argument('<vm>')
    .description('what the programs of a VM did while it was watched: one JSON object a line')
    .action(async (vm: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      io.stdout.write(Buffer.from(await context.client.getTrace(vm)).toString('utf8'));
    });
}

async function save(bytes: Uint8Array, file: string | undefined): Promise<void> {
  const stream = file === undefined ? process.stdout : createWriteStream(file, { mode: 0o600 });
  if (!stream.write(bytes)) await once(stream, 'drain');
  if (stream === process.stdout) return;
  stream.end();
  await once(stream, 'finish');
}

/** AppErrors: `not_found`, `invalid_input`. */
function castOf(file: string, console: string | undefined): CastEvent[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new AppError('not_found', `${file} cannot be read: ${String(cause)}`, { field: 'file', cause });
  }
  try {
    return bytes[0] === BRACE ? castEvents(bytes.toString('utf8')) : logEvents(bytes, file, console);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new AppError('invalid_input', `${file}: ${error.message}`, { field: 'file' });
  }
}

/** What an asciicast begins with. */
const BRACE = 0x7b;

function logEvents(bytes: Buffer, file: string, console: string | undefined): CastEvent[] {
  const names = [...new Set([...ttyRecords(bytes)].map(({ tty }) => ttyName(tty)))];
  const wanted = console ?? names[0];
  if (wanted !== undefined && names.includes(wanted)) {
    return castEvents([...asciicast(ttyRecords(bytes), wanted)].join(''));
  }
  throw new AppError('not_found', `${file} has nothing of ${wanted ?? 'any console'}`, {
    field: '--console',
    remedy:
      names.length === 0 ? 'record one with --watch tty, or tty_log_fd' : `use one of ${names.join(', ')}`,
  });
}

async function play(events: readonly CastEvent[], options: PlayOptions, io: Io): Promise<void> {
  let last = 0;
  for (const { at, kind, text } of events) {
    const pause = Math.min(Math.max(0, at - last), options.idle ?? Number.POSITIVE_INFINITY) / options.speed;
    last = at;
    if (options.timing && pause > 0) await delay(pause * 1000);
    if (kind === 'o' || options.all === true) io.stdout.write(text);
  }
}
