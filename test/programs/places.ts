/** Where generated programs find things: guest physical addresses, mapped one to one at the bottom of the address space. */

const PAGE = 4096;

export const RAM_BYTES = 0x8_0000;

export const PLACE = {
  /** Two address spaces: PML4, PDPT, directory and table each. */
  TABLES: 0x1000,
  TABLES_END: 0x9000,
  GDT: 0x9000,
  IDT: 0xa000,
  TSS: 0xb000,
  /** An entry point for each exception, 16 bytes apart; behind them the kernel. */
  STUBS: 0xc000,
  KERNEL: 0xc800,
  KERNEL_DATA: 0xd000,
  EXCEPTION_STACK: 0xf000,
  KERNEL_STACK: 0x1_0000,
  CODE: 0x1_0000,
  CODE_BYTES: 0x1_0000,
  DATA: 0x2_0000,
  /** Plain data pages, to be read and written. */
  DATA_BYTES: 0x8000,
  /** Four pages whose translations change. */
  FLIPPED: 0x2_8000,
  FLIPPED_PAGES: 4,
  READ_ONLY: 0x2_c000,
  MISSING: 0x2_d000,
  SUPERVISOR: 0x2_e000,
  NOT_EXECUTABLE: 0x2_f000,
  STACK: 0x3_7000,
  /** What the changing pages can show instead of themselves. */
  OTHER: 0x3_8000,
  /** The last page of code in another version. */
  OTHER_CODE: 0x3_c000,
  /** A byte for each byte of code: the length of the instruction that starts there. */
  LENGTHS: 0x4_0000,
  /** The code again, at another linear address. */
  ALIAS: 0x5_0000,
  /** The page tables, for the kernel. */
  TABLE_VIEW: 0x6_0000,
} as const;

/** The last page of code: it can be exchanged for another version of itself. */
export const CODE_VERSIONS = PLACE.CODE + PLACE.CODE_BYTES - PAGE;
/** The whole bottom of the address space is there too. */
export const HIGH_HALF = 0xffff_8000_0000_0000n;

export const PML4 = [0x1000, 0x5000] as const;

/** Fields of the kernel's data. */
export const KERNEL_DATA = {
  ENTRY: 0xd008,
  STACK: 0xd010,
  MXCSR: 0xd020,
  /** For each changing page its number (u32). */
  PAGES: 0xd040,
  /** For each of them the four page table entries that it can get. */
  VALUES: 0xd080,
} as const;

export const SELECTOR = {
  CODE64: 0x10,
  DATA: 0x18,
  USER32: 0x23,
  USER_DATA: 0x2b,
  USER64: 0x33,
  TSS: 0x38,
} as const;
export const VECTOR = { INTERRUPT: 0x40, SERVICE: 0x80, FINISH: 0x81 } as const;

/** Bits of page table entries. */
export const PTE = { P: 1n, W: 2n, U: 4n, A: 0x20n, D: 0x40n, G: 0x100n, NX: 1n << 63n } as const;
