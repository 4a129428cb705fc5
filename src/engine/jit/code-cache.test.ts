/** Which modules stay when the room for compiled code is spent. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { CoreExports } from '../core/exports.ts';
import { BLOCK, memoryMap, REGION_LINK, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { type CachedRegion, CodeCache } from './code-cache.ts';

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
function add(n: number): readonly CachedRegion[] {
  view.setUint16(uop(n) + UOP.OP, OP, true);
  view.setUint32(uop(n) + UOP.LINK, LINK, true);
  return cache.add(MODULE_BYTES, [
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

  it('has further blocks enter a region, which go with it', () => {
    const further = (n: number): { op: number; link: number; owner: number } => ({
      op: view.getUint16(uop(n) + UOP.OP, true),
      link: view.getUint32(uop(n) + UOP.LINK, true),
      owner: view.getUint32(header(n) + BLOCK.OWNER, true),
    });
    const [region] = add(0);
    for (const n of [5, 6]) {
      view.setUint16(uop(n) + UOP.OP, OP, true);
      view.setUint32(uop(n) + UOP.LINK, LINK, true);
      cache.addEntry(region, n, header(n));
    }
    const { index } = region;
    // a chain of owners, by which the core kills all when it kills the first
    expect(further(0)).toMatchObject({ link: index, owner: header(5) });
    expect(further(5)).toMatchObject({ link: index + 5 * 2 ** REGION_LINK.ENTRY_SHIFT, owner: header(6) });
    expect(further(6).owner).toBe(0);

    cache.forget({ start: header(5), end: header(5) + 1 });
    expect(isCompiled(0)).toBe(true);
    expect(further(0).owner).toBe(header(6));

    forgetUse(0);
    for (const n of [1, 2, 3]) add(n);
    expect(cache.isLive(region)).toBe(false);
    expect(further(0)).toEqual({ op: OP, link: LINK, owner: 0 });
    expect(further(6)).toEqual({ op: OP, link: LINK, owner: 0 });
  });

  it('has links of regions that are no addresses of micro-ops', () => {
    const { uopArenaEnd } = memoryMap(3840 * 2 ** 20, 64 << 20);
    expect(uopArenaEnd).toBeLessThanOrEqual(2 ** REGION_LINK.ENTRY_SHIFT);
    expect(REGION_LINK.ENTRIES * 2 ** REGION_LINK.ENTRY_SHIFT).toBeLessThanOrEqual(2 ** 32);
  });
});
