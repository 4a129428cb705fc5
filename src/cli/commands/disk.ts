/** `umlaut disk …` */
import type { Command } from 'commander';
import type { Disk } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { addDiskSettings, type DiskSettingOptions, diskSettings, formatLimits } from '../disk-settings.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseBytes } from '../parse.ts';

interface CreateOptions extends DiskSettingOptions {
  readonly size?: number;
  readonly image?: string;
}

export function registerDisk(program: Command, io: Io): void {
  const disk = program.command('disk').description('disks');
  const create = disk
    .command('create')
    .argument('[name]', 'made up when missing')
    .option('--size <size>', 'an empty disk, such as 1G', parseBytes)
    .option('--image <image>', 'a private copy-on-write disk over this image');
  addDiskSettings(create, 'the disk')
    .description('make a disk')
    .action(async (name: string | undefined, options: CreateOptions, command: Command) => {
      const { size, image } = options;
      const context = new CommandContext(command, io);
      const made = await context.client.createDisk({
        ...(name !== undefined && { name }),
        ...(size !== undefined && { size_bytes: size }),
        ...(image !== undefined && { image }),
        ...diskSettings(options),
      });
      context.print(made, () => `${made.name}\n`);
    });
  disk
    .command('list')
    .description('all disks')
    .action(async (_options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listDisks(), diskTable);
    });
  disk
    .command('show')
    .argument('<disk>')
    .description('one disk')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getDisk(name), diskFields);
    });
  registerChanges(disk, io);
}

interface AttachOptions {
  readonly device?: string;
  readonly readOnly?: boolean;
}

interface ResizeOptions {
  readonly flatten?: true;
}

function registerChanges(disk: Command, io: Io): void {
  addDiskSettings(disk.command('set').argument('<disk>'), 'the disk')
    .description('change its limits and what errors do, also while a VM runs with it')
    .action(async (name: string, options: DiskSettingOptions, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.updateDisk(name, diskSettings(options)), diskFields);
    });
  disk
    .command('resize')
    .argument('<disk>')
    .argument('<size>', 'such as 20G', parseBytes)
    .option('--flatten', 'make a copy-on-write disk independent first, while its VM is halted')
    .description('make a disk larger, also while a guest has it; its partitions and file systems are its own')
    .action(async (name: string, size: number, { flatten }: ResizeOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { client } = context;
      if (flatten === true) {
        const { format, size_bytes } = await client.getDisk(name);
        // What is refused anyway is not flattened for it.
        if (format === 'cow' && size > size_bytes) await context.finish(await client.flattenDisk(name), true);
      }
      context.print(await client.resizeDisk(name, { size_bytes: size }), diskFields);
    });
  disk
    .command('attach')
    .argument('<vm>')
    .argument('<disk>')
    .option('--device <device>', 'ubd0 to ubd15; the first free one when missing')
    .option('--read-only')
    .description('give a disk to a VM; a guest that runs finds it by itself')
    .action(async (vm: string, name: string, { device, readOnly }: AttachOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.attachDisk(vm, {
        disk: name,
        ...(device !== undefined && { device }),
        ...(readOnly !== undefined && { read_only: readOnly }),
      });
      context.print(now, () => diskTable(now.disks));
    });
  disk
    .command('detach')
    .argument('<vm>')
    .argument('<device>', 'ubd1, …')
    .description('take a disk from a VM, once its guest has let go of it; its data stays')
    .action(async (vm: string, device: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.detachDisk(vm, device);
      context.print(now, () => diskTable(now.disks));
    });
  disk
    .command('delete')
    .argument('<disk>')
    .description('delete a disk that no VM has')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteDisk(name);
      context.print({ deleted: name }, () => `${name} deleted\n`);
    });
}

function diskTable(disks: readonly Disk[]): string {
  const rows = disks.map((disk) => [
    disk.name,
    disk.format,
    formatBytes(disk.size_bytes),
    formatBytes(disk.allocated_bytes),
    disk.device ?? '',
    disk.vm_id ?? '',
    formatAge(disk.created_at),
  ]);
  return formatTable(['NAME', 'FORMAT', 'SIZE', 'ON HOST', 'DEVICE', 'VM', 'AGE'], rows);
}

function diskFields(disk: Disk): string {
  return formatFields([
    ['name', disk.name],
    ['id', disk.id],
    ['format', disk.format],
    ['size', formatBytes(disk.size_bytes)],
    ['on host', formatBytes(disk.allocated_bytes)],
    ['read only', disk.read_only ? 'yes' : 'no'],
    ['limits', formatLimits(disk)],
    ['on error', disk.on_error],
    ['image', disk.image_id ?? ''],
    ['vm', disk.vm_id ?? ''],
    ['device', disk.device ?? ''],
    ['created', disk.created_at],
  ]);
}
