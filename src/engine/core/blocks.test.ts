import { beforeEach, describe, expect, it } from 'vitest';
import { BLOCK, JUMP_CACHE, UOP } from '../layout.ts';
import { CoreHarness, EXIT, PTE, STATE } from './core-harness.ts';

let h: CoreHarness;
let next = 0;
beforeEach(() => {
  h = new CoreHarness();
  h.longMode();
  next = h.map.uopArena;
});

/** Makes a block of one micro-op over `length` bytes of RAM and inserts it; returns its first micro-op. */
function block(ramOffset: number, length: number, page2: number = BLOCK.NO_PAGE): number {
  const header = next;
  next += 128;
  h.view.setBigUint64(header + BLOCK.PHYS, BigInt(ramOffset), true);
  h.view.setUint32(header + BLOCK.MODE, h.get32(STATE.MODE), true);
  h.view.setUint16(header + BLOCK.LENGTH, length, true);
  h.view.setUint32(header + BLOCK.PAGE2, page2, true);
  h.view.setUint16(header + BLOCK.SIZE, 1, true);
  h.core.insertBlock(header);
  return header + BLOCK.SIZE;
}

function find(rip: bigint): number {
  h.set64(STATE.RIP, rip);
  return h.core.findBlock();
}

/** The one with a first micro-op, and others up to `end`. */
function forget(uop: number, end: number): void {
  h.core.forgetBlock(uop - BLOCK.SIZE, uop - BLOCK.SIZE, end);
  h.core.flushJumpCache();
}

const bitmap = (page: number): bigint => h.view.getBigUint64(h.map.codeBitmap + page * 8, true);

describe('forgetting a range of headers', () => {
  it('forgets those blocks and the links to them, and no other', () => {
    const [first, second, other] = [block(0x10010, 20), block(0x10100, 20), block(0x20000, 20)];
    for (const rip of [0x10010n, 0x10100n, 0x20000n]) expect(find(rip)).not.toBe(0);
    for (const [from, to] of [
      [first, second],
      [second, first],
    ] as const) {
      h.view.setUint16(from - BLOCK.SIZE + BLOCK.UOPS, 1, true);
      h.view.setUint32(from + UOP.LINK, to, true);
    }
    forget(second, second + UOP.SIZE);
    expect([find(0x10010n), find(0x10100n), find(0x20000n)]).toEqual([first, 0, other]);
    expect(h.view.getUint32(first + UOP.LINK, true)).toBe(0);
    expect(bitmap(0x10)).toBe(1n);
  });

  it('forgets links to blocks that are dead already, where others will be', () => {
    const [first, second] = [block(0x10010, 20), block(0x10100, 20)];
    h.view.setUint16(first - BLOCK.SIZE + BLOCK.UOPS, 1, true);
    h.view.setUint32(first + UOP.LINK, second, true);
    expect(h.core.invalidateRange(0x10100, 1)).toBe(1);
    forget(second, second + UOP.SIZE);
    expect(h.view.getUint32(first + UOP.LINK, true)).toBe(0);
  });

  it('forgets what runs on into another page there too', () => {
    const crossing = block(0x10ff0, 32, 0x20);
    expect(bitmap(0x20)).toBe(1n);
    forget(crossing, crossing);
    expect([bitmap(0x10), bitmap(0x20)]).toEqual([0n, 0n]);
    expect(h.core.invalidateRange(0x20000, 64)).toBe(0);
  });
});

describe('lookup', () => {
  it('asks for decoding, then finds the block through hash and jump cache', () => {
    expect(find(0x10010n)).toBe(0);
    expect(h.get32(STATE.EXIT_REASON)).toBe(EXIT.DECODE);
    const uop = block(0x10010, 20);
    expect(find(0x10010n)).toBe(uop);
    const slot = h.core.jumpCacheSlot(0x10010n);
    expect(h.view.getBigUint64(slot + JUMP_CACHE.RIP, true)).toBe(0x10010n);
    expect(h.view.getUint32(slot + JUMP_CACHE.UOP, true)).toBe(uop);
    expect(find(0x10010n)).toBe(uop);
    expect(find(0x10011n)).toBe(0);
  });

  it('empties the jump cache, whether few or many of its slots are filled', () => {
    for (const count of [3, 3000, 3]) {
      const rips = Array.from({ length: count }, (_, n) => 0x10000 + 20 * n);
      for (const rip of rips) {
        if (find(BigInt(rip)) === 0) block(rip, 4);
        expect(find(BigInt(rip))).not.toBe(0);
      }
      const cached = (): number =>
        rips.filter((rip) => {
          const slot = h.core.jumpCacheSlot(BigInt(rip));
          return h.view.getBigUint64(slot + JUMP_CACHE.RIP, true) === BigInt(rip);
        }).length;
      expect(cached()).toBeGreaterThan(count / 2);
      h.core.flushJumpCache();
      expect(cached()).toBe(0);
    }
  });

  it('keeps modes apart', () => {
    block(0x10010, 4);
    h.mapPage(0x10000, 0x10000n | PTE.P | PTE.W | PTE.U);
    h.userMode();
    expect(find(0x10010n)).toBe(0);
  });

  it('follows the mapping, not the address', () => {
    const uop = block(0x10010, 4);
    expect(find(0x10010n)).toBe(uop);
    h.mapPage(0x10000, 0x20000n | PTE.P | PTE.W);
    expect(find(0x10010n)).toBe(0);
    h.mapPage(0x30000, 0x10000n | PTE.P | PTE.W);
    expect(find(0x30010n)).toBe(uop);
  });

  it('checks the second page of a crossing block', () => {
    const uop = block(0x10ffe, 6, 0x11);
    expect(find(0x10ffen)).toBe(uop);
    h.mapPage(0x11000, 0x22000n | PTE.P | PTE.W);
    expect(find(0x10ffen)).toBe(0);
    expect(h.get32(STATE.FAULT_VECTOR)).toBe(-1);
    h.mapPage(0x11000, 0n);
    expect(find(0x10ffen)).toBe(0);
    expect(h.get32(STATE.FAULT_VECTOR)).toBe(-1);
  });

  it('delivers fetch faults and goes on at the handler', () => {
    h.gate(14, 0x12000n);
    h.setReg(4, 0x1f000n);
    const handler = block(0x12000, 1);
    h.mapPage(0x10000, 0n);
    expect(find(0x10010n)).toBe(handler);
    expect(h.get64(STATE.CR2)).toBe(0x10010n);
    expect(h.ram64(0x1f000 - 40)).toBe(0x10010n);
  });

  it('reports a triple fault', () => {
    h.set32(STATE.IDTR_LIMIT, 0);
    h.mapPage(0x10000, 0n);
    expect(find(0x10010n)).toBe(0);
    expect(h.get32(STATE.EXIT_REASON)).toBe(EXIT.SHUTDOWN);
  });
});

describe('stores to code', () => {
  it('takes fast stores away from a page when code appears in it', () => {
    h.core.slowWrite(0x10000n, 8, 0);
    expect(h.tlb(0, 0x10000n).write).toBe(0x10000n);
    block(0x10040, 10);
    expect(h.tlb(0, 0x10000n).write).toBe(-1n);
    expect(bitmap(0x10)).toBe(2n);
  });

  it('takes them away at every address of the page', () => {
    for (const page of [0x30000, 0x31000]) h.mapPage(page, 0x10000n | PTE.P | PTE.W);
    const addresses = [0x10000n, 0x30000n, 0x31000n];
    for (const address of addresses) h.core.slowWrite(address, 8, 0);
    expect(addresses.map((address) => h.tlb(0, address).write)).toEqual(addresses);
    block(0x10040, 10);
    expect(addresses.map((address) => h.tlb(0, address).write)).toEqual([-1n, -1n, -1n]);
  });

  it('takes them away once more after the code has gone', () => {
    for (let round = 0; round < 3; round++) {
      block(0x10040, 10);
      h.core.invalidateRange(0x10040, 1);
      h.core.slowWrite(0x10000n, 8, 0);
      expect(h.tlb(0, 0x10000n).write).toBe(0x10000n);
    }
    block(0x10040, 10);
    expect(h.tlb(0, 0x10000n).write).toBe(-1n);
  });

  it('kills what a store hits and nothing else', () => {
    const first = block(0x10040, 10);
    const second = block(0x100c0, 10);
    h.core.slowWrite(0x1004an, 4, 0);
    expect(h.get32(STATE.CODE_WRITTEN)).toBe(0);
    expect(find(0x10040n)).toBe(first);
    h.core.slowWrite(0x10049n, 1, 0);
    expect(h.get32(STATE.CODE_WRITTEN)).toBe(1);
    expect(h.view.getUint16(first, true)).toBe(0);
    expect(h.view.getUint16(first - BLOCK.SIZE + BLOCK.DEAD, true)).toBe(1);
    expect(find(0x10040n)).toBe(0);
    expect(find(0x100c0n)).toBe(second);
    expect(bitmap(0x10)).toBe(8n);
  });

  it('kills a crossing block from its second page, and frees both pages for fast stores', () => {
    block(0x10ffe, 6, 0x11);
    expect([bitmap(0x10), bitmap(0x11)]).toEqual([1n << 63n, 1n]);
    expect(h.core.invalidateRange(0x11004, 4)).toBe(0);
    expect(h.core.invalidateRange(0x11003, 1)).toBe(1);
    expect([bitmap(0x10), bitmap(0x11)]).toEqual([0n, 0n]);
    h.core.slowWrite(0x11000n, 4, 0);
    expect(h.tlb(0, 0x11000n).write).toBe(0x11000n);
  });

  it('kills code under string stores and crossing stores', () => {
    block(0x10040, 10);
    h.setReg(7, 0x10000n);
    h.setReg(1, 0x100n);
    // The block that runs may be the one that was overwritten: look up again at the next instruction.
    expect(h.core.stos(1, 8, 0n, 1, 0x77n)).toBe(1);
    expect([h.get64(STATE.RIP), h.get32(STATE.CODE_WRITTEN)]).toEqual([0x77n, 0]);
    expect(find(0x10040n)).toBe(0);
    block(0x11000, 2);
    const at = h.core.slowWrite(0x10ffcn, 8, 0);
    h.view.setBigUint64(at, 0n, true);
    h.core.commitWrite();
    expect(find(0x11000n)).toBe(0);
  });

  it('invalidates across many pages for DMA, and forgets all on a flush', () => {
    for (let page = 0x20; page < 0x28; page++) block(page << 12, 16);
    expect(h.core.invalidateRange(0x21000, 0x3000)).toBe(3);
    h.core.flushBlocks();
    expect(find(0x20000n)).toBe(0);
    expect(bitmap(0x20)).toBe(0n);
  });
});
