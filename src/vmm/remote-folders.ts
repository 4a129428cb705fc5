/**
 * Folders of other hosts, for guests: mounted on this one by sshfs or rclone (FUSE) while a machine that shares them runs. Such a
 * folder is then shared like any other.
 */
import { execFile, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../contracts/errors.ts';
import type { Home } from './home.ts';
import { SerialQueues } from './serial-queue.ts';

const SSH =
  /^ssh:\/\/(?:(\w[A-Za-z0-9._-]{0,63})@)?([A-Za-z0-9][A-Za-z0-9.-]{0,254}|\[[0-9a-fA-F:.]{2,45}\])(?::(\d{1,5}))?(\/[^\0]*)$/;
const RCLONE = /^rclone:([^\0-][^\0]*)$/;
const PREFIX = /^(?:ssh:|rclone:)/;
const MOUNT_TIMEOUT_MS = 60_000;
const MOUNT_POLL_MS = 20;
const END_GRACE_MS = 1000;
const UNMOUNT_TIMEOUT_MS = 10_000;
/** So long a program may write out what guests have written, before it is killed as one that hangs. */
const FINISH_TIMEOUT_MS = 30_000;
/** How soon an SSH connection that is dead is noticed. */
const ALIVE = ['ServerAliveInterval=10', 'ServerAliveCountMax=3'];

interface Command {
  readonly program: string;
  readonly debianPackage: string;
  readonly args: (folder: string, readOnly: boolean) => string[];
}

/** `ssh://[USER@]HOST[:PORT]/FOLDER` or `rclone:REMOTE:FOLDER`? */
export function isRemote(path: string): boolean {
  return PREFIX.test(path);
}

/** AppError `invalid_input` for a remote folder that is not written as it should be. */
export function checkRemote(path: string, field: string): void {
  commandFor(path, field);
}

function commandFor(path: string, field: string): Command {
  const ssh = SSH.exec(path);
  if (ssh !== null) return sshfs(ssh);
  const rclone = RCLONE.exec(path);
  if (rclone !== null) {
    const args = ['mount', rclone[1]!];
    return {
      program: 'rclone',
      debianPackage: 'rclone',
      args: (folder, readOnly) => [
        ...args,
        folder,
        '--vfs-cache-mode=writes',
        '--vfs-write-back=0s',
        '--dir-cache-time=1s',
        ...(readOnly ? ['--read-only'] : []),
      ],
    };
  }
  throw new AppError('invalid_input', `${path.slice(0, 200)} names no folder of another host`, {
    field,
    remedy: 'write ssh://USER@HOST/FOLDER, or rclone:REMOTE:FOLDER for a remote of rclone',
  });
}

function sshfs([, user, host = '', port, folder = '']: RegExpExecArray): Command {
  const config = process.env.UMLAUT_SSH_CONFIG;
  return {
    program: 'sshfs',
    debianPackage: 'sshfs',
    args: (at, readOnly) => [
      `${user === undefined ? '' : `${user}@`}${host}:${folder}`,
      at,
      '-f',
      ...(port === undefined ? [] : ['-p', port]),
      ...(config === undefined ? [] : ['-F', config]),
      // Nobody is there to be asked for a password, or about a host's key.
      ...['BatchMode=yes', 'reconnect', ...ALIVE, ...(readOnly ? ['ro'] : [])].flatMap((option) => [
        '-o',
        option,
      ]),
    ],
  };
}

export class RemoteFolders {
  readonly #home: Pick<Home, 'file'>;
  readonly #finishMs: number;
  /** By VM: one that starts again must not have its folders unmounted by its end, and one that hangs holds up no other. */
  readonly #queues = new SerialQueues();
  /** By VM and tag: the programs that mount them. */
  readonly #mounted = new Map<string, Map<string, MountProgram>>();

  constructor(home: Pick<Home, 'file'>, finishMs = FINISH_TIMEOUT_MS) {
    this.#home = home;
    this.#finishMs = finishMs;
  }

  /** Where it is mounted from now on. AppErrors: `invalid_input`, `tool_missing`, `unreachable`. */
  mount(vmId: string, tag: string, path: string, readOnly: boolean): Promise<string> {
    return this.#queues.run(vmId, () => this.#mount(vmId, tag, path, readOnly));
  }

  async #mount(vmId: string, tag: string, path: string, readOnly: boolean): Promise<string> {
    const field = `shares.${tag}.path`;
    const { program, debianPackage, args } = commandFor(path, field);
    const folder = this.#folder(vmId, tag);
    // Left over by a daemon that was killed. It is not looked at: it might not answer.
    if (isMounted(folder)) await this.#unmount(folder);
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const mounted = await begin(program, args(folder, readOnly), folder);
    if ('ended' in mounted) {
      const ofVm = this.#mounted.get(vmId) ?? new Map<string, MountProgram>();
      this.#mounted.set(vmId, ofVm.set(tag, mounted));
      return folder;
    }
    await this.#unmount(folder);
    if (mounted.code === 'ENOENT') {
      throw new AppError('tool_missing', `${program} is not installed, and ${path} cannot be shared`, {
        field,
        remedy: `install the Debian package ${debianPackage}`,
      });
    }
    throw new AppError('unreachable', `${path} cannot be mounted: ${mounted.detail}`, {
      field,
      remedy: `try it on the host: ${program} ${args('FOLDER', readOnly).join(' ')}`,
    });
  }

  /** Of one share, or of all of a VM. What cannot be unmounted now is at the next mount. */
  async unmount(vmId: string, tag?: string): Promise<void> {
    await this.#queues.run(vmId, async () => {
      const ofVm = this.#mounted.get(vmId);
      if (ofVm === undefined) return;
      const tags = tag === undefined ? [...ofVm.keys()] : [tag];
      await Promise.all(tags.map((one) => this.#end(vmId, one, ofVm)));
      if (ofVm.size === 0) this.#mounted.delete(vmId);
    });
  }

  async #end(vmId: string, tag: string, ofVm: Map<string, MountProgram>): Promise<void> {
    const program = ofVm.get(tag);
    if (program === undefined) return;
    ofVm.delete(tag);
    await this.#unmount(this.#folder(vmId, tag));
    // What the guest has written may be on its way. With the program all calls end that wait for it.
    const timer = setTimeout(() => program.kill(), this.#finishMs);
    await program.ended;
    clearTimeout(timer);
  }

  /** All that was begun is done. */
  settled(): Promise<void> {
    return this.#queues.settled();
  }

  /** Lazily at last: whoever still has files open there keeps them. */
  async #unmount(folder: string): Promise<void> {
    for (const [program, ...args] of [
      ['fusermount3', '-u', folder],
      ['fusermount3', '-u', '-z', folder],
      ['umount', '-l', folder],
    ] as const) {
      if ((await run(program, args, UNMOUNT_TIMEOUT_MS)) === undefined) break;
    }
    removeEmpty(folder);
  }

  /** Not within the VM's own folder, which is removed with all that is in it. */
  #folder(vmId: string, tag: string): string {
    return this.#home.file('mounts', `${vmId}-${tag}`);
  }
}

/** Never what is in it, should it be mounted still. */
function removeEmpty(folder: string): void {
  try {
    fs.rmdirSync(folder);
  } catch {
    // It is in use, and is used again.
  }
}

interface Failure {
  readonly code: string | number | null | undefined;
  readonly detail: string;
}

/** A program that mounts goes on for as long as that is mounted. */
interface MountProgram {
  readonly ended: Promise<unknown>;
  kill(): void;
}

async function begin(
  program: string,
  args: readonly string[],
  folder: string,
): Promise<MountProgram | Failure> {
  // In a group of its own: an interrupt at a terminal is for the daemon, which unmounts.
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said = (said + bytes.toString()).slice(-500)));
  const ended = new Promise<Failure>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) =>
      resolve({ code: error.code, detail: error.message }),
    );
    child.once('exit', (code) => resolve({ code, detail: said.trim() || `${program} has ended` }));
  });
  // A program that was stopped heeds no other signal.
  const kill = (): void => void child.kill('SIGKILL');
  const late = delay(MOUNT_TIMEOUT_MS, { code: null, detail: `${program} takes too long` }, { ref: false });
  const failure = await Promise.race([mounts(folder, ended), late]);
  if (failure === undefined) return { ended, kill };
  kill();
  return failure;
}

/** Undefined as soon as the folder is mounted and can be read. */
async function mounts(folder: string, ended: Promise<Failure>): Promise<Failure | undefined> {
  while (!isMounted(folder)) {
    const failed = await Promise.race([ended, delay(MOUNT_POLL_MS)]);
    if (failed !== undefined) return failed;
  }
  // sshfs mounts before it is connected.
  const read = fs.promises.readdir(folder).then(
    () => undefined,
    (error: unknown): Failure => ({ code: 'EIO', detail: String(error) }),
  );
  const failure = await Promise.race([read, ended]);
  if (failure === undefined) return undefined;
  // What the program itself says is told, if it ends of it.
  return await Promise.race([ended, delay(END_GRACE_MS).then(() => failure)]);
}

function isMounted(folder: string): boolean {
  return fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${folder.replaceAll(' ', '\\040')} `);
}

/** Undefined when it has succeeded. */
function run(program: string, args: readonly string[], timeout: number): Promise<Failure | undefined> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout }, (error, _stdout, stderr) => {
      if (error === null) resolve(undefined);
      else resolve({ code: error.code, detail: stderr.trim().slice(0, 500) || error.message });
    });
  });
}
