/**
 * What the compiler knows of the flags at a point of a region: which operation they come from. The same, as a number,
 * is what STATE.FLAG_KIND holds when a region is left.
 */
import { FLAG_KIND } from '../layout.ts';
import type { Width } from '../uops/emitter.ts';

const NUMBERS = {
  explicit: FLAG_KIND.EXPLICIT,
  logic: FLAG_KIND.LOGIC,
  add: FLAG_KIND.ADD,
  sub: FLAG_KIND.SUB,
  compare: FLAG_KIND.COMPARE,
  adc: FLAG_KIND.ADC,
  sbb: FLAG_KIND.SBB,
  product: FLAG_KIND.PRODUCT,
} as const;

export type FlagOperation = keyof typeof NUMBERS;

const WIDTH_BITS: Readonly<Record<Width, number>> = {
  8: 0,
  16: 1 << FLAG_KIND.WIDTH_SHIFT,
  32: 2 << FLAG_KIND.WIDTH_SHIFT,
  64: 3 << FLAG_KIND.WIDTH_SHIFT,
};

/** Flags of an operation of a width. */
export interface KnownFlags {
  readonly op: FlagOperation;
  readonly width: Width;
  /** CF is this bit of the local for it; undefined: CF is as the operation left it. */
  readonly carryBit: number | undefined;
  /** Whether the local that names the kind at run time is up to date. */
  readonly synced: boolean;
}

/** `unknown`: only the local says it. */
export type FlagState = KnownFlags | 'unknown';

/** Bits of a kind's number; all set stands for a kind that only the local knows. */
export const KIND_BITS = 14;
export const KIND_IN_LOCAL = (1 << KIND_BITS) - 1;

/** Bits that say that CF is apart, and which bit it is. */
export function carryBits(bit: number): number {
  return FLAG_KIND.APART | (bit << FLAG_KIND.BIT_SHIFT);
}

export function kindNumber({ op, width, carryBit }: KnownFlags): number {
  const widthBits = op === 'explicit' ? 0 : WIDTH_BITS[width];
  const operation = NUMBERS[op] | widthBits;
  return carryBit === undefined ? operation : operation | carryBits(carryBit);
}

/** Whether two ways arrive with flags of the same kind. */
export function sameKind(a: FlagState, b: FlagState): boolean {
  if (a === 'unknown' || b === 'unknown') return a === b;
  return kindNumber(a) === kindNumber(b);
}
