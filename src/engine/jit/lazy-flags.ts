/**
 * Flags in compiled regions live in locals and are put together only where something reads them.
 *
 * - cf (i32): CF, always up to date.
 * - result (i64): the last result, sign-extended: ZF, SF and PF come from it.
 * - a, b (i64), kind (i32): where OF and AF come from. ADD and SUB: a and b are the sign-extended operands.
 *   EXPLICIT: a is a FLAG_CARRY word (see `uops/flags.ts`) whose CF is out of date.
 *
 * Where the kind is known at compile time a condition is a comparison of the operands; elsewhere the
 * `kind` local decides. Leaving the region writes FLAG_RESULT and FLAG_CARRY once, in the shared epilogue.
 */
import { STATE } from '../layout.ts';
import type { FlagRecorder, Push, Width } from '../uops/emitter.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';

const KIND = { EXPLICIT: 0, ADD: 1, SUB: 2 } as const;
/**
 * What is known of `kind` at a point of the code. `logic` is EXPLICIT with all of FLAG_CARRY clear;
 * `compare` is SUB without a borrow coming in, so that the operands themselves can be compared.
 */
export type StaticKind = 'explicit' | 'add' | 'sub' | 'compare' | 'logic' | 'unknown';

export class LazyFlags implements FlagRecorder {
  readonly #w: FunctionWriter;
  readonly #cf: number;
  readonly #result: number;
  readonly #a: number;
  readonly #b: number;
  readonly #kind: number;
  /** What is known here. Set it at the beginning of each block. */
  known: StaticKind = 'unknown';

  constructor(w: FunctionWriter) {
    this.#w = w;
    this.#cf = w.local('i32');
    this.#result = w.local('i64');
    this.#a = w.local('i64');
    this.#b = w.local('i64');
    this.#kind = w.local('i32');
  }

  #extend(width: Width, local: number): void {
    this.#w.get(local);
    if (width !== 64) this.#w.op(`i64.extend${width}_s`);
  }

  #operands(width: Width, a: number, b: number, result: number, kind: 'add' | 'sub'): void {
    const w = this.#w;
    this.#extend(width, a);
    w.set(this.#a);
    this.#extend(width, b);
    w.set(this.#b);
    this.#extend(width, result);
    w.set(this.#result);
    w.i32(kind === 'add' ? KIND.ADD : KIND.SUB);
    w.set(this.#kind);
    this.known = kind;
  }

  add(width: Width, a: number, b: number, sum: number, withCarry = false): void {
    const w = this.#w;
    if (width !== 64) {
      w.get(sum);
      w.i64(BigInt(width));
      w.op('i64.shr_u');
      w.op('i32.wrap_i64');
      w.i32(1);
      w.op('i32.and');
    } else if (withCarry) {
      this.#carryVector(a, b, sum);
    } else {
      w.get(sum);
      w.get(a);
      w.op('i64.lt_u');
    }
    w.set(this.#cf);
    this.#operands(width, a, b, sum, 'add');
  }

  /** Pushes the carry out of bit 63 of a + b + carry: (a & b) | ((a | b) & ~sum). */
  #carryVector(a: number, b: number, sum: number): void {
    const w = this.#w;
    w.get(a);
    w.get(b);
    w.op('i64.and');
    w.get(a);
    w.get(b);
    w.op('i64.or');
    w.get(sum);
    w.i64(-1n);
    w.op('i64.xor');
    w.op('i64.and');
    w.op('i64.or');
    this.#signBit();
  }

  /** Pops an i64, pushes its sign as i32 0 or 1. */
  #signBit(): void {
    this.#w.i64(0n);
    this.#w.op('i64.lt_s');
  }

  sub(width: Width, a: number, b: number, difference: number, withCarry = false): void {
    const w = this.#w;
    if (width !== 64) {
      w.get(difference);
      this.#signBit();
    } else if (withCarry) {
      // the borrow of a - b - c: a < b, or a == b with a borrow coming in, which shows in the difference
      w.get(a);
      w.get(b);
      w.op('i64.lt_u');
      w.get(a);
      w.get(b);
      w.op('i64.eq');
      w.get(difference);
      w.i64(0n);
      w.op('i64.ne');
      w.op('i32.and');
      w.op('i32.or');
    } else {
      w.get(a);
      w.get(b);
      w.op('i64.lt_u');
    }
    w.set(this.#cf);
    this.#operands(width, a, b, difference, 'sub');
    if (!withCarry) this.known = 'compare';
  }

  logic(width: Width, value: number): void {
    const w = this.#w;
    this.#extend(width, value);
    w.set(this.#result);
    w.i32(0);
    w.set(this.#cf);
    w.i64(0n);
    w.set(this.#a);
    w.i32(KIND.EXPLICIT);
    w.set(this.#kind);
    this.known = 'logic';
  }

  step(width: Width, add: boolean, a: number, one: number, value: number): void {
    this.#operands(width, a, one, value, add ? 'add' : 'sub');
  }

  conditionally(change: Push): void {
    const before = this.known;
    change();
    if (this.known !== before) this.known = 'unknown';
  }

  setCarry(value: number): void {
    this.#w.get(value);
    this.#w.set(this.#cf);
    if (this.known === 'logic') this.known = 'explicit';
  }

  pushCarry(): void {
    this.#w.get(this.#cf);
    this.#w.op('i64.extend_i32_u');
  }

  // ---- reading ----

  /** Pushes (x ^ y) & (z ^ t). */
  #crossed(x: number, y: number, z: number, t: number): void {
    const w = this.#w;
    w.get(x);
    w.get(y);
    w.op('i64.xor');
    w.get(z);
    w.get(t);
    w.op('i64.xor');
    w.op('i64.and');
  }

  /** Pushes an i64 whose sign is OF. */
  #overflowVector(): void {
    const explicit = (): void => {
      this.#w.get(this.#a);
      this.#w.get(this.#a);
      this.#w.i64(1n);
      this.#w.op('i64.shl');
      this.#w.op('i64.xor');
    };
    const sum = (): void => this.#crossed(this.#a, this.#result, this.#b, this.#result);
    const difference = (): void => this.#crossed(this.#a, this.#b, this.#a, this.#result);
    this.#byKind(explicit, sum, difference);
  }

  #byKind(explicit: Push, sum: Push, difference: Push): void {
    const w = this.#w;
    if (this.known === 'add') sum();
    else if (this.known === 'sub' || this.known === 'compare') difference();
    else if (this.known !== 'unknown') explicit();
    else {
      explicit();
      sum();
      difference();
      w.get(this.#kind);
      w.i32(KIND.ADD);
      w.op('i32.eq');
      w.op('select');
      w.get(this.#kind);
      w.op('i32.eqz');
      w.op('select');
    }
  }

  /** Pushes bits of FLAG_CARRY that do not come from CF and OF: AF, and the inversions of PF and SF. */
  #lowBits(): void {
    const w = this.#w;
    const explicit = (): void => {
      w.get(this.#a);
      w.i64(0xbn);
      w.op('i64.and');
    };
    const operation = (): void => {
      w.get(this.#a);
      w.get(this.#b);
      w.op('i64.xor');
      w.get(this.#result);
      w.op('i64.xor');
      w.i64(1n);
      w.op('i64.shr_u');
      w.i64(8n);
      w.op('i64.and');
    };
    if (this.known === 'add' || this.known === 'sub' || this.known === 'compare') operation();
    else if (this.known !== 'unknown') explicit();
    else {
      explicit();
      operation();
      w.get(this.#kind);
      w.op('i32.eqz');
      w.op('select');
    }
  }

  /** Pushes the whole FLAG_CARRY word. */
  pushCarryWord(): void {
    const w = this.#w;
    w.get(this.#cf);
    w.op('i64.extend_i32_u');
    w.i64(63n);
    w.op('i64.shl');
    w.get(this.#cf);
    this.#overflowVector();
    this.#signBit();
    w.op('i32.xor');
    w.op('i64.extend_i32_u');
    w.i64(62n);
    w.op('i64.shl');
    w.op('i64.or');
    this.#lowBits();
    w.op('i64.or');
  }

  /** Pushes FLAG_RESULT. */
  pushResult(): void {
    this.#w.get(this.#result);
  }

  setResult(value: Push): void {
    value();
    this.#w.set(this.#result);
  }

  setCarryWord(value: Push): void {
    const w = this.#w;
    value();
    w.set(this.#a);
    w.get(this.#a);
    this.#signBit();
    w.set(this.#cf);
    w.i32(KIND.EXPLICIT);
    w.set(this.#kind);
    this.known = 'explicit';
  }

  /** Reads the state fields into the locals. */
  load(state: (offset: number) => void): void {
    this.setResult(() => state(STATE.FLAG_RESULT));
    this.setCarryWord(() => state(STATE.FLAG_CARRY));
  }

  // ---- conditions ----

  pushCondition(code: number): void {
    const w = this.#w;
    switch (code >> 1) {
      case 0:
        this.#overflowVector();
        this.#signBit();
        break;
      case 1:
        w.get(this.#cf);
        break;
      case 2:
        this.#zero();
        break;
      case 3:
        w.get(this.#cf);
        this.#zero();
        w.op('i32.or');
        break;
      case 4:
        this.#signVector();
        this.#signBit();
        break;
      case 5:
        this.#parity();
        break;
      case 6:
        this.#less('i64.lt_s');
        break;
      default:
        this.#lessOrEqual();
    }
    if (code & 1) w.op('i32.eqz');
  }

  #zero(): void {
    this.#w.get(this.#result);
    this.#w.op('i64.eqz');
  }

  #signVector(): void {
    const w = this.#w;
    w.get(this.#result);
    if (this.known !== 'explicit' && this.known !== 'unknown') return;
    // bit 1 of an explicit FLAG_CARRY inverts SF
    w.get(this.#a);
    w.i64(62n);
    w.op('i64.shl');
    if (this.known === 'unknown') {
      w.i64(0n);
      w.get(this.#kind);
      w.op('i32.eqz');
      w.op('select');
    }
    w.op('i64.xor');
  }

  #parity(): void {
    const w = this.#w;
    w.get(this.#result);
    w.i64(0xffn);
    w.op('i64.and');
    w.op('i64.popcnt');
    if (this.known === 'explicit' || this.known === 'unknown') {
      this.#lowBits();
      w.op('i64.xor');
    }
    w.op('i32.wrap_i64');
    w.i32(1);
    w.op('i32.and');
    w.op('i32.eqz');
  }

  #less(comparison: string): void {
    const w = this.#w;
    if (this.known === 'logic') {
      w.get(this.#result);
      w.i64(0n);
      w.op(comparison);
      return;
    }
    if (this.known === 'compare') {
      w.get(this.#a);
      w.get(this.#b);
      w.op(comparison);
      return;
    }
    this.#signVector();
    this.#overflowVector();
    w.op('i64.xor');
    this.#signBit();
  }

  #lessOrEqual(): void {
    if (this.known === 'logic' || this.known === 'compare') {
      this.#less('i64.le_s');
      return;
    }
    this.#less('i64.lt_s');
    this.#zero();
    this.#w.op('i32.or');
  }
}
