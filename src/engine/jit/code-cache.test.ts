/** Which modules stay when the room for compiled code is spent. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { CoreExports } from '../core/exports.ts';
import { BLOCK, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { CodeCache } from './code-cache.ts';

const HEAT = 50;
const BUDGET = 1000;
const MODULE_BYTES = 300;
const OP = 77;
const LINK = 0x1234;
const code = new WebAssembly.Instance(
  // (module (func (export "f")))
  new WebAssembly.Module(
    Uint8Array.from([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0],
      ...[10, 4, 1, 2, 0, 0x0b],
    ]),
  ),
).exports.f;

let view: DataView;
let cache: CodeCache;
let forgotten: number[];
beforeEach(() => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  view = new DataView(memory.buffer);
  forgotten = [];
  const core = { forgetGuard: (header: number) => forgotten.push(header) } as unknown as CoreExports;
  cache = new CodeCache(memory, core, BUDGET, HEAT);
});

const header = (n: number): number => 0x1000 + n * 0x100;
const uop = (n: number): number => header(n) + BLOCK.SIZE;

/** A module of one region. */
function add(n: number): void {
  view.setUint16(uop(n) + UOP.OP, OP, true);
  view.setUint32(uop(n) + UOP.LINK, LINK, true);
  cache.add(MODULE_BYTES, [
    { code, header: header(n), guards: [header(n) + 1], placement: header(n) + 0x80 },
  ]);
}
const isCompiled = (n: number): boolean => view.getUint16(uop(n) + UOP.OP, true) === uopNumber('region');
const use = (n: number): void => view.setUint32(header(n) + BLOCK.USED, 1, true);
const forgetUse = (...list: number[]): void => {
  for (const n of list) view.setUint32(header(n) + BLOCK.USED, 0, true);
};

describe('a code cache', () => {
  it('keeps within its budget and gives places in the table again', () => {
    for (let n = 0; n < 40; n++) add(n);
    expect(cache.bytes).toBeLessThanOrEqual(BUDGET);
    expect(cache.regions).toBe(3);
    expect(cache.evicted).toBe(37);
    const places = [37, 38, 39].map((n) => view.getUint32(uop(n) + UOP.LINK, true));
    expect(new Set(places).size).toBe(3);
    expect(Math.max(...places)).toBeLessThan(5);
    for (const place of places) expect(cache.table.get(place)).toBe(code);
  });

  it('gives up what was not used since it was looked at, and makes the block what it was', () => {
    for (const n of [0, 1, 2]) add(n);
    forgetUse(0, 1, 2);
    use(0);
    add(3);
    expect([0, 1, 2, 3].map(isCompiled)).toEqual([true, false, true, true]);
    expect(view.getUint16(uop(1) + UOP.OP, true)).toBe(OP);
    expect(view.getUint32(uop(1) + UOP.LINK, true)).toBe(LINK);
    expect(view.getUint32(header(1) + BLOCK.HEAT, true)).toBe(HEAT);
    expect(forgotten).toEqual([header(1) + 1]);
  });

  it('gives up the oldest when all are used', () => {
    for (const n of [0, 1, 2, 3]) add(n);
    expect([0, 1, 2, 3].map(isCompiled)).toEqual([false, true, true, true]);
  });

  it('leaves blocks alone that have died, and does not take them for used', () => {
    for (const n of [0, 1, 2]) add(n);
    view.setUint16(header(0) + BLOCK.DEAD, 1, true);
    view.setUint16(uop(0) + UOP.OP, 0, true);
    add(3);
    expect([0, 1, 2, 3].map(isCompiled)).toEqual([false, true, true, true]);
    expect(view.getUint16(uop(0) + UOP.OP, true)).toBe(0);
  });

  it('gives up what needs something of a range of addresses, and leads there no more', () => {
    for (const n of [0, 1, 2]) add(n);
    const range = { start: header(1), end: header(1) + 0x100 };
    expect(cache.regionsIn(range)).toBe(1);
    cache.forget(range);
    expect([0, 1, 2].map(isCompiled)).toEqual([true, false, true]);
    expect([cache.regions, cache.bytes, cache.regionsIn(range)]).toEqual([2, 2 * MODULE_BYTES, 0]);
    expect(forgotten).toEqual([header(1) + 1]);
    cache.forget({ start: LINK, end: LINK + 1 });
    cache.forget({ start: header(2) + 0x80, end: header(2) + 0x90 });
    expect(isCompiled(2)).toBe(false);
    expect(view.getUint32(uop(2) + UOP.LINK, true)).toBe(0);
  });

  it('keeps a module that is larger than the budget by itself', () => {
    cache.add(BUDGET * 2, [{ code, header: header(0), guards: [], placement: 0 }]);
    expect(cache.regions).toBe(1);
    add(1);
    expect(cache.bytes).toBe(MODULE_BYTES);
  });
});
