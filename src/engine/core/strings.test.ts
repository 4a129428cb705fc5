import { beforeEach, describe, expect, it } from 'vitest';
import { CoreHarness, PTE, STATE, TABLES } from './core-harness.ts';

const [RAX, RCX, RDX, RSI, RDI] = [0, 1, 2, 6, 7];
const REP = 1;
const REPNE = 2;
let h: CoreHarness;
beforeEach(() => {
  h = new CoreHarness();
  h.longMode();
});

function setup(source: bigint, destination: bigint, count: bigint): void {
  h.setReg(RSI, source);
  h.setReg(RDI, destination);
  h.setReg(RCX, count);
}
const where = (): bigint[] => [h.reg(RSI), h.reg(RDI), h.reg(RCX)];
const ramBytes = (at: number, length: number): number[] => [
  ...h.bytes.slice(h.map.ram + at, h.map.ram + at + length),
];
const put = (at: number, bytes: number[]): void => h.bytes.set(bytes, h.map.ram + at);

describe('MOVS', () => {
  it('copies across pages that are not neighbours in RAM', () => {
    h.mapPage(0x30000, 0x50000n | PTE.P | PTE.W);
    h.mapPage(0x31000, 0x40000n | PTE.P | PTE.W);
    for (let i = 0; i < 100; i++) put(0x20003 + i, [i + 1]);
    setup(0x20003n, 0x30fcfn, 100n);
    expect(h.core.movs(1, 8, 0n, REP, 0n)).toBe(0);
    expect(where()).toEqual([0x20067n, 0x31033n, 0n]);
    expect(ramBytes(0x50fcf, 49)).toEqual(Array.from({ length: 49 }, (_, i) => i + 1));
    expect(ramBytes(0x40000, 51)).toEqual(Array.from({ length: 51 }, (_, i) => i + 50));
  });

  it('repeats a pattern when the destination overlaps ahead of the source', () => {
    put(0x20000, [1, 2, 3]);
    setup(0x20000n, 0x20003n, 9n);
    h.core.movs(1, 8, 0n, REP, 0n);
    expect(ramBytes(0x20000, 12)).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
  });

  it('copies downwards', () => {
    put(0x20000, [1, 2, 3, 4, 5, 6, 7, 8]);
    h.set64(STATE.RFLAGS, 0x402n);
    setup(0x20004n, 0x20006n, 3n);
    h.core.movs(2, 8, 0n, REP, 0n);
    expect(ramBytes(0x20000, 8)).toEqual([1, 2, 1, 2, 3, 4, 5, 6]);
    expect(where()).toEqual([0x1fffen, 0x20000n, 0n]);
  });

  it('stops at the faulting element', () => {
    h.mapPage(0x31000, 0n);
    setup(0x20000n, 0x30ff0n, 100n);
    expect(h.core.movs(4, 8, 0n, REP, 0n)).toBe(2);
    expect(h.takeFault()).toEqual({ vector: 14, error: 2, address: 0x31000n });
    expect(where()).toEqual([0x20010n, 0x31000n, 96n]);
  });

  it('pauses long copies and goes on', () => {
    setup(0x20000n, 0x80000n, 0x18000n);
    expect(h.core.movs(1, 8, 0n, REP, 0n)).toBe(4);
    expect(h.reg(RCX)).toBe(0x8000n);
    expect(h.core.movs(1, 8, 0n, REP, 0n)).toBe(0);
    expect(where()).toEqual([0x38000n, 0x98000n, 0n]);
  });

  it('wraps and truncates with 32-bit addresses', () => {
    setup(0x1_0002_0000n, 0xffff_ffff_0003_0000n, 0x5_0000_0002n);
    put(0x20000, [7, 8]);
    h.core.movs(1, 4, 0n, REP, 0n);
    expect(where()).toEqual([0x20002n, 0x30002n, 0n]);
    expect(ramBytes(0x30000, 2)).toEqual([7, 8]);
  });

  it('does nothing for a count of zero', () => {
    setup(1n, 2n, 0n);
    expect(h.core.movs(1, 8, 0n, REP, 0n)).toBe(0);
    expect(where()).toEqual([1n, 2n, 0n]);
  });
});

describe('the others', () => {
  it('STOS fills with every width', () => {
    h.setReg(RAX, 0x1122334455667788n);
    for (const [width, bytes] of [
      [1, [0x88, 0x88, 0x88]],
      [2, [0x88, 0x77, 0x88]],
      [8, [0x88, 0x77, 0x66]],
    ] as const) {
      setup(0n, 0x20ffdn, 1000n);
      expect(h.core.stos(width, 8, 0n, REP, 0n)).toBe(0);
      expect(h.reg(RDI)).toBe(0x20ffdn + BigInt(width * 1000));
      expect(ramBytes(0x20ffd, 3)).toEqual(bytes);
    }
  });

  it('SCAS finds a byte, CMPS a difference', () => {
    put(0x20000, [...Buffer.from('hello\0world')]);
    put(0x21000, [...Buffer.from('help')]);
    h.setReg(RAX, 0n);
    setup(0n, 0x20000n, 100n);
    expect(h.core.scas(1, 8, 0n, REPNE, 0n)).toBe(0);
    expect([h.reg(RDI), h.reg(RCX)]).toEqual([0x20006n, 94n]);
    expect(h.core.getFlags() & 0x40n).toBe(0x40n);
    setup(0x20000n, 0x21000n, 4n);
    h.core.cmps(1, 8, 0n, REP, 0n);
    expect(where()).toEqual([0x20004n, 0x21004n, 0n]);
    // 'l' - 'p' = 0x6c - 0x70 = 0xfc: CF, PF, SF; the low digits do not borrow.
    expect(h.core.getFlags() & 0x8d5n).toBe(0x85n);
  });

  it('LODS keeps the upper bytes of RAX for 8 and 16 bits', () => {
    h.setRam64(0x20000, 0xaabbccddn);
    h.setReg(RAX, -1n);
    setup(0x20000n, 0n, 0n);
    h.core.lods(2, 8, 0n, 0, 0n);
    expect(h.reg(RAX)).toBe(0xffffffffffffccddn);
    setup(0x20000n, 0n, 0n);
    h.core.lods(4, 8, 0n, 0, 0n);
    expect(h.reg(RAX)).toBe(0xaabbccddn);
  });

  it('INS checks the destination before it reads the port', () => {
    h.setReg(RDX, 0x1f0n);
    setup(0n, 0x20000n, 2n);
    expect(h.core.ins(2, 8, 0n, REP, 0n)).toBe(0);
    expect(ramBytes(0x20000, 4)).toEqual([1, 0, 2, 0]);
    h.mapPage(0x20000, 0n);
    setup(0n, 0x20000n, 1n);
    expect(h.core.ins(2, 8, 0n, REP, 0n)).toBe(2);
    expect(h.ports).toHaveLength(2);
  });

  it('ports obey IOPL and the bitmap of the TSS', () => {
    h.userMode();
    h.view.setUint16(h.map.ram + TABLES.tss + 102, 104, true);
    h.core.portIn(0x80, 1);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0 });
    h.set32(STATE.TR_LIMIT, 0x200);
    put(TABLES.tss + 104 + 0x10, [0xfe]);
    expect(h.core.portOut(0x80, 1, 0x1ff)).toBe(0);
    expect(h.ports).toEqual(['out1@80=ff']);
    expect(h.core.portOut(0x80, 2, 0)).toBe(2);
  });
});
