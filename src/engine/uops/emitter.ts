/**
 * What a micro-op's definition writes its WebAssembly through. The interpreter implements it with
 * operands loaded from the micro-op record, the JIT with operands known at compile time; a
 * definition never knows which of the two it serves.
 */
import type { FunctionWriter } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';

export type Width = 8 | 16 | 32 | 64;
/** Register operands of a record; the values are state offsets. */
export type RegisterField = 'a' | 'b' | 'base' | 'index';
/** Writes instructions that leave one value on the stack. */
export type Push = () => void;

/** Records and tests the arithmetic flags; operands are i64 locals, zero-extended, results' upper bits are ignored. */
export interface FlagRecorder {
  /** sum = a + b, or a + b + CF with `withCarry`. */
  add(width: Width, a: number, b: number, sum: number, withCarry?: boolean): void;
  /** difference = a - b, or a - b - CF with `withCarry`. */
  sub(width: Width, a: number, b: number, difference: number, withCarry?: boolean): void;
  /** The same as `sub` without a borrow, of an operation that does not write the difference. */
  compare(width: Width, a: number, b: number, difference: number): void;
  /** CF, OF and AF clear. */
  logic(width: Width, value: number): void;
  /** INC (`add`) and DEC: CF stays; `one` is a local that holds 1. */
  step(width: Width, add: boolean, a: number, one: number, value: number): void;
  /** IMUL of sign-extended operands: CF = OF = the product is wider, the others follow its low half. */
  product(width: Width, a: number, b: number): void;
  /** Sets CF to a bit of an i64 local; the others stay. */
  setCarry(value: number, bit: number): void;
  /** Sets FLAG_RESULT and FLAG_CARRY, see `flags.ts`. */
  set(result: Push, carry: Push): void;
  /** Emits changes that set flags, or may, within an `if` on the i32 that `condition` pushes, and its `else`. */
  conditionally(condition: Push, change: Push, otherwise?: Push): void;
  /** Pushes CF as i64 0 or 1. */
  pushCarry(): void;
  /** Pushes condition code 0…15 (the low nibble of Jcc, SETcc, CMOVcc) as i32 0 or 1. */
  pushCondition(code: number): void;
}

export interface Emitter {
  readonly w: FunctionWriter;
  readonly flags: FlagRecorder;

  /** Scratch locals, free for use within one micro-op. */
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];

  /** Pushes a general register's low `width` bits, zero-extended to i64. */
  reg(field: RegisterField, width: Width): void;
  /** Writes a general register: 32-bit writes clear the upper half, 8 and 16-bit ones merge. */
  setReg(field: RegisterField, width: Width, value: Push): void;
  /** The same for a register known by its state offset (RAX, RCX, RSP, …). */
  fixed(offset: number, width: Width): void;
  setFixed(offset: number, width: Width, value: Push): void;
  /** XMM registers as v128. */
  xmm(field: 'a' | 'b'): void;
  setXmm(field: 'a' | 'b', value: Push): void;
  /** Pushes the address in linear memory (i32) of a register operand's storage, exact at this moment. */
  registerPointer(field: 'a' | 'b'): void;
  /** Says that the storage behind `registerPointer` was written by a core call. */
  registerWritten(field: 'a' | 'b'): void;

  /** Pushes the immediate (i64). */
  imm(): void;
  /** Pushes base + (index << scale) + displacement (i64). */
  address(): void;

  /** Pops a linear address (i64), pushes a host pointer (i32) to `size` readable bytes; leaves with a fault if there are none. */
  readPointer(size: number): void;
  /**
   * Pops a linear address (i64), pushes a host pointer (i32) to `size` writable bytes, holding the present
   * contents if `readFirst`. After storing through it, `commit` must follow.
   */
  writePointer(size: number, readFirst: boolean): void;
  /**
   * Pops a linear address (i64) and stores the low bits of `value` (i64) there, which completes the write.
   * `finish` runs when the store can no longer fault, before the block may be left; with `leave` false the
   * micro-op jumps anyway. Both closures are emitted twice.
   */
  store(width: Width, value: Push, finish?: Push, leave?: boolean): void;
  /** Completes a write; `leave` false where the micro-op jumps anyway. Must come last in a micro-op. */
  commit(leave?: boolean): void;

  /** A field of the vCPU state. */
  state(offset: number, type: ValueType): void;
  setState(offset: number, type: ValueType, value: Push): void;

  /** Calls an export of the core runtime; arguments are on the stack. */
  call(name: string): void;
  /**
   * Calls a core export that may change control, mode or state (see `core/exports.ts`): registers are exact
   * in memory, RIP is this instruction's. Its i32 result: 0 go on, 1 look up RIP, 2 fault, 3 leave to JavaScript,
   * 4 the same with the instruction incomplete. `after` runs before that, unless there was a fault.
   * Must come last in an instruction: code that it wrote to is left.
   */
  systemCall(name: string, args: Push, after?: Push): void;
  /** Follows STI: interrupts are held off until the next instruction is complete. */
  shieldNext(): void;
  /** Pops an i32; if it is not 0, leaves with the pending fault. */
  faultIf(): void;
  /** Raises an exception. */
  fault(vector: number, error: number): void;
  /** Pushes the RIP of the next instruction (i64). */
  nextRip(): void;

  /** Ends or leaves the block to a target in the record's IMM (relative to the page's base). */
  jump(): void;
  /** Pops an i32: if not 0, as `jump`; else goes on with the next micro-op. */
  jumpIf(): void;
  /** Ends the block: the target is on the stack (i64). Targets are kept in the record's LINK and IMM. */
  jumpIndirect(): void;
  /** The same at the end of a function. */
  jumpBack(): void;
  /** Ends the block: looks up RIP = next instruction, taking interrupts. */
  leave(): void;
  /** Op 1: runs the compiled region whose table index is in LINK. */
  enterRegion(): void;
  /** Op 0: this block is no longer valid; looks up this micro-op's own address. */
  relookup(): void;
}
