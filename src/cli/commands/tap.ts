/** `umlaut tap …`: TAP devices of this host, without the daemon; what tunctl does. */
import { spawnSync } from 'node:child_process';
import type { Command } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { formatTable } from '../format.ts';
import type { Io } from '../io.ts';

interface CreateOptions {
  readonly owner?: string;
  readonly group?: string;
  readonly brief?: boolean;
}

export function registerTap(program: Command, io: Io): void {
  const tap = program.command('tap').description('TAP devices of this host, for the transport tuntap');
  tap
    .command('create')
    .argument('[name]', 'tap0, tap1, … when missing')
    .option('--owner <user>', 'who may use it, by name or number (default: who runs this)')
    .option('--group <group>', 'whose members may use it')
    .option('--brief', 'print its name alone')
    .description('make a TAP device that stays until it is deleted; needs root')
    .action(async (name: string | undefined, options: CreateOptions) => {
      // Loaded here: no other command needs it.
      const { createTap } = await import('../../switchd/transport/tap-device.ts');
      const gid = options.group === undefined ? undefined : idOf('group', options.group);
      const uid = options.owner === undefined ? ownUid(gid) : idOf('passwd', options.owner);
      const made = createTap(name, { uid, gid });
      const whose = [uid === undefined ? '' : `uid ${uid}`, gid === undefined ? '' : `gid ${gid}`].filter(
        Boolean,
      );
      const told = `Set '${made}' persistent and owned by ${whose.join(' and ')}`;
      io.stdout.write(`${options.brief === true ? made : told}\n`);
    });
  tap
    .command('delete')
    .argument('<name>')
    .description('delete a TAP device that no program has open')
    .action(async (name: string) => {
      const { deleteTap } = await import('../../switchd/transport/tap-device.ts');
      deleteTap(name);
      io.stdout.write(`Set '${name}' nonpersistent\n`);
    });
  tap
    .command('list')
    .description('all TAP devices')
    .action(async () => {
      const { listTaps } = await import('../../switchd/transport/tap-device.ts');
      const rows = listTaps().map(({ name, persistent, uid, gid }) => [
        name,
        persistent ? 'yes' : 'no',
        uid === undefined ? '' : String(uid),
        gid === undefined ? '' : String(gid),
      ]);
      io.stdout.write(formatTable(['NAME', 'PERSISTENT', 'UID', 'GID'], rows));
    });
}

/** As tunctl: the user's own, unless the device is a group's. */
function ownUid(gid: number | undefined): number | undefined {
  return gid === undefined ? process.getuid?.() : undefined;
}

function idOf(database: 'passwd' | 'group', name: string): number {
  if (/^\d{1,9}$/.test(name)) return Number(name);
  const { stdout } = spawnSync('getent', [database, '--', name], { encoding: 'utf8' });
  const id = stdout?.split(':')[2];
  if (id !== undefined && /^\d+$/.test(id)) return Number(id);
  const what = database === 'group' ? 'group' : 'user';
  throw new AppError('not_found', `there is no ${what} ${name}`, {
    field: database === 'group' ? '--group' : '--owner',
    remedy: 'give its number',
  });
}
