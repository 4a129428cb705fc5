import { expect, test } from 'vitest';
import { FunctionWriter } from './function-writer.ts';
import { ModuleWriter } from './module-writer.ts';

const IF = 0x04;
const BR_IF = 0x0d;
const CODE = 10;

/** Reads a module from a position on. */
class Reader {
  readonly bytes: Uint8Array;
  at: number;
  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }
  u8(): number {
    return this.bytes[this.at++]!;
  }
  u32(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.u8();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
}

/** Sections in their order: id, and the position of the body. */
function sections(bytes: Uint8Array): { id: number; at: number; end: number }[] {
  const reader = new Reader(bytes, 8);
  const found = [];
  while (reader.at < bytes.length) {
    const id = reader.u8();
    const length = reader.u32();
    found.push({ id, at: reader.at, end: reader.at + length });
    reader.at += length;
  }
  return found;
}

/** Beginnings of the functions in the code section: where the declarations of their locals are. */
function functions(bytes: Uint8Array): number[] {
  const reader = new Reader(bytes, sections(bytes).find(({ id }) => id === CODE)!.at);
  return Array.from({ length: reader.u32() }, () => {
    const length = reader.u32();
    const start = reader.at;
    reader.at += length;
    return start;
  });
}

/** What the hints say: function, the branch's opcode, and the hint. */
function hinted(bytes: Uint8Array, imports: number): { n: number; opcode: number; likely: number }[] {
  const section = sections(bytes).find(({ id }) => id === 0)!;
  const reader = new Reader(bytes, section.at);
  const length = reader.u32();
  const name = new TextDecoder().decode(bytes.subarray(reader.at, reader.at + length));
  expect(name).toBe('metadata.code.branch_hint');
  reader.at += length;
  const starts = functions(bytes);
  const hints = [];
  for (let left = reader.u32(); left > 0; left--) {
    const n = reader.u32() - imports;
    for (let branches = reader.u32(); branches > 0; branches--) {
      const opcode = bytes[starts[n]! + reader.u32()]!;
      expect(reader.u32()).toBe(1);
      hints.push({ n, opcode, likely: reader.u8() });
    }
  }
  expect(reader.at).toBe(section.end);
  return hints;
}

/** 10 if the parameter is 0, 20 if it is 1, else 30; `locals` is what it has besides, of which it uses all. */
function choosing(locals: number): FunctionWriter {
  const w = new FunctionWriter(['i32'], ['i32']);
  for (let n = 0; n < locals; n++) {
    w.get(w.local(n % 2 ? 'i32' : 'i64'));
    w.op('drop');
  }
  const other = w.block();
  w.get(0);
  w.op('i32.eqz');
  w.if(undefined, 'likely');
  w.i32(10);
  w.op('return');
  w.end();
  w.get(0);
  w.i32(1);
  w.op('i32.ne');
  w.brIf(other, 'unlikely');
  w.i32(20);
  w.op('return');
  w.end();
  w.i32(30);
  return w;
}

test('hints are at their branches, whatever a function declares, and before the code', () => {
  const module = new ModuleWriter();
  module.importFunction('env', 'unused', { params: [], results: [] });
  module.addFunction('few', choosing(0));
  const plain = new FunctionWriter([], ['i32']);
  plain.i32(7);
  module.addFunction('plain', plain);
  module.addFunction('many', choosing(100));
  const bytes = module.finish();
  expect(hinted(bytes, 1)).toEqual([
    { n: 0, opcode: IF, likely: 1 },
    { n: 0, opcode: BR_IF, likely: 0 },
    { n: 2, opcode: IF, likely: 1 },
    { n: 2, opcode: BR_IF, likely: 0 },
  ]);
  const ids = sections(bytes).map(({ id }) => id);
  expect(ids.indexOf(0)).toBeLessThan(ids.indexOf(CODE));
});

test('hints change nothing of what a function does', () => {
  const module = new ModuleWriter();
  module.addFunction('choose', choosing(9));
  const compiled = new WebAssembly.Module(module.finish() as Uint8Array<ArrayBuffer>);
  const { choose } = new WebAssembly.Instance(compiled).exports as { choose: (value: number) => number };
  expect([0, 1, 2].map((value) => choose(value))).toEqual([10, 20, 30]);
});

test('a module without hints has no section for them', () => {
  const module = new ModuleWriter();
  const plain = new FunctionWriter([], ['i32']);
  plain.i32(7);
  module.addFunction('plain', plain);
  expect(sections(module.finish()).some(({ id }) => id === 0)).toBe(false);
});

test('only locals that are used are declared', () => {
  const w = new FunctionWriter(['i32'], ['i64']);
  const [, few, , wide, last] = (['i64', 'i32', 'f64', 'i64', 'i32'] as const).map((type) => w.local(type));
  w.get(0);
  w.set(few!);
  w.i64(2 ** 40);
  w.set(wide!);
  w.get(few!);
  w.tee(last!);
  w.op('i64.extend_i32_u');
  w.get(wide!);
  w.op('i64.add');
  const code = w.code();
  // Three groups of one local each.
  expect([...code.subarray(0, 7)]).toEqual([3, 1, 0x7f, 1, 0x7e, 1, 0x7f]);
  const module = new ModuleWriter();
  module.addFunction('sum', w);
  const compiled = new WebAssembly.Module(module.finish() as Uint8Array<ArrayBuffer>);
  const { sum } = new WebAssembly.Instance(compiled).exports as { sum: (value: number) => bigint };
  expect(sum(5)).toBe(2n ** 40n + 5n);
});

test('a function has as many locals as a byte can name', () => {
  const w = new FunctionWriter(['i32'], []);
  for (let n = 1; n < 128; n++) expect(w.local('i64')).toBe(n);
  expect(() => w.local('i64')).toThrow('at most 127 locals');
});
