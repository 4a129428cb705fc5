/** `umlaut proc …`: files of a guest's /proc that the host replaces or hides. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { NewProcFile, type ProcFile, type ProcSource, type Vm } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { readHppfs } from '../../uml/hppfs.ts';
import { CommandContext } from '../context.ts';
import { formatTable } from '../format.ts';
import type { Io } from '../io.ts';

interface ReplaceOptions {
  readonly text?: string;
  readonly file?: string;
  readonly socket?: string;
  readonly command?: string[];
  readonly filter?: boolean;
}

export function registerProc(program: Command, io: Io): void {
  const proc = program
    .command('proc')
    .description("files of a guest's /proc that the host replaces or hides; at once, also while it runs");
  proc
    .command('replace')
    .argument('<vm>')
    .argument('<path>', 'below /proc; a first part pid stands for every process, comm:NAME for a program')
    .option('--text <text>', 'what the guest reads')
    .option('--file <file>', 'a file of the host, which the operator has to allow')
    .option('--socket <socket>', 'a stream socket of the host that is asked each time')
    .option('--command <words...>', 'a program of the host and its arguments: what it prints, each time')
    .option(
      '--filter',
      "the socket or the program is given what the guest's kernel has, and answers what is read",
    )
    .description('have the guest read something else')
    .action(async (vm: string, path: string, options: ReplaceOptions, command: Command) => {
      const added = fileOf(path, sourceOf(options));
      await change(new CommandContext(command, io), vm, (files) => [...without(files, [added.path]), added]);
    });
  proc
    .command('hide')
    .argument('<vm>')
    .argument('<path...>', 'files or folders below /proc')
    .description('have the guest not find them')
    .action(async (vm: string, paths: string[], _options: object, command: Command) => {
      const added = paths.map((path) => fileOf(path, { kind: 'hidden' }));
      const names = added.map(({ path }) => path);
      await change(new CommandContext(command, io), vm, (files) => [...without(files, names), ...added]);
    });
  proc
    .command('restore')
    .argument('<vm>')
    .argument('[path...]', 'all when missing')
    .description("have the guest find its kernel's own files again")
    .action(async (vm: string, paths: string[], _options: object, command: Command) => {
      const names = paths.map((path) => fileOf(path, { kind: 'hidden' }).path);
      await change(new CommandContext(command, io), vm, (files) =>
        names.length === 0 ? [] : without(files, names),
      );
    });
  proc
    .command('load')
    .argument('<vm>')
    .argument('<folder>', "as UML's hppfs has it: proc/P for the guest's /proc/P; proc/P/remove hides it")
    .description('have a folder of the host say what is replaced and hidden, in place of all before')
    .action(async (vm: string, folder: string, _options: object, command: Command) => {
      const files = readHppfs(resolve(folder)).map(({ path, source }) => fileOf(path, source));
      await change(new CommandContext(command, io), vm, () => files);
    });
  proc
    .command('list')
    .argument('<vm>')
    .description('what is replaced and hidden')
    .action(async (vm: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print((await context.client.getVm(vm)).proc_files, table);
    });
}

async function change(
  context: CommandContext,
  vm: string,
  changed: (files: Vm['proc_files']) => ProcFile[],
): Promise<void> {
  const now = await context.client.getVm(vm);
  const { proc_files: files } = await context.client.updateVm(now.id, {
    proc_files: changed(now.proc_files),
  });
  context.print(files, table);
}

function without(files: Vm['proc_files'], paths: readonly string[]): ProcFile[] {
  return files.filter(({ path }) => !paths.includes(path));
}

/** With the path as the daemon writes it down. */
function fileOf(path: string, source: unknown): ProcFile {
  const parsed = NewProcFile.safeParse({ path, source });
  if (parsed.success) return parsed.data;
  throw new AppError('invalid_input', `${path}: ${parsed.error.issues[0]?.message ?? 'is wrong'}`, {
    field: 'path',
    remedy: 'name a file below /proc, such as cpuinfo, sys/kernel/hostname or pid/status',
  });
}

function sourceOf({ text, file, socket, command, filter }: ReplaceOptions): ProcSource {
  const sources: ProcSource[] = [
    ...(text === undefined ? [] : [{ kind: 'text', text } as const]),
    ...(file === undefined ? [] : [{ kind: 'file', path: resolve(file) } as const]),
    ...(socket === undefined ? [] : [{ kind: 'socket', path: resolve(socket), filter } as const]),
    ...(command === undefined ? [] : [{ kind: 'command', command, filter } as const]),
  ];
  if (filter === true && socket === undefined && command === undefined) {
    throw new AppError('invalid_input', '--filter is for --socket and --command', {
      field: '--filter',
      remedy: 'leave it out, or give a socket or a program',
    });
  }
  if (sources[0] !== undefined && sources.length === 1) return sources[0];
  throw new AppError('invalid_input', 'what the guest is to read is not given, or more than once', {
    remedy: 'give one of --text, --file, --socket and --command',
  });
}

function table(files: Vm['proc_files']): string {
  return formatTable(
    ['FILE', 'IS'],
    files.map(({ path, source }) => [path, sourceText(source)]),
  );
}

function sourceText(source: ProcSource): string {
  if (source.kind === 'hidden') return 'hidden';
  if (source.kind === 'text') return `text ${JSON.stringify(source.text.slice(0, 40))}`;
  const text =
    source.kind === 'command' ? `command ${source.command.join(' ')}` : `${source.kind} ${source.path}`;
  return source.kind !== 'file' && source.filter === true ? `filter by ${text}` : text;
}
