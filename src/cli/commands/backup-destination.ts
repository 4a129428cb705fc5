/** `umlaut backup destination …` and `umlaut backup rebuild` */
import type { Command } from 'commander';
import type { BackupDestination, Operation } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatTable } from '../format.ts';
import type { Io } from '../io.ts';

interface Waiting {
  readonly wait: boolean;
}

export function registerDestinations(backup: Command, io: Io): void {
  const destination = backup.command('destination').description('where backups are kept');
  destination
    .command('add')
    .argument('<name>')
    .argument('<location>', 'a folder of the daemon’s host, or REMOTE:PATH of rclone')
    .description('add a folder (below one that --allow-path names) or a remote')
    .action(async (name: string, location: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const kind = location.startsWith('/') ? 'directory' : 'rclone';
      const made = await context.client.createBackupDestination({ name, kind, location });
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
  registerWork(destination, backup, io);
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
