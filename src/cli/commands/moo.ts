/** `umlaut moo` */
import type { Command } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { formatBytes, printable } from '../format.ts';
import type { Io } from '../io.ts';
import { runLocally } from './local-work.ts';

interface MooOptions {
  readonly destructive?: boolean;
  readonly backing?: string;
}

export function registerMoo(program: Command, io: Io): void {
  program
    .command('moo')
    .argument('<cow>', 'copy-on-write file of UML, of any version')
    .argument('[new]', 'raw file to make; one that is there is replaced')
    .option('-d, --destructive', 'merge into the backing file itself, instead of into a new one')
    .option('-b, --backing <file>', 'the backing file, instead of the one that COW names')
    .description('merge a copy-on-write file with its backing file, as uml_moo does')
    .addHelpText(
      'after',
      '\nA merge with -d that was cut off is taken up by the same command. Afterwards no copy-on-write file over\nthat backing file opens any more.',
    )
    .action(async (cow: string, made: string | undefined, options: MooOptions, command: Command) => {
      if (options.destructive === true) await intoBacking(cow, made, options, command, io);
      else await intoNew(cow, made, options, command, io);
    });
}

async function intoNew(
  cow: string,
  made: string | undefined,
  { backing }: MooOptions,
  command: Command,
  io: Io,
): Promise<void> {
  if (made === undefined) {
    throw new AppError('invalid_input', 'there is no name for the merged file', {
      field: 'new',
      remedy: 'add the name of the file to make, or -d to merge into the backing file',
    });
  }
  // Loaded here: most commands need nothing of the disks.
  const { mergeCow } = await import('../../storage/index.ts');
  await runLocally(
    command,
    io,
    async (local) => {
      await mergeCow(cow, made, { backing, ...local });
      return { merged: cow, new: made };
    },
    () => '',
  );
}

async function intoBacking(
  cow: string,
  made: string | undefined,
  options: MooOptions,
  command: Command,
  io: Io,
): Promise<void> {
  if (made !== undefined) {
    throw new AppError('invalid_input', 'with -d no new file is made', {
      field: 'new',
      remedy: 'leave out the second file or -d',
    });
  }
  const { mergeCowIntoBacking } = await import('../../storage/index.ts');
  await runLocally(
    command,
    io,
    async (local) => {
      const result = await mergeCowIntoBacking(cow, { backing: options.backing, ...local });
      const { backing, writtenBytes, resumed } = result;
      return { merged: cow, backing, written_bytes: writtenBytes, resumed };
    },
    ({ backing, written_bytes }) => `${formatBytes(written_bytes)} written to ${printable(backing)}\n`,
  );
}
