/**
 * Reads of replaced files: at the functions of struct file_operations by which every read of a file of procfs is done (read and its
 * relatives, sendfile, splice, io_uring). The content is copied by the kernel's own functions, so a page that is not there is fetched
 * and an address that is none is EFAULT, as ever.
 */
import type { Replica } from '../../engine/inspection.ts';
import type { LinuxKernel, SymbolName } from '../kernel.ts';
import { commandIn } from '../tasks.ts';
import type { KernelPoint } from '../kernel-points.ts';
import { readOpenProc } from '../proc.ts';
import type { GuestCalls, Moved } from './guest-calls.ts';
import { dentryOf, lastNameOf, procNameOfFile } from './names.ts';
import type { ProcRule, ProcRules } from './rules.ts';

/** ssize_t read(struct file *, char __user *, size_t, loff_t *) */
const READS = [
  'seq_read',
  'proc_reg_read',
  'proc_pid_cmdline_read',
  'environ_read',
  'auxv_read',
  'proc_pid_attr_read',
  'oom_adj_read',
  'oom_score_adj_read',
  'proc_loginuid_read',
  'proc_sessionid_read',
  'proc_coredump_filter_read',
  'pagemap_read',
  'mem_read',
] as const satisfies readonly SymbolName[];
/** ssize_t read_iter(struct kiocb *, struct iov_iter *) */
const READ_ITERS = [
  'seq_read_iter',
  'proc_reg_read_iter',
  'proc_sys_read',
] as const satisfies readonly SymbolName[];

const EIO = -5n;
const EFAULT = -14n;
const ERESTARTSYS = -512n;
/** Of the guest's stack, which is 16 KiB. */
const CHUNK_BYTES = 2048;
const WAIT_MS = 4n;
/** Contents of open files that are kept, so that a file that is read in pieces is of one piece. */
const KEPT_FILES_MAX = 256;
const KEPT_BYTES_MAX = 16 << 20;
const NOTHING = new Uint8Array(0);

/** A read that is under way. */
interface Read {
  /** Of the function whose trace point it is. */
  readonly entry: bigint;
  readonly file: bigint;
  readonly position: bigint;
  readonly size: bigint;
  /** Where the position is kept: u64. */
  readonly positionAt: bigint;
  /** Has the kernel copy from its stack; `copied` says how many bytes that were, in its own way. */
  readonly callee: bigint;
  arguments(source: bigint, done: number, bytes: number): readonly bigint[];
  copied(result: bigint, bytes: number): number;
}

export class ProcReads {
  readonly #kernel: LinuxKernel;
  readonly #calls: GuestCalls;
  readonly #replica: () => Replica;
  readonly #failed: (path: string, error: unknown) => void;
  #rules: ProcRules;
  readonly #kept = new Map<bigint, { readonly path: string; readonly bytes: Uint8Array }>();
  #keptBytes = 0;

  constructor(
    kernel: LinuxKernel,
    calls: GuestCalls,
    rules: ProcRules,
    replica: () => Replica,
    failed: (path: string, error: unknown) => void,
  ) {
    this.#kernel = kernel;
    this.#calls = calls;
    this.#rules = rules;
    this.#replica = replica;
    this.#failed = failed;
  }

  points(): KernelPoint[] {
    const kernel = this.#kernel;
    const point = (name: SymbolName, file: () => bigint, read: (entry: bigint) => Read): KernelPoint[] => {
      if (!kernel.has(name)) return [];
      const address = kernel.symbol(name);
      const begun = (): Moved => this.#mayConcern(file()) && this.#serve(read(address));
      return [{ address, reached: () => this.#calls.resume() ?? begun() }];
    };
    const ownFile = (): bigint => this.#calls.argument(0);
    const iteratedFile = (): bigint => kernel.u64('kiocb', 'ki_filp', this.#calls.argument(0));
    return [
      ...READS.flatMap((name) => point(name, ownFile, (entry) => this.#plainRead(entry))),
      ...READ_ITERS.flatMap((name) => point(name, iteratedFile, (entry) => this.#iteratedRead(entry))),
    ];
  }

  #mayConcern(file: bigint): boolean {
    const dentry = dentryOf(this.#kernel, file);
    return dentry !== 0n && this.#rules.mayConcern(lastNameOf(this.#kernel, dentry));
  }

  #plainRead(entry: bigint): Read {
    const kernel = this.#kernel;
    const [file, buffer, size, positionAt] = this.#calls.arguments();
    return {
      entry,
      file,
      size,
      positionAt,
      get position() {
        return kernel.memory.u64(positionAt);
      },
      callee: kernel.symbol('_copy_to_user'),
      arguments: (source, done, bytes) => [buffer + BigInt(done), source, BigInt(bytes)],
      copied: (left, bytes) => bytes - Number(left),
    };
  }

  #iteratedRead(entry: bigint): Read {
    const kernel = this.#kernel;
    const [iocb, iterator] = this.#calls.arguments();
    const positionAt = kernel.field('kiocb', 'ki_pos', iocb);
    return {
      entry,
      file: kernel.u64('kiocb', 'ki_filp', iocb),
      get size() {
        return kernel.u64('iov_iter', 'count', iterator);
      },
      positionAt,
      get position() {
        return kernel.memory.u64(positionAt);
      },
      callee: kernel.symbol('_copy_to_iter'),
      arguments: (source, _done, bytes) => [source, BigInt(bytes), iterator],
      copied: (result) => Number(result),
    };
  }

  #serve(read: Read): Moved {
    const name = procNameOfFile(this.#kernel, read.file);
    if (name === undefined) return false;
    const { path, namespace } = name;
    const rule = this.#rules.find(path, commandIn(this.#kernel, namespace));
    if (rule === undefined) return false;
    // As of an entry of /proc that is gone while it is open.
    if (rule.content === undefined) return this.#calls.return(EIO);
    // Registers are lost by then.
    const { position, size } = read;
    const kept = position === 0n ? undefined : this.#kept.get(read.file);
    if (kept?.path === path) return this.#copy({ ...read, position, size }, kept.bytes, 0);
    return this.#fetch({ ...read, position, size }, path, rule);
  }

  /** The guest's process sleeps while the content is made. */
  #fetch(read: Read, path: string, rule: ProcRule): Moved {
    let bytes: Uint8Array | undefined;
    let isFailed = false;
    const fail = (error: unknown): void => {
      isFailed = true;
      this.#failed(path, error);
    };
    try {
      const content = rule.content!(() => readOpenProc(this.#kernel, this.#replica(), read.file, path));
      if (content instanceof Uint8Array) bytes = content;
      else content.then((made) => (bytes = made), fail);
    } catch (error) {
      fail(error);
    }
    const look = (): Moved => {
      if (isFailed) return this.#calls.return(EIO);
      if (bytes !== undefined) {
        this.#keep(read.file, path, bytes);
        return this.#copy(read, bytes, 0);
      }
      const sleep = this.#kernel.symbol('msleep_interruptible');
      return this.#calls.call(
        read.entry,
        sleep,
        () => [WAIT_MS],
        NOTHING,
        (left) => (left === 0n ? look() : this.#calls.return(ERESTARTSYS)),
      );
    };
    return look();
  }

  #copy(read: Read, content: Uint8Array, done: number): Moved {
    const from = Math.min(content.length, Number(read.position) + done);
    const size = Number(read.size) - done;
    const chunk = content.subarray(from, from + Math.max(0, Math.min(CHUNK_BYTES, size)));
    if (chunk.length === 0) return this.#end(read, done);
    const then = (result: bigint): Moved => {
      const copied = Math.max(0, Math.min(chunk.length, read.copied(result, chunk.length)));
      if (copied < chunk.length)
        return done + copied > 0 ? this.#end(read, done + copied) : this.#calls.return(EFAULT);
      return this.#copy(read, content, done + copied);
    };
    const args = (source: bigint): readonly bigint[] => read.arguments(source, done, chunk.length);
    return this.#calls.call(read.entry, read.callee, args, chunk, then);
  }

  #end(read: Read, done: number): Moved {
    this.#calls.writeU64(read.positionAt, read.position + BigInt(done));
    return this.#calls.return(BigInt(done));
  }

  #keep(file: bigint, path: string, bytes: Uint8Array): void {
    this.#drop(file);
    this.#kept.set(file, { path, bytes });
    this.#keptBytes += bytes.length;
    for (const oldest of this.#kept.keys()) {
      if (oldest === file || (this.#kept.size <= KEPT_FILES_MAX && this.#keptBytes <= KEPT_BYTES_MAX)) break;
      this.#drop(oldest);
    }
  }

  #drop(file: bigint): void {
    this.#keptBytes -= this.#kept.get(file)?.bytes.length ?? 0;
    this.#kept.delete(file);
  }
}
