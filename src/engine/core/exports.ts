/**
 * What the AssemblyScript core (`assembly/`, built to `build/core.wasm`) exports and imports.
 *
 * Return codes of instruction helpers ("code"):
 * - 0: done, go on with the next micro-op; STATE.RIP is not touched.
 * - 1: control or mode changed; STATE.RIP is set, look the block up again.
 * - 2: a fault is pending in STATE.FAULT_*; STATE.RIP and the registers are as before the instruction.
 * - 3: leave to JavaScript; STATE.RIP and STATE.EXIT_REASON are set.
 * - 4: as 3, but the instruction is not complete: STATE.RIP is still its own, and it is not counted.
 *
 * After 0, STATE.CODE_WRITTEN not 0 says that the helper stored to translated code: the block has to be left.
 *
 * Where a helper yields a value and can fault, the caller checks `STATE.FAULT_VECTOR >= 0` afterwards.
 * `next` is the offset in CS of the next instruction; STATE.RIP holds that of the current one at every call.
 * `opSize` and `width` are 2, 4 or 8 bytes (1 too for string operations). Linear addresses outside 64-bit mode
 * are already masked to 32 bits by the caller. Pointers are addresses in linear memory.
 */

/** Functions that the core imports from module "env", next to `memory`. */
export interface CoreImports {
  /** Physical address as a double; size 1, 2 or 4. */
  readMmio(physical: number, size: number): number;
  writeMmio(physical: number, size: number, value: number): void;
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
  /** 1 and the value as i64 in STATE.SCRATCH, or 0 for #GP. */
  readMsr(index: number): number;
  /** Value as i64 in STATE.SCRATCH; 1 = accepted, 0 = #GP. */
  writeMsr(index: number): number;
  /** Nanoseconds since the machine started: one TSC tick each. */
  tscNow(): number;
  /** The guest is about to run the instruction at a trace point. 1 when RIP was changed. */
  tracePoint(number: number): number;
}

/** Address translation and memory access: `mmu.ts`, `tlb.ts`, `walk.ts`. */
export interface MmuExports {
  /**
   * Tells the core where things are; call once before anything else.
   * @param lowRamBytes RAM below the PCI hole: min(ramBytes, LOW_RAM_MAX); the rest is at HIGH_RAM
   * @param tlbEntries entries per TLB bank in use, a power of two up to TLB.ENTRIES (banks keep their addresses)
   */
  init(
    ram: number,
    ramBytes: number,
    lowRamBytes: number,
    pageBlocks: number,
    codeBitmap: number,
    writers: number,
    tlbEntries: number,
  ): void;
  /** Register state after power-on (real mode, CS:IP F000:FFF0); flushes TLB, jump cache and blocks. */
  resetCpu(): void;
  /** Pointer to `size` (1…16) loadable bytes at the linear address, or 0 with a fault pending. */
  slowRead(address: bigint, size: number): number;
  /**
   * Pointer for storing `size` (1…16) bytes, or 0 with a fault pending. After the store call `commitWrite`.
   * When it points to STATE.BOUNCE it holds the present content, for MMIO only when `readFirst` is not 0.
   */
  slowWrite(address: bigint, size: number, readFirst: number): number;
  /** Stores `size` (1, 2, 4, 8) bytes. Code 0, 1 with STATE.CODE_WRITTEN set, 2 with a fault pending and nothing stored. */
  slowStore(address: bigint, value: bigint, size: number): number;
  /** Writes the bounce buffer out if the last `slowWrite` used it (STATE.BOUNCE_KIND not 0). */
  commitWrite(): void;
  /** Copies guest memory to linear memory at the current privilege; at most 512 bytes. Code 0 or 2, all or nothing. */
  readBlock(address: bigint, to: number, length: number): number;
  writeBlock(address: bigint, from: number, length: number): number;
  /** The same as implicit supervisor accesses (descriptor tables, TSS): SMAP applies whatever RFLAGS.AC is. */
  readSystemBlock(address: bigint, to: number, length: number): number;
  writeSystemBlock(address: bigint, from: number, length: number): number;
  /**
   * RAM offset of the byte at a linear address for execution at the current privilege;
   * -1 with #PF or #GP pending, -2 when it is not RAM (nothing pending).
   */
  translateFetch(address: bigint): bigint;
  /** Drops all translations, global ones too, and the jump cache. */
  flushTlb(): void;
  /** Drops what INVLPG has to drop for one linear address. */
  flushTlbPage(address: bigint): void;
  /** Sets STATE.TLB_BANK from CPL, RFLAGS.AC and CR4.SMAP. `updateMode` calls it. */
  selectTlbBank(): void;
}

/** The cache of decoded blocks: `blocks.ts`. */
export interface BlockExports {
  /**
   * First micro-op of the block at STATE.RIP in the present mode, or 0 with STATE.EXIT_REASON = EXIT.DECODE
   * (decode it; also when the code is not in RAM) or EXIT.SHUTDOWN. Delivers fetch faults by itself.
   */
  findBlock(): number;
  /** RAM offset of the instruction at STATE.RIP for execution; -1 or -2 as `translateFetch`. */
  fetchRip(): number;
  /** Header of the block that starts at a RAM offset and lies within one page, 0 if there is none. */
  blockAt(ramOffset: number, mode: number): number;
  /** Whether (1) a region's pages are where they were, see `PLACEMENT`; else ends the region and returns 0. */
  checkPlacement(placement: number): number;
  /**
   * Counts that a region was left with RESULT.MISS before the instruction at STATE.RIP. Where that happens often (MISSES.OFTEN) it kills
   * the region that STATE.MISSED_REGION enters.
   */
  noteMiss(): void;
  /** Links a finished block (header with PHYS, MODE, LENGTH, PAGE2 filled in) and guards its bytes against stores. */
  insertBlock(header: number): void;
  /**
   * Kills every block that has a byte in the range of RAM offsets: DEAD = 1 and UOP.OP of its first micro-op = 0.
   * For DMA by devices; guest stores arrive here by themselves. Returns the number of blocks killed.
   */
  invalidateRange(ramOffset: number, length: number): number;
  /** Takes a block out of all lists; others lead to its first micro-op, which looks RIP up. Its owner stays. */
  killBlock(header: number): void;
  /**
   * Forgets a block and direct links to it; those of the same pages with headers from `start` on, before `end`, may go
   * with it. The jump cache must be flushed behind the last one of a range.
   */
  forgetBlock(header: number, start: number, end: number): void;
  /** Forgets which blocks jumps have led to. */
  flushJumpCache(): void;
  /** Forgets all blocks (the machine was reset) and re-enables fast stores. */
  flushBlocks(): void;
  /** Address of the jump cache slot of a RIP: the low 32 bits' rip ^ rip >> 12 choose in the half of rip's sign. */
  jumpCacheSlot(rip: bigint): number;
}

/** Decoding: `known.ts`. */
export interface DecodeExports {
  /**
   * Appends the records of up to `count` (at most 127) instructions in a row that were decoded before, up to one that ends the
   * block: two records an instruction at most. The bytes of the first that is not known are at KNOWN.UNKNOWN afterwards.
   * @param page address of the page that they are in, from offset `at` on
   * @param to where the records go
   * @param mode of 64-bit code
   * @param done instructions of the block before them
   * @returns how far it went, see KNOWN.RUN_*
   */
  copyKnown(page: number, at: number, to: number, mode: number, done: number, count: number): number;
  /**
   * Keeps the instruction at KNOWN.UNKNOWN, if it is one that can be kept: its length, and its `records` from an address on.
   * @param flow what it says about what follows, FLOW
   * @param placeMatters 1: what it became depends on its place by more than PC, NEXT_PC and RIP-relative addresses
   */
  keepKnown(
    length: number,
    mode: number,
    from: number,
    records: number,
    flow: number,
    placeMatters: number,
  ): void;
}

/** Exceptions and interrupts: `exceptions.ts`, `vector.ts`. */
export interface ExceptionExports {
  /** Makes a fault pending; the caller returns code 2. The error code is ignored for vectors without one. */
  raise(vector: number, error: number): void;
  /** Says, before `deliverFault`, that the fault is from an access to the stack: #SS for what is not canonical. */
  stackFault(): void;
  /** Delivers the pending fault for the instruction at STATE.RIP: 1, or 3 (EXIT.SHUTDOWN) on a triple fault. */
  deliverFault(): number;
  /**
   * Delivers an external interrupt or NMI (vector 2) before the instruction at STATE.RIP; ends a halt. 1 or 3.
   * An NMI is no longer pending then and blocks the next until IRET.
   */
  interrupt(vector: number): number;
  /** INT n and INT3: code 1 or 2. */
  softwareInterrupt(vector: number, next: bigint): number;
  /** INTO: code 0, 1 or 2. */
  into(next: bigint): number;
  /** INT1 (0F1): #DB without privilege check. Code 1 or 2. */
  icebp(next: bigint): number;
  /**
   * The trap after a single-stepped instruction: STATE.RIP is already that of the next instruction.
   * Sets DR6.BS and delivers #DB. 1 or 3. Call it when the instruction began with MODE.SINGLE_STEP and
   * STATE.STEPPING, set before it, is still there: events and SYSCALL clear that.
   */
  singleStep(): number;
  /** 1 when an NMI waits and would be taken now: none is being handled, and no shadow. */
  nmiPossible(): number;
  /** 1 when an external interrupt would be taken now: RFLAGS.IF set and no shadow. */
  interruptsPossible(): number;
}

/** Segmentation and far control transfers: `segments.ts`, `far.ts`, `return.ts`. Segment numbers: es cs ss ds fs gs = 0…5. */
export interface SegmentExports {
  /**
   * Loads ES, SS, DS, FS or GS (CS raises #UD). Code 0, 1 (MODE changed; RIP = next) or 2. SS sets INTR_SHADOW.
   * For POP and LDS…LGS: read memory first, call this, and on 0 or 1 write the general register.
   */
  loadSegment(segment: number, selector: number, next: bigint): number;
  /** Code 1 or 2. */
  farJump(selector: number, offset: bigint, opSize: number, next: bigint): number;
  farCall(selector: number, offset: bigint, opSize: number, next: bigint): number;
  /** RETF with `bytes` of parameters to drop. Code 1 or 2. */
  farReturn(opSize: number, bytes: number): number;
  iret(opSize: number, next: bigint): number;
  /** Code 0 or 2. */
  lldt(selector: number): number;
  ltr(selector: number): number;
  /** Selector, zero-extended; #UD in real mode is pending afterwards if it applies. */
  sldt(): number;
  str(): number;
  /** The value and ZF = 1, or -1 and ZF = 0 (destination unchanged). Check for a fault. */
  lar(selector: number): bigint;
  lsl(selector: number): bigint;
  /** Set ZF. Code 0 or 2. */
  verr(selector: number): number;
  verw(selector: number): number;
  /** SGDT, SIDT, LGDT, LIDT with the operand's linear address. Code 0 or 2. */
  sgdt(address: bigint, opSize: number): number;
  sidt(address: bigint, opSize: number): number;
  lgdt(address: bigint, opSize: number): number;
  lidt(address: bigint, opSize: number): number;
  /** Recomputes STATE.MODE and STATE.TLB_BANK from the segments and control registers. */
  updateMode(): void;
}

/** System instructions: `system.ts`, `control-registers.ts`, `system-calls.ts`, `flags.ts`, `msr.ts`, `cpuid.ts`, `fxsave.ts`, `composite.ts`. */
export interface SystemExports {
  /** Code 1 or 2. n is 0, 2, 3, 4 or 8, others raise #UD. */
  movToCr(n: number, value: bigint, next: bigint): number;
  /** Check for a fault. */
  movFromCr(n: number): bigint;
  /** Code 0 or 2. Breakpoints are stored, not matched. */
  movToDr(n: number, value: bigint): number;
  movFromDr(n: number): bigint;
  /** Code 1 or 2. */
  clts(next: bigint): number;
  lmsw(value: bigint, next: bigint): number;
  /** CR0 (all 64 bits; the caller truncates). */
  smsw(): bigint;
  /** Code 1 or 2. */
  invlpg(address: bigint, next: bigint): number;
  invpcid(type: bigint, descriptor: bigint, next: bigint): number;
  /** WBINVD and INVD. Code 0 or 2. */
  wbinvd(): number;
  /** Code 3 (EXIT.HALT, HALTED = 1, RIP = next) or 2. */
  hlt(next: bigint): number;
  /** Code 0 or 2. */
  cli(): number;
  /** Code 0 or 2. Sets INTR_SHADOW when IF was clear; the run loop clears it after the following instruction. */
  sti(): number;
  /** RFLAGS from lazy and stored flags (bit 1 set, RF clear). Never faults. */
  getFlags(): bigint;
  /** Makes the flags that a compiled region has left explicit: FLAG_RESULT, FLAG_CARRY, and a FLAG_KIND of 0. */
  settleFlags(): void;
  /** Sets CF PF AF ZF SF OF from an RFLAGS image; every combination is representable. */
  setArithmeticFlags(value: bigint): void;
  /** The image that PUSHF stores. Check for a fault (virtual-8086 mode). */
  pushf(): bigint;
  /** Code 0, 1 (TF, AC or IF changed so that the block must end; RIP = next) or 2. The caller then moves RSP. */
  popf(value: bigint, opSize: number, next: bigint): number;
  /** Code 0 or 2. STATE.SEG_BASE of GS changes. */
  swapgs(): number;
  /** Code 1 or 2. */
  syscall(next: bigint): number;
  sysret(rexW: number): number;
  sysenter(): number;
  sysexit(rexW: number): number;
  /** ECX, EDX:EAX. Code 0 or 2. */
  rdmsr(): number;
  /** Code 0, 1 (something that decoding or translation depends on; RIP = next) or 2. */
  wrmsr(next: bigint): number;
  /** Code 0 or 2. */
  rdtsc(): number;
  rdtscp(): number;
  rdpmc(): number;
  /** Code 0. */
  cpuid(): number;
  /** RDFSBASE (segment 4) and RDGSBASE (5); check for a fault. */
  readSegmentBase(segment: number): bigint;
  /** WRFSBASE, WRGSBASE; a 32-bit operand is passed zero-extended. Code 0 or 2. */
  writeSegmentBase(segment: number, value: bigint): number;
  /** Code 0 or 2; STATE.TLB_BANK changes. */
  stac(): number;
  clac(): number;
  /** Compare RDX:RAX with memory, exchange with RCX:RBX, set ZF. Code 0 or 2. */
  cmpxchg8b(address: bigint): number;
  cmpxchg16b(address: bigint): number;
  /** ENTER. Code 0 or 2. */
  enter(size: number, level: number, opSize: number): number;
  /** BOUND: index register value and the linear address of the bounds. Code 0 or 2. */
  bound(index: number, address: bigint, opSize: number): number;
  /** FXSAVE and FXRSTOR. Code 0 or 2. #NM and #UD by CR0 are checked here. */
  fxsave(address: bigint, rexW: number): number;
  fxrstor(address: bigint, rexW: number): number;
  /** Code 0 or 2 (#GP for reserved bits). */
  ldmxcsr(value: number): number;
  /** Recomputes STATE.SSE_FAST; call it after changing STATE.MXCSR directly. */
  updateSseFast(): void;
  /** Model-specific registers by number, without privilege check: for the run loop and debuggers. Value or 0 with #GP pending. */
  readModelRegister(index: number): bigint;
}

/**
 * String instructions and port I/O: `strings.ts`, `port-io.ts`.
 * @param width element size 1, 2, 4 or 8
 * @param addressWidth 2, 4 or 8
 * @param sourceBase linear base of the source segment (0 in 64-bit mode except FS and GS)
 * @param repeat 0 none, 1 REP/REPE, 2 REPNE
 *
 * Code 0 (finished), 1 (it wrote to translated code: RIP = next), 2 (fault; RCX, RSI and RDI say how far it got)
 * or 4 (a long repetition pauses, so that interrupts are served).
 */
export interface StringExports {
  movs(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  stos(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  lods(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  cmps(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  scas(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  ins(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  outs(width: number, addressWidth: number, sourceBase: bigint, repeat: number, next: bigint): number;
  /** IN with the permission check; zero-extended value. Check for a fault. */
  tracePoint(number: number): number;
  portIn(port: number, size: number): number;
  /** OUT. Code 0 or 2. */
  portOut(port: number, size: number, value: number): number;
}

export interface CoreExports
  extends MmuExports,
    BlockExports,
    DecodeExports,
    ExceptionExports,
    SegmentExports,
    SystemExports,
    StringExports {}
