/** `umlaut image …` */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Image, ImageFileRole, Operation } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { saveResponse } from '../transfer.ts';

interface ImportOptions {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly disk: string;
  readonly append?: string;
  readonly wait: boolean;
}

export function registerImage(program: Command, io: Io): void {
  const image = program.command('image').description('immutable images that VMs are made from');
  image
    .command('build')
    .option('--name <name>', 'name of the image', 'default')
    .option('--no-wait', 'do not wait for the end')
    .description("build the default guest from Debian packages, with the host's apt-get, without root")
    .addOption(
      new Option('--kernel <kernel>', 'Debian’s for clouds, or the one with all drivers')
        .choices(['cloud', 'generic'])
        .default('cloud'),
    )
    .action(
      async (options: { name: string; kernel: 'cloud' | 'generic'; wait: boolean }, command: Command) => {
        const context = new CommandContext(command, io);
        const { name, kernel } = options;
        const operation = await context.finish(
          await context.client.buildImage({ name, kernel }),
          options.wait,
        );
        context.print(operation, imageResult(options.wait));
      },
    );
  image
    .command('import')
    .argument('<name>')
    .option(
      '--kernel <file>',
      'bzImage, ELF with a PVH note, or multiboot ELF (default: what /boot of the disk has, with its initrd)',
    )
    .option('--initrd <file>')
    .requiredOption('--disk <file>', 'raw or qcow2 disk')
    .option('--append <text>', 'kernel command line')
    .option('--no-wait', 'do not wait for the end')
    .description("take files on the daemon's host as an image")
    .action(async (name: string, options: ImportOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { kernel, initrd, disk, append } = options;
      const started = await context.client.importImage({
        name,
        ...(kernel !== undefined && { kernel: resolve(kernel) }),
        ...(initrd !== undefined && { initrd: resolve(initrd) }),
        disk: resolve(disk),
        ...(append !== undefined && { append }),
      });
      context.print(await context.finish(started, options.wait), imageResult(options.wait));
    });
  image
    .command('export')
    .argument('<image>')
    .argument('<file>', 'file to make on this host')
    .addOption(
      new Option('--part <part>', 'which of its files; the disk is raw')
        .choices(['disk', 'kernel', 'initrd'])
        .default('disk'),
    )
    .description('download a file of an image')
    .action(async (name: string, file: string, { part }: { part: ImageFileRole }, command: Command) => {
      const context = new CommandContext(command, io);
      const size = await saveResponse(await context.client.downloadImageFile(name, part), file, io.stderr);
      context.print({ image: name, part, file, size_bytes: size }, () => `${formatBytes(size)}\n`);
    });
  registerQueries(image, io);
}

function registerQueries(image: Command, io: Io): void {
  image
    .command('list')
    .description('all images')
    .action(async (_options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listImages(), imageTable);
    });
  image
    .command('show')
    .argument('<image>')
    .description('one image and its files')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getImage(name), imageFields);
    });
  image
    .command('verify')
    .argument('<image>')
    .option('--no-wait', 'do not wait for the end')
    .description('compare its files with their checksums')
    .action(async (name: string, options: { wait: boolean }, command: Command) => {
      const context = new CommandContext(command, io);
      const operation = await context.finish(await context.client.verifyImage(name), options.wait);
      context.print(operation, () => (options.wait ? `${name} is as it was made\n` : pending(operation)));
    });
  image
    .command('delete')
    .argument('<image>')
    .description('delete an image that no disk or backup is over')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteImage(name);
      context.print({ deleted: name }, () => `${name} deleted\n`);
    });
}

function pending(operation: Operation): string {
  return `operation ${operation.id} ${operation.status}\n`;
}

function imageResult(waited: boolean): (operation: Operation) => string {
  return (operation) => {
    if (!waited) return pending(operation);
    return operation.resources
      .filter((resource) => resource.type === 'image')
      .map((resource) => `${resource.id}\n`)
      .join('');
  };
}

function imageTable(images: readonly Image[]): string {
  const rows = images.map((image) => [
    image.name ?? '',
    image.id,
    formatBytes(image.size_bytes),
    image.kernel_release ?? '',
    String(image.in_use_by),
    formatAge(image.created_at),
  ]);
  return formatTable(['NAME', 'ID', 'SIZE', 'KERNEL', 'USED BY', 'AGE'], rows);
}

function imageFields(image: Image): string {
  return formatFields([
    ['name', image.name ?? ''],
    ['id', image.id],
    ['kernel', image.kernel_release ?? ''],
    ['append', image.append],
    ['used by', String(image.in_use_by)],
    ['created', image.created_at],
    ...image.files.map((file): [string, string] => [
      file.role,
      `${formatBytes(file.size_bytes)} sha256:${file.sha256}`,
    ]),
  ]);
}
