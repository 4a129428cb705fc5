/**
 * The one table of where things are in a VM's linear memory.
 *
 * Everything that shares the memory (decoder, interpreter generator, JIT, core runtime, devices)
 * takes its offsets from here. `scripts/build-core.ts` writes the same constants for the
 * AssemblyScript core, so no offset is ever typed twice.
 *
 * The CPU state has a fixed address (`CPU`), so generated code addresses it with constant offsets.
 */

/** Base address of the vCPU state block. */
export const CPU = 0x1000;

/** Byte offsets of fields in the vCPU state, relative to `CPU`. */
export const STATE = {
  /** 16 general registers, i64 each, in encoding order: rax rcx rdx rbx rsp rbp rsi rdi r8…r15. */
  REGS: 0x000,
  /** An i64 that is always zero: what an absent base or index register reads. */
  ZERO: 0x080,
  /** Micro-op temporaries, i64 each; dead between instructions. */
  TEMP0: 0x088,
  TEMP1: 0x090,
  TEMP2: 0x098,
  TEMP3: 0x0a0,
  /** Instruction pointer (i64). Exact whenever generated code is not running. */
  RIP: 0x0a8,
  /** Lazy flags, see `flags.ts`: last result, sign-extended from the operand width (i64). */
  FLAG_RESULT: 0x0b0,
  /** Lazy flags: carry-out vector; CF = bit 63, CF^OF = bit 62, AF = bit 3, bit 0 inverts PF (i64). */
  FLAG_CARRY: 0x0b8,
  /** RFLAGS without CF PF AF ZF SF OF, bit 1 always set (i64). */
  RFLAGS: 0x0c0,
  /** RIP of the current page's first byte, see `UOP.PC`: what RIP-relative operands have as their base (i64). */
  PAGE: 0x0c8,
  /** Segment bases es cs ss ds fs gs (i64 each). */
  SEG_BASE: 0x0d0,
  /** Segment selectors es cs ss ds fs gs (u32 each, value in the low 16 bits). */
  SEG_SEL: 0x100,
  /** Segment limits in bytes, granularity applied (u32 each). */
  SEG_LIMIT: 0x118,
  /** Segment attributes: descriptor bits 40–47 in bits 0–7, bits 52–55 in bits 12–15 (u32 each). */
  SEG_ATTR: 0x130,
  LDTR_SEL: 0x148,
  LDTR_LIMIT: 0x14c,
  LDTR_BASE: 0x150,
  LDTR_ATTR: 0x158,
  TR_SEL: 0x15c,
  TR_BASE: 0x160,
  TR_LIMIT: 0x168,
  TR_ATTR: 0x16c,
  GDTR_BASE: 0x170,
  GDTR_LIMIT: 0x178,
  IDTR_LIMIT: 0x17c,
  IDTR_BASE: 0x180,
  CR0: 0x188,
  CR2: 0x190,
  CR3: 0x198,
  CR4: 0x1a0,
  CR8: 0x1a8,
  EFER: 0x1b0,
  STAR: 0x1b8,
  LSTAR: 0x1c0,
  CSTAR: 0x1c8,
  FMASK: 0x1d0,
  KERNEL_GS_BASE: 0x1d8,
  /** Added to the host's TSC to give the guest's (i64). */
  TSC_OFFSET: 0x1e0,
  TSC_AUX: 0x1e8,
  PAT: 0x1f0,
  SYSENTER_CS: 0x1f8,
  SYSENTER_ESP: 0x200,
  SYSENTER_EIP: 0x208,
  APIC_BASE: 0x210,
  MISC_ENABLE: 0x218,
  /** DR0…DR7 (i64 each). */
  DR: 0x220,
  /** Current privilege level 0…3 (u32). */
  CPL: 0x260,
  /** Mode key (u32): what decoding depends on; see MODE_*. */
  MODE: 0x264,
  /** Address of the TLB bank in use (u32); depends on CPL and RFLAGS.AC. */
  TLB_BANK: 0x268,
  /** Vector of the exception being raised, -1 for none (i32). */
  FAULT_VECTOR: 0x26c,
  /** Its error code (u32). */
  FAULT_ERROR: 0x270,
  /** Not 0: a single-stepped instruction runs, and nothing has taken its trap away yet (u32). */
  STEPPING: 0x274,
  /** For #PF the linear address, goes to CR2 on delivery; for #GP an address that is not canonical (i64). */
  FAULT_ADDRESS: 0x278,
  /** Retired instructions since reset (i64). */
  ICOUNT: 0x280,
  /** The run loop leaves generated code when ICOUNT reaches this (i64). */
  ICOUNT_LIMIT: 0x288,
  /** Not 0: the interrupt controllers have something for this CPU (u32); set by devices. */
  INTR_PENDING: 0x290,
  /** Not 0: an NMI waits (u32). */
  NMI_PENDING: 0x294,
  /** Not 0: interrupts are held off for one instruction (STI, MOV SS) (u32). */
  INTR_SHADOW: 0x298,
  /** Why generated code returned, EXIT_* (u32). */
  EXIT_REASON: 0x29c,
  /** 1 while the CPU is halted (u32). */
  HALTED: 0x2a0,
  /** Set by a slow write that hit translated code: leave the block after this instruction (u32). */
  CODE_WRITTEN: 0x2a4,
  /** Bounce buffer bookkeeping of a slow write: linear address (i64), size (u32). */
  BOUNCE_ADDRESS: 0x2a8,
  BOUNCE_SIZE: 0x2b0,
  /** 1: page crossing to be split, 2: MMIO, 0: nothing to commit (u32). */
  BOUNCE_KIND: 0x2b4,
  /** Physical addresses of the first and second page's part (i64 each). */
  BOUNCE_PHYS0: 0x2b8,
  BOUNCE_PHYS1: 0x2c0,
  /** MXCSR (u32). */
  MXCSR: 0x2c8,
  /** 1 when SSE arithmetic may use native operations: round to nearest, all masked, no FTZ or DAZ, PE already set. */
  SSE_FAST: 0x2cc,
  /** x87 control word, status word (TOP in bits 11–13), abridged tag word: bit i = ST register i (physical) in use. */
  FCW: 0x2d0,
  FSW: 0x2d4,
  FTW: 0x2d8,
  FOP: 0x2dc,
  FIP: 0x2e0,
  FDP: 0x2e8,
  FCS: 0x2f0,
  FDS: 0x2f4,
  /** Not 0: an NMI was delivered and no IRET has followed, which blocks further ones (u32). */
  NMI_BLOCKED: 0x2fc,
  /** Scratch for slow accesses (64 bytes + slack). */
  BOUNCE: 0x300,
  /** Scratch that core calls use for operands and results (128 bytes). */
  SCRATCH: 0x380,
  /** XMM0…15, 16 bytes each. */
  XMM: 0x400,
  /** x87 physical registers R0…R7, 16 bytes each: significand u64, then sign and exponent u16. */
  ST: 0x500,
  /** Vector temporaries: memory operands of SSE instructions, MMX operands. */
  XMM_TEMP0: 0x580,
  XMM_TEMP1: 0x590,
  /** How often translations of executed pages were dropped, below 2^63 and above (i64 each). */
  GENERATION_LOW: 0x5a0,
  GENERATION_HIGH: 0x5a8,
  /** Header of the block that enters the region which was left last with RESULT.MISS (u32). */
  MISSED_REGION: 0x5b0,
  /** How many trace points there are, and the RAM offsets of their instructions (u32 each). */
  TRACE_COUNT: 0x5bc,
  TRACE_POINTS: 0x5c0,
  /** Instructions that compiled regions have retired, and how often they came back with each RESULT (i64 each). */
  JIT_INSTRUCTIONS: 0x6c0,
  JIT_RETURNS: 0x6c8,
  /**
   * Flags as compiled regions leave them: what FLAG_RESULT and FLAG_CARRY hold (FLAG_KIND, u32; 0 while anything else
   * runs), CF where it is apart, and a third operand (i64 each). See `jit/lazy-flags.ts`.
   */
  FLAG_KIND: 0x6f0,
  FLAG_APART: 0x6f8,
  FLAG_THIRD: 0x700,
  SIZE: 0x708,
} as const;

/** Most trace points at a time. */
export const TRACE_POINTS_MAX = 64;

/** Bits of `STATE.MODE`. Blocks are keyed by the offset in RAM of their first byte and this word. */
export const MODE = {
  /** Code size: 0 = 16 bit, 1 = 32 bit, 2 = 64 bit. */
  CODE_SIZE_MASK: 0x3,
  CODE16: 0,
  CODE32: 1,
  CODE64: 2,
  /** SS.B: the stack pointer is 32 bits wide (outside 64-bit mode). */
  STACK32: 0x4,
  /** CPL is 3. */
  USER: 0x8,
  /** CR0.PE clear or RFLAGS.VM set: selectors are paragraphs. */
  REAL: 0x10,
  /** DS, ES and SS have base 0, so that no segment base has to be added outside 64-bit mode. */
  FLAT: 0x20,
  /** CR0.TS or CR0.EM set: FPU and SSE instructions raise #NM (or #UD for EM). */
  FPU_TRAP: 0x40,
  /** RFLAGS.TF set: every block is one instruction and ends in a #DB. */
  SINGLE_STEP: 0x80,
  /** CR4.OSFXSR clear: SSE instructions raise #UD. */
  SSE_OFF: 0x100,
} as const;

/** Values of `STATE.FLAG_KIND`: an operation, its width, and which bit of FLAG_APART is CF if APART is set. */
export const FLAG_KIND = {
  EXPLICIT: 0,
  LOGIC: 1,
  ADD: 2,
  SUB: 3,
  COMPARE: 4,
  ADC: 5,
  SBB: 6,
  PRODUCT: 7,
  OPERATION_MASK: 15,
  /** Logarithm of the width in bytes, two bits. */
  WIDTH_SHIFT: 4,
  APART: 64,
  /** Six bits. */
  BIT_SHIFT: 7,
} as const;

/** Values of `STATE.EXIT_REASON`. */
export const EXIT = {
  /** ICOUNT reached ICOUNT_LIMIT, or something asked for attention. */
  BUDGET: 0,
  /** No micro-ops for the current RIP: decode them. */
  DECODE: 1,
  /** HLT executed. */
  HALT: 2,
  /** Triple fault. */
  SHUTDOWN: 3,
  /** Interrupts have just become possible and one is pending. */
  INTERRUPT: 4,
  /** A JIT counter reached its threshold. */
  HOT: 5,
  /** A device asked the run loop to stop (reset, power-off, debug exit). */
  DEVICE: 6,
} as const;

/**
 * Software TLB: TLB_BANKS banks of `tlbEntries` direct-mapped entries. An entry's tag is the linear
 * page address (low 12 bits 0) where the access is allowed on the fast path, otherwise TLB_INVALID.
 */
export const TLB = {
  BASE: 0x10000,
  BANK_SUPERVISOR: 0,
  BANK_USER: 1,
  /** Supervisor with RFLAGS.AC set: SMAP does not apply. */
  BANK_SUPERVISOR_AC: 2,
  BANKS: 3,
  /** About a C compiler's working set: with 1,024 gcc misses six times as often. */
  ENTRIES: 4096,
  ENTRY_SIZE: 32,
  ENTRY_SHIFT: 5,
  /** i64 */
  READ_TAG: 0,
  /** i64; also invalid while the page holds translated code or is not yet dirty in the page tables. */
  WRITE_TAG: 8,
  /** i64 */
  EXEC_TAG: 16,
  /** i32: linear memory address = (i32)linear + ADDEND */
  ADDEND: 24,
  /** A tag that no page address equals. */
  INVALID: -1n,
} as const;

/**
 * Cache from RIP to micro-ops, flushed with the TLB: {rip i64, mode u32, uop address u32}. The upper half of the
 * slots is for RIPs with the sign bit: a kernel's global pages stay there when an address space is changed.
 */
export const JUMP_CACHE = {
  BASE: 0x70000,
  ENTRIES: 16384,
  ENTRY_SIZE: 16,
  RIP: 0,
  MODE: 8,
  UOP: 12,
} as const;

/** Hash from (RAM offset, mode) to block header addresses; chained through `BLOCK.HASH_NEXT`. */
export const BLOCK_HASH = {
  BASE: 0xb0000,
  ENTRIES: 65536,
} as const;

/**
 * How often the instruction at a RAM offset made a compiled region leave, because the TLB did not allow its access: a u16 for all
 * offsets of the same hash (see `missSlot` of the core). From OFTEN on, regions are compiled to call the core there.
 */
export const MISSES = {
  BASE: 0xf0000,
  ENTRIES: 8192,
  OFTEN: 10_000,
} as const;

/** Block header, directly before the block's first micro-op. */
export const BLOCK = {
  SIZE: 48,
  /** u64: offset in guest RAM of the first byte */
  PHYS: 0,
  /** u32: mode key */
  MODE: 8,
  /** u16: bytes of guest code; u16: instructions */
  LENGTH: 12,
  INSTRUCTIONS: 14,
  /** u32: next header in the hash chain, 0 = end */
  HASH_NEXT: 16,
  /** u32: next header of a block that starts in the same physical page, 0 = end */
  PAGE_NEXT: 20,
  /** u32: executions left before the JIT looks at it */
  HEAT: 24,
  /** u16: 0 = valid, 1 = invalidated; u16: micro-ops */
  DEAD: 28,
  UOPS: 30,
  /** u32: RAM page number of the second page, NO_PAGE if the code lies within one page */
  PAGE2: 32,
  /** u32: next header in the second page's list, 0 = end */
  PAGE2_NEXT: 36,
  /** u32: header of the block whose compiled region covers this one's bytes and dies with it, 0 = none */
  OWNER: 40,
  /** u32: not 0: the block's compiled region has been entered since the code cache last looked */
  USED: 44,
  NO_PAGE: 0xffffffff,
} as const;

/** Where the pages of a compiled region's code were last seen. */
export const PLACEMENT = {
  /** i64: STATE.GENERATION_* then */
  GENERATION: 0,
  /** i64: STATE.PAGE then; what it is compared with is -1 before the first time */
  PAGE: 8,
  /** u32: header of the region's entry block */
  OWNER: 16,
  /** u32: number of pages */
  COUNT: 20,
  /** Pages of {i32: page number relative to the entry's, u32: RAM page} */
  PAGES: 24,
  PAGE_SIZE: 8,
} as const;

/** A micro-op record. */
export const UOP = {
  SIZE: 32,
  SHIFT: 5,
  /** u16: operation number */
  OP: 0,
  /** u16: state offset of the first (destination) register operand */
  A: 2,
  /** u16: state offset of the second register operand */
  B: 4,
  /** u16: state offset of the address base register (STATE.ZERO if none) */
  BASE: 6,
  /** u16: state offset of the index register (STATE.ZERO if none) */
  INDEX: 8,
  /** u8: index shift 0…3, | STACK */
  SCALE: 10,
  /** The operand is on the stack: a 64-bit address that is not canonical is #SS. Shifts ignore the bit. */
  STACK: 0x80,
  /** u8: instructions of the block that are complete before this micro-op's instruction */
  DONE: 11,
  /** i32: displacement */
  DISP: 12,
  /** i64: immediate */
  IMM: 16,
  /** u16: page offset (linear) of the instruction's first byte */
  PC: 24,
  /** u16: page offset of the next instruction (can pass 4096) */
  NEXT_PC: 26,
  /** u32: branches: micro-op address of the taken successor once linked, else 0 */
  LINK: 28,
} as const;

/** What decoding an instruction says about what follows. */
export const FLOW = {
  /** Go on decoding. */
  NEXT: 0,
  /** Ends the block: control never reaches the next micro-op. */
  END: 1,
  /** Ends the block behind this instruction, with a look-up that takes interrupts. */
  CHECK: 2,
  /** The block ends behind the *next* instruction (STI, MOV SS). */
  SHADOW: 3,
} as const;

/** A block of one micro-op. */
const SHORT_BLOCK_BYTES = BLOCK.SIZE + UOP.SIZE;
/** Pages that the code of a region may be in. */
const REGION_PAGES = 16;

/**
 * What a compiled region keeps in memory, in cells of two sizes: a RECORD (the block that enters it at its first entry, and
 * its PLACEMENT), and a BLOCK of one micro-op for each further entry and for each range of bytes that it was made from.
 */
export const REGION = {
  PAGES: REGION_PAGES,
  BLOCK_SIZE: SHORT_BLOCK_BYTES,
  /** Offset of the PLACEMENT in a record. */
  PLACEMENT: SHORT_BLOCK_BYTES,
  /** A multiple of 16, as is that of a block: blocks are aligned to it. */
  RECORD_SIZE: (SHORT_BLOCK_BYTES + PLACEMENT.PAGES + REGION_PAGES * PLACEMENT.PAGE_SIZE + 15) & ~15,
  /** Cells of each size. */
  RECORDS: 6144,
  BLOCKS: 98304,
} as const;

/**
 * The LINK of a micro-op `region`: index in the table of regions, and the number of the entry that is taken. Such a
 * word is never an address in the arena of micro-ops, as other links are.
 */
export const REGION_LINK = {
  INDEX_MASK: 0x7ff_ffff,
  ENTRY_SHIFT: 27,
  /** Entries that a region may have. */
  ENTRIES: 16,
} as const;

/** Guest RAM granule in which translated code is tracked. */
export const CODE_GRANULE = 64;

/** Where the regions of variable size are, for a given RAM size. All byte addresses in linear memory. */
export interface MemoryMap {
  /** Two u32 per RAM page: heads of the list of blocks that start in it and of those that run on into it. */
  readonly pageBlocks: number;
  /** One u64 per RAM page: bit i set = granule i holds translated code. */
  readonly codeBitmap: number;
  /** One u16 per RAM page: the slot of the TLB + 1 that may allow fast stores to it, 0 for none, 0xffff for several. */
  readonly writers: number;
  readonly uopArena: number;
  readonly uopArenaEnd: number;
  /** Cells of regions, see `REGION`. */
  readonly regionRecords: number;
  readonly regionBlocks: number;
  /** Guest physical address 0. */
  readonly ram: number;
  readonly ramBytes: number;
  /** Size of the whole linear memory. */
  readonly end: number;
}

const CORE_HEAP_BASE = 0x100000;
/** Room for AssemblyScript's own static data. */
const CORE_HEAP_BYTES = 0x60000;

/** Static data of the core module is linked at this address. */
export const CORE_DATA = CORE_HEAP_BASE;
export const CORE_DATA_BYTES = CORE_HEAP_BYTES;

const KNOWN_ENTRIES_BITS = 14;
const KNOWN_ENTRY_SHIFT = 6;
const KNOWN_LENGTHS_BITS = 15;
const KNOWN_LENGTHS = 1 << (KNOWN_ENTRIES_BITS + KNOWN_ENTRY_SHIFT);
const KNOWN_UNKNOWN = KNOWN_LENGTHS + (1 << KNOWN_LENGTHS_BITS);

/** The table of instructions that were decoded before, see `core/assembly/known.ts`. */
export const KNOWN = {
  BASE: CORE_DATA + CORE_DATA_BYTES,
  ENTRIES_BITS: KNOWN_ENTRIES_BITS,
  ENTRY_SHIFT: KNOWN_ENTRY_SHIFT,
  /** How long an instruction was whose first bytes, four at most, have such a hash, a byte each. */
  LENGTHS: KNOWN_LENGTHS,
  LENGTHS_BITS: KNOWN_LENGTHS_BITS,
  /** 16 bytes from the place on where an instruction was met that is not there. */
  UNKNOWN: KNOWN_UNKNOWN,
  SIZE: KNOWN_UNKNOWN + 16,
  /** Offset in its page from which an instruction may reach into the next one. It is not kept. */
  LAST_START: 4096 - 16,
  /** Result of `copyKnown`: where in the page it ended (13 bits), instructions (7), records (8), FLOW of the last (2). */
  RUN_INSTRUCTIONS: 13,
  RUN_RECORDS: 20,
  RUN_FLOW: 28,
} as const;

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

/**
 * Lays out the linear memory.
 * @param ramBytes guest RAM, a multiple of 4096
 * @param uopArenaBytes room for decoded micro-ops
 */
export function memoryMap(ramBytes: number, uopArenaBytes: number): MemoryMap {
  const pages = ramBytes / 4096;
  const pageBlocks = align(KNOWN.BASE + KNOWN.SIZE, 4096);
  const codeBitmap = pageBlocks + pages * 8;
  const writers = codeBitmap + pages * 8;
  const uopArena = align(writers + pages * 2, 4096);
  const uopArenaEnd = uopArena + uopArenaBytes;
  const regionRecords = align(uopArenaEnd, 16);
  const regionBlocks = regionRecords + REGION.RECORDS * REGION.RECORD_SIZE;
  const ram = align(regionBlocks + REGION.BLOCKS * REGION.BLOCK_SIZE, 65536);
  return {
    pageBlocks,
    codeBitmap,
    writers,
    uopArena,
    uopArenaEnd,
    regionRecords,
    regionBlocks,
    ram,
    ramBytes,
    end: align(ram + ramBytes, 65536),
  };
}

/** Guest physical address where RAM that does not fit below the PCI hole continues. */
export const HIGH_RAM = 0x1_0000_0000;
/** RAM below 4 GiB ends here at the latest; PCI MMIO lies above. */
export const LOW_RAM_MAX = 0xc000_0000;
