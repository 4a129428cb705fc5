/**
 * A log of what programs of a guest do, taken from outside: trace points in the guest's kernel, at functions that every way
 * of doing a thing leads through and that have names and addresses in the kernel's own memory. The guest's memory is as it
 * was: nothing in it tells of the log.
 */
import type { TraceKind, TraceRecord } from '../contracts/ports.ts';
import type { LinuxKernel, SymbolName } from './kernel.ts';
import type { KernelPoint, KernelPoints, PointOwner } from './kernel-points.ts';
import { currentTask, type Task } from './tasks.ts';

const PATH_BYTES_MAX = 4096;
const ARGUMENTS_MAX = 256;
const ADDRESS_BYTES_MAX = 128;
const FAMILY = { UNIX: 1, INET: 2, INET6: 10 } as const;

interface Point {
  readonly symbol: SymbolName;
  read(kernel: LinuxKernel, task: Task): Partial<TraceRecord>;
}

const POINTS: Readonly<Record<TraceKind, Point>> = {
  /** finalize_exec(struct linux_binprm *): the new program's memory is made, and nothing of it has run. */
  exec: {
    symbol: 'finalize_exec',
    read(kernel, task) {
      const [binary] = kernel.machine.arguments;
      const path = kernel.memory.text(kernel.u64('linux_binprm', 'filename', binary), PATH_BYTES_MAX);
      const strings = task.strings('arg').toString('utf8').split('\0');
      return { path, arguments: strings.slice(0, -1).slice(0, ARGUMENTS_MAX) };
    },
  },
  /** do_filp_open(int dfd, struct filename *, const struct open_flags *): open in all its forms, io_uring's among them. */
  open: {
    symbol: 'do_filp_open',
    read(kernel) {
      const [, name, flags] = kernel.machine.arguments;
      const path = kernel.memory.text(kernel.u64('filename', 'name', name), PATH_BYTES_MAX);
      return { path, flags: kernel.u32('open_flags', 'open_flag', flags) };
    },
  },
  /** __sys_connect_file(struct file *, struct sockaddr_storage *, int length, int flags) */
  connect: {
    symbol: '__sys_connect_file',
    read(kernel) {
      const [, address, length] = kernel.machine.arguments;
      const bytes = Math.min(Number(length & 0xffff_ffffn), ADDRESS_BYTES_MAX);
      return socketAddress(kernel.memory.read(address, Math.max(2, bytes)));
    },
  },
};

export class Tracer implements PointOwner {
  readonly #points: KernelPoints;
  readonly #onRecord: (record: TraceRecord) => void;
  #kinds: readonly TraceKind[] = [];

  constructor(points: KernelPoints, onRecord: (record: TraceRecord) => void) {
    this.#points = points;
    this.#onRecord = onRecord;
  }

  /** What is told from now on, as soon as the guest's kernel is up. */
  set(kinds: readonly TraceKind[]): void {
    this.#kinds = kinds;
    this.#points.set(this, kinds.length > 0);
  }

  points(kernel: LinuxKernel): KernelPoint[] {
    return this.#kinds.map((kind) => ({
      address: kernel.symbol(POINTS[kind].symbol),
      reached: () => {
        this.#reached(kernel, kind);
        return false;
      },
    }));
  }

  #reached(kernel: LinuxKernel, kind: TraceKind): void {
    const task = currentTask(kernel);
    const { uid, euid } = task;
    const who = { pid: task.tgid, ppid: task.parent.tgid, uid, euid, comm: task.comm };
    this.#onRecord({ time: Date.now(), kind, ...who, ...POINTS[kind].read(kernel, task) });
  }
}

/** struct sockaddr of the families that lead somewhere. */
function socketAddress(bytes: Buffer): Partial<TraceRecord> {
  const family = bytes.readUInt16LE(0);
  if (family === FAMILY.INET && bytes.length >= 8) {
    return { address: [...bytes.subarray(4, 8)].join('.'), port: bytes.readUInt16BE(2) };
  }
  if (family === FAMILY.INET6 && bytes.length >= 24) {
    const groups = Array.from({ length: 8 }, (_, n) => bytes.readUInt16BE(8 + n * 2).toString(16));
    return { address: groups.join(':'), port: bytes.readUInt16BE(2) };
  }
  if (family !== FAMILY.UNIX) return { family };
  // An abstract name begins with a NUL, which is written as @.
  const name = bytes.subarray(2).toString('utf8');
  return { path: name.startsWith('\0') ? `@${name.slice(1).split('\0')[0]}` : name.split('\0')[0] };
}
