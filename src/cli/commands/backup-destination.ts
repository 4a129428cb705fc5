/** `umlaut backup destination …` and `umlaut backup rebuild` */
import type { Command } from 'commander';
import type {
  BackupDestination,
  BackupDestinationCreateInput,
  Operation,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatTable } from '../format.ts';
import type { Io } from '../io.ts';

interface Adding {
  readonly takeOver?: true;
}

interface Waiting {
  readonly wait: boolean;
}

export function registerDestinations(backup: Command, io: Io): void {
  const destination = backup.command('destination').description('where backups are kept');
  destination
    .command('add')
    .argument('<name>')
    .argument('<location>', 'a folder of the daemon’s host, or REMOTE:PATH of rclone')
    .option(
      '--take-over',
      'a remote of a daemon that is gone for good; if it still runs, backups are destroyed',
    )
    .description('add a folder (below one that --allow-path names) or a remote')
    .action(async (name: string, location: string, options: Adding, command: Command) => {
      const context = new CommandContext(command, io);
      const made = await context.client.createBackupDestination(creationOf(name, location, options));
      context.print(made, () => `${made.name}\n`);
    });
  destination
    .command('list')
    .description('all destinations')
    .action(async (_options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listBackupDestinations(), destinationTable);
    });
  destination
    .command('delete')
    .argument('<name>')
    .description('forget a destination that no backup is in; what is stored there stays')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteBackupDestination(name);
      context.print({ deleted: name }, () => `${name} deleted\n`);
    });
  destination
    .command('take-over')
    .argument('<name>')
    .description('take a remote from a daemon that is gone for good; if it still runs, backups are destroyed')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const taken = await context.client.takeOverBackupDestination(name);
      context.print(taken, () => `${taken.name} taken over\n`);
    });
  registerWork(destination, backup, io);
}

function creationOf(name: string, location: string, { takeOver }: Adding): BackupDestinationCreateInput {
  if (!location.startsWith('/')) return { name, kind: 'rclone', location, take_over: takeOver };
  if (takeOver === undefined) return { name, kind: 'directory', location };
  throw new AppError('invalid_input', 'the lock of a folder ends with the daemon that has it', {
    field: '--take-over',
    remedy: 'leave --take-over out; it is for remotes',
  });
}

function registerWork(destination: Command, backup: Command, io: Io): void {
  const work = (
    parent: Command,
    verb: string,
    description: string,
    begin: (context: CommandContext, name: string) => Promise<Operation>,
  ): void => {
    parent
      .command(verb)
      .argument('[destination]', 'the state folder of the daemon when missing', 'local')
      .option('--no-wait', 'do not wait for the end')
      .description(description)
      .action(async (name: string, { wait }: Waiting, command: Command) => {
        const context = new CommandContext(command, io);
        const operation = await context.finish(await begin(context, name), wait);
        context.print(operation, () => `${verb} ${name} ${operation.status}\n`);
      });
  };
  work(destination, 'verify', 'read everything that is stored there and check it', (context, name) =>
    context.client.verifyBackupDestination(name),
  );
  work(destination, 'collect', 'remove what no backup needs, now', (context, name) =>
    context.client.collectBackupDestination(name),
  );
  work(backup, 'rebuild', 'find the backups that are stored and not known', (context, name) =>
    context.client.rebuildBackupDestination(name),
  );
}

function destinationTable(destinations: readonly BackupDestination[]): string {
  const rows = destinations.map((one) => [
    one.name,
    one.kind,
    one.location,
    String(one.backups),
    formatAge(one.created_at),
  ]);
  return formatTable(['NAME', 'KIND', 'LOCATION', 'BACKUPS', 'AGE'], rows);
}
