/** `umlaut backup file-systems|files|cat|extract`: what is in a backup, without restoring it. */
import type { Command } from 'commander';
import type { BackupFile, BackupFileSystem } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatBytes, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseCount } from '../parse.ts';
import { copyResponse, saveResponse } from '../transfer.ts';

interface Place {
  readonly disk?: string;
  readonly partition?: number;
}

const LETTERS = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
} as const;

export function registerFiles(backup: Command, io: Io): void {
  backup
    .command('file-systems')
    .argument('<backup>')
    .description('partitions of the disks of a backup, and the file systems in them')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listBackupFileSystems(id), fileSystemTable);
    });
  withPlace(backup.command('files').argument('<backup>').argument('[path]', 'a directory', '/'))
    .description('files in a backup (ext2, ext3 and ext4)')
    .action(async (id: string, path: string, place: Place, command: Command) => {
      const context = new CommandContext(command, io);
      const files = await context.client.listBackupFiles(id, { path, ...place });
      context.print(files.sort(byName), fileTable);
    });
  withPlace(backup.command('cat').argument('<backup>').argument('<path>'))
    .description('write a file out of a backup to standard output')
    .action(async (id: string, path: string, place: Place, command: Command) => {
      const { client } = new CommandContext(command, io);
      await copyResponse(await client.readBackupFile(id, { path, ...place }), io.stdout);
    });
  withPlace(
    backup
      .command('extract')
      .argument('<backup>')
      .argument('<path>', 'a file in the backup')
      .argument('<file>', 'file to make on this host'),
  )
    .description('save a file out of a backup')
    .action(async (id: string, path: string, file: string, place: Place, command: Command) => {
      const context = new CommandContext(command, io);
      const answer = await context.client.readBackupFile(id, { path, ...place });
      const size = await saveResponse(answer, file, io.stderr);
      context.print({ backup: id, path, file, size_bytes: size }, () => `${formatBytes(size)}\n`);
    });
}

function withPlace(command: Command): Command {
  return command
    .option('--disk <device>', 'such as ubd0; the first that has a file system when missing')
    .option(
      '--partition <number>',
      'the one with the largest file system when missing; 0 for the whole disk',
      parseCount,
    );
}

function byName(one: BackupFile, other: BackupFile): number {
  return one.name < other.name ? -1 : 1;
}

function fileTable(files: readonly BackupFile[]): string {
  const rows = files.map((file) => [
    `${LETTERS[file.type]}${file.mode}`,
    String(file.uid),
    String(file.gid),
    formatBytes(file.size_bytes),
    file.modified_at.replace(/\.\d+Z$/, 'Z'),
    file.target === null ? file.name : `${file.name} -> ${file.target}`,
  ]);
  return formatTable(['MODE', 'UID', 'GID', 'SIZE', 'MODIFIED', 'NAME'], rows);
}

function fileSystemTable(places: readonly BackupFileSystem[]): string {
  const rows = places.map((place) => [
    place.disk,
    place.partition === null ? 'whole' : String(place.partition),
    place.type ?? (place.problem === null ? 'none' : 'unreadable'),
    formatBytes(place.size_bytes),
    place.label ?? '',
    place.uuid ?? place.problem ?? '',
  ]);
  return formatTable(['DISK', 'PARTITION', 'TYPE', 'SIZE', 'LABEL', 'UUID'], rows);
}
