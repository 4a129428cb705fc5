import { expect, it } from 'vitest';
import { CoreHarness } from '../core/core-harness.ts';
import { MODE, UOP } from '../layout.ts';
import { BlockDecoder } from './block-decoder.ts';
import { CodeBytes } from './code-bytes.ts';
import { decodeInstruction } from './decode-instruction.ts';
import { KnownInstructions } from './known-instructions.ts';
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

/** RAM offset of the page that instructions are put in. */
const PAGE = 0x10000;
const PLACES = [0, 0x100, 0x7c3, 4096 - 16, 4096 - 15, 4090];
const RUN_MAX = 48;

interface Decoded {
  readonly flow: number;
  readonly end: number;
  readonly records: string;
}

/** A VM's table, and what decoding makes of the same bytes. */
class Guest {
  readonly #harness = new CoreHarness();
  readonly #known: KnownInstructions;
  readonly page: Uint8Array;
  readonly #blocks: BlockDecoder;
  /** Instructions that were not copied. */
  decoded = 0;

  constructor() {
    const { memory, map, core, bytes } = this.#harness;
    this.#known = new KnownInstructions(core, (...args) => {
      this.decoded += 1;
      return decodeInstruction(...args);
    });
    this.page = bytes.subarray(map.ram + PAGE, map.ram + PAGE + 8192);
    this.#blocks = new BlockDecoder(memory, map, core, () => {}, 0);
  }

  #decode(at: number, how: (code: CodeBytes, out: UopWriter) => number): Decoded {
    const { map, bytes, memory } = this.#harness;
    const ram = map.ram + PAGE;
    const code = new CodeBytes(bytes, ram, at, () => ram + 4096);
    const out = new UopWriter(memory.buffer);
    out.begin(map.uopArena);
    const flow = how(code, out);
    const records = Buffer.from(bytes.slice(map.uopArena, out.end)).toString('hex');
    return { flow, end: code.pageOffset, records };
  }

  known(at: number, mode: number, done: number, count = 1): Decoded {
    return this.#decode(at, (code, out) => {
      const run = this.#known.append(code, out, mode, done, count);
      expect(run.instructions).toBeLessThanOrEqual(count);
      return run.flow;
    });
  }

  anew(at: number, mode: number, done: number): Decoded {
    return this.#decode(at, (code, out) => decodeInstruction(code, out, mode, done));
  }

  /** The block that begins at a place, without where others are. */
  block(at: number, mode: number): string {
    const { map, bytes } = this.#harness;
    this.#blocks.arena.clear();
    this.#blocks.decode(PAGE + at, mode, () => PAGE + 4096);
    return Buffer.from(bytes.slice(map.uopArena, this.#blocks.arena.free)).toString('hex');
  }
}

const INSTRUCTIONS = 10_000;

/** Bytes that begin with an instruction, whatever it is. */
function randomBytes(next: () => number, tail: readonly number[]): number[] {
  const pick = <T>(of: readonly T[]): T => of[next() % of.length]!;
  return [...pick(PREFIXES), ...pick(REX), ...pick(MAPS), next() & 255, next() & 255, ...tail];
}

it('whatever the bytes, mode and place, an instruction becomes what decoding makes of it', () => {
  const next = numbers(0x5eed);
  const pick = <T>(of: readonly T[]): T => of[next() % of.length]!;
  const guest = new Guest();
  const tail = Array.from({ length: 12 }, () => next() & 255);
  for (let n = 0; n < INSTRUCTIONS; n++) {
    const mode = pick(MODES);
    const bytes = randomBytes(next, tail);
    tail[next() % 12] = next() & 255;
    for (let place = 0; place < 4; place++) {
      const at = pick(PLACES);
      guest.page.set(bytes, at);
      const done = next() % 48;
      const what = `${Buffer.from(bytes).toString('hex')} at ${at} in mode ${mode}`;
      expect({ what, ...guest.known(at, mode, done) }).toEqual({ what, ...guest.anew(at, mode, done) });
    }
  }
  // The others were there for the first time, at a page's end, or are not kept.
  expect(guest.decoded).toBeLessThan((INSTRUCTIONS * 4 * 3) / 4);
});

it('instructions in a row become what they become one by one', () => {
  const next = numbers(0xc0de);
  const guest = new Guest();
  let copied = 0;
  for (let n = 0; n < 1000; n++) {
    const bytes = Array.from({ length: 12 }, () => randomBytes(next, [])).flat();
    const at = n % 4 === 0 ? 4096 - bytes.length : next() % 4000;
    guest.page.set(bytes, at);
    const mode = MODES[next() % 4]!;
    const first = guest.block(at, mode);
    expect(guest.block(at, mode)).toBe(first);

    const before = guest.decoded;
    guest.known(at, mode, 0);
    const run = guest.known(at, mode, 7, RUN_MAX);
    let one: Decoded = { flow: 0, end: at, records: '' };
    for (let done = 7; one.end < run.end; done++) {
      const { flow, end, records } = guest.anew(one.end, mode, done);
      one = { flow, end, records: one.records + records };
    }
    expect(run).toEqual(one);
    if (guest.decoded - before < 2) copied += 1;
  }
  expect(copied).toBeGreaterThan(500);
});

it('no more are copied than there is room for', () => {
  const guest = new Guest();
  guest.page.fill(0x90, 0, 4096);
  guest.known(0, MODE.CODE64, 0);
  for (const count of [1, 2, RUN_MAX]) {
    const { records, end } = guest.known(0, MODE.CODE64, 0, count);
    expect([records.length / 2 / UOP.SIZE, end]).toEqual([count, count]);
  }
  // What may reach into the next page is left.
  expect(guest.known(4070, MODE.CODE64, 0, RUN_MAX).end).toBe(4081);
});

it.each([
  ['of 5 bytes', [0xb8]],
  ['of 12 bytes', [0x48, 0xc7, 0x84, 0x24, 1, 2, 3, 4]],
] as const)('instructions %s that share an entry are told apart', (_, opcode) => {
  const guest = new Guest();
  const move = (n: number): void => guest.page.set([...opcode, n, n >> 8, 1, 0], 0x100);
  for (let n = 0; n < 40_000; n++) {
    move(n);
    guest.known(0x100, MODE.CODE64, 0);
  }
  expect(guest.decoded).toBe(40_000);
  for (let n = 0; n < 40_000; n += 7) {
    move(n);
    expect(guest.known(0x100, MODE.CODE64, 0)).toEqual(guest.anew(0x100, MODE.CODE64, 0));
    guest.decoded = 0;
    guest.known(0x100, MODE.CODE64, 0);
    expect(guest.decoded).toBe(0);
  }
});

it.each([
  ['jne rel8', [0x75], 1],
  ['jmp rel8', [0xeb], 1],
  ['jmp rel32', [0xe9], 4],
  ['call rel32', [0xe8], 4],
  ['je rel32', [0x0f, 0x84], 4],
] as const)('jumps differ in where they go alone: %s', (_, opcode, displacementBytes) => {
  const next = numbers(7);
  const guest = new Guest();
  for (let n = 0; n < 300; n++) {
    const at = next() % 4000;
    guest.page.set([...opcode, next() & 255, next() & 255, next() & 255, next() & 255], at);
    const expected = guest.anew(at, MODE.CODE64, 5);
    expect(guest.known(at, MODE.CODE64, 5)).toEqual(expected);
    expect(expected.end).toBe(at + opcode.length + displacementBytes);
  }
  expect(guest.decoded).toBe(1);
});

it('what is there is not decoded again, in the same mode', () => {
  const guest = new Guest();
  guest.page.set([0x48, 0x8b, 0x05, 1, 2, 3, 4], 0x300);
  guest.page.set([0x48, 0x8b, 0x05, 1, 2, 3, 4], 0x500);
  expect(guest.known(0x300, MODE.CODE64, 0)).toEqual(guest.anew(0x300, MODE.CODE64, 0));
  expect(guest.known(0x500, MODE.CODE64, 3)).toEqual(guest.anew(0x500, MODE.CODE64, 3));
  expect(guest.decoded).toBe(1);
  guest.known(0x300, MODE.CODE64 | MODE.USER, 0);
  expect(guest.decoded).toBe(2);
});

it.each([
  ['1 byte', [0x55]],
  ['2 bytes', [0x31, 0xc0]],
  ['3 bytes', [0x48, 0x89, 0xd8]],
  ['4 bytes', [0x48, 0x8b, 0x45, 0xd8]],
] as const)('what follows an instruction of %s does not matter', (_, listing) => {
  const next = numbers(11);
  const guest = new Guest();
  for (let n = 0; n < 200; n++) {
    guest.page.set([...listing, next() & 255, next() & 255, next() & 255, next() & 255], 0x700);
    expect(guest.known(0x700, MODE.CODE64, 1).end).toBe(0x700 + listing.length);
  }
  expect(guest.decoded).toBe(1);
});

const XOR = [0x31, 0xc0];

it('code that changes while it is decoded is not kept as something else', () => {
  const { memory, map, core, bytes } = new CoreHarness();
  const at = map.ram + PAGE;
  const known = new KnownInstructions(core, (...args) => {
    // A device writes to it, between the core's look and this one's.
    bytes.set(XOR, at);
    return decodeInstruction(...args);
  });
  const append = (listing: readonly number[]): string => {
    bytes.set(listing, at);
    const out = new UopWriter(memory.buffer);
    out.begin(map.uopArena);
    known.append(new CodeBytes(bytes, at, 0, () => 0), out, MODE.CODE64, 0, 1);
    return Buffer.from(bytes.slice(map.uopArena, out.end)).toString('hex');
  };
  const add = append([0x01, 0xc0]);
  expect(append([0x01, 0xc0])).toBe(add);
  expect(append(XOR)).not.toBe(add);
});
