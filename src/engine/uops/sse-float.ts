/**
 * SSE floating point. WebAssembly's operations round to nearest and report no exceptions, so they serve when
 * MXCSR is in its usual state with PE already set (STATE.SSE_FAST) and operands and result are ordinary numbers;
 * everything else goes to the core's exact software arithmetic.
 */
import { STATE } from '../layout.ts';
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';

type Format = 'sd' | 'ss';
interface Shape {
  readonly format: Format;
  readonly int: 'i64' | 'i32';
  readonly float: 'f64' | 'f32';
  readonly vectorInt: 'i64x2' | 'i32x4';
  readonly vectorFloat: 'f64x2' | 'f32x4';
  readonly exponentBits: number;
  readonly significandBits: number;
  /** Suffix of the core's functions. */
  readonly core: 'F64' | 'F32';
}
const DOUBLE: Shape = {
  format: 'sd',
  int: 'i64',
  float: 'f64',
  vectorInt: 'i64x2',
  vectorFloat: 'f64x2',
  exponentBits: 11,
  significandBits: 52,
  core: 'F64',
};
const SINGLE: Shape = {
  format: 'ss',
  int: 'i32',
  float: 'f32',
  vectorInt: 'i32x4',
  vectorFloat: 'f32x4',
  exponentBits: 8,
  significandBits: 23,
  core: 'F32',
};
const SHAPES = [DOUBLE, SINGLE];

const constant = (e: Emitter, shape: Shape, value: bigint): void => {
  if (shape.int === 'i64') e.w.i64(value);
  else e.w.i32(Number(BigInt.asIntN(32, value)));
};
const integers = (e: Emitter, shape: Shape): readonly number[] => (shape.int === 'i64' ? e.i64 : e.i32);

/** Pushes the low element of an XMM register as an integer. */
function lowBits(e: Emitter, shape: Shape, field: 'a' | 'b'): void {
  e.xmm(field);
  e.w.lane(`${shape.vectorInt}.extract_lane`, 0);
}
/** Writes an integer in a local to A's low element. */
function setLow(e: Emitter, shape: Shape, value: number): void {
  e.setXmm('a', () => {
    e.xmm('a');
    e.w.get(value);
    e.w.lane(`${shape.vectorInt}.replace_lane`, 0);
  });
}

/**
 * Pushes 1 if the bits are a normal number with at least the given exponent field: neither zero, denormal, infinite
 * nor NaN. A result with exponent 1 may have been rounded up from a denormal, which is an underflow.
 */
function isNormal(e: Emitter, shape: Shape, bits: number, exponent: 1n | 2n = 1n): void {
  // Without the sign, exponents 0 and all ones are neighbours modulo 2^n: one comparison.
  const unit = 1n << BigInt(shape.significandBits + 1);
  e.w.get(bits);
  constant(e, shape, 1n);
  e.w.op(`${shape.int}.shl`);
  constant(e, shape, unit);
  e.w.op(`${shape.int}.add`);
  constant(e, shape, (exponent + 1n) * unit);
  e.w.op(`${shape.int}.ge_u`);
}

function faultIfPending(e: Emitter): void {
  e.state(STATE.FAULT_VECTOR, 'i32');
  e.w.i32(0);
  e.w.op('i32.ge_s');
  e.faultIf();
}

const OPERATIONS = ['add', 'sub', 'mul', 'div', 'min', 'max', 'sqrt'] as const;

/** Computes the result's bits into local `r` from locals `a` and `b` by a native operation. */
function native(e: Emitter, shape: Shape, name: string, a: number, b: number, r: number): void {
  const { w } = e;
  const push = (bits: number): void => {
    w.get(bits);
    w.op(`${shape.float}.reinterpret_${shape.int}`);
  };
  if (name === 'min' || name === 'max') {
    w.get(a);
    w.get(b);
    push(a);
    push(b);
    w.op(`${shape.float}.${name === 'min' ? 'lt' : 'gt'}`);
    w.op('select');
    w.set(r);
    return;
  }
  if (name !== 'sqrt') push(a);
  push(b);
  w.op(`${shape.float}.${name}`);
  w.op(`${shape.int}.reinterpret_${shape.float}`);
  w.set(r);
}

for (const shape of SHAPES) {
  OPERATIONS.forEach((name, number) => {
    defineUop(`${name}${shape.format}`, (e) => scalar(e, shape, name, number));
  });
}

function scalar(e: Emitter, shape: Shape, name: string, number: number): void {
  const { w } = e;
  const [a, b, r] = integers(e, shape);
  const fast = e.i32[3];
  lowBits(e, shape, 'a');
  w.set(a);
  lowBits(e, shape, 'b');
  w.set(b);
  native(e, shape, name, a, b, r);
  e.state(STATE.SSE_FAST, 'i32');
  isNormal(e, shape, b);
  w.op('i32.and');
  if (name !== 'sqrt') {
    isNormal(e, shape, a);
    w.op('i32.and');
  }
  isNormal(e, shape, r, 2n);
  w.op('i32.and');
  w.set(fast);
  w.get(fast);
  w.op('i32.eqz');
  w.if();
  w.i32(number);
  w.get(a);
  w.get(b);
  e.call(`sse${shape.core}`);
  w.set(r);
  faultIfPending(e);
  w.end();
  setLow(e, shape, r);
}

/** Pushes 1 if all elements of the vector in a local are normal numbers. */
function allNormal(e: Emitter, shape: Shape, vector: number): void {
  const { w } = e;
  const exponent = ((1n << BigInt(shape.exponentBits)) - 1n) << BigInt(shape.significandBits);
  const mask = shape.int === 'i64' ? exponent : exponent | (exponent << 32n);
  w.get(vector);
  w.v128(mask, mask);
  w.op('v128.and');
  w.tee(e.v128[3]);
  w.v128(mask, mask);
  w.op(`${shape.vectorInt}.ne`);
  w.get(e.v128[3]);
  w.v128(0n, 0n);
  w.op(`${shape.vectorInt}.ne`);
  w.op('v128.and');
  w.op(`${shape.vectorInt}.all_true`);
}

for (const shape of SHAPES) {
  const suffix = shape === DOUBLE ? 'pd' : 'ps';
  OPERATIONS.forEach((name, number) => {
    defineUop(`${name}${suffix}`, (e) => packed(e, shape, name, number));
  });
}

function packed(e: Emitter, shape: Shape, name: string, number: number): void {
  const { w } = e;
  const [a, b, r] = e.v128;
  e.xmm('a');
  w.set(a);
  e.xmm('b');
  w.set(b);
  if (name !== 'sqrt') {
    // pmin(x, y) is y < x ? y : x, which is MINPS(y, x): the operands change places.
    w.get(name === 'min' || name === 'max' ? b : a);
  }
  w.get(name === 'min' || name === 'max' ? a : b);
  w.op(`${shape.vectorFloat}.${name === 'min' ? 'pmin' : name === 'max' ? 'pmax' : name}`);
  w.set(r);
  e.state(STATE.SSE_FAST, 'i32');
  allNormal(e, shape, b);
  w.op('i32.and');
  if (name !== 'sqrt') {
    allNormal(e, shape, a);
    w.op('i32.and');
  }
  allNormal(e, shape, r);
  w.op('i32.and');
  w.if();
  e.setXmm('a', () => w.get(r));
  w.else();
  w.i32(number);
  e.registerPointer('a');
  e.registerPointer('a');
  e.registerPointer('b');
  e.call(`ssePacked${shape.core}`);
  e.faultIf();
  e.registerWritten('a');
  w.end();
}

// ---- comparisons ----

/** Pushes 1 if the bits need no software: not a NaN and not denormal. */
function isComparable(e: Emitter, shape: Shape, bits: number): void {
  const { w } = e;
  const unit = 1n << BigInt(shape.significandBits + 1);
  const magnitude = (): void => {
    w.get(bits);
    constant(e, shape, 1n);
    w.op(`${shape.int}.shl`);
  };
  magnitude();
  w.op(`${shape.int}.eqz`);
  magnitude();
  constant(e, shape, unit);
  w.op(`${shape.int}.sub`);
  const infinity = ((1n << BigInt(shape.exponentBits)) - 1n) * unit;
  constant(e, shape, infinity - unit);
  w.op(`${shape.int}.le_u`);
  w.op('i32.or');
}

for (const shape of SHAPES) {
  for (const [name, signalling] of [
    ['ucomi', 0],
    ['comi', 1],
  ] as const) {
    defineUop(`${name}${shape.format}`, (e) => compareToFlags(e, shape, signalling));
  }
  for (let predicate = 0; predicate < 8; predicate++) {
    defineUop(`cmp${predicate}${shape.format}`, (e) => {
      const [a, b, r] = integers(e, shape);
      lowBits(e, shape, 'a');
      e.w.set(a);
      lowBits(e, shape, 'b');
      e.w.set(b);
      e.w.i32(predicate);
      e.w.get(a);
      e.w.get(b);
      e.call(`sseCompare${shape.core}`);
      e.w.set(r);
      faultIfPending(e);
      setLow(e, shape, r);
    });
    defineUop(`cmp${predicate}${shape === DOUBLE ? 'pd' : 'ps'}`, (e) =>
      corePacked(e, `sseComparePacked${shape.core}`, predicate),
    );
  }
}

function compareToFlags(e: Emitter, shape: Shape, signalling: number): void {
  const { w } = e;
  const [a, b] = integers(e, shape);
  lowBits(e, shape, 'a');
  w.set(a);
  lowBits(e, shape, 'b');
  w.set(b);
  const push = (bits: number): void => {
    w.get(bits);
    w.op(`${shape.float}.reinterpret_${shape.int}`);
  };
  const comparable = (): void => {
    isComparable(e, shape, a);
    isComparable(e, shape, b);
    w.op('i32.and');
  };
  // equal: ZF; less: CF. A result of 0 would show PF, which is inverted then.
  const result = (): void => {
    push(a);
    push(b);
    w.op(`${shape.float}.ne`);
    w.op('i64.extend_i32_u');
  };
  const carry = (): void => {
    w.i64(3n << 62n);
    push(a);
    push(b);
    w.op(`${shape.float}.eq`);
    w.op('i64.extend_i32_u');
    push(a);
    push(b);
    w.op(`${shape.float}.lt`);
    w.op('select');
  };
  const slow = (): void => {
    w.get(a);
    w.get(b);
    w.i32(signalling);
    e.call(`comi${shape.core}`);
    e.faultIf();
  };
  e.flags.conditionally(comparable, () => e.flags.set(result, carry), slow);
}

/** A core function of (number, destination, a, b) on pointers. */
function corePacked(e: Emitter, name: string, number: number | undefined): void {
  if (number !== undefined) e.w.i32(number);
  e.registerPointer('a');
  e.registerPointer('a');
  e.registerPointer('b');
  e.call(name);
  e.faultIf();
  e.registerWritten('a');
}
/** A core function of (number, destination, source) on pointers. */
function coreUnary(e: Emitter, name: string, number: Push): void {
  number();
  e.registerPointer('a');
  e.registerPointer('b');
  e.call(name);
  e.faultIf();
  e.registerWritten('a');
}

defineUop('haddpd', (e) => corePacked(e, 'sseHorizontalF64', 0));
defineUop('hsubpd', (e) => corePacked(e, 'sseHorizontalF64', 1));
defineUop('haddps', (e) => corePacked(e, 'sseHorizontalF32', 0));
defineUop('hsubps', (e) => corePacked(e, 'sseHorizontalF32', 1));
defineUop('addsubpd', (e) => corePacked(e, 'sseAddSubF64', undefined));
defineUop('addsubps', (e) => corePacked(e, 'sseAddSubF32', undefined));
const immediate = (e: Emitter): void => {
  e.imm();
  e.w.op('i32.wrap_i64');
};
for (const [name, core] of [
  ['dpps', 'sseDotF32'],
  ['dppd', 'sseDotF64'],
] as const) {
  defineUop(name, (e) => {
    immediate(e);
    corePacked(e, core, undefined);
  });
}
defineUop('roundpd', (e) => coreUnary(e, 'sseRoundPackedF64', () => immediate(e)));
defineUop('roundps', (e) => coreUnary(e, 'sseRoundPackedF32', () => immediate(e)));
defineUop('rcpps', (e) => coreUnary(e, 'ssePackedReciprocal', () => e.w.i32(0)));
defineUop('rsqrtps', (e) => coreUnary(e, 'ssePackedReciprocal', () => e.w.i32(1)));
[
  'cvtdq2pd',
  'cvtdq2ps',
  'cvtpd2dq',
  'cvttpd2dq',
  'cvtps2dq',
  'cvttps2dq',
  'cvtps2pd',
  'cvtpd2ps',
  'cvtpi2ps',
  'cvtps2pi',
  'cvttps2pi',
  'cvtpd2pi',
  'cvttpd2pi',
].forEach((name, kind) => {
  defineUop(name, (e) => coreUnary(e, 'ssePackedConvert', () => e.w.i32(kind)));
});

// ---- scalar conversions and rounding ----

for (const shape of SHAPES) {
  defineUop(`round${shape.format}`, (e) => {
    const [r] = integers(e, shape);
    immediate(e);
    lowBits(e, shape, 'b');
    e.call(`sseRound${shape.core}`);
    e.w.set(r);
    faultIfPending(e);
    setLow(e, shape, r);
  });
  for (const width of [32, 64] as const) {
    defineUop(`cvtsi2${shape.format}.${width}`, (e) => fromInteger(e, shape, width));
    for (const [prefix, truncate] of [
      ['cvt', 0],
      ['cvtt', 1],
    ] as const) {
      defineUop(`${prefix}${shape.format}2si.${width}`, (e) => toInteger(e, shape, width, truncate));
    }
  }
}

function fromInteger(e: Emitter, shape: Shape, width: Width): void {
  const { w } = e;
  const value = e.i64[1];
  const r = shape === DOUBLE ? e.i64[0] : e.i32[0];
  e.reg('b', width);
  if (width === 32) w.op('i64.extend32_s');
  w.set(value);
  if (shape === DOUBLE && width === 32) {
    // always exact: nothing to round or report
    w.get(value);
    w.op('f64.convert_i64_s');
    w.op('i64.reinterpret_f64');
    w.set(r);
  } else {
    w.get(value);
    e.call(`sseIntTo${shape.core}`);
    w.set(r);
    faultIfPending(e);
  }
  setLow(e, shape, r);
}

/** Truncation of an ordinary number in range is native when PE is set already. */
function toInteger(e: Emitter, shape: Shape, width: Width, truncate: number): void {
  const { w } = e;
  const bits = integers(e, shape)[0];
  const result = e.i64[1];
  lowBits(e, shape, 'b');
  w.set(bits);
  const software = (): void => {
    w.get(bits);
    w.i32(width);
    w.i32(truncate);
    e.call(`sse${shape.core}ToInt`);
    w.set(result);
    faultIfPending(e);
  };
  if (truncate) {
    const push = (): void => {
      w.get(bits);
      w.op(`${shape.float}.reinterpret_${shape.int}`);
    };
    push();
    w.op(`${shape.float}.abs`);
    /** The largest single below 2^63. */
    const int64Bound = 2 ** 63 - 2 ** 39;
    const bound = width === 32 ? 2147483647 : int64Bound;
    if (shape === DOUBLE) w.f64(bound);
    else w.f32(width === 32 ? 2147483520 : int64Bound);
    w.op(`${shape.float}.lt`);
    isNormal(e, shape, bits);
    w.op('i32.and');
    e.state(STATE.SSE_FAST, 'i32');
    w.op('i32.and');
    w.if();
    push();
    w.op(`i64.trunc_sat_${shape.float}_s`);
    w.set(result);
    w.else();
    software();
    w.end();
  } else software();
  e.setReg('a', width, () => w.get(result));
}

defineUop('cvtsd2ss', (e) => {
  const r = e.i32[0];
  lowBits(e, DOUBLE, 'b');
  e.call('sseF64ToF32');
  e.w.set(r);
  faultIfPending(e);
  setLow(e, SINGLE, r);
});
defineUop('cvtss2sd', (e) => {
  const r = e.i64[0];
  lowBits(e, SINGLE, 'b');
  e.call('sseF32ToF64');
  e.w.set(r);
  faultIfPending(e);
  setLow(e, DOUBLE, r);
});
for (const [name, core] of [
  ['rcpss', 'sseReciprocalF32'],
  ['rsqrtss', 'sseReciprocalSqrtF32'],
] as const) {
  defineUop(name, (e) => {
    const r = e.i32[0];
    lowBits(e, SINGLE, 'b');
    e.call(core);
    e.w.set(r);
    setLow(e, SINGLE, r);
  });
}
