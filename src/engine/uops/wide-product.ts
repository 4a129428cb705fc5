/** Products of 128 bits. */
import type { Emitter } from './emitter.ts';

/**
 * Pushes the high half of the 128-bit product of two i64 locals. Without calls, so that a compiler can leave it
 * out where only unused flags need it. Uses i64[4]…i64[7].
 */
export function pushProductHigh(e: Emitter, a: number, b: number, signed: boolean): void {
  const { w } = e;
  const [, , , , aHigh, bHigh, middle, cross] = e.i64;
  const half = (value: number, shift: string): void => {
    w.get(value);
    w.i64(32n);
    w.op(shift);
  };
  const low = (value: number): void => {
    w.get(value);
    w.i64(0xffff_ffffn);
    w.op('i64.and');
  };
  const shift = signed ? 'i64.shr_s' : 'i64.shr_u';
  half(a, shift);
  w.set(aHigh);
  half(b, shift);
  w.set(bHigh);
  // middle = aHigh * bLow + (aLow * bLow >> 32)
  w.get(aHigh);
  low(b);
  w.op('i64.mul');
  low(a);
  low(b);
  w.op('i64.mul');
  w.i64(32n);
  w.op('i64.shr_u');
  w.op('i64.add');
  w.set(middle);
  // cross = aLow * bHigh + low half of middle
  low(a);
  w.get(bHigh);
  w.op('i64.mul');
  low(middle);
  w.op('i64.add');
  w.set(cross);
  w.get(aHigh);
  w.get(bHigh);
  w.op('i64.mul');
  half(middle, shift);
  w.op('i64.add');
  half(cross, shift);
  w.op('i64.add');
}
