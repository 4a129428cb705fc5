/** `umlaut disk repair-header`: disk files of this host, without a daemon. */
import type { Command } from 'commander';
import { printable } from '../format.ts';
import type { Io } from '../io.ts';
import { runLocally } from './local-work.ts';

export function registerDiskFiles(program: Command, io: Io): void {
  // INVARIANT: program.ts registers `disk` before this.
  const disk = program.commands.find((command) => command.name() === 'disk')!;
  registerRepair(disk, io);
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
