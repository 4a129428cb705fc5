/** How regions stand in place of blocks, and which stay when the room for compiled code is spent. */
import { beforeEach, describe, expect, it } from 'vitest';
import { CoreHarness } from '../core/core-harness.ts';
import { BLOCK, memoryMap, REGION, REGION_LINK, STATE, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { CodeCache } from './code-cache.ts';

const BUDGET = 1000;
const MODULE_BYTES = 300;
const OP = 77;
const code = new WebAssembly.Instance(
  // (module (func (export "f")))
  new WebAssembly.Module(
    Uint8Array.from([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0],
      ...[10, 4, 1, 2, 0, 0x0b],
    ]),
  ),
).exports.f;

let h: CoreHarness;
let cache: CodeCache;
let records: number[];
beforeEach(() => {
  h = new CoreHarness();
  h.longMode();
  cache = new CodeCache(h.view.buffer, h.map, h.core, BUDGET);
  records = [];
});

/** Where region `n` has its code. */
const place = (n: number): number => 0x10000 + n * 0x100;

/** Has a block of one micro-op decoded at an offset in RAM; returns that micro-op. */
function decode(ramOffset: number): number {
  const header = h.map.uopArena + (ramOffset - 0x10000);
  h.view.setBigUint64(header + BLOCK.PHYS, BigInt(ramOffset), true);
  h.view.setUint32(header + BLOCK.MODE, h.get32(STATE.MODE), true);
  h.view.setUint16(header + BLOCK.LENGTH, 8, true);
  h.view.setUint16(header + BLOCK.UOPS, 1, true);
  h.view.setUint32(header + BLOCK.PAGE2, BLOCK.NO_PAGE, true);
  h.view.setUint16(header + BLOCK.SIZE + UOP.OP, OP, true);
  h.core.insertBlock(header);
  return header + BLOCK.SIZE;
}

/** A module of one region with 64 bytes of code, and entries at these places in it. */
function add(n: number, entries: readonly number[] = [0], bytes = MODULE_BYTES): void {
  const record = cache.reserve()!;
  records[n] = record;
  cache.add(bytes, [
    {
      code,
      record,
      mode: h.get32(STATE.MODE),
      entries: entries.map((at) => place(n) + at),
      ranges: [{ ramOffset: place(n), length: 64 }],
    },
  ]);
}

function find(ramOffset: number): number {
  h.set64(STATE.RIP, BigInt(ramOffset));
  return h.core.findBlock();
}

/** LINK of the micro-op that enters a region at an offset in RAM; undefined where none does. */
function linkAt(ramOffset: number): number | undefined {
  const uop = find(ramOffset);
  if (uop === 0 || h.view.getUint16(uop + UOP.OP, true) !== uopNumber('region')) return undefined;
  return h.view.getUint32(uop + UOP.LINK, true);
}
const isCompiled = (n: number): boolean => linkAt(place(n)) !== undefined;
const setUsed = (n: number, used: boolean): void =>
  h.view.setUint32(records[n]! + BLOCK.USED, used ? 1 : 0, true);
const codeBits = (n: number): bigint => h.view.getBigUint64(h.map.codeBitmap + (place(n) >> 12) * 8, true);

describe('a region', () => {
  it('stands where a block was decoded, and links lead to it no more', () => {
    const [from, to] = [decode(place(0) + 0x80), decode(place(0))];
    h.view.setUint32(from + UOP.LINK, to, true);
    expect(find(place(0))).toBe(to);
    add(0);
    expect(linkAt(place(0))).toBe(0);
    expect(find(place(0))).toBe(records[0]! + BLOCK.SIZE);
    expect(h.view.getUint32(from + UOP.LINK, true)).toBe(0);
  });

  it('is entered at each of its entries, where no other is', () => {
    add(0, [0, 0x20, 0x30]);
    const entry = (n: number): number => n * 2 ** REGION_LINK.ENTRY_SHIFT;
    expect([0, 0x20, 0x30].map((at) => linkAt(place(0) + at))).toEqual([0, entry(1), entry(2)]);
    add(1, [0, 0x20 - 0x100]);
    expect(linkAt(place(0) + 0x20)).toBe(entry(1));
    expect(cache.regions).toBe(2);
  });

  it('comes to nothing where another is entered', () => {
    add(0, [0, 0x20]);
    const record = cache.reserve()!;
    const mode = h.get32(STATE.MODE);
    cache.add(MODULE_BYTES, [{ code, record, mode, entries: [place(0) + 0x20], ranges: [] }]);
    expect(cache.regions).toBe(1);
    expect(cache.reserve()).toBe(record);
  });

  it('dies with all its entries when the guest writes to any of its bytes, and its place can be compiled anew', () => {
    add(0, [0, 0x20]);
    expect(codeBits(0)).toBe(1n);
    h.core.invalidateRange(place(0) + 63, 1);
    expect([0, 0x20].map((at) => linkAt(place(0) + at))).toEqual([undefined, undefined]);
    expect(codeBits(0)).toBe(0n);
    const [old] = records;
    add(0, [0x20]);
    expect([0, 0x20].map((at) => linkAt(place(0) + at) !== undefined)).toEqual([false, true]);
    expect(records[0]).not.toBe(old);
    // The dead one is cleared away when some more modules have come.
    let more = 0;
    for (; cache.evicted === 0 && more < 16; more++) add(1 + more, [0], 1);
    expect([cache.regions, cache.evicted, cache.bytes]).toEqual([1 + more, 1, MODULE_BYTES + more]);
    expect(cache.reserve()).toBe(old);
  });

  it('leads nowhere when it has gone, though its memory is used again', () => {
    add(0, [0, 0x20]);
    const from = decode(place(0) + 0x80);
    h.view.setUint32(from + UOP.LINK, find(place(0) + 0x20), true);
    for (let n = 1; n < 8; n++) add(n, [0, 0x20]);
    expect(isCompiled(0)).toBe(false);
    expect([find(place(0)), find(place(0) + 0x20)]).toEqual([0, 0]);
    expect(h.view.getUint32(from + UOP.LINK, true)).toBe(0);
  });
});

describe('a code cache', () => {
  it('keeps within its budget and gives places in the table again', () => {
    for (let n = 0; n < 40; n++) add(n);
    expect(cache.bytes).toBeLessThanOrEqual(BUDGET);
    expect([cache.regions, cache.evicted]).toEqual([3, 37]);
    const places = [37, 38, 39].map((n) => linkAt(place(n))!);
    expect(new Set(places).size).toBe(3);
    expect(Math.max(...places)).toBeLessThan(5);
    for (const index of places) expect(cache.table.get(index)).toBe(code);
  });

  it('gives up what was not used since it was looked at', () => {
    for (const n of [0, 1, 2]) add(n);
    for (const n of [0, 1, 2]) setUsed(n, n === 0);
    add(3);
    expect([0, 1, 2, 3].map(isCompiled)).toEqual([true, false, true, true]);
  });

  it('gives up the oldest when all are used', () => {
    for (const n of [0, 1, 2, 3]) add(n);
    expect([0, 1, 2, 3].map(isCompiled)).toEqual([false, true, true, true]);
  });

  it('gives up what the guest has written over before anything else', () => {
    for (const n of [0, 1, 2]) add(n);
    h.core.invalidateRange(place(2), 1);
    add(3);
    expect([0, 1, 2, 3].map(isCompiled)).toEqual([true, true, false, true]);
  });

  it('keeps a module that is larger than the budget by itself', () => {
    add(0, [0], BUDGET * 2);
    expect(cache.regions).toBe(1);
    add(1);
    expect(cache.bytes).toBe(MODULE_BYTES);
  });

  it('gives up old modules when there are hardly any cells left', () => {
    const roomy = new CodeCache(h.view.buffer, h.map, h.core, 2 ** 30);
    const mode = h.get32(STATE.MODE);
    for (let n = 0; n < REGION.RECORDS + 100; n++) {
      const record = roomy.reserve()!;
      roomy.add(1, [{ code, record, mode, entries: [place(0) + 16 * n], ranges: [] }]);
    }
    expect(roomy.evicted).toBeGreaterThanOrEqual(100);
    expect(roomy.regions).toBe(REGION.RECORDS + 100 - roomy.evicted);
    expect(roomy.reserve()).toBeDefined();
  });

  it('has links of regions that are no addresses of micro-ops, which are below them', () => {
    const { ram } = memoryMap(3840 * 2 ** 20, 64 << 20);
    expect(ram).toBeLessThanOrEqual(2 ** REGION_LINK.ENTRY_SHIFT);
    expect(REGION_LINK.ENTRIES * 2 ** REGION_LINK.ENTRY_SHIFT).toBeLessThanOrEqual(2 ** 32);
  });
});
