/** The x87 unit against the processor that runs the tests. */
import { describe, expect, it } from 'vitest';
import { coreInstance } from '../../../test/support/core-instance.ts';
import { putRandomF80, Random, randomF32, randomF64, textF80 } from '../../../test/support/fp-operands.ts';
import { canRunNative, runNative } from '../../../test/support/native-elf.ts';

const SEED = 0x2f6e2b1;
const CASES = 10_000;
/** Input: ST(0) at 0, control word at 10, masked control word at 12, ST(1) at 16, memory operand at 32. */
const RECORD = 48;
const ALL_MASKED = 0x3f;
/** Differences reported per instruction. */
const SHOWN = 5;
/** Where the emulated instructions have their records and leave their results. */
const INPUT = 0x20_0000;
const OUTPUT = 0x30_0000;

const core = coreInstance();
const register = core.fn<(code: number) => number>('x87Register');
const memoryRead = core.fn<(code: number, ptr: number) => number>('x87MemoryRead');
const memoryWrite = core.fn<(code: number, ptr: number) => number>('x87MemoryWrite');

const readCode = (opcode: number, reg: number): number => ((opcode & 7) << 3) | reg;
const registerCode = (opcode: number, modrm: number): number => ((opcode & 7) << 6) | (modrm & 0x3f);

/** One instruction: the opcode, then modrm for a register form or the reg field for a memory form. */
interface Instruction {
  readonly name: string;
  readonly opcode: number;
  readonly modrm?: number;
  readonly reg?: number;
  readonly store?: boolean;
}

/** Machine code that runs the instruction on every record. */
function nativeLoop({ opcode, modrm, reg, store }: Instruction): Uint8Array {
  const operand = store ? 0x47 : 0x46; // [rdi + 32] or [rsi + 32]
  const instruction = modrm === undefined ? [opcode, operand | ((reg ?? 0) << 3), 32] : [opcode, modrm];
  const body = [
    ...[0xdb, 0xe3], // fninit
    ...[0xdb, 0x6e, 16], // fld tbyte [rsi + 16]
    ...[0xdb, 0x2e], // fld tbyte [rsi]
    ...[0xd9, 0x6e, 10], // fldcw [rsi + 10]
    ...instruction,
    ...[0xdd, 0x7f, 10], // fnstsw [rdi + 10]
    ...[0xdb, 0xe2], // fnclex
    ...[0xd9, 0x6e, 12], // fldcw [rsi + 12]
    ...[0xdb, 0x3f], // fstp tbyte [rdi]
    ...[0xdb, 0x7f, 16], // fstp tbyte [rdi + 16]
    ...[0x48, 0x83, 0xc6, RECORD], // add rsi, RECORD
    ...[0x48, 0x83, 0xc7, RECORD], // add rdi, RECORD
    ...[0xff, 0xc9], // dec ecx
  ];
  const count = [0xb9, CASES & 0xff, CASES >> 8, 0, 0];
  return new Uint8Array([...count, ...body, 0x75, -(body.length + 2) & 0xff, 0xc3]);
}

/** The same sequence in the emulator, from the record at `input` to the one at `output`. */
function emulate({ opcode, modrm, reg = 0, store }: Instruction, input: number, output: number): void {
  register(registerCode(0xdb, 0xe3));
  memoryRead(readCode(0xdb, 5), input + 16);
  memoryRead(readCode(0xdb, 5), input);
  memoryRead(readCode(0xd9, 5), input + 10);
  if (modrm !== undefined) register(registerCode(opcode, modrm));
  else if (store) memoryWrite(readCode(opcode, reg), output + 32);
  else memoryRead(readCode(opcode, reg), input + 32);
  memoryWrite(readCode(0xdd, 7), output + 10);
  register(registerCode(0xdb, 0xe2));
  memoryRead(readCode(0xd9, 5), input + 12);
  memoryWrite(readCode(0xdb, 7), output);
  memoryWrite(readCode(0xdb, 7), output + 16);
}

const near = (view: DataView, at: number): number => (view.getUint16(at + 8, true) & 0x7fff) - 0x3fff;

type PutOperand = (random: Random, view: DataView, at: number) => void;

const recordsByOperand = new Map<PutOperand, Uint8Array>();

/** The same records for every instruction with this kind of memory operand. */
function randomRecords(put: PutOperand): Uint8Array {
  const known = recordsByOperand.get(put);
  if (known) return known;
  const random = new Random(SEED);
  const bytes = new Uint8Array(CASES * RECORD);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += RECORD) {
    putRandomF80(random, view, at);
    putRandomF80(random, view, at + 16, near(view, at));
    const masks = random.below(4) ? ALL_MASKED : random.below(64);
    const precision = random.pick([0, 2, 3, 3]);
    view.setUint16(at + 10, masks | (precision << 8) | (random.below(4) << 10), true);
    view.setUint16(at + 12, 0x37f, true);
    put(random, view, at + 32);
  }
  recordsByOperand.set(put, bytes);
  return bytes;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function describeRecord(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const word = view.getUint16(10, true).toString(16).padStart(4, '0');
  return `st0 ${textF80(view, 0)} word ${word} st1 ${textF80(view, 16)} memory ${hex(bytes.subarray(32, 42))}`;
}

/** Runs one instruction on both sides and reports the first differences as text. */
function compare(instruction: Instruction, put: PutOperand): string[] {
  const input = randomRecords(put);
  const expected = runNative(nativeLoop(instruction), input);
  core.bytes.set(input, INPUT);
  core.bytes.fill(0, OUTPUT, OUTPUT + input.length);
  for (let at = 0; at < input.length; at += RECORD) emulate(instruction, INPUT + at, OUTPUT + at);
  const results = core.bytes.slice(OUTPUT, OUTPUT + input.length);
  const differences: string[] = [];
  if (Buffer.compare(results, expected) === 0) return differences;
  for (let at = 0; at < input.length; at += RECORD) {
    const [given, got, want] = [input, results, expected].map((bytes) => bytes.slice(at, at + RECORD));
    if (Buffer.compare(got, want) === 0) continue;
    differences.push(
      `${describeRecord(given)}\n   got ${describeRecord(got)}\n  want ${describeRecord(want)}`,
    );
    if (differences.length === SHOWN) break;
  }
  return differences;
}

const nothing = (): void => {};
const putF32 = (random: Random, view: DataView, at: number): void =>
  view.setUint32(at, randomF32(random, near(view, at - 32)), true);
const putF64 = (random: Random, view: DataView, at: number): void =>
  view.setBigUint64(at, randomF64(random, near(view, at - 32)), true);
const putInteger = (random: Random, view: DataView, at: number): void =>
  view.setBigInt64(at, BigInt.asIntN(64, random.u64()) >> BigInt(random.below(64)), true);
/** Packed decimal digits; other nibbles give undefined results. */
const putDecimal = (random: Random, view: DataView, at: number): void => {
  for (let i = 0; i < 9; i++) view.setUint8(at + i, random.below(10) | (random.below(10) << 4));
  view.setUint8(at + 9, random.below(2) << 7);
};

const arithmetic = ['fadd', 'fmul', 'fcom', 'fcomp', 'fsub', 'fsubr', 'fdiv', 'fdivr'];

const registerForms: Instruction[] = [
  ...arithmetic.map((name, i) => ({ name: `${name} st0, st1`, opcode: 0xd8, modrm: 0xc1 + 8 * i })),
  ...arithmetic.map((name, i) => ({ name: `${name} st1, st0`, opcode: 0xdc, modrm: 0xc1 + 8 * i })),
  ...arithmetic.map((name, i) => ({ name: `${name}p st1, st0`, opcode: 0xde, modrm: 0xc1 + 8 * i })),
  { name: 'fadd st0, st0', opcode: 0xd8, modrm: 0xc0 },
  { name: 'fadd st0, st3 (empty)', opcode: 0xd8, modrm: 0xc3 },
  { name: 'fsubp st3 (empty)', opcode: 0xde, modrm: 0xeb },
  ...['fld', 'fxch'].map((name, i) => ({ name: `${name} st1`, opcode: 0xd9, modrm: 0xc1 + 8 * i })),
  ...['fld', 'fxch'].map((name, i) => ({ name: `${name} st5 (empty)`, opcode: 0xd9, modrm: 0xc5 + 8 * i })),
  { name: 'fnop', opcode: 0xd9, modrm: 0xd0 },
  { name: 'fchs', opcode: 0xd9, modrm: 0xe0 },
  { name: 'fabs', opcode: 0xd9, modrm: 0xe1 },
  { name: 'ftst', opcode: 0xd9, modrm: 0xe4 },
  { name: 'fxam', opcode: 0xd9, modrm: 0xe5 },
  ...['1', 'l2t', 'l2e', 'pi', 'lg2', 'ln2', 'z'].map((name, i) => ({
    name: `fld${name}`,
    opcode: 0xd9,
    modrm: 0xe8 + i,
  })),
  { name: 'fxtract', opcode: 0xd9, modrm: 0xf4 },
  { name: 'fprem1', opcode: 0xd9, modrm: 0xf5 },
  { name: 'fdecstp', opcode: 0xd9, modrm: 0xf6 },
  { name: 'fincstp', opcode: 0xd9, modrm: 0xf7 },
  { name: 'fprem', opcode: 0xd9, modrm: 0xf8 },
  { name: 'fsqrt', opcode: 0xd9, modrm: 0xfa },
  { name: 'frndint', opcode: 0xd9, modrm: 0xfc },
  { name: 'fscale', opcode: 0xd9, modrm: 0xfd },
  { name: 'fucompp', opcode: 0xda, modrm: 0xe9 },
  { name: 'fcompp', opcode: 0xde, modrm: 0xd9 },
  { name: 'fucom', opcode: 0xdd, modrm: 0xe1 },
  { name: 'fucomp', opcode: 0xdd, modrm: 0xe9 },
  { name: 'ffree st1', opcode: 0xdd, modrm: 0xc1 },
  { name: 'fst st2', opcode: 0xdd, modrm: 0xd2 },
  { name: 'fstp st1', opcode: 0xdd, modrm: 0xd9 },
  { name: 'ffreep st0', opcode: 0xdf, modrm: 0xc0 },
  { name: 'fstpnce st1', opcode: 0xd9, modrm: 0xd9 },
];

const memoryForms: (Instruction & { put: PutOperand })[] = [
  ...arithmetic.map((name, reg) => ({ name: `${name} m32`, opcode: 0xd8, reg, put: putF32 })),
  ...arithmetic.map((name, reg) => ({ name: `${name} m64`, opcode: 0xdc, reg, put: putF64 })),
  ...arithmetic.map((name, reg) => ({ name: `${name} m32int`, opcode: 0xda, reg, put: putInteger })),
  ...arithmetic.map((name, reg) => ({ name: `${name} m16int`, opcode: 0xde, reg, put: putInteger })),
  { name: 'fld m32', opcode: 0xd9, reg: 0, put: putF32 },
  { name: 'fld m64', opcode: 0xdd, reg: 0, put: putF64 },
  { name: 'fild m16', opcode: 0xdf, reg: 0, put: putInteger },
  { name: 'fild m32', opcode: 0xdb, reg: 0, put: putInteger },
  { name: 'fild m64', opcode: 0xdf, reg: 5, put: putInteger },
  { name: 'fbld', opcode: 0xdf, reg: 4, put: putDecimal },
];

const storeForms: Instruction[] = [
  { name: 'fst m32', opcode: 0xd9, reg: 2, store: true },
  { name: 'fstp m32', opcode: 0xd9, reg: 3, store: true },
  { name: 'fst m64', opcode: 0xdd, reg: 2, store: true },
  { name: 'fstp m64', opcode: 0xdd, reg: 3, store: true },
  { name: 'fist m16', opcode: 0xdf, reg: 2, store: true },
  { name: 'fistp m16', opcode: 0xdf, reg: 3, store: true },
  { name: 'fist m32', opcode: 0xdb, reg: 2, store: true },
  { name: 'fistp m32', opcode: 0xdb, reg: 3, store: true },
  { name: 'fistp m64', opcode: 0xdf, reg: 7, store: true },
  { name: 'fisttp m16', opcode: 0xdf, reg: 1, store: true },
  { name: 'fisttp m32', opcode: 0xdb, reg: 1, store: true },
  { name: 'fisttp m64', opcode: 0xdd, reg: 1, store: true },
  { name: 'fbstp', opcode: 0xdf, reg: 6, store: true },
  { name: 'fstp m80', opcode: 0xdb, reg: 7, store: true },
  { name: 'fnstcw', opcode: 0xd9, reg: 7, store: true },
];

describe.skipIf(!canRunNative)('x87 equals the processor', () => {
  it.each(registerForms)('$name', (instruction) => {
    expect(compare(instruction, nothing).join('\n'), `seed ${SEED}`).toBe('');
  });
  it.each(memoryForms)('$name', ({ put, ...instruction }) => {
    expect(compare(instruction, put).join('\n'), `seed ${SEED}`).toBe('');
  });
  it.each(storeForms)('$name', (instruction) => {
    expect(compare(instruction, nothing).join('\n'), `seed ${SEED}`).toBe('');
  });
});
