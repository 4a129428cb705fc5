/**
 * Has functions of a guest's kernel answer questions about it, in a replica of the machine: the guest has no part in it, and nothing of
 * it changes. They run as if a process had called them, whatever the CPU was about.
 */
import { type Replica, ReplicaError, type StandIn } from '../engine/inspection.ts';
import type { LinuxKernel, SymbolName } from './kernel.ts';
import { currentTaskAt, type Task } from './tasks.ts';

const PAGE = 4096;
/** THREAD_SIZE without KASAN, and what is left free at its end (arch/x86/include/asm/page_64_types.h). */
const STACK_BYTES = 16_384n;
const STACK_GAP = 512n;
/** Not within an interrupt, and not to be preempted: depth 1; the highest bit says that nobody else is to run. */
const PREEMPT_COUNT = [1, 0, 0, 0x80];

const WAITS = ['__schedule', 'schedule'] as const satisfies readonly SymbolName[];
/**
 * Where a lock is waited for. Whoever holds it has stopped for ever, so it is had at once: what is locked may be in the middle of a
 * change, as all that is read from outside.
 */
const LOCKS = [
  '__mutex_lock_interruptible_slowpath',
  '__mutex_lock_killable_slowpath',
  '__mutex_lock_slowpath',
  'native_queued_spin_lock_slowpath',
  'percpu_down_write',
  'percpu_up_write',
  'queued_read_lock_slowpath',
  'queued_write_lock_slowpath',
] as const satisfies readonly SymbolName[];
/** The same, which return the lock. */
const LOCKS_RETURNED = [
  'rwsem_down_read_slowpath',
  'rwsem_down_write_slowpath',
] as const satisfies readonly SymbolName[];

export class KernelCalls {
  readonly replica: Replica;
  readonly #kernel: LinuxKernel;
  readonly #stack: bigint;

  /**
   * Of the kernel as it is now, until the machine runs on.
   * @param task who calls. Throws InspectError, ReplicaError.
   */
  constructor(kernel: LinuxKernel, replica: Replica, task: Task) {
    this.replica = replica;
    this.#kernel = kernel;
    this.#stack = task.stack + STACK_BYTES - STACK_GAP;
    replica.begin({
      translate: (page) => ramOffset(kernel, page),
      gsBase: kernel.memory.u64(kernel.symbol('__per_cpu_offset')),
      standIns: standIns(kernel),
    });
    this.writeU64(currentTaskAt(kernel), task.address);
    replica.write(preemptCountAt(kernel), Uint8Array.from(PREEMPT_COUNT));
  }

  /** The task may do everything. */
  static asRoot(kernel: LinuxKernel, replica: Replica, task: Task): KernelCalls {
    const calls = new KernelCalls(kernel, replica, task);
    calls.writeU64(kernel.field('task_struct', 'cred', task.address), kernel.symbol('init_cred'));
    return calls;
  }

  /** Throws InspectError where there is no such function, ReplicaError where it cannot be brought to its end. */
  call(name: SymbolName, ...args: readonly bigint[]): bigint {
    return this.replica.call(this.#kernel.symbol(name), args, this.#stack);
  }

  /** A field of what functions have made. */
  u64(struct: string, field: string, base: bigint): bigint {
    return this.replica.read(this.#kernel.field(struct, field, base), 8).readBigUInt64LE();
  }

  writeU64(at: bigint, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    this.replica.write(at, bytes);
  }
}

function ramOffset(kernel: LinuxKernel, page: bigint): number | undefined {
  const physical = kernel.memory.physical(page);
  const offset = physical === undefined ? -1 : kernel.machine.ramOffset(physical, PAGE);
  return offset < 0 ? undefined : offset;
}

function preemptCountAt(kernel: LinuxKernel): bigint {
  return kernel.has('pcpu_hot')
    ? kernel.field('pcpu_hot', 'preempt_count', kernel.perCpu('pcpu_hot'))
    : kernel.perCpu('__preempt_count');
}

function standIns(kernel: LinuxKernel): ReadonlyMap<bigint, StandIn> {
  const all = new Map<bigint, StandIn>();
  const add = (names: readonly SymbolName[], standIn: StandIn): void => {
    for (const name of names) if (kernel.has(name)) all.set(kernel.symbol(name), standIn);
  };
  add(WAITS, () => {
    throw new ReplicaError('it would wait for something');
  });
  add(LOCKS, () => 0n);
  add(LOCKS_RETURNED, (lock) => lock);
  return all;
}
