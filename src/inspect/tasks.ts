/** Processes of a guest's kernel (struct task_struct, include/linux/sched.h). */
import type { LinuxKernel } from './kernel.ts';
import { LinearMemory } from './memory.ts';

const TASKS_MAX = 65_536;
const COMM_BYTES = 16;
const ARGUMENT_BYTES_MAX = 128 * 1024;

/** Bits of task_struct's state and exit_state, and the letters and words of /proc/PID/status (fs/proc/array.c). */
const STATES = [
  [0x01, 'S (sleeping)'],
  [0x02, 'D (disk sleep)'],
  [0x04, 'T (stopped)'],
  [0x08, 't (tracing stop)'],
  [0x10, 'X (dead)'],
  [0x20, 'Z (zombie)'],
  [0x40, 'P (parked)'],
] as const;
const TASK_IDLE = 0x402;
const TASK_REPORT = 0x7f;

export class Task {
  /** Address of its task_struct. */
  readonly address: bigint;
  readonly #kernel: LinuxKernel;

  constructor(kernel: LinuxKernel, address: bigint) {
    this.#kernel = kernel;
    this.address = address;
  }

  get pid(): number {
    return this.#kernel.i32('task_struct', 'pid', this.address);
  }
  /** Of the process that the thread belongs to: what getpid() tells. */
  get tgid(): number {
    return this.#kernel.i32('task_struct', 'tgid', this.address);
  }
  get comm(): string {
    const { memory } = this.#kernel;
    return memory.text(this.#kernel.field('task_struct', 'comm', this.address), COMM_BYTES);
  }
  get state(): string {
    const kernel = this.#kernel;
    const running = kernel.types.has('task_struct', '__state') ? '__state' : 'state';
    const now = kernel.u32('task_struct', running, this.address);
    const all = (now | kernel.u32('task_struct', 'exit_state', this.address)) & 0xffff;
    if ((now & TASK_IDLE) === TASK_IDLE) return 'I (idle)';
    return STATES.find(([bit]) => (all & TASK_REPORT & bit) !== 0)?.[1] ?? 'R (running)';
  }
  get parent(): Task {
    return new Task(this.#kernel, this.#kernel.u64('task_struct', 'real_parent', this.address));
  }
  get threads(): number {
    const signal = this.#kernel.u64('task_struct', 'signal', this.address);
    return this.#kernel.i32('signal_struct', 'nr_threads', signal);
  }
  get uid(): number {
    return this.#kernel.u32('cred', 'uid', this.#cred);
  }
  get euid(): number {
    return this.#kernel.u32('cred', 'euid', this.#cred);
  }
  /** Real, effective, saved and file system id. */
  ids(kind: 'uid' | 'gid'): number[] {
    return ['', 'e', 's', 'fs'].map((which) => this.#kernel.u32('cred', `${which}${kind}`, this.#cred));
  }
  get #cred(): bigint {
    return this.#kernel.u64('task_struct', 'cred', this.address);
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

  /** Its arguments or its environment, as they are in its memory: each with a NUL. */
  strings(which: 'arg' | 'env'): Buffer {
    const { mm, memory } = this;
    if (mm === undefined || memory === undefined) return Buffer.alloc(0);
    const start = this.#kernel.u64('mm_struct', `${which}_start`, mm);
    const bytes = Number(this.#kernel.u64('mm_struct', `${which}_end`, mm) - start);
    return memory.readSome(start, Math.max(0, Math.min(bytes, ARGUMENT_BYTES_MAX)));
  }
}

/** All processes, the first one first; without threads and the idle task. */
export function* processes(kernel: LinuxKernel): Generator<Task> {
  const head = kernel.field('task_struct', 'tasks', kernel.symbol('init_task'));
  for (const address of kernel.list(head, 'task_struct', 'tasks', TASKS_MAX)) yield new Task(kernel, address);
}

/** Undefined when there is no such process. */
export function findProcess(kernel: LinuxKernel, pid: number): Task | undefined {
  for (const task of processes(kernel)) if (task.pid === pid) return task;
  return undefined;
}

/** Names of programs by the ids of processes that run them; undefined where there is no such process. */
export function commandIn(kernel: LinuxKernel): (pid: number) => string | undefined {
  return (pid) => findProcess(kernel, pid)?.comm;
}

/** What the CPU runs now. */
export function currentTask(kernel: LinuxKernel): Task {
  const address = kernel.has('pcpu_hot')
    ? kernel.memory.u64(kernel.field('pcpu_hot', 'current_task', kernel.perCpu('pcpu_hot')))
    : kernel.memory.u64(kernel.perCpu('current_task'));
  return new Task(kernel, address);
}
