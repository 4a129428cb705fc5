/** Reads flags of a kind that is known: conditions, CF, and the words of `uops/flags.ts`. What the locals hold says `lazy-flags.ts`. */
import type { Push, Width } from '../uops/emitter.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';
import { shapeKeeper } from '../shapes.ts';
import type { KnownFlags } from './flag-state.ts';

/** Locals that keep the flags; what a region has no use for is left out. */
export interface FlagLocals {
  /** i64 */
  readonly x: number;
  readonly y: number;
  /** i32: the kind's number */
  readonly kind: number;
  /** i64: CF where it is apart from the operation */
  readonly carry: number | undefined;
  /** i64: a third operand */
  readonly third: number | undefined;
}

/** A local that the region's profile says is needed. */
export function needed(local: number | undefined): number {
  if (local === undefined) throw new Error('flags need a local that the profile does not name');
  return local;
}

const keepShape = shapeKeeper<FlagReader>();

export class FlagReader {
  readonly #w: FunctionWriter;
  readonly #locals: FlagLocals;
  readonly #known: KnownFlags;

  constructor(w: FunctionWriter, locals: FlagLocals, known: KnownFlags) {
    this.#w = w;
    this.#locals = locals;
    this.#known = known;
    keepShape(this);
  }

  /** Pushes FLAG_RESULT. */
  pushResult(): void {
    const { op, width } = this.#known;
    if (op === 'explicit') this.#w.get(this.#locals.x);
    else this.#extended(width, () => this.#result());
  }

  /** Pushes FLAG_CARRY. */
  pushCarryWord(): void {
    const w = this.#w;
    const { op, carryBit } = this.#known;
    if (op === 'explicit' && carryBit === undefined) {
      w.get(this.#locals.y);
      return;
    }
    this.pushCarryFlag();
    w.op('i64.extend_i32_u');
    w.i64(63);
    w.op('i64.shl');
    this.pushCarryFlag();
    this.#overflowFlag();
    w.op('i32.xor');
    w.op('i64.extend_i32_u');
    w.i64(62);
    w.op('i64.shl');
    w.op('i64.or');
    this.#lowBits();
    w.op('i64.or');
  }

  #binary(op: string, a: number, b: number): void {
    this.#w.get(a);
    this.#w.get(b);
    this.#w.op(op);
  }

  #extended(width: Width, value: Push): void {
    value();
    if (width !== 64) this.#w.op(`i64.extend${width}_s`);
  }

  /** Pushes the result; upper bits do not count. */
  #result(): void {
    if (this.#known.op === 'compare') this.#binary('i64.sub', this.#locals.x, this.#locals.y);
    else this.#w.get(this.#locals.x);
  }

  /** Pushes the first operand of an addition or subtraction; upper bits do not count. */
  #first(): void {
    const { op } = this.#known;
    if (op === 'compare') this.#w.get(this.#locals.x);
    else if (op === 'add') this.#binary('i64.sub', this.#locals.x, this.#locals.y);
    else if (op === 'sub') this.#binary('i64.add', this.#locals.x, this.#locals.y);
    else this.#w.get(needed(this.#locals.third));
  }

  /** Compares at the operation's width; 32-bit operands as i32, which spares their extension. */
  #comparison(comparison: string, a: Push, b: Push): void {
    const w = this.#w;
    const { width } = this.#known;
    const signed = comparison.endsWith('_s');
    for (const operand of [a, b]) {
      operand();
      if (width === 64) continue;
      w.op('i32.wrap_i64');
      if (width === 32) continue;
      if (signed) {
        w.op(`i32.extend${width}_s`);
      } else {
        w.i32((1 << width) - 1);
        w.op('i32.and');
      }
    }
    w.op(`${width === 64 ? 'i64' : 'i32'}.${comparison}`);
  }

  /** Pushes whether a value is negative at the operation's width. */
  #negative(value: Push): void {
    this.#comparison('lt_s', value, () => this.#w.i64(0));
  }

  #zeroFlag(): void {
    const { op } = this.#known;
    const x = (): void => this.#w.get(this.#locals.x);
    if (op === 'compare') this.#comparison('eq', x, () => this.#w.get(this.#locals.y));
    else this.#comparison('eq', x, () => this.#w.i64(0));
  }

  /** Pushes CF. */
  pushCarryFlag(): void {
    const w = this.#w;
    const { op, carryBit } = this.#known;
    if (carryBit !== undefined) {
      w.get(needed(this.#locals.carry));
      if (carryBit === 63) {
        w.i64(0);
        w.op('i64.lt_s');
        return;
      }
      if (carryBit !== 0) {
        w.i64(carryBit);
        w.op('i64.shr_u');
      }
      w.op('i32.wrap_i64');
      w.i32(1);
      w.op('i32.and');
      return;
    }
    const y = (): void => w.get(this.#locals.y);
    if (op === 'explicit') {
      y();
      w.i64(0);
      w.op('i64.lt_s');
    } else if (op === 'logic') {
      w.i32(0);
    } else if (op === 'add') {
      this.#comparison('lt_u', () => this.#result(), y);
    } else {
      this.#comparison('lt_u', () => this.#first(), y);
    }
  }

  #overflowFlag(): void {
    const w = this.#w;
    const { op } = this.#known;
    if (op === 'logic') {
      w.i32(0);
      return;
    }
    if (op === 'explicit') {
      w.get(this.#locals.y);
      w.get(this.#locals.y);
      w.i64(1);
      w.op('i64.shl');
      w.op('i64.xor');
      w.i64(0);
      w.op('i64.lt_s');
      return;
    }
    const isSum = op === 'add' || op === 'adc';
    this.#negative(() => {
      // of a sum (a ^ r) & (b ^ r), of a difference (a ^ r) & (a ^ b)
      this.#first();
      this.#result();
      w.op('i64.xor');
      w.get(this.#locals.y);
      if (isSum) this.#result();
      else this.#first();
      w.op('i64.xor');
      w.op('i64.and');
    });
  }

  /** Pushes the bits of FLAG_CARRY that are not CF and OF: AF, and the inversions of PF and SF. */
  #lowBits(): void {
    const w = this.#w;
    const { op } = this.#known;
    if (op === 'logic') {
      w.i64(0);
    } else if (op === 'explicit') {
      w.get(this.#locals.y);
      w.i64(0xb);
      w.op('i64.and');
    } else {
      this.#first();
      w.get(this.#locals.y);
      w.op('i64.xor');
      this.#result();
      w.op('i64.xor');
      w.i64(1);
      w.op('i64.shr_u');
      w.i64(8);
      w.op('i64.and');
    }
  }

  #signFlag(): void {
    const w = this.#w;
    if (this.#known.op !== 'explicit') {
      this.#negative(() => this.#result());
      return;
    }
    // bit 1 of an explicit FLAG_CARRY inverts SF
    w.get(this.#locals.x);
    w.get(this.#locals.y);
    w.i64(62);
    w.op('i64.shl');
    w.op('i64.xor');
    w.i64(0);
    w.op('i64.lt_s');
  }

  #parityFlag(): void {
    const w = this.#w;
    this.#result();
    w.i64(0xff);
    w.op('i64.and');
    w.op('i64.popcnt');
    if (this.#known.op === 'explicit') {
      w.get(this.#locals.y);
      w.op('i64.xor');
    }
    w.op('i32.wrap_i64');
    w.i32(1);
    w.op('i32.and');
    w.op('i32.eqz');
  }

  pushCondition(code: number): void {
    this.#positiveCondition(code >> 1);
    if (code & 1) this.#w.op('i32.eqz');
  }

  #positiveCondition(condition: number): void {
    switch (condition) {
      case 0:
        this.#overflowFlag();
        break;
      case 1:
        this.pushCarryFlag();
        break;
      case 2:
        this.#zeroFlag();
        break;
      case 3:
        this.#belowOrEqual();
        break;
      case 4:
        this.#signFlag();
        break;
      case 5:
        this.#parityFlag();
        break;
      case 6:
        this.#less('lt_s');
        break;
      default:
        this.#less('le_s');
    }
  }

  #belowOrEqual(): void {
    const { op, carryBit } = this.#known;
    if (op === 'compare' && carryBit === undefined) {
      this.#comparison(
        'le_u',
        () => this.#w.get(this.#locals.x),
        () => this.#w.get(this.#locals.y),
      );
      return;
    }
    this.pushCarryFlag();
    this.#zeroFlag();
    this.#w.op('i32.or');
  }

  #less(comparison: 'lt_s' | 'le_s'): void {
    const w = this.#w;
    const { op } = this.#known;
    const x = (): void => w.get(this.#locals.x);
    if (op === 'compare') {
      this.#comparison(comparison, x, () => w.get(this.#locals.y));
    } else if (op === 'logic') {
      this.#comparison(comparison, x, () => w.i64(0));
    } else {
      this.#signFlag();
      this.#overflowFlag();
      w.op('i32.xor');
      if (comparison === 'lt_s') return;
      this.#zeroFlag();
      w.op('i32.or');
    }
  }
}
