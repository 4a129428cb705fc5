/**
 * The x87's transcendental instructions against the processor. Processors promise an error below one unit in the
 * last place and differ in that unit; the emulator rounds correctly, so the two are at most one apart.
 */
import { describe, expect, it } from 'vitest';
import { coreInstance } from '../../../test/support/core-instance.ts';
import { putRandomF80, Random, textF80 } from '../../../test/support/fp-operands.ts';
import { canRunNative, runNative } from '../../../test/support/native-elf.ts';

const SEED = 0x3c0ffee;
const CASES = 10_000;
/** Input: ST(0) at 0, control word at 10, ST(1) at 16. Output: ST(0) at 0, status at 10, ST(1) at 16. */
const RECORD = 32;
const OPERANDS = 0x20_0000;
const OUTPUT = OPERANDS + RECORD;
/** C1, the rounding direction, may differ where the results do. */
const STATUS_MASK = 0xffff & ~0x200;

const core = coreInstance();
const register = core.fn<(code: number) => number>('x87Register');
const memoryRead = core.fn<(code: number, ptr: number) => number>('x87MemoryRead');
const memoryWrite = core.fn<(code: number, ptr: number) => number>('x87MemoryWrite');

type PutOperands = (random: Random, view: DataView, at: number) => void;

function nativeLoop(modrm: number): Uint8Array {
  const body = [
    ...[0xdb, 0xe3], // fninit
    ...[0xdb, 0x6e, 16], // fld tbyte [rsi + 16]
    ...[0xdb, 0x2e], // fld tbyte [rsi]
    ...[0xd9, 0x6e, 10], // fldcw [rsi + 10]
    ...[0xd9, modrm],
    ...[0xdd, 0x7f, 10], // fnstsw [rdi + 10]
    ...[0xdb, 0x3f], // fstp tbyte [rdi]
    ...[0xdb, 0x7f, 16], // fstp tbyte [rdi + 16]
    ...[0x48, 0x83, 0xc6, RECORD], // add rsi, RECORD
    ...[0x48, 0x83, 0xc7, RECORD], // add rdi, RECORD
    ...[0xff, 0xc9], // dec ecx
  ];
  const count = [0xb9, CASES & 0xff, CASES >> 8, 0, 0];
  return new Uint8Array([...count, ...body, 0x75, -(body.length + 2) & 0xff, 0xc3]);
}

function emulate(modrm: number): void {
  register((3 << 6) | 0x23); // fninit
  memoryRead((3 << 3) | 5, OPERANDS + 16);
  memoryRead((3 << 3) | 5, OPERANDS);
  memoryRead((1 << 3) | 5, OPERANDS + 10);
  register((1 << 6) | (modrm & 0x3f));
  memoryWrite((5 << 3) | 7, OUTPUT + 10);
  memoryWrite((3 << 3) | 7, OUTPUT);
  memoryWrite((3 << 3) | 7, OUTPUT + 16);
}

/** A number whose neighbours differ by one. */
function ordinal(view: DataView, at: number): bigint {
  const word = view.getUint16(at + 8, true);
  const exponent = BigInt(word & 0x7fff);
  const significand = view.getBigUint64(at, true);
  const magnitude = exponent === 0n ? significand : (exponent << 63n) + (significand & ((1n << 63n) - 1n));
  return word & 0x8000 ? -magnitude : magnitude;
}

const apart = (a: DataView, b: DataView, at: number): bigint => {
  const distance = ordinal(a, at) - ordinal(b, at);
  return distance < 0n ? -distance : distance;
};

interface Comparison {
  readonly failures: string[];
  /** Share of cases that agree in every bit. */
  readonly equal: number;
}

function compare(modrm: number, put: PutOperands): Comparison {
  const random = new Random(SEED);
  const input = new Uint8Array(CASES * RECORD);
  const inputView = new DataView(input.buffer);
  for (let at = 0; at < input.length; at += RECORD) {
    put(random, inputView, at);
    inputView.setUint16(at + 10, 0x33f | (random.below(2) ? 0 : random.below(4) << 10), true);
  }
  const expected = runNative(nativeLoop(modrm), input);
  const failures: string[] = [];
  let equal = 0;
  for (let at = 0; at < input.length && failures.length < 5; at += RECORD) {
    core.bytes.set(input.subarray(at, at + RECORD), OPERANDS);
    core.bytes.fill(0, OUTPUT, OUTPUT + RECORD);
    emulate(modrm);
    const got = new DataView(core.bytes.slice(OUTPUT, OUTPUT + RECORD).buffer);
    const want = new DataView(expected.buffer, at, RECORD);
    const status = (got.getUint16(10, true) ^ want.getUint16(10, true)) & STATUS_MASK;
    const distance = apart(got, want, 0) + apart(got, want, 16);
    if (distance === 0n) equal++;
    if (status === 0 && distance <= 1n) continue;
    const show = (view: DataView, from: number): string =>
      `st0 ${textF80(view, from)} word ${view.getUint16(from + 10, true).toString(16)} st1 ${textF80(view, from + 16)}`;
    failures.push(`${show(inputView, at)}\n   got ${show(got, 0)}\n  want ${show(want, 0)}`);
  }
  return { failures, equal: equal / CASES };
}

/** Writes a normal number with an exponent from `low` to `high`. */
function putNormal(random: Random, view: DataView, at: number, low: number, high: number): void {
  view.setBigUint64(at, random.u64() | (1n << 63n), true);
  const exponent = low + random.below(high - low + 1);
  view.setUint16(at + 8, (exponent + 0x3fff) | (random.below(2) << 15), true);
}

/** One in four operands special, the others in the range of interest. */
const mixed =
  (low0: number, high0: number, low1: number, high1: number): PutOperands =>
  (random, view, at) => {
    for (const [offset, low, high] of [
      [0, low0, high0],
      [16, low1, high1],
    ] as const) {
      if (random.below(4)) putNormal(random, view, at + offset, low, high);
      else putRandomF80(random, view, at + offset);
    }
  };

/** Operands in the range for which F2XM1 and FYL2XP1 are defined, zero and NaNs among them. */
const small: PutOperands = (random, view, at) => {
  putNormal(random, view, at, random.below(2) ? -70 : -4, -2);
  if (random.below(16) === 0) view.setBigUint64(at, 0n, true);
  if (random.below(16) === 0) view.setUint16(at + 8, random.below(2) ? 0 : 0x8000, true);
  if (view.getUint16(at + 8, true) & 0x7fff && view.getBigUint64(at, true) === 0n)
    view.setUint16(at + 8, 0, true);
  if (random.below(2)) putNormal(random, view, at + 16, -100, 100);
  else putRandomF80(random, view, at + 16);
};

describe.skipIf(!canRunNative)('x87 transcendental instructions', () => {
  it.each([
    { name: 'f2xm1', modrm: 0xf0, put: small },
    { name: 'fyl2x', modrm: 0xf1, put: mixed(-5, 5, -40, 40) },
    { name: 'fyl2x far from 1', modrm: 0xf1, put: mixed(-16000, 16000, -40, 40) },
    { name: 'fptan', modrm: 0xf2, put: mixed(-40, 5, 0, 0) },
    { name: 'fpatan', modrm: 0xf3, put: mixed(-8, 8, -8, 8) },
    { name: 'fpatan far apart', modrm: 0xf3, put: mixed(-100, 100, -100, 100) },
    { name: 'fyl2xp1', modrm: 0xf9, put: small },
    { name: 'fsincos', modrm: 0xfb, put: mixed(-40, 5, 0, 0) },
    { name: 'fsin', modrm: 0xfe, put: mixed(-40, 5, 0, 0) },
    { name: 'fcos', modrm: 0xff, put: mixed(-40, 5, 0, 0) },
    { name: 'fsin of large arguments', modrm: 0xfe, put: mixed(5, 64, 0, 0) },
  ])('$name', ({ modrm, put }) => {
    const { failures, equal } = compare(modrm, put);
    expect(failures.join('\n'), `seed ${SEED}`).toBe('');
    expect(equal).toBeGreaterThan(0.8);
  });
});
