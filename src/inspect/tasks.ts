/** Processes of a guest's kernel (struct task_struct, include/linux/sched.h). */
import type { LinuxKernel } from './kernel.ts';
import { LinearMemory } from './memory.ts';

const COMM_BYTES = 16;
const ARGUMENT_BYTES_MAX = 128 * 1024;
/** An entry of a tree of numbers (include/linux/xarray.h): that of a node has such low bits, and all others are no pointers. */
const NODE_TAG = 2n;
const TAG_MASK = 3n;
const NODE_MIN = 4096n;
const NODE_SLOTS = 64;
const TREE_DEPTH_MAX = 8;

export class Task {
  /** Address of its task_struct. */
  readonly address: bigint;
  readonly #kernel: LinuxKernel;

  constructor(kernel: LinuxKernel, address: bigint) {
    this.#kernel = kernel;
    this.address = address;
  }

  /** The first thread of the process that it belongs to. */
  get leader(): Task {
    return new Task(this.#kernel, this.#kernel.u64('task_struct', 'group_leader', this.address));
  }
  get comm(): string {
    const { memory } = this.#kernel;
    return memory.text(this.#kernel.field('task_struct', 'comm', this.address), COMM_BYTES);
  }
  /** Saved stack pointer of one that does not run now. */
  get stackPointer(): bigint {
    return this.#kernel.u64('task_struct', 'thread.sp', this.address);
  }
  /** The lowest address of its kernel stack. */
  get stack(): bigint {
    return this.#kernel.u64('task_struct', 'stack', this.address);
  }
  /** Address of its mm_struct; undefined for a thread of the kernel. */
  get mm(): bigint | undefined {
    const mm = this.#kernel.u64('task_struct', 'mm', this.address);
    return mm === 0n ? undefined : mm;
  }

  /** Its own memory; undefined for a thread of the kernel. */
  get memory(): LinearMemory | undefined {
    const { mm } = this;
    if (mm === undefined) return undefined;
    const pgd = this.#kernel.u64('mm_struct', 'pgd', mm);
    const physical = this.#kernel.memory.physical(pgd);
    return physical === undefined ? undefined : new LinearMemory(this.#kernel.machine, BigInt(physical));
  }

  /** Its arguments, as they are in its memory: each with a NUL. */
  get arguments(): Buffer {
    const { mm, memory } = this;
    if (mm === undefined || memory === undefined) return Buffer.alloc(0);
    const start = this.#kernel.u64('mm_struct', 'arg_start', mm);
    const bytes = Number(this.#kernel.u64('mm_struct', 'arg_end', mm) - start);
    return memory.readSome(start, Math.max(0, Math.min(bytes, ARGUMENT_BYTES_MAX)));
  }
}

/**
 * A process or a thread by its number in a namespace of such numbers, the first one by default (kernel/pid.c); undefined when there is
 * none. Takes the same few steps however many there are.
 */
export function findTask(
  kernel: LinuxKernel,
  pid: number,
  namespace = kernel.symbol('init_pid_ns'),
): Task | undefined {
  const struct = treeEntry(kernel, kernel.u64('pid_namespace', 'idr.idr_rt.xa_head', namespace), pid);
  if (struct === 0n) return undefined;
  // The first of the lists is that of PIDTYPE_PID, which has one task at most.
  const link = kernel.u64('pid', 'tasks', struct);
  return link === 0n
    ? undefined
    : new Task(kernel, link - BigInt(kernel.types.offset('task_struct', 'pid_links')));
}

function treeEntry(kernel: LinuxKernel, head: bigint, index: number): bigint {
  let entry = head;
  for (let depth = 0; depth < TREE_DEPTH_MAX; depth++) {
    const isNode = (entry & TAG_MASK) === NODE_TAG && entry >= NODE_MIN;
    if (!isNode) return (entry & TAG_MASK) === 0n && (depth > 0 || index === 0) ? entry : 0n;
    const node = entry - NODE_TAG;
    const shift = kernel.memory.read(kernel.field('xa_node', 'shift', node), 1)[0]!;
    const slot = Math.floor(index / 2 ** shift);
    // Behind the end of a tree that has not grown so far.
    if (depth === 0 && slot >= NODE_SLOTS) return 0n;
    entry = kernel.memory.u64(kernel.field('xa_node', 'slots', node) + BigInt((slot % NODE_SLOTS) * 8));
  }
  return 0n;
}

/** Names of programs by the numbers, in a namespace, of processes that run them, and of their threads. */
export function commandIn(kernel: LinuxKernel, namespace: bigint): (pid: number) => string | undefined {
  return (pid) => findTask(kernel, pid, namespace)?.leader.comm;
}

/** Where the first CPU has the address of what it runs. */
export function currentTaskAt(kernel: LinuxKernel): bigint {
  return kernel.has('pcpu_hot')
    ? kernel.field('pcpu_hot', 'current_task', kernel.perCpu('pcpu_hot'))
    : kernel.perCpu('current_task');
}

/** What the CPU runs now. */
export function currentTask(kernel: LinuxKernel): Task {
  return new Task(kernel, kernel.memory.u64(currentTaskAt(kernel)));
}
