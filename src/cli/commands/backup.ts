/** `umlaut backup …` */
import type { Command } from 'commander';
import type { Backup, Operation, ResourceType } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseCount } from '../parse.ts';

interface CreateOptions {
  readonly name?: string;
  readonly keep?: number;
  readonly wait: boolean;
}
interface RestoreOptions {
  readonly name?: string;
  readonly start?: boolean;
  readonly wait: boolean;
}

export function registerBackup(program: Command, io: Io): void {
  const backup = program.command('backup').description('copies of all disks of a VM at one moment');
  backup
    .command('create')
    .argument('<vm>')
    .option('--name <name>', 'name of the backup')
    .option('--keep <count>', "keep only so many of this VM's newest backups", parseCount)
    .option('--no-wait', 'do not wait for the end')
    .description('back up a VM, also while it runs')
    .action(async (vm: string, { name, keep, wait }: CreateOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = { ...(name !== undefined && { name }), ...(keep !== undefined && { keep }) };
      const operation = await context.finish(await context.client.createBackup(vm, body), wait);
      context.print(operation, () => made(operation, 'backup'));
    });
  backup
    .command('restore')
    .argument('<backup>')
    .option('--name <name>', 'name of the new VM')
    .option('--start', 'boot it at once')
    .option('--no-wait', 'do not wait for the end')
    .description('make a new VM with the disks of a backup')
    .action(async (id: string, { name, start, wait }: RestoreOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = { ...(name !== undefined && { name }), ...(start !== undefined && { start }) };
      const operation = await context.finish(await context.client.restoreBackup(id, body), wait);
      context.print(operation, () => made(operation, 'vm'));
    });
  registerQueries(backup, io);
}

function registerQueries(backup: Command, io: Io): void {
  backup
    .command('list')
    .option('--vm <vm>', 'only of this VM')
    .description('all complete backups')
    .action(async (options: { vm?: string }, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listBackups(options), backupTable);
    });
  backup
    .command('show')
    .argument('<backup>')
    .description('one backup and its snapshots')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getBackup(id), backupFields);
    });
  backup
    .command('delete')
    .argument('<backup>')
    .description('delete a backup')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteBackup(id);
      context.print({ deleted: id }, () => `${id} deleted\n`);
    });
}

/** Ids of what the operation has made, or the operation while it goes on. */
function made(operation: Operation, type: ResourceType): string {
  if (operation.status !== 'succeeded') return `operation ${operation.id} ${operation.status}\n`;
  const ids = operation.resources.filter((resource) => resource.type === type);
  return ids.map((resource) => `${resource.id}\n`).join('');
}

function backupTable(backups: readonly Backup[]): string {
  const rows = backups.map((backup) => [
    backup.name,
    backup.id,
    backup.vm_name,
    backup.state,
    String(backup.snapshots.length),
    formatBytes(backup.size_bytes),
    formatAge(backup.taken_at),
  ]);
  return formatTable(['NAME', 'ID', 'VM', 'STATE', 'DISKS', 'SIZE', 'AGE'], rows);
}

function backupFields(backup: Backup): string {
  return formatFields([
    ['name', backup.name],
    ['id', backup.id],
    ['vm', `${backup.vm_name} (${backup.vm_id})`],
    ['state', backup.state],
    ['memory', formatBytes(backup.memory_bytes)],
    ['taken', backup.taken_at],
    ...backup.snapshots.map((snapshot): [string, string] => [
      snapshot.device,
      `${snapshot.format}, ${formatBytes(snapshot.size_bytes)}, ${formatBytes(snapshot.stored_bytes)} stored`,
    ]),
  ]);
}
