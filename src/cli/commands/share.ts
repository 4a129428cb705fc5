/** `umlaut share …` */
import type { Command } from 'commander';
import type { IdRange, Vm } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseIdRange } from '../share-options.ts';

interface AddOptions {
  readonly readOnly?: boolean;
  readonly uidMap?: IdRange[];
  readonly gidMap?: IdRange[];
  readonly setId?: boolean;
}

export function registerShare(program: Command, io: Io): void {
  const share = program.command('share').description('folders of the host that a guest can mount');
  share
    .command('add')
    .argument('<vm>')
    .argument('<tag>', 'what the guest names it by: mount -t 9p -o trans=virtio TAG FOLDER')
    .argument(
      '<folder>',
      'on the host, where the operator has to allow it; or ssh://USER@HOST/FOLDER, rclone:REMOTE:FOLDER',
    )
    .option('--read-only', 'the guest cannot change anything')
    .option(
      '--uid-map <guest:host:count>',
      "which of the guest's users is whom on the host; may be repeated",
      parseIdRange,
    )
    .option('--gid-map <guest:host:count>', 'the same for groups', parseIdRange)
    .option('--set-id', "set-user-id and set-group-id bits are set on the host's files too")
    .description('share a folder with a VM, also while it runs')
    .action(async (vm: string, tag: string, folder: string, options: AddOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { readOnly, uidMap, gidMap, setId } = options;
      const now = await context.client.addShare(vm, {
        tag,
        path: folder,
        ...(readOnly !== undefined && { read_only: readOnly }),
        ...(uidMap !== undefined && { uid_map: uidMap }),
        ...(gidMap !== undefined && { gid_map: gidMap }),
        ...(setId !== undefined && { set_id: setId }),
      });
      context.print(now, () => `${folder} is shared with ${now.name} as ${tag}\n`);
    });
  share
    .command('remove')
    .argument('<vm>')
    .argument('<tag>')
    .description('share a folder no longer; a guest that runs has to have it unmounted')
    .action(async (vm: string, tag: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.removeShare(vm, tag);
      context.print(now, () => `${tag} is no longer shared with ${now.name}\n`);
    });
  share
    .command('list')
    .argument('<vm>')
    .description('what is shared with a VM')
    .action(async (vm: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const { shares } = await context.client.getVm(vm);
      context.print(shares, shareTable);
    });
}

function shareTable(shares: Vm['shares']): string {
  const rows = shares.map((share) => [share.tag, share.path, share.read_only ? 'read-only' : 'read-write']);
  return formatTable(['TAG', 'FOLDER', 'ACCESS'], rows);
}
