/** `umlaut snapshot …` */
import type { Command } from 'commander';
import type { VmSnapshot } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseBytes } from '../parse.ts';

export function registerSnapshot(program: Command, io: Io): void {
  const snapshot = program.command('snapshot').description('all disks of a VM at one moment, beside the VM');
  snapshot
    .command('create')
    .argument('<vm>')
    .argument('[name]', 'made up when missing')
    .option('--quiesce', "have the guest's file systems frozen or written out for the moment")
    .description('take a snapshot, also while the VM runs')
    .action(
      async (vm: string, name: string | undefined, options: { quiesce?: boolean }, command: Command) => {
        const context = new CommandContext(command, io);
        const body = { ...options, ...(name !== undefined && { name }) };
        const made = await context.client.createSnapshot(vm, body);
        context.print(made, () => `${made.name}\n`);
      },
    );
  snapshot
    .command('list')
    .argument('<vm>')
    .description('all snapshots of a VM')
    .action(async (vm: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listSnapshots(vm), snapshotTable);
    });
  snapshot
    .command('show')
    .argument('<vm>')
    .argument('<snapshot>')
    .description('one snapshot')
    .action(async (vm: string, name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getSnapshot(vm, name), snapshotFields);
    });
  registerUses(snapshot, io);
}

interface DeleteOptions {
  readonly rate?: number;
  readonly wait: boolean;
}
interface RollbackOptions {
  readonly force?: boolean;
  readonly wait: boolean;
}
interface CloneOptions {
  readonly name?: string;
  readonly start?: boolean;
}

function registerUses(snapshot: Command, io: Io): void {
  snapshot
    .command('delete')
    .argument('<vm>')
    .argument('<snapshot>')
    .option(
      '--rate <size>',
      'bytes per second that merging may take, such as 20M; 100M when missing',
      parseBytes,
    )
    .option('--no-wait', 'do not wait for the end')
    .description('delete a snapshot; what others need of it stays, also while they run')
    .action(async (vm: string, name: string, { rate, wait }: DeleteOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const query = rate === undefined ? {} : { bytes_per_second: rate };
      const operation = await context.finish(await context.client.deleteSnapshot(vm, name, query), wait);
      context.print(operation, () => (wait ? `${name} deleted\n` : `operation ${operation.id}\n`));
    });
  snapshot
    .command('rollback')
    .argument('<vm>')
    .argument('<snapshot>')
    .option('--force', 'halt the VM if it runs, and start it again')
    .option('--no-wait', 'do not wait for the end')
    .description('make the disks what they were; what they are now is lost')
    .action(async (vm: string, name: string, { force, wait }: RollbackOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = force === true ? { force } : {};
      const operation = await context.finish(await context.client.rollbackSnapshot(vm, name, body), wait);
      context.print(operation, () => (wait ? `${vm} is at ${name}\n` : `operation ${operation.id}\n`));
    });
  snapshot
    .command('clone')
    .argument('<vm>')
    .argument('<snapshot>')
    .option('--name <name>', 'name of the new VM')
    .option('--start', 'boot it at once')
    .description('make a new VM with the disks of a snapshot, without a copy')
    .action(async (vm: string, snapshotName: string, { name, start }: CloneOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = { ...(name !== undefined && { name }), ...(start !== undefined && { start }) };
      const made = await context.client.cloneSnapshot(vm, snapshotName, body);
      context.print(made, () => `${made.name}\n`);
    });
}

const storedBytes = ({ disks }: VmSnapshot): number =>
  disks.reduce((sum, disk) => sum + disk.stored_bytes, 0);

function snapshotTable(snapshots: readonly VmSnapshot[]): string {
  const rows = snapshots.map((snapshot) => [
    snapshot.name,
    snapshot.state,
    snapshot.running ? 'running' : 'off',
    String(snapshot.disks.length),
    formatBytes(storedBytes(snapshot)),
    formatAge(snapshot.taken_at),
  ]);
  return formatTable(['NAME', 'STATE', 'VM WAS', 'DISKS', 'ON HOST', 'AGE'], rows);
}

function snapshotFields(snapshot: VmSnapshot): string {
  return formatFields([
    ['name', snapshot.name],
    ['id', snapshot.id],
    ['vm', `${snapshot.vm_name} (${snapshot.vm_id})`],
    ['state', snapshot.state],
    ['vm was', snapshot.running ? 'running' : 'off'],
    ['consistency', snapshot.consistency ?? ''],
    ['taken', snapshot.taken_at],
    ...snapshot.disks.map((disk): [string, string] => [
      disk.device,
      `${formatBytes(disk.size_bytes)}, ${formatBytes(disk.stored_bytes)} on host, ${disk.layer_id}`,
    ]),
  ]);
}
