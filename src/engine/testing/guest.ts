/** A vCPU with a little RAM, page tables and descriptor tables, for tests that run small programs in bytes. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { type Cpu, type EntryState, GPR, type GprName } from '../cpu.ts';
import { CPU, EXIT, type MemoryMap, memoryMap, STATE, TLB } from '../layout.ts';
import { type CpuOptions, createCpu } from '../vcpu.ts';

const root = join(import.meta.dirname, '../../..');
let isBuilt = false;

/** What every test of programs is run with: the usual CPU, and one whose rare paths are common. */
export const SETTINGS: readonly CpuOptions[] = [
  { tlbEntries: TLB.ENTRIES, jitThreshold: 0 },
  { tlbEntries: 16, jitThreshold: 0 },
  { tlbEntries: TLB.ENTRIES, jitThreshold: 1 },
  { tlbEntries: 16, jitThreshold: 1 },
  { tlbEntries: TLB.ENTRIES, jitThreshold: 1, jitCodeBytes: 4096 },
];

export const RAM_BYTES = 8 << 20;
/** RAM offsets of the tables; programs are at CODE, their handlers at HANDLERS. */
export const PLACE = {
  pml4: 0x1000,
  pdpt: 0x2000,
  pd: 0x3000,
  pt: 0x4000,
  gdt: 0x5000,
  idt: 0x6000,
  tss: 0x7000,
  handlers: 0x9000,
  code: 0x10000,
  data: 0x20000,
  stack: 0x30000,
} as const;
export const PTE = { P: 1n, W: 2n, U: 4n } as const;
export const FLAG = {
  CF: 0x1n,
  PF: 0x4n,
  AF: 0x10n,
  ZF: 0x40n,
  SF: 0x80n,
  TF: 0x100n,
  IF: 0x200n,
  OF: 0x800n,
  RF: 0x10000n,
} as const;
/** Selectors in the GDT. */
export const SELECTOR = {
  code64: 0x10,
  data: 0x18,
  code32: 0x20,
  code16: 0x28,
  data16: 0x30,
  tss: 0x38,
} as const;
const GDT = [
  0n,
  0n,
  0xaf9b000000ffffn,
  0xcf93000000ffffn,
  0xcf9b000000ffffn,
  0x9b000000ffffn,
  0x93000000ffffn,
];
const TSS_LIMIT = 0x67n;
/** Handlers are this far apart; each begins as HLT. */
const HANDLER_BYTES = 16;
const HLT = 0xf4;
const RFLAGS_FIXED = 2n;
/** Instructions at a time: what has become hot is compiled when the CPU is entered again. */
const SLICE = 20;

export interface GuestOptions extends CpuOptions {
  readonly arenaBytes?: number;
}

/** What an exception handler finds on its stack. */
export interface Frame {
  readonly vector: number;
  readonly error: bigint | undefined;
  readonly rip: bigint;
  readonly flags: bigint;
  readonly rsp: bigint;
}

/**
 * Bytes of a program written as a listing: hexadecimal bytes, and behind a semicolon what they mean.
 */
export function bytes(listing: string): Uint8Array {
  const digits = listing
    .split('\n')
    .map((line) => line.split(';')[0])
    .join('')
    .replace(/\s/g, '');
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export class Guest {
  readonly cpu: Cpu;
  readonly map: MemoryMap;
  readonly view: DataView;
  readonly ram: Uint8Array;
  readonly portWrites: string[] = [];
  /** Called by OUT and by stores to where there is no RAM. */
  onWrite: (at: number, value: number) => void = () => {};

  onTracePoint: (number: number) => boolean = () => false;

  constructor(options: GuestOptions = {}) {
    if (!isBuilt) execFileSync(process.execPath, [join(root, 'scripts/build-core.ts')]);
    isBuilt = true;
    this.map = memoryMap(RAM_BYTES, options.arenaBytes ?? 1 << 20);
    const pages = this.map.end / 65536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.view = new DataView(memory.buffer);
    this.ram = new Uint8Array(memory.buffer, this.map.ram, RAM_BYTES);
    this.cpu = createCpu(
      memory,
      this.map,
      {
        readMmio: () => 0x5a5a5a5a,
        writeMmio: (at, _size, value) => this.onWrite(at, value),
        readPort: () => 0,
        writePort: (port, _size, value) => {
          this.portWrites.push(`${port.toString(16)}=${value.toString(16)}`);
          this.onWrite(port, value);
        },
        readMsr: () => undefined,
        writeMsr: () => false,
        tscNow: () => 0,
        tracePoint: (number) => this.onTracePoint(number),
      },
      options,
    );
  }

  // ---- memory ----

  load(at: number, listing: string): void {
    this.ram.set(bytes(listing), at);
  }
  ram64(at: number): bigint {
    return this.view.getBigUint64(this.map.ram + at, true);
  }
  setRam64(at: number, value: bigint): void {
    this.view.setBigUint64(this.map.ram + at, BigInt.asUintN(64, value), true);
  }
  ram32(at: number): number {
    return this.view.getUint32(this.map.ram + at, true);
  }
  /** Sets the page table entry of a page below 2 MiB; the guest's own INVLPG or a reset makes it count. */
  mapPage(linear: number, entry: bigint): void {
    this.setRam64(PLACE.pt + (linear >> 12) * 8, entry);
  }

  // ---- registers ----

  reg(name: GprName): bigint {
    return this.state64(STATE.REGS + GPR.indexOf(name) * 8);
  }
  get rip(): bigint {
    return this.state64(STATE.RIP);
  }
  state64(offset: number): bigint {
    return this.view.getBigUint64(CPU + offset, true);
  }
  setState64(offset: number, value: bigint): void {
    this.view.setBigUint64(CPU + offset, BigInt.asUintN(64, value), true);
  }
  setState32(offset: number, value: number): void {
    this.view.setUint32(CPU + offset, value, true);
  }

  // ---- running ----

  /** 64-bit mode, the first 2 MiB mapped one to one in 4 KiB pages, every exception's handler a HLT. */
  longMode(registers: EntryState['registers'] = {}): void {
    const all = PTE.P | PTE.W | PTE.U;
    this.setRam64(PLACE.pml4, BigInt(PLACE.pdpt) | all);
    this.setRam64(PLACE.pdpt, BigInt(PLACE.pd) | all);
    this.setRam64(PLACE.pd, BigInt(PLACE.pt) | all);
    for (let page = 0; page < 512; page++) this.mapPage(page << 12, BigInt(page << 12) | PTE.P | PTE.W);
    this.#descriptors();
    for (let vector = 0; vector < 256; vector++) this.gate(vector, PLACE.handlers + vector * HANDLER_BYTES);
    this.#enter({ mode: 'long64', cr3: BigInt(PLACE.pml4), rip: BigInt(PLACE.code), registers });
    this.setState32(STATE.IDTR_LIMIT, 0xfff);
  }

  /** Flat 32-bit protected mode without paging, every exception's handler a HLT. */
  protectedMode(registers: EntryState['registers'] = {}): void {
    this.#descriptors();
    for (let vector = 0; vector < 256; vector++) {
      const handler = BigInt(PLACE.handlers + vector * HANDLER_BYTES);
      const low = (handler & 0xffffn) | (BigInt(SELECTOR.code32) << 16n);
      this.setRam64(PLACE.idt + vector * 8, low | (0x8en << 40n) | ((handler >> 16n) << 48n));
    }
    this.#enter({ mode: 'protected32', rip: BigInt(PLACE.code), registers });
    this.setState32(STATE.IDTR_LIMIT, 0x7ff);
    this.setState32(STATE.SEG_SEL + 4, SELECTOR.code32);
  }

  /** Real mode at 0000:`ip`, every exception's handler a HLT. */
  realMode(ip: number, registers: EntryState['registers'] = {}): void {
    for (let vector = 0; vector < 256; vector++) {
      const handler = PLACE.handlers + vector * HANDLER_BYTES;
      this.ram[handler] = HLT;
      this.view.setUint32(this.map.ram + vector * 4, handler, true);
    }
    this.cpu.reset({ mode: 'real16', rip: BigInt(ip), registers: { rsp: 0x8000n, rdx: 0n, ...registers } });
    this.setState32(STATE.IDTR_LIMIT, 0x3ff);
  }

  #descriptors(): void {
    for (const [n, descriptor] of GDT.entries()) this.setRam64(PLACE.gdt + n * 8, descriptor);
    this.setRam64(PLACE.gdt + SELECTOR.tss, TSS_LIMIT | (BigInt(PLACE.tss) << 16n) | (0x8bn << 40n));
    this.setRam64(PLACE.gdt + SELECTOR.tss + 8, 0n);
    for (let vector = 0; vector < 256; vector++) this.ram[PLACE.handlers + vector * HANDLER_BYTES] = HLT;
  }

  #enter(entry: EntryState): void {
    const registers = { rsp: BigInt(PLACE.stack), rdx: 0n, ...entry.registers };
    this.cpu.reset({ ...entry, registers, gdt: { base: BigInt(PLACE.gdt), limit: 0x47 } });
    this.setState64(STATE.IDTR_BASE, BigInt(PLACE.idt));
    this.setState64(STATE.TR_BASE, BigInt(PLACE.tss));
    this.setState32(STATE.TR_LIMIT, Number(TSS_LIMIT));
  }

  /** A 64-bit interrupt gate. */
  gate(vector: number, handler: number): void {
    const at = PLACE.idt + vector * 16;
    const address = BigInt(handler);
    const low = (address & 0xffffn) | (BigInt(SELECTOR.code64) << 16n) | (0x8en << 40n);
    this.setRam64(at, low | ((address >> 16n) << 48n));
    this.setRam64(at + 8, 0n);
  }

  /** Puts a program in a handler's place elsewhere and lets the vector's gate point to it. */
  handle(vector: number, at: number, listing: string): void {
    this.load(at, listing);
    this.gate(vector, at);
  }

  /** Runs until HLT; throws if the CPU does not get there. Returns the instructions retired. */
  untilHalt(limit = 1_000_000): number {
    const begin = this.cpu.instructions;
    for (let turns = 0; turns < limit; turns++) {
      const reason = this.cpu.run(SLICE);
      if (reason === EXIT.HALT) return this.cpu.instructions - begin;
      if (reason !== EXIT.BUDGET || this.cpu.instructions - begin >= limit) break;
    }
    throw new Error(`no HLT\n${this.cpu.dump()}`);
  }

  /** After a HLT in an exception's handler in 64-bit mode: what it was called with. */
  frame(): Frame {
    const vector = Number(this.rip - 1n - BigInt(PLACE.handlers)) / HANDLER_BYTES;
    if (!Number.isInteger(vector) || vector < 0 || vector > 255)
      throw new Error(`no handler\n${this.cpu.dump()}`);
    const hasError = [8, 10, 11, 12, 13, 14, 17].includes(vector);
    const at = Number(this.reg('rsp')) + (hasError ? 8 : 0);
    return {
      vector,
      error: hasError ? this.ram64(at - 8) : undefined,
      rip: this.ram64(at),
      flags: this.ram64(at + 16) & ~RFLAGS_FIXED,
      rsp: this.ram64(at + 24),
    };
  }
}
