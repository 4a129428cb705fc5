import { beforeEach, describe, expect, it } from 'vitest';
import { CoreHarness, CPU, CR4_FLAGS, PTE, STATE, TABLES, TLB } from './core-harness.ts';

const PAGE = 0x10000;
const AT = BigInt(PAGE);
const { P, W, U, A, D, PS, G, NX } = PTE;

let h: CoreHarness;
beforeEach(() => {
  h = new CoreHarness();
  h.longMode();
});

const read = (at: bigint, size = 8): number => h.core.slowRead(at, size) >>> 0;
const write = (at: bigint, size = 8): number => h.core.slowWrite(at, size, 0) >>> 0;

describe('4-level walk', () => {
  it('finds the byte in RAM and sets accessed, but not dirty, on a read', () => {
    h.mapPage(PAGE, 0x20000n | P | W);
    expect(read(AT + 5n)).toBe(h.map.ram + 0x20005);
    expect(h.pte(PAGE)).toBe(0x20000n | P | W | A);
    expect(h.ram64(TABLES.pml4) & (A | D)).toBe(A);
    expect(h.tlb(TLB.BANK_SUPERVISOR, AT)).toEqual({ read: AT, write: -1n, exec: AT });
  });

  it('sets dirty on a write, after which fast stores are allowed', () => {
    expect(write(AT)).toBe(h.map.ram + PAGE);
    expect(h.pte(PAGE) & (A | D)).toBe(A | D);
    expect(h.tlb(TLB.BANK_SUPERVISOR, AT).write).toBe(AT);
  });

  it.each([
    ['not present', 0n, 'read', 0],
    ['not present, write', 0n, 'write', 2],
    ['read-only with WP', BigInt(PAGE) | P, 'write', 3],
    ['reserved physical bit', BigInt(PAGE) | P | W | (1n << 45n), 'read', 9],
  ] as const)('%s: #PF', (_, entry, access, error) => {
    h.mapPage(PAGE, entry);
    expect(access === 'read' ? read(AT + 3n) : write(AT + 3n)).toBe(0);
    expect(h.takeFault()).toEqual({ vector: 14, error, address: AT + 3n });
    expect(h.pte(PAGE)).toBe(entry);
  });

  it('treats NX as reserved while EFER.NXE is clear', () => {
    h.set64(STATE.EFER, 0x501n);
    h.mapPage(PAGE, AT | P | NX);
    expect(read(AT)).toBe(0);
    expect(h.takeFault()?.error).toBe(9);
  });

  it('raises #GP(0) for addresses that are not canonical', () => {
    expect(read(0x0000_8000_0000_0000n)).toBe(0);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0 });
  });

  it('translates 2 MiB and 1 GiB pages, and INVLPG drops all of one', () => {
    h.setRam64(TABLES.pd + 8, 0x400000n | P | W | PS);
    expect(read(0x234567n)).toBe(h.map.ram + 0x434567);
    expect(read(0x3ff000n)).toBe(h.map.ram + 0x5ff000);
    h.setRam64(TABLES.pd + 8, 0x600000n | P | W | PS);
    h.core.flushTlbPage(0x200000n);
    expect(read(0x234567n)).toBe(h.map.ram + 0x634567);
    expect(read(0x3ff000n)).toBe(h.map.ram + 0x7ff000);
    h.setRam64(TABLES.pdpt + 8, 0n | P | W | PS);
    expect(read(0x40000123n)).toBe(h.map.ram + 0x123);
    h.setRam64(TABLES.pdpt + 8, 0x40000000n | (1n << 13n) | P | W | PS);
    h.core.flushTlbPage(0x40abc000n);
    expect(read(0x40000123n)).toBe(0);
    expect(h.takeFault()?.error).toBe(9);
  });
});

describe('rights', () => {
  it('keeps users out of supervisor pages', () => {
    h.userMode();
    expect(read(AT)).toBe(0);
    expect(h.takeFault()).toEqual({ vector: 14, error: 5, address: AT });
  });

  it('fetch: NX, and SMEP with the I/D bit', () => {
    h.mapPage(PAGE, AT | P | W | NX);
    expect(h.core.translateFetch(AT)).toBe(-1n);
    expect(h.takeFault()?.error).toBe(0x11);
    h.mapPage(PAGE, AT | P | W | U);
    expect(h.core.translateFetch(AT)).toBe(AT);
    h.core.movToCr(4, CR4_FLAGS.PAE | CR4_FLAGS.SMEP, 0n);
    expect(h.core.translateFetch(AT)).toBe(-1n);
    expect(h.takeFault()?.error).toBe(0x11);
  });

  it('SMAP: supervisor accesses to user pages need AC, implicit ones fail even then', () => {
    h.mapPage(PAGE, AT | P | W | U);
    expect(read(AT)).not.toBe(0);
    h.core.movToCr(4, CR4_FLAGS.PAE | CR4_FLAGS.SMAP, 0n);
    expect(read(AT)).toBe(0);
    expect(h.takeFault()?.error).toBe(1);
    expect(h.core.stac()).toBe(0);
    expect(h.get32(STATE.TLB_BANK)).toBe(TLB.BASE + TLB.BANK_SUPERVISOR_AC * TLB.ENTRIES * TLB.ENTRY_SIZE);
    expect(read(AT)).toBe(h.map.ram + PAGE);
    expect(h.core.readSystemBlock(AT, CPU + STATE.SCRATCH, 8)).toBe(2);
    expect(h.takeFault()?.error).toBe(1);
    h.core.clac();
    expect(read(AT)).toBe(0);
  });

  it('WP off lets the supervisor write read-only pages', () => {
    h.mapPage(PAGE, AT | P);
    h.core.movToCr(0, 0x80000001n, 0n);
    expect(write(AT)).toBe(h.map.ram + PAGE);
  });
});

describe('other paging modes', () => {
  it('is the identity without paging', () => {
    const real = new CoreHarness();
    expect(real.core.slowRead(0x12345n, 4) >>> 0).toBe(real.map.ram + 0x12345);
  });

  it('walks 32-bit tables with 4 MiB pages', () => {
    h = new CoreHarness();
    h.set64(STATE.CR3, 0x1000n);
    h.set64(STATE.CR4, CR4_FLAGS.PSE);
    h.set64(STATE.CR0, 0x80010001n);
    h.view.setUint32(h.map.ram + 0x1000, 0x2003, true);
    h.view.setUint32(h.map.ram + 0x2000 + 5 * 4, 0x9003, true);
    h.view.setUint32(h.map.ram + 0x1004, 0x800083, true);
    expect(read(0x5010n)).toBe(h.map.ram + 0x9010);
    expect(read(0x412345n)).toBe(h.map.ram + 0x812345);
    expect(read(0x6000n)).toBe(0);
    expect(h.takeFault()).toEqual({ vector: 14, error: 0, address: 0x6000n });
  });

  it('walks PAE tables', () => {
    h = new CoreHarness();
    h.set64(STATE.CR3, 0x1020n);
    h.set64(STATE.CR4, CR4_FLAGS.PAE);
    h.set64(STATE.CR0, 0x80010001n);
    h.setRam64(0x1020 + 3 * 8, 0x2001n);
    h.setRam64(0x2000, 0x3003n);
    h.setRam64(0x3000 + 8, 0x9003n);
    h.setRam64(0x2008, 0x200083n);
    expect(read(0xc0001004n)).toBe(h.map.ram + 0x9004);
    expect(read(0xc0212345n)).toBe(h.map.ram + 0x212345);
  });
});

describe('page crossing and devices', () => {
  it('gathers a read from two pages', () => {
    h.mapPage(PAGE, 0x30000n | P | W);
    h.mapPage(PAGE + 4096, 0x50000n | P | W);
    h.bytes.set([1, 2, 3], h.map.ram + 0x30ffd);
    h.bytes.set([4, 5, 6, 7, 8], h.map.ram + 0x50000);
    const at = read(AT + 0xffdn);
    expect(h.view.getBigUint64(at, true)).toBe(0x0807060504030201n);
  });

  it('writes neither page when the second faults, and both on commit', () => {
    h.mapPage(PAGE, 0x30000n | P | W);
    h.mapPage(PAGE + 4096, 0x50000n | P);
    expect(write(AT + 0xffcn)).toBe(0);
    expect(h.takeFault()).toEqual({ vector: 14, error: 3, address: AT + 0x1000n });
    h.mapPage(PAGE + 4096, 0x50000n | P | W);
    const at = write(AT + 0xffcn);
    h.view.setBigUint64(at, 0x1122334455667788n, true);
    h.core.commitWrite();
    expect(h.view.getUint32(h.map.ram + 0x30ffc, true)).toBe(0x55667788);
    expect(h.view.getUint32(h.map.ram + 0x50000, true)).toBe(0x11223344);
    expect(h.get32(STATE.BOUNCE_KIND)).toBe(0);
  });

  it('splits 8-byte device accesses in two', () => {
    h.mapPage(PAGE, 0xfee00000n | P | W);
    h.mmioValue = 0x1234;
    expect(h.view.getBigUint64(read(AT + 0x10n), true)).toBe(0x123400001234n);
    const at = write(AT + 0x20n);
    expect(h.mmio).toEqual(['r4@fee00010', 'r4@fee00014']);
    h.view.setBigUint64(at, 0xaaaabbbbccccddddn, true);
    h.core.commitWrite();
    expect(h.mmio.slice(2)).toEqual(['w4@fee00020=ccccdddd', 'w4@fee00024=aaaabbbb']);
    expect(h.core.translateFetch(AT)).toBe(-2n);
  });
});

describe('flushing', () => {
  it('keeps global pages over a CR3 load, not over flushTlb', () => {
    h.core.movToCr(4, CR4_FLAGS.PAE | CR4_FLAGS.PGE, 0n);
    h.mapPage(PAGE, AT | P | W | G);
    h.mapPage(PAGE + 4096, (AT + 0x1000n) | P | W);
    read(AT);
    read(AT + 0x1000n);
    h.core.movToCr(3, BigInt(TABLES.pml4), 0n);
    expect(h.tlb(0, AT).read).toBe(AT);
    expect(h.tlb(0, AT + 0x1000n).read).toBe(-1n);
    h.core.flushTlb();
    expect(h.tlb(0, AT).read).toBe(-1n);
  });

  it('stays right with 16 entries and many refills', () => {
    h = new CoreHarness(16);
    h.longMode();
    for (let i = 0; i < 6000; i++) {
      const page = 0x10000 + ((i * 7) % 400) * 4096;
      expect(read(BigInt(page))).toBe(h.map.ram + page);
      if (i % 50 === 0) h.core.flushTlbPage(BigInt(page));
    }
  });
});
