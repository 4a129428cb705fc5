/** `umlaut disk convert`, `shrink` and `repair-header`: disk files of this host, without a daemon. */
import { type Command, Option } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { CommandContext } from '../context.ts';
import { formatBytes, printable } from '../format.ts';
import type { Io } from '../io.ts';
import { runLocally } from './local-work.ts';

export function registerDiskFiles(program: Command, io: Io): void {
  // INVARIANT: program.ts registers `disk` before this.
  const disk = program.commands.find((command) => command.name() === 'disk')!;
  registerConvert(disk, io);
  registerShrink(disk, io);
  registerRepair(disk, io);
}

interface ConvertCommandOptions {
  readonly from?: 'raw' | 'qcow2' | 'cow';
  readonly to?: 'raw' | 'qcow2';
  readonly compress?: 'zlib' | 'zstd';
  readonly qcow2Version: '2' | '3';
  readonly backing?: string;
}

function registerConvert(disk: Command, io: Io): void {
  disk
    .command('convert')
    .argument('<from>', 'disk file: raw, qcow2, or a copy-on-write file of UML')
    .argument('<to>', 'file to make')
    .addOption(
      new Option('--from <format>', 'instead of what it begins with').choices(['raw', 'qcow2', 'cow']),
    )
    .addOption(
      new Option('--to <format>', 'default: qcow2 for a name that ends so, else raw').choices([
        'raw',
        'qcow2',
      ]),
    )
    .addOption(new Option('--compress <method>', 'compress the clusters of qcow2').choices(['zlib', 'zstd']))
    .addOption(new Option('--qcow2-version <version>').choices(['2', '3']).default('3'))
    .option(
      '--backing <file>',
      'raw or qcow2 file that a new qcow2 file is to be over: it has only what differs',
    )
    .description('make a disk file of another format, with all that is in the backing files')
    .action(async (from: string, to: string, options: ConvertCommandOptions, command: Command) => {
      const format = options.to ?? (to.endsWith('.qcow2') ? 'qcow2' : 'raw');
      if (format === 'raw' && options.compress !== undefined) {
        throw new AppError('invalid_input', 'a raw file is not compressed', {
          field: '--compress',
          remedy: 'leave it out, or add --to qcow2',
        });
      }
      const { backing } = options;
      if (format === 'raw' && backing !== undefined) {
        throw new AppError('invalid_input', 'a raw file has no backing file', {
          field: '--backing',
          remedy: 'leave it out, or add --to qcow2',
        });
      }
      const version = options.qcow2Version === '2' ? 2 : 3;
      const qcow2 = format === 'qcow2' ? ({ version, compression: options.compress } as const) : undefined;
      const { convertDisk } = await import('../../storage/index.ts');
      await runLocally(
        command,
        io,
        async (local) => {
          await convertDisk(from, to, { format: options.from, qcow2, backing, ...local });
          return { from, to, format };
        },
        () => '',
      );
    });
}

interface ShrinkCommandOptions {
  readonly from?: 'raw' | 'cow';
  readonly wait: boolean;
}

function registerShrink(disk: Command, io: Io): void {
  disk
    .command('shrink')
    .argument('<disk>', "a disk of the daemon's, or the path of a disk file, which has a slash")
    .addOption(
      new Option('--from <format>', 'of a file, instead of what it begins with').choices(['raw', 'cow']),
    )
    .option('--no-wait', 'do not wait for the end')
    .description('give the space of zeros, and of what is as in the image below, back to the host')
    .action(async (name: string, options: ShrinkCommandOptions, command: Command) => {
      if (name.includes('/')) await shrinkFile(name, options.from, command, io);
      else await shrinkByDaemon(name, options.wait, command, io);
    });
}

async function shrinkFile(
  file: string,
  format: ShrinkCommandOptions['from'],
  command: Command,
  io: Io,
): Promise<void> {
  const { shrinkDiskFile } = await import('../../storage/index.ts');
  await runLocally(
    command,
    io,
    (local) => shrinkDiskFile(file, { format, ...local }),
    ({ beforeBytes, afterBytes }) => shrunk(file, beforeBytes, afterBytes),
  );
}

async function shrinkByDaemon(name: string, wait: boolean, command: Command, io: Io): Promise<void> {
  const context = new CommandContext(command, io);
  const before = await context.client.getDisk(name);
  const operation = await context.finish(await context.client.shrinkDisk(name), wait);
  const after = wait ? await context.client.getDisk(name) : before;
  context.print(operation, () =>
    wait
      ? shrunk(name, before.allocated_bytes, after.allocated_bytes)
      : `operation ${operation.id} ${operation.status}\n`,
  );
}

function shrunk(name: string, before: number, after: number): string {
  return `${printable(name)}: ${formatBytes(before)} before, ${formatBytes(after)} now\n`;
}

function registerRepair(disk: Command, io: Io): void {
  disk
    .command('repair-header')
    .argument('<cow>', 'copy-on-write file whose backing file has another modification time than it says')
    .option('-b, --backing <file>', 'the backing file, instead of the one that COW names')
    .description('accept the backing file as it is; only right if its content has not changed')
    .action(async (cow: string, options: { backing?: string }, command: Command) => {
      const { repairCowHeader } = await import('../../storage/index.ts');
      await runLocally(
        command,
        io,
        () => repairCowHeader(cow, options),
        ({ backing, before, after }) =>
          before === after
            ? `${printable(cow)} agrees with ${printable(backing)} already\n`
            : `${printable(cow)} takes ${printable(backing)} as of ${isoSeconds(after)}; it was of ${isoSeconds(before)}\n`,
      );
    });
}

function isoSeconds(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
