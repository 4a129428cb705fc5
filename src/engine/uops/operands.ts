/** Shapes of micro-ops that the families share. */
import { STATE } from '../layout.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';
import type { Emitter, Push, Width } from './emitter.ts';

export const WIDTHS: readonly Width[] = [8, 16, 32, 64];
export const WORD_WIDTHS: readonly Width[] = [16, 32, 64];

export const RAX = STATE.REGS;
export const RCX = STATE.REGS + 8;
export const RDX = STATE.REGS + 16;
export const RSP = STATE.REGS + 32;
export const RBP = STATE.REGS + 40;

const LOADS: Readonly<Record<Width, string>> = {
  8: 'i64.load8_u',
  16: 'i64.load16_u',
  32: 'i64.load32_u',
  64: 'i64.load',
};
const STORES: Readonly<Record<Width, string>> = {
  8: 'i64.store8',
  16: 'i64.store16',
  32: 'i64.store32',
  64: 'i64.store',
};

/** Pops a host pointer, pushes the value there, zero-extended. */
export function loadAt(e: Emitter, width: Width): void {
  e.w.memory(LOADS[width]);
}

/** Pops a host pointer and a value, stores its low bits. */
export function storeAt(e: Emitter, width: Width): void {
  e.w.memory(STORES[width]);
}

/** Pushes the memory operand's value. */
export function loadOperand(e: Emitter, width: Width): void {
  e.address();
  e.readPointer(width / 8);
  loadAt(e, width);
}

/** Stores to the memory operand; completes the write. */
export function storeOperand(e: Emitter, width: Width, value: Push): void {
  e.address();
  e.store(width, value);
}

/** Clears the bits of the i64 on the stack above the low `width`. */
export function truncateTo(w: FunctionWriter, width: Width): void {
  if (width === 64) return;
  if (width === 32) {
    w.op('i32.wrap_i64');
    w.op('i64.extend_i32_u');
    return;
  }
  w.i64((1 << width) - 1);
  w.op('i64.and');
}

/** Pushes the low `width` bits of a full 64-bit value on the stack. */
export function truncate(e: Emitter, width: Width): void {
  truncateTo(e.w, width);
}
