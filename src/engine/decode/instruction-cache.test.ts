import { expect, it } from 'vitest';
import { MODE, UOP } from '../layout.ts';
import { CodeBytes } from './code-bytes.ts';
import { decodeAnew } from './decode-instruction.ts';
import { type Decode, InstructionCache } from './instruction-cache.ts';
import { UopWriter } from './uop-writer.ts';
import './index.ts';

/** Numbers that look random and are the same each time (xorshift). */
function numbers(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

const PREFIXES = [[], [], [], [0x66], [0xf2], [0xf3], [0xf0], [0x64], [0x2e], [0x67], [0x66, 0x65]];
const REX = [[], [], [], [0x48], [0x41], [0x44], [0x4f], [0x40], [0x48, 0x66]];
const MAPS = [[], [], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
const MODES = [
  MODE.CODE64,
  MODE.CODE64 | MODE.USER,
  MODE.CODE64 | MODE.FPU_TRAP,
  MODE.CODE64 | MODE.SSE_OFF,
  MODE.CODE32 | MODE.FLAT,
];

interface Decoded {
  readonly flow: number;
  readonly end: number;
  readonly records: string;
}

function decoder(decode: Decode): (page: Uint8Array, at: number, mode: number, done: number) => Decoded {
  const buffer = new ArrayBuffer(64 * UOP.SIZE);
  const out = new UopWriter(buffer);
  return (page, at, mode, done) => {
    const code = new CodeBytes(page, 0, at, () => 0);
    out.begin(0);
    const flow = decode(code, out, mode, done);
    const records = Buffer.from(buffer.slice(0, out.count * UOP.SIZE)).toString('hex');
    return { flow, end: code.pageOffset, records };
  };
}

/** A cache, and how many instructions it has had decoded. */
function counted(): { copied: ReturnType<typeof decoder>; decoded: () => number } {
  let decoded = 0;
  const cache = new InstructionCache((...args) => {
    decoded += 1;
    return decodeAnew(...args);
  });
  return { copied: decoder((...args) => cache.decode(...args)), decoded: () => decoded };
}

const anew = decoder(decodeAnew);
const INSTRUCTIONS = 10_000;
const PLACES = [0, 0x100, 0x7c3, 4096 - 16, 4096 - 15, 4090];

it('whatever the bytes, mode and place, an instruction becomes what decoding makes of it', () => {
  const next = numbers(0x5eed);
  const pick = <T>(of: readonly T[]): T => of[next() % of.length]!;
  const { copied, decoded } = counted();
  const page = new Uint8Array(8192);
  const tail = Array.from({ length: 12 }, () => next() & 255);
  for (let n = 0; n < INSTRUCTIONS; n++) {
    const mode = pick(MODES);
    const bytes = [...pick(PREFIXES), ...pick(REX), ...pick(MAPS), next() & 255, next() & 255, ...tail];
    tail[next() % 12] = next() & 255;
    for (let place = 0; place < 4; place++) {
      const at = pick(PLACES);
      page.set(bytes, at);
      const done = next() % 48;
      const what = `${Buffer.from(bytes).toString('hex')} at ${at} in mode ${mode}`;
      expect({ what, ...copied(page, at, mode, done) }).toEqual({ what, ...anew(page, at, mode, done) });
    }
  }
  // The others were there for the first time, at a page's end, or are not kept.
  expect(decoded()).toBeLessThan((INSTRUCTIONS * 4 * 3) / 4);
});

it.each([
  ['jne rel8', [0x75], 1],
  ['jmp rel32', [0xe9], 4],
  ['call rel32', [0xe8], 4],
  ['je rel32', [0x0f, 0x84], 4],
] as const)('jumps differ in where they go alone: %s', (_, opcode, displacementBytes) => {
  const next = numbers(7);
  const { copied, decoded } = counted();
  const page = new Uint8Array(8192);
  for (let n = 0; n < 300; n++) {
    const at = next() % 4000;
    page.set([...opcode, next() & 255, next() & 255, next() & 255, next() & 255], at);
    const expected = anew(page, at, MODE.CODE64, 5);
    expect(copied(page, at, MODE.CODE64, 5)).toEqual(expected);
    expect(expected.end).toBe(at + opcode.length + displacementBytes);
  }
  expect(decoded()).toBe(1);
});

it('what is there is not decoded again, in the same mode', () => {
  const { copied, decoded } = counted();
  const page = new Uint8Array(8192);
  page.set([0x48, 0x8b, 0x05, 1, 2, 3, 4], 0x300);
  page.set([0x48, 0x8b, 0x05, 1, 2, 3, 4], 0x500);
  expect(copied(page, 0x300, MODE.CODE64, 0)).toEqual(anew(page, 0x300, MODE.CODE64, 0));
  expect(copied(page, 0x500, MODE.CODE64, 3)).toEqual(anew(page, 0x500, MODE.CODE64, 3));
  expect(decoded()).toBe(1);
  copied(page, 0x300, MODE.CODE64 | MODE.USER, 0);
  expect(decoded()).toBe(2);
});
