/** `umlaut backup …` */
import type { Command } from 'commander';
import type { Backup, Operation, ResourceType } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseCount } from '../parse.ts';
import { registerFiles } from './backup-files.ts';
import { registerDestinations } from './backup-destination.ts';
import { registerPrune, registerSchedules } from './backup-schedule.ts';

interface CreateOptions {
  readonly name?: string;
  readonly keep?: number;
  readonly destination?: string;
  readonly full?: boolean;
  readonly quiesce: boolean;
  readonly wait: boolean;
}
interface RestoreOptions {
  readonly name?: string;
  readonly over?: boolean;
  readonly start?: boolean;
  readonly fullCopy?: boolean;
  readonly image?: string;
  readonly wait: boolean;
}
interface TestOptions extends Waiting {
  readonly image?: string;
}

interface Waiting {
  readonly wait: boolean;
}

export function registerBackup(program: Command, io: Io): void {
  const backup = program.command('backup').description('copies of all disks of a VM at one moment');
  registerCreate(backup, io);
  registerRestore(backup, io);
  registerQueries(backup, io);
  registerChecks(backup, io);
  registerFiles(backup, io);
  registerPrune(backup, io);
  registerDestinations(backup, io);
  registerSchedules(backup, io);
}

function registerCreate(backup: Command, io: Io): void {
  backup
    .command('create')
    .argument('<vm>')
    .option('--name <name>', 'name of the backup')
    .option('--destination <name>', 'where to; the state folder of the daemon when missing')
    .option('--full', 'read all of the disks, not only what has changed since the last backup')
    .option('--no-quiesce', "do not have the guest's file systems frozen or written out for the moment")
    .option('--keep <count>', "keep only so many of this VM's newest backups", parseCount)
    .option('--no-wait', 'do not wait for the end')
    .description('back up a VM, also while it runs')
    .action(async (vm: string, { wait, quiesce, ...options }: CreateOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = { ...options, quiesce };
      const operation = await context.finish(await context.client.createBackup(vm, body), wait);
      context.print(operation, () => made(operation, 'backup'));
    });
}

function registerRestore(backup: Command, io: Io): void {
  backup
    .command('restore')
    .argument('<backup>')
    .option('--name <name>', 'name of the new VM')
    .option('--over', 'put the disks in place of those of the VM it was taken of, which must be off')
    .option('--full-copy', 'disks that need no image')
    .option('--image <image>', 'whose kernel it boots (default: that of the VM it was taken of)')
    .option('--start', 'boot it at once')
    .option('--no-wait', 'do not wait for the end')
    .description('make a new VM with the disks of a backup')
    .action(async (id: string, { wait, fullCopy, ...options }: RestoreOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = { ...options, full_copy: fullCopy };
      const operation = await context.finish(await context.client.restoreBackup(id, body), wait);
      context.print(operation, () => made(operation, 'vm'));
    });
}

function registerChecks(backup: Command, io: Io): void {
  backup
    .command('verify')
    .argument('<backup>')
    .option('--no-wait', 'do not wait for the end')
    .description('read all of a backup and check it')
    .action(async (id: string, { wait }: Waiting, command: Command) => {
      const context = new CommandContext(command, io);
      const operation = await context.finish(await context.client.verifyBackup(id), wait);
      context.print(operation, () => outcome(operation, `${id} is whole`));
    });
  backup
    .command('test')
    .argument('<backup>')
    .option('--image <image>', 'whose kernel it boots (default: that of the VM it was taken of)')
    .option('--no-wait', 'do not wait for the end')
    .description('boot a throwaway clone of a backup without network, up to its login prompt')
    .action(async (id: string, { wait, image }: TestOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const operation = await context.finish(await context.client.testBackup(id, { image }), wait);
      context.print(operation, () => outcome(operation, `${id} boots`));
    });
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

function outcome(operation: Operation, text: string): string {
  return operation.status === 'succeeded' ? `${text}\n` : `operation ${operation.id} ${operation.status}\n`;
}

function backupTable(backups: readonly Backup[]): string {
  const rows = backups.map((backup) => [
    backup.name,
    backup.id,
    backup.vm_name,
    stateOf(backup),
    backup.kind,
    backup.destination ?? 'flat',
    String(backup.snapshots.length),
    formatBytes(backup.size_bytes),
    formatAge(backup.taken_at),
  ]);
  return formatTable(['NAME', 'ID', 'VM', 'STATE', 'KIND', 'WHERE', 'DISKS', 'STORED', 'AGE'], rows);
}

function stateOf({ state, damage }: Backup): string {
  return damage === null ? state : 'damaged';
}

function backupFields(backup: Backup): string {
  return formatFields([
    ['name', backup.name],
    ['id', backup.id],
    ['vm', `${backup.vm_name} (${backup.vm_id})`],
    ['state', stateOf(backup)],
    ['kind', backup.kind],
    ['where', backup.destination ?? 'flat copies'],
    ['consistency', backup.consistency ?? ''],
    ['memory', formatBytes(backup.memory_bytes)],
    ['taken', backup.taken_at],
    ['verified', backup.verified_at ?? ''],
    ['damage', backup.damage ?? ''],
    ['tested', backup.tested_at ?? ''],
    ['test error', backup.test_error?.detail ?? ''],
    ...backup.snapshots.map((snapshot): [string, string] => [
      snapshot.device,
      `${snapshot.format}, ${formatBytes(snapshot.size_bytes)}, ${formatBytes(snapshot.stored_bytes)} stored`,
    ]),
  ]);
}
