/** Compares what the reference and the emulator made of a case, and tells the difference in words. */
import { GPR } from '../../src/engine/cpu.ts';
import { STATUS_FLAGS } from './form.ts';
import { END_VECTOR, FRAME_GPRS, OUTPUT, PLACE, WINDOW_BYTES } from './layout.ts';
import type { TestCase } from './test-case.ts';

const PAGE_FAULT = 14;
const FLAGS_COMPARED = STATUS_FLAGS | 0x400;
const TRAP_FLAG_BYTE = 1;
const FXSAVE = { FCW: 0, FSW: 2, FTW: 4, MXCSR: 24, ST: 32, XMM: 160 } as const;
const RSP = 4;
const STATUS_INVALID = 1;
const STATUS_SUMMARY = 0x80;

const hex = (value: bigint | number, digits = 16): string => value.toString(16).padStart(digits, '0');

/** Register contents and the like by name, as far as they are defined. */
type Outcome = ReadonlyMap<string, string>;

/** @param undefinedStatus bits of the x87 status word to leave out */
function outcome(test: TestCase, record: Uint8Array, undefinedStatus: number): Outcome {
  const view = new DataView(record.buffer, record.byteOffset, OUTPUT.BYTES);
  const result = new Map<string, string>();
  const vector = Number(view.getBigUint64(OUTPUT.VECTOR, true));
  const completed = vector === END_VECTOR;
  result.set('exception', completed ? 'none' : String(vector));
  if (!completed) result.set('error code', hex(view.getBigUint64(OUTPUT.ERROR_CODE, true), 1));
  // In what order the pieces of a large operand are accessed is not defined.
  const oneAccess = (test.form.memoryBytes ?? 0) <= 16;
  if (vector === PAGE_FAULT && oneAccess) result.set('cr2', hex(view.getBigUint64(OUTPUT.CR2, true)));
  result.set('rip', hex(view.getBigUint64(OUTPUT.RIP, true)));
  for (const [i, register] of FRAME_GPRS.entries()) {
    result.set(GPR[register], hex(view.getBigUint64(OUTPUT.REGISTERS + i * 8, true)));
  }
  const flags = Number(view.getBigUint64(OUTPUT.RFLAGS, true)) & FLAGS_COMPARED & ~test.undefinedFlags;
  result.set('flags', hex(flags, 4));
  floatingPoint(view, undefinedStatus, result);
  memory(test, record, result);
  return result;
}

function floatingPoint(view: DataView, undefinedStatus: number, result: Map<string, string>): void {
  result.set('mxcsr', hex(view.getUint32(FXSAVE.MXCSR, true), 8));
  result.set('fcw', hex(view.getUint16(FXSAVE.FCW, true), 4));
  const status = view.getUint16(FXSAVE.FSW, true) & ~undefinedStatus;
  result.set('fsw', hex(status, 4));
  const tags = view.getUint8(FXSAVE.FTW);
  result.set('ftw', hex(tags, 2));
  const top = (view.getUint16(FXSAVE.FSW, true) >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    if ((tags & (1 << ((top + i) & 7))) === 0) continue;
    const at = FXSAVE.ST + i * 16;
    result.set(`st${i}`, `${hex(view.getUint16(at + 8, true), 4)} ${hex(view.getBigUint64(at, true))}`);
  }
  for (let i = 0; i < 16; i++) {
    const at = FXSAVE.XMM + i * 16;
    result.set(`xmm${i}`, `${hex(view.getBigUint64(at + 8, true))} ${hex(view.getBigUint64(at, true))}`);
  }
}

function memory(test: TestCase, record: Uint8Array, result: Map<string, string>): void {
  const window = record.slice(OUTPUT.WINDOW, OUTPUT.WINDOW + WINDOW_BYTES);
  if (test.form.storesTrapFlag === true) {
    const view = new DataView(record.buffer, record.byteOffset, OUTPUT.BYTES);
    const rsp = Number(view.getBigUint64(OUTPUT.REGISTERS + FRAME_GPRS.indexOf(RSP) * 8, true));
    window[rsp - PLACE.WINDOW + TRAP_FLAG_BYTE] &= ~1;
  }
  for (let at = 0; at < WINDOW_BYTES; at += 8) {
    const bytes = [...window.subarray(at, at + 8)].map((byte) => hex(byte, 2)).join(' ');
    result.set(`memory ${hex(PLACE.WINDOW + at, 8)}`, bytes);
  }
}

/** True if two values are the same, or near enough for a form that approximates. */
function same(test: TestCase, expected: string | undefined, got: string | undefined): boolean {
  if (expected === got) return true;
  const { approximate } = test.form;
  if (approximate === undefined || expected === undefined || got === undefined) return false;
  const values = (text: string): readonly number[] =>
    approximate.kind === 'float32' ? singles(text) : [extended(text)];
  const [a, b] = [values(expected), values(got)];
  return a.every((value, i) => near(value, b[i], approximate.bits));
}

function near(a: number, b: number, bits: number): boolean {
  if (Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b))) return true;
  return Math.abs(a - b) <= Math.abs(a) * 2 ** -Math.min(bits, 50);
}

function singles(text: string): number[] {
  const digits = text.replace(' ', '');
  const view = new DataView(new ArrayBuffer(4));
  return [0, 8, 16, 24].map((at) => {
    view.setUint32(0, Number.parseInt(digits.slice(at, at + 8), 16));
    return view.getFloat32(0);
  });
}

function extended(text: string): number {
  const [exponent, significand] = text.split(' ').map((part) => BigInt(`0x${part}`));
  const e = Number(exponent & 0x7fffn);
  if (e === 0x7fff) return significand << 1n === 1n << 64n ? Infinity : Number.NaN;
  return (
    (exponent >= 0x8000n ? -1 : 1) *
    (Number(significand) / 2 ** 63) *
    2 ** Math.max(-1000, Math.min(1000, e - 16383))
  );
}

/** The input as far as the instruction may have used it. */
function describe(test: TestCase): string {
  const registers = GPR.map((name, i) => `${name.padStart(3)} ${hex(test.registers[i])}`);
  const rows = [0, 4, 8, 12].map((i) => registers.slice(i, i + 4).join('  '));
  const { fx } = test;
  rows.push(`flags ${hex(test.flags, 4)}  mxcsr ${hex(fx.getUint32(FXSAVE.MXCSR, true), 8)}`);
  const { family } = test.form;
  if (family === 'sse' || family === 'mmx') rows.push(...vectors(fx));
  if (family === 'x87' || family === 'mmx') rows.push(...stack(fx));
  return rows.map((row) => `    ${row}`).join('\n');
}

function vectors(fx: DataView): string[] {
  const text = (i: number): string => {
    const at = FXSAVE.XMM + i * 16;
    return `xmm${i} ${hex(fx.getBigUint64(at + 8, true))} ${hex(fx.getBigUint64(at, true))}`;
  };
  return Array.from({ length: 8 }, (_, i) => `${text(i * 2)}  ${text(i * 2 + 1)}`);
}

function stack(fx: DataView): string[] {
  const words = `fcw ${hex(fx.getUint16(0, true), 4)}  fsw ${hex(fx.getUint16(2, true), 4)}  ftw ${hex(fx.getUint8(4), 2)}`;
  const registers = Array.from({ length: 8 }, (_, i) => {
    const at = FXSAVE.ST + i * 16;
    return `st${i} ${hex(fx.getUint16(at + 8, true), 4)} ${hex(fx.getBigUint64(at, true))}`;
  });
  return [words, registers.slice(0, 4).join('  '), registers.slice(4).join('  ')];
}

function undefinedStatus({ form }: TestCase, expected: Uint8Array): number {
  const invalid = (expected[FXSAVE.FSW] & STATUS_INVALID) !== 0;
  const notANumber = (expected[FXSAVE.ST + 8] | ((expected[FXSAVE.ST + 9] & 0x7f) << 8)) === 0x7fff;
  const raised = (expected[FXSAVE.FSW] & STATUS_SUMMARY) !== 0;
  return (
    (form.undefinedStatus ?? 0) | (invalid || raised || notANumber ? (form.undefinedWithoutResult ?? 0) : 0)
  );
}

/** What differs between two outcomes of a case; undefined if nothing does. */
export function difference(
  test: TestCase,
  expected: Uint8Array,
  got: Uint8Array | string,
): string | undefined {
  const title = `${test.form.name}: ${test.code.map((byte) => hex(byte, 2)).join(' ')}`;
  if (typeof got === 'string') return `${title}\n    ${got}\n${describe(test)}`;
  const ignored = undefinedStatus(test, expected);
  const [a, b] = [outcome(test, expected, ignored), outcome(test, got, ignored)];
  const names = new Set([...a.keys(), ...b.keys()]);
  const lines = [...names]
    .filter((name) => !same(test, a.get(name), b.get(name)))
    .map((name) => `    ${name}: expected ${a.get(name) ?? '-'}, got ${b.get(name) ?? '-'}`);
  if (lines.length === 0) return undefined;
  return [title, ...lines, '    from', describe(test)].join('\n');
}
