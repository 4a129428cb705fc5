/** A store on a remote that rclone knows: each request is a run of the program, with its own configuration, by setpriv of util-linux. */
import { spawn } from 'node:child_process';
import { AppError } from '../../contracts/errors.ts';
import { damaged } from './damaged.ts';
import type { ObjectFolder, ObjectStore, StoredObject } from './objects.ts';

/** Exit codes of rclone: directory, file not found. */
const NOT_FOUND = new Set([3, 4]);
/**
 * It ends with the thread that began it. One that outlived a killed daemon could finish a manifest when another has the store, and has
 * removed what the manifest needs.
 */
const BOUND = ['--pdeathsig', 'KILL', 'rclone'] as const;
/** Exit code of setpriv: there is no such program. */
const NO_PROGRAM = 127;
const STDERR_CHARS = 2000;
const LIST_BYTES_MAX = 256 << 20;
/** Packs that were read last: what is wanted of a pack is wanted at about the same time. */
const PACKS_KEPT = 4;
const COMMON = ['--use-json-log=false', '--stats=0', '--retries=3', '--low-level-retries=5'] as const;

export class RcloneObjects implements ObjectStore {
  readonly #remote: string;
  readonly #packs = new Map<string, Buffer>();

  /** @param remote `NAME:PATH`, or a path, as rclone takes them; it may not begin with `-` */
  constructor(remote: string) {
    this.#remote = remote.replace(/\/+$/, '');
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#run(['rcat', `--size=${bytes.length}`, this.#at(name)], { stdin: bytes, bytesMax: 0 });
  }

  async get(name: string, bytesMax: number): Promise<Buffer> {
    return await this.#run(['cat', this.#at(name)], { bytesMax });
  }

  /** Fetches the whole object: a run of rclone costs more than a pack. */
  async read(name: string, offset: number, length: number): Promise<Buffer> {
    const whole = this.#packs.get(name) ?? (await this.#fetch(name));
    if (offset + length > whole.length) throw damaged(`${this.#at(name)} is shorter than it was`);
    return whole.subarray(offset, offset + length);
  }

  async list(folder: ObjectFolder): Promise<StoredObject[]> {
    let listing: Buffer;
    try {
      listing = await this.#run(['lsjson', '--files-only', '--no-modtime', this.#at(folder)], {
        bytesMax: LIST_BYTES_MAX,
      });
    } catch (error) {
      // A new store has no folders.
      if (error instanceof AppError && error.code === 'not_found') return [];
      throw error;
    }
    // INVARIANT: what lsjson prints, according to its manual.
    const entries = JSON.parse(listing.toString()) as { readonly Name: string; readonly Size: number }[];
    return entries.map(({ Name, Size }) => ({ name: Name, sizeBytes: Size }));
  }

  async remove(name: string): Promise<void> {
    this.#packs.delete(name);
    try {
      await this.#run(['deletefile', this.#at(name)], { bytesMax: 0 });
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'not_found')) throw error;
    }
  }

  /** rclone cleans up behind itself; a pack that was cut off is told from others by its end. */
  removeDrafts(): void {}

  close(): void {
    this.#packs.clear();
  }

  #at(name: string): string {
    return this.#remote.endsWith(':') ? `${this.#remote}${name}` : `${this.#remote}/${name}`;
  }

  async #fetch(name: string): Promise<Buffer> {
    const whole = await this.#run(['cat', this.#at(name)], { bytesMax: 64 << 20 });
    this.#packs.set(name, whole);
    const oldest = this.#packs.keys().next().value;
    if (this.#packs.size > PACKS_KEPT && oldest !== undefined) this.#packs.delete(oldest);
    return whole;
  }

  #run(
    args: readonly string[],
    { stdin, bytesMax }: { readonly stdin?: Uint8Array; readonly bytesMax: number },
  ): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const child = spawn('setpriv', [...BOUND, ...args, ...COMMON], { stdio: ['pipe', 'pipe', 'pipe'] });
      const output: Buffer[] = [];
      let bytes = 0;
      let complaint = '';
      let tooMuch = false;
      child.stdout.on('data', (part: Buffer) => {
        bytes += part.length;
        tooMuch ||= bytes > bytesMax && bytesMax > 0;
        if (tooMuch) child.kill();
        else output.push(part);
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        complaint = (complaint + text).slice(-STDERR_CHARS);
      });
      child.on('error', (error) => reject(missing('setpriv', 'util-linux', error)));
      child.on('close', (status) => {
        if (tooMuch) reject(damaged(`${args.at(-1)} is larger than it can be`));
        else if (status === 0) resolve(Buffer.concat(output));
        else if (status === NO_PROGRAM) reject(missing('rclone', 'rclone'));
        else reject(failure(args, status, complaint));
      });
      // It may end without having read all: its status tells.
      child.stdin.on('error', () => undefined);
      child.stdin.end(stdin);
    });
  }
}

function missing(program: string, debianPackage: string, cause?: Error): AppError {
  return new AppError('tool_missing', `the program ${program} is needed for this destination`, {
    field: 'destination',
    remedy: `install the Debian package ${debianPackage}`,
    cause,
  });
}

function failure(args: readonly string[], status: number | null, complaint: string): AppError {
  const detail = `rclone ${args[0]} ended with ${status}: ${complaint.trim().split('\n').at(-1) ?? ''}`;
  if (status !== null && NOT_FOUND.has(status)) {
    return new AppError('not_found', detail, { field: 'destination' });
  }
  if (/no space left|quota|insufficient storage/i.test(complaint)) {
    return new AppError('disk_full', detail, {
      field: 'destination',
      remedy: 'free space at the destination',
    });
  }
  return new AppError('unreachable', detail, {
    field: 'destination',
    remedy: 'check the remote with `rclone lsf`, as the user that the daemon runs as',
  });
}
