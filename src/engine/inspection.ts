/** What can be seen of a machine from outside, between two instructions: nothing in the guest takes part in it. */
export interface MachineInspection {
  /** All of RAM; `ramOffset` says where a guest physical address is. */
  readonly ram: Uint8Array;
  /** Offset in `ram` of a guest physical range, -1 if any byte of it is not RAM. */
  ramOffset(physical: number, length: number): number;
  readonly cr3: bigint;
  /** Physical address of the top-level page table, which CR3 has. */
  readonly pageTables: number;
  /** Where SYSCALL enters the kernel; 0 until the kernel has set it. */
  readonly lstar: bigint;
  readonly rsp: bigint;
  /** The first arguments of a function that is about to be called (System V ABI for AMD64). */
  readonly arguments: readonly [rdi: bigint, rsi: bigint, rdx: bigint];
  readonly rip: bigint;
  /** Base of GS; in the kernel that is where the CPU's own variables are. */
  readonly gsBase: bigint;
  readonly kernelGsBase: bigint;
  /** Current privilege level. */
  readonly cpl: number;
  /** The guest's time-stamp counter, which counts nanoseconds. */
  readonly tsc: bigint;
}

/** General registers as Intel numbers them. */
export const REGISTER = { RAX: 0, RCX: 1, RDX: 2, RSP: 4, RSI: 6, RDI: 7 } as const;

/** What can be changed of a machine while it is at a trace point. */
export interface MachineIntervention {
  /** The general registers, as they are at any time: of each the low word, and the high one. */
  readonly words: Uint32Array;
  /** @param number see REGISTER */
  register(number: number): bigint;
  setRegister(number: number, value: bigint): void;
  /** The CPU goes on there: the point's listener must say so. */
  setRip(value: bigint): void;
  /** Writes to RAM, which the range must be. Only where the CPU is sent elsewhere: what it was about to run may be written to. */
  write(physical: number, bytes: Uint8Array): void;
}

/** Why a call in a replica has not come to its end. */
export class ReplicaError extends Error {}

/** Runs in place of a function, and answers for it: what it is given is the first argument. Throws ReplicaError. */
export type StandIn = (first: bigint) => bigint;

export interface ReplicaStart {
  /** Offset in the machine's RAM of the page at a linear address; undefined where nothing is mapped or is no RAM. */
  translate(page: bigint): number | undefined;
  /** Base of GS. */
  readonly gsBase: bigint;
  /** By the addresses of the functions. */
  readonly standIns: ReadonlyMap<bigint, StandIn>;
}

/**
 * A CPU of its own for functions of a machine's kernel, in the machine's memory as it is at this moment. It works on copies of pages,
 * made when they are first touched: the machine stays as it is and takes no part in it, and no device is asked. All throws ReplicaError.
 */
export interface Replica {
  /** Zeroed memory that functions may be told of: the kernel's, and a program's. */
  readonly scratch: { readonly kernel: bigint; readonly user: bigint; readonly userBytes: number };
  /** Forgets what was before. The machine's memory is not to change from then on until the last call. */
  begin(start: ReplicaStart): void;
  /**
   * Calls a function (System V ABI for AMD64), and answers what it returns. Arguments that are not given are 0.
   * @param stack the stack is below it
   */
  call(address: bigint, args: readonly bigint[], stack: bigint): bigint;
  read(linear: bigint, length: number): Buffer;
  write(linear: bigint, bytes: Uint8Array): void;
}
