/**
 * The interpreter's flags within a superinstruction: they are written as ever, but a condition that follows directly compares what
 * is still in locals, and loads nothing.
 */
import type { Emitter, Push, Width } from '../uops/emitter.ts';
import { EagerFlags, signExtend } from '../uops/flags.ts';

/** What was recorded last: operands that were compared, or a result whose carries are clear. Locals, as in `FlagRecorder`. */
type Recent =
  | { readonly kind: 'compare'; readonly width: Width; readonly a: number; readonly b: number }
  | { readonly kind: 'logic'; readonly width: Width; readonly value: number };

/** By condition code >> 1: B, Z, BE, L, LE. Operands of the first three may be zero-extended. */
const COMPARISONS: Readonly<Record<number, string>> = {
  1: 'lt_u',
  2: 'eq',
  3: 'le_u',
  6: 'lt_s',
  7: 'le_s',
};
/** Of a result with zero: Z, BE, S, L, LE. */
const TESTS: Readonly<Record<number, string>> = { 2: 'eq', 3: 'eq', 4: 'lt_s', 6: 'lt_s', 7: 'le_s' };

export class RecentFlags extends EagerFlags {
  readonly #emitter: Emitter;
  /** Of the present micro-op, and of the one before it in the same superinstruction. */
  #present: Recent | undefined;
  #previous: Recent | undefined;

  constructor(e: Emitter) {
    super(e);
    this.#emitter = e;
  }

  /** The micro-op that follows is dispatched: nothing is known. */
  forget(): void {
    this.#note(undefined);
  }

  /** The next micro-op of a superinstruction follows. Its condition must come before it uses scratch locals. */
  follow(): void {
    this.#previous = this.#present;
    this.#present = undefined;
  }

  #note(recent: Recent | undefined): void {
    this.#present = recent;
    this.#previous = undefined;
  }

  override conditionally(condition: Push, change: Push, otherwise?: Push): void {
    super.conditionally(condition, change, otherwise);
    this.forget();
  }
  override add(width: Width, a: number, b: number, sum: number): void {
    super.add(width, a, b, sum);
    this.forget();
  }
  override sub(width: Width, a: number, b: number, difference: number): void {
    super.sub(width, a, b, difference);
    this.forget();
  }
  override compare(width: Width, a: number, b: number, difference: number): void {
    super.compare(width, a, b, difference);
    this.#note({ kind: 'compare', width, a, b });
  }
  override logic(width: Width, value: number): void {
    super.logic(width, value);
    this.#note({ kind: 'logic', width, value });
  }
  override product(width: Width, a: number, b: number): void {
    super.product(width, a, b);
    this.forget();
  }
  override set(result: Push, carry: Push): void {
    super.set(result, carry);
    this.forget();
  }
  override step(width: Width, add: boolean, a: number, one: number, value: number): void {
    super.step(width, add, a, one, value);
    this.forget();
  }
  override setCarry(value: number, bit: number): void {
    super.setCarry(value, bit);
    this.forget();
  }

  override pushCondition(code: number): void {
    if (this.#previous === undefined || !this.#pushKnown(this.#previous, code >> 1)) {
      super.pushCondition(code);
    } else if (code & 1) {
      this.#emitter.w.op('i32.eqz');
    }
  }

  /** Pushes a condition about what was recorded; returns whether it can be had so. */
  #pushKnown(recent: Recent, condition: number): boolean {
    const e = this.#emitter;
    const { kind, width } = recent;
    const comparison = (kind === 'compare' ? COMPARISONS : TESTS)[condition];
    if (comparison === undefined) return false;
    if (kind === 'logic') {
      signExtend(e, width, () => e.w.get(recent.value));
      e.w.i64(0n);
    } else {
      for (const operand of [recent.a, recent.b]) {
        if (comparison.endsWith('_s')) signExtend(e, width, () => e.w.get(operand));
        else e.w.get(operand);
      }
    }
    e.w.op(`i64.${comparison}`);
    return true;
  }
}
