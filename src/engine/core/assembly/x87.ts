// x87 instructions in register form, and the entry points of the unit (Intel SDM volume 2).

import {
  STATE_FCW,
  STATE_FSW,
  STATE_FTW,
  STATE_FOP,
  STATE_FIP,
  STATE_FDP,
  STATE_FCS,
  STATE_FDS,
} from './layout';
import { STATE_FLAG_CARRY, STATE_FLAG_RESULT, STATE_REGS } from './layout';
import {
  FP_INF,
  FP_QNAN,
  FP_UNSUPPORTED,
  FP_UP,
  FP_ZERO,
  aClass,
  aSign,
  fpAdd,
  fpCompare,
  fpDenormal,
  fpDiv,
  fpMul,
  fpRc,
  fpSqrt,
  fpStore80,
  fpSwap,
  fpToIntegral,
  fpB80,
} from './softfloat';
import {
  X87_C0,
  X87_C1,
  X87_C2,
  X87_C3,
  setOrderFlags,
  x87Begin,
  x87CanPush,
  x87ClearC1,
  x87Commit,
  x87Finish,
  x87LoadA,
  x87LoadB,
  x87Pop,
  x87Precision,
  x87PushRaw,
  x87Rotate,
  x87SetCodes,
  x87SetUsed,
  x87St,
  x87StackFault,
  x87StoreIndefinite,
  x87Undefined,
  x87Underflow,
  x87Used,
  x87Wait,
} from './x87-state';
import { x87Remainder, x87Scale, x87Extract } from './x87-remainder';
import { x87ArcTangent } from './x87-arctangent';
import { x87ExpMinus1, x87LogPlus1Product, x87LogProduct } from './x87-logarithm';
import { x87SineCosine, x87Tangent } from './x87-trigonometric';

export { x87Wait, x87UpdateSummary } from './x87-state';
export {
  x87LoadEnvironment,
  x87MemoryRead,
  x87MemoryWrite,
  x87StoreEnvironment,
} from './x87-memory';

/** Arithmetic as modrm.reg encodes it, on A = ST(0) and B = the other operand. */
const OP_ADD: i32 = 0;
const OP_MUL: i32 = 1;
const OP_SUB: i32 = 4;
const OP_SUBR: i32 = 5;
const OP_DIV: i32 = 6;

/** R = A op B; A and B must be unpacked, op is an arithmetic modrm.reg (not a comparison). */
export function x87Arithmetic(op: i32): void {
  if (op & 1 && op >= OP_SUBR) fpSwap();
  if (op == OP_ADD) fpAdd(0);
  else if (op == OP_MUL) fpMul();
  else if ((op & 6) == OP_SUB) fpAdd(1);
  else fpDiv();
}

/** Compares A and B into C0, C2, C3; true unless an unmasked exception was raised. */
export function x87CompareCodes(signalling: bool): bool {
  const order = fpCompare(signalling);
  x87SetCodes(order == 1 ? 0 : order == -1 ? X87_C0 : order == 0 ? X87_C3 : X87_C0 | X87_C2 | X87_C3);
  return x87Commit();
}

/** Stack underflow in a comparison. */
export function x87CompareUnderflow(pops: u32): void {
  x87SetCodes(X87_C0 | X87_C2 | X87_C3);
  if (x87StackFault(0)) for (; pops; pops--) x87Pop();
}

/** ST(dest) = ST(0) op ST(i). */
function arithmetic(op: i32, i: u32, dest: u32, pop: bool): void {
  if (!x87Used(0) || !x87Used(i)) {
    x87Underflow(dest, u32(pop));
    return;
  }
  x87LoadA(0);
  x87LoadB(i);
  x87Arithmetic(op);
  x87Finish(dest, x87Precision(), pop);
}

function compare(i: u32, pops: u32, signalling: bool): void {
  if (!x87Used(0) || !x87Used(i)) {
    x87CompareUnderflow(pops);
    return;
  }
  x87LoadA(0);
  x87LoadB(i);
  if (x87CompareCodes(signalling)) for (; pops; pops--) x87Pop();
}

/** FCOMI and FUCOMI: the result goes to EFLAGS. */
function compareFlags(i: u32, pop: bool, signalling: bool): void {
  if (!x87Used(0) || !x87Used(i)) {
    setOrderFlags(2);
    if (x87StackFault(0) && pop) x87Pop();
    return;
  }
  x87LoadA(0);
  x87LoadB(i);
  setOrderFlags(fpCompare(signalling));
  if (x87Commit() && pop) x87Pop();
}

function loadSt(i: u32): void {
  if (!x87CanPush()) return;
  if (!x87Used(i)) {
    if (x87StackFault(0)) {
      x87PushRaw(0, 0);
      x87StoreIndefinite(x87St(0));
    }
    return;
  }
  const p = x87St(i);
  x87ClearC1();
  x87PushRaw(load<u64>(p), load<u16>(p, 8));
}

function storeSt(i: u32, pop: bool): void {
  if (!x87Used(0)) {
    x87Underflow(i, u32(pop));
    return;
  }
  const from = x87St(0);
  const to = x87St(i);
  store<u64>(to, load<u64>(from));
  store<u16>(to, load<u16>(from, 8), 8);
  x87SetUsed(i, 1);
  x87ClearC1();
  if (pop) x87Pop();
}

function exchange(i: u32): void {
  const p = x87St(0);
  const q = x87St(i);
  if (!x87Used(0) || !x87Used(i)) {
    if (!x87StackFault(0)) return;
    if (!x87Used(0)) x87StoreIndefinite(p);
    if (!x87Used(i)) x87StoreIndefinite(q);
    x87SetUsed(0, 1);
    x87SetUsed(i, 1);
  } else x87ClearC1();
  const sig = load<u64>(p);
  const signExp = load<u16>(p, 8);
  store<u64>(p, load<u64>(q));
  store<u16>(p, load<u16>(q, 8), 8);
  store<u64>(q, sig);
  store<u16>(q, signExp, 8);
}

/** FCMOVcc: condition 0 B, 1 E, 2 BE, 3 U on the lazy flags, inverted when `negate`. */
function conditionalMove(condition: i32, negate: bool, i: u32): void {
  if (!x87Used(0) || !x87Used(i)) {
    x87Underflow(0, 0);
    return;
  }
  x87ClearC1();
  const result = load<i64>(STATE_FLAG_RESULT);
  const carryVector = load<i64>(STATE_FLAG_CARRY);
  const carry = carryVector < 0;
  let met = carry;
  if (condition == 1) met = result == 0;
  else if (condition == 2) met = carry || result == 0;
  else if (condition == 3) met = ((popcnt(u32(result) & 0xff) & 1) ^ 1 ^ (u32(carryVector) & 1)) != 0;
  if (met == negate) return;
  const p = x87St(i);
  const to = x87St(0);
  store<u64>(to, load<u64>(p));
  store<u16>(to, load<u16>(p, 8), 8);
}

/** FCHS, FABS, FTST, FXAM. */
function signGroup(rm: i32): i32 {
  if (rm == 5) {
    examine();
    return 0;
  }
  if (rm != 0 && rm != 1 && rm != 4) return x87Undefined();
  if (!x87Used(0)) {
    if (rm == 4) x87CompareUnderflow(0);
    else x87Underflow(0, 0);
    return 0;
  }
  if (rm == 4) {
    x87LoadA(0);
    fpB80(0, 0);
    x87CompareCodes(true);
    return 0;
  }
  const p = x87St(0);
  const signExp = load<u16>(p, 8);
  store<u16>(p, rm == 0 ? signExp ^ 0x8000 : signExp & 0x7fff, 8);
  x87ClearC1();
  return 0;
}

function examine(): void {
  x87LoadA(0);
  let codes: u32 = X87_C2;
  if (!x87Used(0)) codes = X87_C3 | X87_C0;
  else if (aClass == FP_ZERO) codes = X87_C3;
  else if (fpDenormal) codes = X87_C3 | X87_C2;
  else if (aClass == FP_INF) codes = X87_C2 | X87_C0;
  else if (aClass == FP_UNSUPPORTED) codes = 0;
  else if (aClass >= FP_QNAN) codes = X87_C0;
  x87SetCodes(aSign ? codes | X87_C1 : codes);
}

/** FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: rounded by RC from more digits than the format holds. */
function constant(rm: i32): i32 {
  if (rm == 7) return x87Undefined();
  if (!x87CanPush()) return 0;
  x87ClearC1();
  const rc = fpRc;
  let down: u64 = 0;
  let signExp: u32 = 0x3fff;
  // What rounding down gives, and whether nearest is one unit more.
  let nearestUp: u64 = 0;
  if (rm == 0) {
    x87PushRaw(0x8000000000000000, 0x3fff);
    return 0;
  }
  if (rm == 6) {
    x87PushRaw(0, 0);
    return 0;
  }
  if (rm == 1) {
    down = 0xd49a784bcd1b8afe;
    signExp = 0x4000;
  } else if (rm == 2) {
    down = 0xb8aa3b295c17f0bb;
    nearestUp = 1;
  } else if (rm == 3) {
    down = 0xc90fdaa22168c234;
    nearestUp = 1;
    signExp = 0x4000;
  } else if (rm == 4) {
    down = 0x9a209a84fbcff798;
    nearestUp = 1;
    signExp = 0x3ffd;
  } else {
    down = 0xb17217f7d1cf79ab;
    nearestUp = 1;
    signExp = 0x3ffe;
  }
  x87PushRaw(down + (rc == FP_UP ? 1 : rc == 0 ? nearestUp : 0), signExp);
  return 0;
}

/** FSQRT and FRNDINT. */
function unary(rm: i32): void {
  if (!x87Used(0)) {
    x87Underflow(0, 0);
    return;
  }
  x87LoadA(0);
  if (rm == 2) {
    fpSqrt();
    x87Finish(0, x87Precision(), false);
  } else {
    fpToIntegral(false);
    if (x87Commit()) fpStore80(x87St(0));
  }
}

function functionGroup6(rm: i32): void {
  if (rm == 0) x87ExpMinus1();
  else if (rm == 1) x87LogProduct();
  else if (rm == 2) x87Tangent();
  else if (rm == 3) x87ArcTangent();
  else if (rm == 4) x87Extract();
  else if (rm == 5) x87Remainder(true);
  else {
    x87Rotate(rm == 6 ? 7 : 1);
    x87ClearC1();
  }
}

function functionGroup7(rm: i32): void {
  if (rm == 0) x87Remainder(false);
  else if (rm == 1) x87LogPlus1Product();
  else if (rm == 2 || rm == 4) unary(rm);
  else if (rm == 5) x87Scale();
  else x87SineCosine(rm);
}

/** FNINIT. */
export function x87Init(): void {
  store<u32>(STATE_FCW, 0x37f);
  store<u32>(STATE_FSW, 0);
  store<u32>(STATE_FTW, 0);
  store<u32>(STATE_FOP, 0);
  store<u64>(STATE_FIP, 0);
  store<u64>(STATE_FDP, 0);
  store<u32>(STATE_FCS, 0);
  store<u32>(STATE_FDS, 0);
}

/** DB /4: FNCLEX, FNINIT and the 8087's and 80287's control instructions, which do nothing. */
function control(rm: i32): i32 {
  if (rm == 2) store<u32>(STATE_FSW, load<u32>(STATE_FSW) & 0x7f00);
  else if (rm == 3) x87Init();
  else if (rm > 4) return x87Undefined();
  return 0;
}

/** D9 with a register operand. */
function escape1(reg: i32, rm: i32): i32 {
  if (reg == 0) loadSt(rm);
  else if (reg == 1) exchange(rm);
  else if (reg == 2) return rm == 0 ? 0 : x87Undefined();
  else if (reg == 3) storeSt(rm, true);
  else if (reg == 4) return signGroup(rm);
  else if (reg == 5) return constant(rm);
  else if (reg == 6) functionGroup6(rm);
  else functionGroup7(rm);
  return 0;
}

/** DD with a register operand. */
function escape5(reg: i32, rm: i32): i32 {
  if (reg == 0) x87SetUsed(rm, 0);
  else if (reg == 1) exchange(rm);
  else if (reg < 4) storeSt(rm, reg == 3);
  else if (reg < 6) compare(rm, u32(reg == 5), false);
  else return x87Undefined();
  return 0;
}

/** DF with a register operand. */
function escape7(reg: i32, rm: i32): i32 {
  if (reg == 0) {
    x87SetUsed(rm, 0);
    x87Pop();
  } else if (reg == 1) exchange(rm);
  else if (reg < 4) storeSt(rm, true);
  else if (reg == 5 || reg == 6) compareFlags(rm, true, reg == 6);
  else return x87Undefined();
  return 0;
}

/**
 * Executes an x87 instruction in register form.
 * @param code ((opcode & 7) << 6) | (modrm & 0x3f) for opcodes D8…DF with mod = 3
 * @returns 0, or 2 when STATE_FAULT_VECTOR has been set
 */
export function x87Register(code: i32): i32 {
  const escape = code >> 6;
  const reg = (code >> 3) & 7;
  const rm = code & 7;
  if (escape == 3 && reg == 4) return control(rm);
  if (escape == 7 && reg == 4) {
    if (rm != 0) return x87Undefined();
    store<u16>(STATE_REGS, u16(load<u32>(STATE_FSW)));
    return 0;
  }
  if (x87Wait()) return 2;
  x87Begin();
  if (escape == 0 || escape == 4) {
    if (reg == 2 || reg == 3) compare(rm, reg & 1, true);
    else arithmetic(reg, rm, escape ? rm : 0, false);
    return 0;
  }
  if (escape == 1) return escape1(reg, rm);
  if (escape == 2) {
    if (reg < 4) conditionalMove(reg, false, rm);
    else if (reg == 5 && rm == 1) compare(1, 2, false);
    else return x87Undefined();
    return 0;
  }
  if (escape == 3) {
    if (reg < 4) conditionalMove(reg, true, rm);
    else if (reg < 7) compareFlags(rm, false, reg == 6);
    else return x87Undefined();
    return 0;
  }
  if (escape == 5) return escape5(reg, rm);
  if (escape == 7) return escape7(reg, rm);
  if (reg == 2) compare(rm, 1, true);
  else if (reg == 3) {
    if (rm != 1) return x87Undefined();
    compare(1, 2, true);
  } else arithmetic(reg, rm, rm, true);
  return 0;
}
