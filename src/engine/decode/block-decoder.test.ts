/** Where blocks end, and what their micro-ops say about instructions. */
import { expect, test } from 'vitest';
import { CoreHarness } from '../core/core-harness.ts';
import { BLOCK, MODE, STATE, UOP } from '../layout.ts';
import { bytes } from '../testing/guest.ts';
import { uopDefinitions } from '../uops/index.ts';
import { FetchFault } from './code-bytes.ts';
import { BlockDecoder } from './index.ts';

const MODE64 = MODE.CODE64 | MODE.FLAT;
const NAMES = uopDefinitions().map((definition) => definition.name);

interface Decoded {
  readonly names: readonly string[];
  readonly length: number;
  readonly instructions: number;
  readonly secondPage: number;
  /** A field of the nth micro-op. */
  field16(n: number, field: number): number;
  displacement(n: number): number;
  immediate(n: number): number;
}

/** Decodes the block at `at`; the page that follows in linear addresses is at `nextPage`, or missing. */
function decode(listing: string, at = 0x1000, mode: number = MODE64, nextPage?: number): Decoded {
  const { memory, map, view, core } = new CoreHarness();
  const code = bytes(listing);
  const inPage = Math.min(code.length, 4096 - (at & 4095));
  new Uint8Array(memory.buffer).set(code.subarray(0, inPage), map.ram + at);
  if (nextPage !== undefined) new Uint8Array(memory.buffer).set(code.subarray(inPage), map.ram + nextPage);
  const header = new BlockDecoder(memory, map, core, () => {}, 0).decode(at, mode, () => {
    if (nextPage === undefined) throw new FetchFault();
    return nextPage;
  });
  const first = header + BLOCK.SIZE;
  const names: string[] = [];
  const instructions = view.getUint16(header + BLOCK.INSTRUCTIONS, true);
  const isEnd = (name: string): boolean => /^(next|jmp|ret|call|fault|hlt|int|iret|syscall)/.test(name);
  do {
    names.push(NAMES[view.getUint16(first + names.length * UOP.SIZE, true)]);
  } while (!isEnd(names[names.length - 1]));
  return {
    names,
    instructions,
    length: view.getUint16(header + BLOCK.LENGTH, true),
    secondPage: view.getUint32(header + BLOCK.PAGE2, true),
    field16: (n, field) => view.getUint16(first + n * UOP.SIZE + field, true),
    displacement: (n) => view.getInt32(first + n * UOP.SIZE + UOP.DISP, true),
    immediate: (n) => Number(view.getBigInt64(first + n * UOP.SIZE + UOP.IMM, true)),
  };
}

test('a block ends with a transfer of control, and conditional jumps do not end it', () => {
  const block = decode('ff c0 74 fc ff c1 eb f8 90'); // inc eax; jz; inc ecx; jmp
  expect(block.names).toEqual(['inc32.r', 'jcc4', 'inc32.r', 'jmp']);
  expect([block.length, block.instructions, block.secondPage]).toEqual([8, 4, BLOCK.NO_PAGE]);
  // Targets are relative to the page.
  expect(block.immediate(1)).toBe(0);
  expect(block.immediate(3)).toBe(0);
  expect([block.field16(2, UOP.PC), block.field16(2, UOP.NEXT_PC)]).toEqual([4, 6]);
});

test('a block ends with its page', () => {
  const block = decode('ff c0 ff c1', 0x1ffe, MODE64, 0x5000);
  expect(block.names).toEqual(['inc32.r', 'next']);
  expect([block.length, block.immediate(1), block.secondPage]).toEqual([2, 4096, BLOCK.NO_PAGE]);
});

test('an instruction that crosses pages has a block of its own', () => {
  const before = decode('ff c0 b8 11 22 33 44', 0x1ffb, MODE64, 0x5000);
  expect(before.names).toEqual(['inc32.r', 'next']);
  expect([before.length, before.immediate(1)]).toEqual([2, 0xffd]);
  const crossing = decode('b8 11 22 33 44 ff c1', 0x1ffd, MODE64, 0x5000);
  expect(crossing.names).toEqual(['mov32.ri', 'next']);
  expect(crossing.immediate(0)).toBe(0x44332211);
  expect([crossing.length, crossing.instructions, crossing.secondPage]).toEqual([5, 1, 5]);
});

test('what cannot be fetched faults only when it is reached', () => {
  expect(decode('ff c0 b8 11', 0x1ffc).names).toEqual(['inc32.r', 'next']);
  expect(() => decode('b8 11', 0x1ffe)).toThrow(FetchFault);
});

test('a block has at most 48 instructions, and one while single-stepping', () => {
  expect(decode('ff c0 '.repeat(100)).instructions).toBe(48);
  const step = decode('ff c0 ff c1', 0x1000, MODE64 | MODE.SINGLE_STEP);
  expect(step.names).toEqual(['inc32.r', 'next.check']);
});

test('STI shields the next instruction, behind which interrupts are looked for', () => {
  expect(decode('fb ff c0 ff c1').names).toEqual(['sti', 'inc32.r', 'next.unshadow']);
});

test('RIP-relative displacements count from the next instruction', () => {
  const block = decode('ff c0 83 05 10 00 00 00 07 f4'); // inc eax; add dword [rip + 0x10], 7
  expect(block.names).toEqual(['inc32.r', 'add32.mi', 'hlt']);
  expect(block.field16(1, UOP.BASE)).toBe(STATE.PAGE);
  expect([block.displacement(1), block.immediate(1)]).toEqual([0x19, 7]);
});

test.each([
  ['UD2', '0f 0b', 6],
  ['an opcode that does not exist', '0f ff', 6],
  ['LOCK before an instruction that does not write', 'f0 90', 6],
  ['PUSH ES in 64-bit mode', '06', 6],
  ['16 bytes', `${'66 '.repeat(15)}90`, 13],
])('%s becomes an exception', (_what, listing, vector) => {
  const block = decode(`ff c0 ${listing}`);
  expect(block.names).toEqual(['inc32.r', 'fault']);
  expect(block.immediate(1) & 0xff).toBe(vector);
  expect(block.field16(1, UOP.PC)).toBe(2);
});

test('modes decide what bytes mean', () => {
  expect(decode('48 c3').names).toEqual(['ret64.64']);
  expect(decode('48 c3', 0x1000, MODE.CODE32 | MODE.STACK32 | MODE.FLAT).names).toEqual([
    'dec32.r',
    'ret32.32',
  ]);
  expect(decode('48 c3', 0x1000, MODE.CODE16).names).toEqual(['dec16.r', 'ret16.16']);
  expect(decode('66 48 c3', 0x1000, MODE.CODE16).names).toEqual(['dec32.r', 'ret16.16']);
  // SSE without the operating system's consent.
  expect(decode('0f 58 c1', 0x1000, MODE64 | MODE.SSE_OFF).names).toEqual(['fault']);
});
