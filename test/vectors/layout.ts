/** Addresses and record formats that the reference processor and the emulator share for one tested instruction. */

/** Where things are in both address spaces. */
export const PLACE = {
  /** The page with the instruction under test. */
  CODE_PAGE: 0x1000_0000,
  /** Its first byte: far enough from both ends for short branches. */
  CODE: 0x1000_0800,
  /** Two pages of data; what lies behind them is not mapped. */
  DATA_PAGE: 0x2000_0000,
  /** A page of zeros that can be read only. */
  READ_ONLY: 0x2800_0000,
  /** The bytes that tests read and write, across the border of the two pages. */
  WINDOW: 0x2000_0000 + 4096 - 160,
} as const;

export const WINDOW_BYTES = 320;
export const CODE_BYTES = 32;
export const FXSAVE_BYTES = 512;
/** Bytes of the FXSAVE image that hold state: what follows XMM15 is reserved. */
export const FXSAVE_STATE_BYTES = 416;

/** Registers in the order of the kernel's signal frame; `gpr` is the number in machine code. */
export const FRAME_GPRS = [8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4] as const;

/** A case as it goes in: state and instruction bytes. Offsets in bytes. */
export const INPUT = {
  FXSAVE: 0,
  /** 16 registers in FRAME_GPRS' order, RIP, RFLAGS. */
  REGISTERS: 512,
  RIP: 512 + 16 * 8,
  RFLAGS: 512 + 17 * 8,
  CODE: 672,
  WINDOW: 704,
  BYTES: 1024,
} as const;

/** A case as it comes out. */
export const OUTPUT = {
  FXSAVE: 0,
  REGISTERS: 512,
  RIP: 512 + 16 * 8,
  RFLAGS: 512 + 17 * 8,
  ERROR_CODE: 512 + 19 * 8,
  /** Exception that ended the case; END_VECTOR if the instruction completed. */
  VECTOR: 512 + 20 * 8,
  CR2: 512 + 22 * 8,
  WINDOW: 704,
  BYTES: 1024,
} as const;

/** The single-step trap: what a completed instruction ends with. */
export const END_VECTOR = 1;
