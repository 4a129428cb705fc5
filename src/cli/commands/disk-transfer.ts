/** `umlaut disk export` and `umlaut disk import`: disks of the daemon's as files of this host. */
import { openAsBlob } from 'node:fs';
import { type Command, Option } from 'commander';
import { AppError, toAppError } from '../../contracts/errors.ts';
import { CommandContext } from '../context.ts';
import { formatBytes, printable } from '../format.ts';
import type { Io } from '../io.ts';
import { saveResponse } from '../transfer.ts';

interface ExportOptions {
  readonly to?: 'raw' | 'qcow2';
  readonly compress?: 'zlib' | 'zstd';
  readonly qcow2Version: '2' | '3';
  readonly backing?: string;
}

interface ImportOptions {
  readonly from?: 'raw' | 'qcow2';
  readonly image?: boolean;
}

export function registerDiskTransfer(program: Command, io: Io): void {
  // INVARIANT: program.ts registers `disk` before this.
  const disk = program.commands.find((command) => command.name() === 'disk')!;
  disk
    .command('export')
    .argument('<disk>')
    .argument('<file>', 'file to make on this host')
    .addOption(
      new Option('--to <format>', 'default: raw for a name that ends in .img or .raw, else qcow2').choices([
        'raw',
        'qcow2',
      ]),
    )
    .addOption(new Option('--compress <method>', 'compress the clusters of qcow2').choices(['zlib', 'zstd']))
    .addOption(new Option('--qcow2-version <version>').choices(['2', '3']).default('3'))
    .option(
      '--backing <name>',
      "only what differs from the image's disk, which the qcow2 file calls by this name",
    )
    .description('download a disk, with all that is in the layers below it')
    .action(async (name: string, file: string, options: ExportOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const format = options.to ?? (/\.(img|raw)$/.test(file) ? 'raw' : 'qcow2');
      const started = await context.client.exportDisk(name, {
        format,
        compression: options.compress ?? null,
        qcow2_version: options.qcow2Version === '2' ? 2 : 3,
        backing_file: options.backing ?? null,
      });
      const { id } = await context.finish(started, true);
      const size = await saveResponse(await context.client.downloadFile(id), file, io.stderr);
      await context.client.deleteFile(id);
      context.print({ disk: name, file, format, size_bytes: size }, () => `${formatBytes(size)}\n`);
    });
  disk
    .command('import')
    .argument('<name>', 'of the disk to make')
    .argument('<file>', 'raw or qcow2 file on this host')
    .addOption(new Option('--from <format>', 'instead of what it begins with').choices(['raw', 'qcow2']))
    .option('--image', 'make an image of that name too, with the kernel that the disk has in /boot')
    .description('upload a disk')
    .action(async (name: string, file: string, options: ImportOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const query = { name, ...(options.from !== undefined && { format: options.from }) };
      const started = await context.client.importDisk(await blobOf(file), query);
      await context.finish(started, true);
      if (options.image === true) {
        await context.finish(await context.client.imageOfDisk(name, { name }), true);
        await context.client.deleteDisk(name);
        context.print(await context.client.getImage(name), (image) => `${image.id}\n`);
      } else context.print(await context.client.getDisk(name), (made) => `${made.name}\n`);
    });
}

async function blobOf(file: string): Promise<Blob> {
  try {
    return await openAsBlob(file);
  } catch (error) {
    const known = toAppError(error);
    throw new AppError(
      known.code === 'internal' ? 'not_found' : known.code,
      `${printable(file)} cannot be read: ${known.message}`,
      {
        field: 'file',
        cause: error,
      },
    );
  }
}
