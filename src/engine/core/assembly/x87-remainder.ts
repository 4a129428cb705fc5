// FPREM, FPREM1, FSCALE and FXTRACT.

import {
  FP_FINITE,
  FP_INF,
  FP_QNAN,
  FP_ZE,
  FP_ZERO,
  aClass,
  aExp,
  aSig,
  aSign,
  bClass,
  bExp,
  bSig,
  bSign,
  fpCheckDenormal,
  fpCopyA,
  fpFromInt,
  fpInvalid,
  fpNanA,
  fpNanAB,
  fpNormalize,
  fpRaise,
  fpSetInf,
  fpSetR,
  fpSetZero,
} from './softfloat';
import {
  X87_C0,
  X87_C1,
  X87_C2,
  X87_C3,
  x87Commit,
  x87Finish,
  x87LoadA,
  x87LoadB,
  x87PushR,
  x87PushRaw,
  x87SetCodes,
  x87St,
  x87StackFault,
  x87StoreIndefinite,
  x87SetUsed,
  x87Underflow,
  x87Used,
} from './x87-state';
import { fpStore80 } from './softfloat';

/** Quotient bits of the last `divide`, and whether it is only a partial remainder. */
let quotient: u64 = 0;
let partial: bool = false;

/** R = remainder of finite A / finite B, with the quotient rounded to nearest or towards zero. */
function divide(nearest: bool): void {
  quotient = 0;
  partial = false;
  const d = aExp - bExp;
  const least = nearest ? -1 : 0;
  if (d < least) {
    fpCopyA();
    return;
  }
  if (d < 0) {
    divideHalf();
    return;
  }
  let steps = d;
  if (d >= 64) {
    // Bring the exponents 32 to 63 closer; software goes on from there.
    partial = true;
    steps = (d & 31) | 32;
  }
  const exp = aExp - steps;
  let rem = aSig;
  let q: u64 = 0;
  let carry = false;
  for (;;) {
    q <<= 1;
    if (carry || rem >= bSig) {
      rem -= bSig;
      q |= 1;
    }
    if (steps == 0) break;
    steps--;
    carry = i64(rem) < 0;
    rem <<= 1;
  }
  let sign = aSign;
  if (nearest && !partial) {
    const other = bSig - rem;
    if (rem > other || (rem == other && q & 1)) {
      rem = other;
      sign ^= 1;
      q++;
    }
  }
  quotient = q;
  if (rem == 0) fpSetZero(aSign);
  else fpNormalize(sign, exp, rem, 0);
}

/** FPREM1 for an A with half the exponent weight of B: the quotient is 0 or 1. */
function divideHalf(): void {
  if (aSig <= bSig) {
    fpCopyA();
    return;
  }
  quotient = 1;
  // |B| - |A| in units of A's last place.
  const hi = bSig - (aSig >> 1) - (aSig & 1);
  fpNormalize(aSign ^ 1, bExp, hi, (aSig & 1) << 63);
}

/** FPREM1 (`nearest`) and FPREM. */
export function x87Remainder(nearest: bool): void {
  if (!x87Used(0) || !x87Used(1)) {
    x87SetCodes(0);
    x87Underflow(0, 0);
    return;
  }
  x87LoadA(0);
  x87LoadB(1);
  quotient = 0;
  partial = false;
  if (!fpNanAB()) {
    if (aClass == FP_INF || bClass == FP_ZERO) fpInvalid();
    else {
      fpCheckDenormal();
      if (aClass == FP_ZERO || bClass == FP_INF) fpCopyA();
      else divide(nearest);
    }
  }
  x87SetCodes(0);
  if (!x87Finish(0, 64, false)) return;
  let codes: u32 = 0;
  if (partial) codes = X87_C2;
  else {
    if (quotient & 4) codes |= X87_C0;
    if (quotient & 2) codes |= X87_C3;
    if (quotient & 1) codes |= X87_C1;
  }
  x87SetCodes(codes);
}

/** FSCALE: ST(0) * 2^trunc(ST(1)). */
export function x87Scale(): void {
  if (!x87Used(0) || !x87Used(1)) {
    x87Underflow(0, 0);
    return;
  }
  x87LoadA(0);
  x87LoadB(1);
  if (!fpNanAB()) scale();
  x87Finish(0, 64, false);
}

function scale(): void {
  if (bClass == FP_INF) {
    if (aClass == (bSign ? FP_INF : FP_ZERO)) {
      fpInvalid();
      return;
    }
    if (bSign) fpSetZero(aSign);
    else fpSetInf(aSign);
    fpCheckDenormal();
    return;
  }
  fpCheckDenormal();
  fpCopyA();
  if (aClass != FP_FINITE || bClass != FP_FINITE || bExp < 0) return;
  const n = bExp > 16 ? 0x20000 : i32(bSig >> (63 - bExp));
  fpSetR(aSign, bSign ? aExp - n : aExp + n, aSig, 0);
}

/** FXTRACT: ST(0) becomes its exponent, then its significand is pushed. */
export function x87Extract(): void {
  if (!x87Used(0) || x87Used(7)) {
    x87PairFault();
    return;
  }
  x87LoadA(0);
  const p = x87St(0);
  if (aClass >= FP_QNAN) {
    fpNanA();
    if (!x87Commit()) return;
    fpStore80(p);
  } else {
    if (aClass == FP_ZERO) fpRaise(FP_ZE);
    fpCheckDenormal();
    if (!x87Commit()) return;
    if (aClass == FP_FINITE) fpFromInt(aExp);
    else fpSetInf(u32(aClass == FP_ZERO));
    fpStore80(p);
    fpCopyA();
    if (aClass == FP_FINITE) fpSetR(aSign, 0, aSig, 0);
  }
  x87PushR();
}

/** Stack fault of an instruction that replaces ST(0) and pushes a second result. */
export function x87PairFault(): void {
  if (!x87StackFault(x87Used(0) ? 1 : 0)) return;
  x87StoreIndefinite(x87St(0));
  x87SetUsed(0, 1);
  x87PushRaw(0, 0);
  x87StoreIndefinite(x87St(0));
}
