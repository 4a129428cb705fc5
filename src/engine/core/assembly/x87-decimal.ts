// FBLD and FBSTP: 18 packed decimal digits and a sign.

import { aSign, fpFromInt, fpOutOfRange, fpSetZero, fpToInt } from './softfloat';
import { x87Commit, x87LoadA, x87Pop, x87StackFault, x87Used } from './x87-state';

const LIMIT: i64 = 1000000000000000000;

/** R = the packed decimal number at `ptr`. Digits above 9 count as they stand, as on real processors. */
export function x87LoadDecimal(ptr: usize): void {
  let value: i64 = 0;
  for (let i: usize = 9; i > 0; i--) {
    const byte = i64(load<u8>(ptr + i - 1));
    value = value * 100 + (byte >> 4) * 10 + (byte & 15);
  }
  const negative = load<u8>(ptr, 9) >> 7;
  if (value == 0) fpSetZero(negative);
  else fpFromInt(negative ? -value : value);
}

function storeIndefinite(ptr: usize): void {
  store<u64>(ptr, 0xc000000000000000);
  store<u16>(ptr, 0xffff, 8);
}

/** FBSTP; returns 0. */
export function x87StoreDecimal(ptr: usize): i32 {
  if (!x87Used(0)) {
    if (!x87StackFault(0)) return 0;
    storeIndefinite(ptr);
    x87Pop();
    return 0;
  }
  x87LoadA(0);
  const sign = aSign;
  let value = fpToInt(64);
  if (value < 0) value = -value;
  const invalid = value < 0 || value >= LIMIT;
  if (invalid) fpOutOfRange();
  if (!x87Commit()) return 0;
  if (invalid) storeIndefinite(ptr);
  else {
    for (let i: usize = 0; i < 9; i++) {
      const pair = value % 100;
      value /= 100;
      store<u8>(ptr + i, u8(((pair / 10) << 4) | (pair % 10)));
    }
    store<u8>(ptr, u8(sign << 7), 9);
  }
  x87Pop();
  return 0;
}
