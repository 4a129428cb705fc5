/** `umlaut disk convert` and `umlaut disk repair-header`: disk files of this host, without a daemon. */
import { type Command, Option } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { printable } from '../format.ts';
import type { Io } from '../io.ts';
import { runLocally } from './local-work.ts';

export function registerDiskFiles(program: Command, io: Io): void {
  // INVARIANT: program.ts registers `disk` before this.
  const disk = program.commands.find((command) => command.name() === 'disk')!;
  registerConvert(disk, io);
  registerRepair(disk, io);
}

interface ConvertCommandOptions {
  readonly from?: 'raw' | 'qcow2' | 'cow';
  readonly to?: 'raw' | 'qcow2';
  readonly compress?: 'zlib' | 'zstd';
  readonly qcow2Version: '2' | '3';
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
    .description('make a disk file of another format, with all that is in the backing files')
    .action(async (from: string, to: string, options: ConvertCommandOptions, command: Command) => {
      const format = options.to ?? (to.endsWith('.qcow2') ? 'qcow2' : 'raw');
      if (format === 'raw' && options.compress !== undefined) {
        throw new AppError('invalid_input', 'a raw file is not compressed', {
          field: '--compress',
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
          await convertDisk(from, to, { format: options.from, qcow2, ...local });
          return { from, to, format };
        },
        () => '',
      );
    });
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
