/** What can be seen of a machine from outside, between two instructions: nothing in the guest takes part in it. */
export interface MachineInspection {
  /** All of RAM; `ramOffset` says where a guest physical address is. */
  readonly ram: Uint8Array;
  /** Offset in `ram` of a guest physical range, -1 if any byte of it is not RAM. */
  ramOffset(physical: number, length: number): number;
  readonly cr3: bigint;
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
  /** @param number see REGISTER */
  register(number: number): bigint;
  setRegister(number: number, value: bigint): void;
  /** The CPU goes on there: the point's listener must say so. */
  setRip(value: bigint): void;
  /** Writes to RAM, which the range must be. */
  write(physical: number, bytes: Uint8Array): void;
}
