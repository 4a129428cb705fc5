/** A core instance with a small guest for unit tests: RAM, page tables, descriptor tables, recorded device accesses. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CPU, EXIT, memoryMap, MODE, STATE, TLB } from '../layout.ts';
import type { CoreExports } from './exports.ts';

const root = join(import.meta.dirname, '../../..');
let compiled: WebAssembly.Module | undefined;

function coreModule(): WebAssembly.Module {
  if (!compiled) {
    execFileSync(process.execPath, [join(root, 'scripts/build-core.ts')]);
    compiled = new WebAssembly.Module(readFileSync(join(root, 'build/core.wasm')));
  }
  return compiled;
}

export const RAM_BYTES = 16 << 20;
/** RAM offsets of the tables that `longMode` sets up. */
export const TABLES = {
  pml4: 0x1000,
  pdpt: 0x2000,
  pd: 0x3000,
  pt: 0x4000,
  gdt: 0x5000,
  idt: 0x6000,
  tss: 0x7000,
};
export const PTE = { P: 1n, W: 2n, U: 4n, A: 0x20n, D: 0x40n, PS: 0x80n, G: 0x100n, NX: 1n << 63n } as const;
export const CR4_FLAGS = {
  PSE: 0x10n,
  PAE: 0x20n,
  PGE: 0x80n,
  FSGSBASE: 1n << 16n,
  SMEP: 1n << 20n,
  SMAP: 1n << 21n,
};
/** Selectors in the GDT of `longMode`. */
export const SELECTOR = {
  code: 0x08,
  data: 0x10,
  userCode32: 0x1b,
  userData: 0x23,
  userCode: 0x2b,
  tss: 0x30,
};

/** One instance of the core. Guest memory is written by RAM offset, state by the fields of `STATE`. */
export class CoreHarness {
  readonly core: CoreExports;
  readonly map = memoryMap(RAM_BYTES, 1 << 20);
  readonly memory: WebAssembly.Memory;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly mmio: string[] = [];
  readonly ports: string[] = [];
  mmioValue = 0;
  now = 0;

  constructor(tlbEntries: number = TLB.ENTRIES) {
    const memory = new WebAssembly.Memory({ initial: this.map.end / 65536, maximum: 65536, shared: true });
    this.memory = memory;
    this.view = new DataView(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    const env = {
      memory,
      readMmio: (at: number, size: number) => {
        this.mmio.push(`r${size}@${at.toString(16)}`);
        return this.mmioValue;
      },
      writeMmio: (at: number, size: number, value: number) => {
        this.mmio.push(`w${size}@${at.toString(16)}=${(value >>> 0).toString(16)}`);
      },
      readPort: (port: number, size: number) => {
        this.ports.push(`in${size}@${port.toString(16)}`);
        return this.ports.length;
      },
      writePort: (port: number, size: number, value: number) => {
        this.ports.push(`out${size}@${port.toString(16)}=${(value >>> 0).toString(16)}`);
      },
      readMsr: () => 0,
      writeMsr: () => 0,
      tscNow: () => this.now,
      tracePoint: () => 0,
    };
    this.core = new WebAssembly.Instance(coreModule(), { env }).exports as unknown as CoreExports;
    const { ram, ramBytes, pageBlocks, codeBitmap, writers } = this.map;
    this.core.init(ram, ramBytes, ramBytes, pageBlocks, codeBitmap, writers, tlbEntries);
    this.core.resetCpu();
  }

  get64(field: number): bigint {
    return this.view.getBigUint64(CPU + field, true);
  }
  set64(field: number, value: bigint): void {
    this.view.setBigUint64(CPU + field, BigInt.asUintN(64, value), true);
  }
  get32(field: number): number {
    return this.view.getInt32(CPU + field, true);
  }
  set32(field: number, value: number): void {
    this.view.setInt32(CPU + field, value, true);
  }
  reg(index: number): bigint {
    return this.get64(STATE.REGS + index * 8);
  }
  setReg(index: number, value: bigint): void {
    this.set64(STATE.REGS + index * 8, value);
  }
  ram64(offset: number): bigint {
    return this.view.getBigUint64(this.map.ram + offset, true);
  }
  setRam64(offset: number, value: bigint): void {
    this.view.setBigUint64(this.map.ram + offset, BigInt.asUintN(64, value), true);
  }
  /** Writes a page table entry for a page below 2 MiB and drops its translation. */
  mapPage(linear: number, entry: bigint): void {
    this.setRam64(TABLES.pt + (linear >> 12) * 8, entry);
    this.core.flushTlbPage(BigInt(linear));
  }
  pte(linear: number): bigint {
    return this.ram64(TABLES.pt + (linear >> 12) * 8);
  }
  /** Vector, error code and linear address of the pending fault, which is then dropped; undefined if there is none. */
  takeFault(): { vector: number; error: number; address: bigint } | undefined {
    const vector = this.get32(STATE.FAULT_VECTOR);
    if (vector < 0) return undefined;
    this.set32(STATE.FAULT_VECTOR, -1);
    return { vector, error: this.get32(STATE.FAULT_ERROR), address: this.get64(STATE.FAULT_ADDRESS) };
  }
  /** 4-level paging with supervisor 4 KiB pages, identity-mapped below 2 MiB, a GDT, an empty IDT and a TSS; CPL 0. */
  longMode(): void {
    const all = PTE.P | PTE.W | PTE.U;
    this.setRam64(TABLES.pml4, BigInt(TABLES.pdpt) | all);
    this.setRam64(TABLES.pdpt, BigInt(TABLES.pd) | all);
    this.setRam64(TABLES.pd, BigInt(TABLES.pt) | all);
    for (let page = 0; page < 512; page++)
      this.setRam64(TABLES.pt + page * 8, BigInt(page << 12) | PTE.P | PTE.W);
    const tss = 0x0000890000000067n | (BigInt(TABLES.tss) << 16n);
    const gdt = [
      0n,
      0xaf9b000000ffffn,
      0xcf93000000ffffn,
      0xcffb000000ffffn,
      0xcff3000000ffffn,
      0xaffb000000ffffn,
      tss,
      0n,
    ];
    for (const [i, entry] of gdt.entries()) this.setRam64(TABLES.gdt + i * 8, entry);
    this.set64(STATE.GDTR_BASE, BigInt(TABLES.gdt));
    this.set32(STATE.GDTR_LIMIT, gdt.length * 8 - 1);
    this.set64(STATE.IDTR_BASE, BigInt(TABLES.idt));
    this.set32(STATE.IDTR_LIMIT, 0xfff);
    this.set64(STATE.CR3, BigInt(TABLES.pml4));
    this.set64(STATE.CR4, CR4_FLAGS.PAE);
    this.set64(STATE.CR0, 0x80010001n);
    this.set64(STATE.EFER, 0xd01n);
    this.segment(1, SELECTOR.code, 0xa09b);
    this.segment(2, SELECTOR.data, 0xc093);
    this.core.flushTlb();
    this.core.updateMode();
    this.core.ltr(SELECTOR.tss);
  }
  /** A flat segment register. */
  segment(index: number, selector: number, attributes: number): void {
    this.set32(STATE.SEG_SEL + index * 4, selector);
    this.set64(STATE.SEG_BASE + index * 8, 0n);
    this.set32(STATE.SEG_LIMIT + index * 4, -1);
    this.set32(STATE.SEG_ATTR + index * 4, attributes);
  }
  userMode(): void {
    this.set32(STATE.CPL, 3);
    this.segment(1, SELECTOR.userCode, 0xa0fb);
    this.segment(2, SELECTOR.userData, 0xc0f3);
    this.core.updateMode();
  }
  /** A 64-bit interrupt gate. */
  gate(vector: number, handler: bigint, options: { dpl?: number; ist?: number; type?: number } = {}): void {
    const low = (handler & 0xffffn) | (BigInt(SELECTOR.code) << 16n) | (BigInt(options.ist ?? 0) << 32n);
    const access = BigInt(0x80 | ((options.dpl ?? 0) << 5) | (options.type ?? 0xe));
    this.setRam64(TABLES.idt + vector * 16, low | (access << 40n) | (((handler >> 16n) & 0xffffn) << 48n));
    this.setRam64(TABLES.idt + vector * 16 + 8, handler >> 32n);
  }
  /** The TLB entry of a linear address in a bank. */
  tlb(bank: number, linear: bigint): { read: bigint; write: bigint; exec: bigint } {
    const index = Number(linear >> 12n) & (TLB.ENTRIES - 1);
    const at = TLB.BASE + (bank * TLB.ENTRIES + index) * TLB.ENTRY_SIZE;
    const tag = (field: number) => this.view.getBigInt64(at + field, true);
    return { read: tag(TLB.READ_TAG), write: tag(TLB.WRITE_TAG), exec: tag(TLB.EXEC_TAG) };
  }
}

export { CPU, EXIT, MODE, STATE, TLB };
