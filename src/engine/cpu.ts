/** What the machine sees of a vCPU; `vcpu.ts` implements it. */

/** What the CPU asks of the board. Physical addresses are doubles (exact below 2^53). */
export interface CpuHooks {
  readMmio(physical: number, size: number): number;
  writeMmio(physical: number, size: number, value: number): void;
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
  /** A model-specific register that the core does not keep itself (LAPIC, KVM clock, …); undefined raises #GP. */
  readMsr(index: number): bigint | undefined;
  /** False raises #GP. */
  writeMsr(index: number, value: bigint): boolean;
  /** The host's time-stamp counter for the guest: nanoseconds since the machine started (the TSC runs at 1 GHz). */
  tscNow(): number;
  /**
   * The guest is about to run the instruction at a trace point; registers are as it finds them. True when RIP was changed,
   * perhaps with other registers: the instruction is not run.
   */
  tracePoint?(number: number): boolean;
}

export const GPR = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const;
export type GprName = (typeof GPR)[number];

/** Register contents at entry to the guest's kernel; everything not named is as after INIT. */
export interface EntryState {
  /** 'long64': 64-bit code with the given CR3; 'protected32': flat 32-bit protected mode without paging; 'real16': CS:IP as given by `rip` and csBase. */
  readonly mode: 'long64' | 'protected32' | 'real16';
  readonly rip: bigint;
  readonly registers?: Partial<Record<GprName, bigint>>;
  /** Physical address of the top-level page table ('long64'). */
  readonly cr3?: bigint;
  /** Guest physical address and limit of the GDT to load, with selectors 0x10 (code) and 0x18 (data) in it. */
  readonly gdt?: { readonly base: bigint; readonly limit: number };
}

/** Work of the second tier. */
export interface JitStats {
  /** Compiled regions, and the WebAssembly modules that hold them. */
  readonly regions: number;
  readonly modules: number;
  readonly moduleBytes: number;
  /** Guest instructions that the regions were made from. */
  readonly guestInstructions: number;
  /** Time spent on compiling, without what V8 does in the background. */
  readonly compileMs: number;
  /** Regions that went because the room for compiled code was spent. */
  readonly evictedRegions: number;
  /** Regions that are there now, and bytes of the modules that hold them. */
  readonly residentRegions: number;
  readonly residentBytes: number;
  /** Retired instructions, and those of them that compiled regions have retired. */
  readonly instructions: number;
  readonly compiledInstructions: number;
  /**
   * Why compiled code was left: the slice was spent or what comes next is not compiled; a fault; an access that the TLB did
   * not allow; an instruction that the run loop has to see (device, halt).
   */
  readonly leftForCode: number;
  readonly leftForFault: number;
  readonly leftForMiss: number;
  readonly leftForSystem: number;
}

export interface Cpu {
  /** Power-on reset, then the given entry state. */
  reset(entry: EntryState): void;
  /**
   * Runs at most about `instructions` guest instructions and returns why it stopped (EXIT in layout.ts).
   * Device hooks are called synchronously from within.
   */
  run(instructions: number): number;
  /** Asks a running CPU to return from `run` at the next block boundary (for hooks: raise, stop). */
  interruptRun(): void;
  /** True when an external interrupt would be taken now (RFLAGS.IF, no shadow). */
  readonly interruptible: boolean;
  /** True after HLT until an interrupt is delivered. */
  readonly halted: boolean;
  /** Delivers an external interrupt through the IDT; only when interruptible. Ends a halt. */
  interrupt(vector: number): void;
  /** Tells whether an interrupt controller has an interrupt waiting; makes `run` return EXIT.INTERRUPT when IF becomes set. */
  setInterruptPending(pending: boolean): void;
  /** Drops translated code that overlaps a range of RAM offsets (a device wrote there). */
  invalidate(ramOffset: number, length: number): void;
  /**
   * Sets where `tracePoint` is called, with the number in this list: RAM offsets of instructions. Not while it runs, and none
   * after a reset. Without any, nothing is checked when code runs.
   */
  setTracePoints(ramOffsets: readonly number[]): void;
  /** Retired instructions since power-on. */
  readonly instructions: number;
  /** What the compiler has done so far. */
  readonly jitStats: JitStats;
  /** Registers and mode as text, for error reports. */
  dump(): string;
}
