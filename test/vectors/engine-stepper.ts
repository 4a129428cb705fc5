/**
 * Runs single instructions on the emulator, each from a full register state to a full register state.
 *
 * A stub at privilege level 0 loads the FXSAVE image and goes to level 3 with IRETQ; behind the instruction under
 * test is HLT, which is privileged and so comes back through the #GP handler, as every fault does through its own.
 */
import type { Cpu, CpuHooks } from '../../src/engine/cpu.ts';
import { CPU, EXIT, memoryMap, type MemoryMap, STATE } from '../../src/engine/layout.ts';
import { type CpuOptions, createCpu } from '../../src/engine/vcpu.ts';
import {
  CODE_BYTES,
  END_VECTOR,
  FRAME_GPRS,
  FXSAVE_BYTES,
  INPUT,
  OUTPUT,
  PLACE,
  WINDOW_BYTES,
} from './layout.ts';

const RAM_BYTES = 0x20_0000;
const ARENA_BYTES = 0x40_0000;
/** Guest physical addresses. */
const AT = {
  GDT: 0x1000,
  IDT_REGISTER: 0x1100,
  IDT: 0x2000,
  TSS: 0x3000,
  ENTRY: 0x4000,
  INIT: 0x4040,
  HANDLERS: 0x4100,
  FX_IN: 0x5000,
  FX_OUT: 0x5200,
  IRET_FRAME: 0x6000,
  /** Top of the stack on which all exceptions are delivered (IST 1). */
  STACK: 0x8000,
  TABLES: 0x1_0000,
  CODE: 0x2_0000,
  /** The data pages lie apart, so that an access across them shows if it is split. */
  DATA0: 0x2_1000,
  DATA1: 0x2_3000,
  READ_ONLY: 0x2_5000,
} as const;
const HANDLER_BYTES = 16;
const VECTORS = 32;
const SELECTOR = { KERNEL_CODE: 0x10, USER_DATA: 0x23, USER_CODE: 0x2b, TSS: 0x30 } as const;
const GDT = [
  0n,
  0n,
  0x00af_9b00_0000_ffffn,
  0x00cf_9300_0000_ffffn,
  0x00cf_f300_0000_ffffn,
  0x00af_fb00_0000_ffffn,
  0x0000_8900_3000_0067n,
  0n,
];
const HLT = 0xf4;
const GENERAL_PROTECTION = 13;
const PAGE_FAULT = 14;
/** Bit of a page fault's error code. */
const FETCH = 0x10n;
/** Vectors that push an error code. */
const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
const PAGE = { PRESENT: 1, WRITE: 2, USER: 4, LARGE: 0x80 } as const;
const RSP = 4;
const INSTRUCTIONS_MAX = 10_000;
const RUNS_BEFORE = 2;

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

const HOOKS: CpuHooks = {
  readMmio: () => 0,
  writeMmio: () => {},
  readPort: () => 0,
  writePort: () => {},
  readMsr: () => undefined,
  writeMsr: () => false,
  tscNow: () => 0,
};

/** The emulated processor with the memory in which it runs the tests. */
export class EngineStepper {
  readonly #map: MemoryMap = memoryMap(RAM_BYTES, ARENA_BYTES);
  readonly #memory: WebAssembly.Memory;
  readonly #ram: DataView;
  readonly #bytes: Uint8Array;
  readonly #state: DataView;
  readonly #options: CpuOptions;
  #cpu: Cpu;

  /** @param options of the processor: with a JIT threshold, instructions run once before they count */
  constructor(options: CpuOptions = {}) {
    this.#options = options;
    const pages = Math.ceil(this.#map.end / 65536);
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#ram = new DataView(this.#memory.buffer, this.#map.ram, RAM_BYTES);
    this.#bytes = new Uint8Array(this.#memory.buffer, this.#map.ram, RAM_BYTES);
    this.#state = new DataView(this.#memory.buffer, CPU, STATE.SIZE);
    this.#build();
    this.#cpu = this.#start();
  }

  /**
   * Runs one case.
   * @param input a record in INPUT's format
   * @param output gets a record in OUTPUT's format
   * @returns undefined, or why there is no outcome
   */
  step(input: Uint8Array, output: Uint8Array): string | undefined {
    this.#load(input);
    let reason: number;
    try {
      if ((this.#options.jitThreshold ?? 0) > 0) {
        // What has run is compiled when the processor is entered again.
        const data = this.#bytes.slice(AT.DATA0, AT.DATA1 + 4096);
        for (let n = 0; n < RUNS_BEFORE; n++) {
          this.#cpu.run(INSTRUCTIONS_MAX);
          this.#bytes.set(data, AT.DATA0);
          this.#load(input, false);
        }
      }
      reason = this.#cpu.run(INSTRUCTIONS_MAX);
    } catch (error) {
      this.#cpu = this.#start();
      return error instanceof Error ? `${error.name}: ${error.message.split('\n')[0]}` : String(error);
    }
    const at = Number(this.#state.getBigUint64(STATE.RIP, true)) - AT.HANDLERS;
    if (reason !== EXIT.HALT || at < 0 || at >= VECTORS * HANDLER_BYTES) {
      const rip = (at + AT.HANDLERS).toString(16);
      this.#cpu = this.#start();
      return `no outcome: exit reason ${reason} at 0x${rip}`;
    }
    this.#save(Math.floor(at / HANDLER_BYTES), output);
    return undefined;
  }

  #start(): Cpu {
    const cpu = createCpu(this.#memory, this.#map, HOOKS, this.#options);
    cpu.reset({
      mode: 'long64',
      rip: BigInt(AT.INIT),
      cr3: BigInt(AT.TABLES),
      gdt: { base: BigInt(AT.GDT), limit: GDT.length * 8 - 1 },
    });
    const reason = cpu.run(100);
    if (reason !== EXIT.HALT)
      throw new Error(`the emulator did not start: exit reason ${reason}\n${cpu.dump()}`);
    return cpu;
  }

  #build(): void {
    const ram = this.#ram;
    for (const [i, descriptor] of GDT.entries()) ram.setBigUint64(AT.GDT + i * 8, descriptor, true);
    ram.setUint16(AT.IDT_REGISTER, VECTORS * 16 - 1, true);
    ram.setBigUint64(AT.IDT_REGISTER + 2, BigInt(AT.IDT), true);
    ram.setBigUint64(AT.TSS + 0x24, BigInt(AT.STACK), true);
    for (let vector = 0; vector < VECTORS; vector++) {
      const handler = AT.HANDLERS + vector * HANDLER_BYTES;
      ram.setUint16(AT.IDT + vector * 16, handler, true);
      ram.setUint16(AT.IDT + vector * 16 + 2, SELECTOR.KERNEL_CODE, true);
      ram.setUint16(AT.IDT + vector * 16 + 4, 0x8e01, true);
      this.#bytes.set([0x48, 0x0f, 0xae, 0x04, 0x25, ...u32(AT.FX_OUT), HLT], handler); // fxsave64
    }
    this.#bytes.set([0x48, 0x0f, 0xae, 0x0c, 0x25, ...u32(AT.FX_IN), 0x48, 0xcf], AT.ENTRY); // fxrstor64; iretq
    const loadTask = [0x66, 0xb8, SELECTOR.TSS, 0, 0x0f, 0x00, 0xd8];
    this.#bytes.set([0x0f, 0x01, 0x1c, 0x25, ...u32(AT.IDT_REGISTER), ...loadTask, HLT], AT.INIT); // lidt; ltr
    this.#bytes.fill(HLT, AT.CODE, AT.CODE + 4096);
    this.#mapPages();
  }

  /** The first 2 MiB for level 0 as they are, the test's pages for level 3. */
  #mapPages(): void {
    const ram = this.#ram;
    let nextTable: number = AT.TABLES + 4096;
    const rights = PAGE.PRESENT | PAGE.WRITE | PAGE.USER;
    const child = (table: number, index: number): number => {
      const entry = ram.getUint32(table + index * 8, true);
      if (entry !== 0) return entry & ~0xfff;
      ram.setUint32(table + index * 8, nextTable | rights, true);
      nextTable += 4096;
      return nextTable - 4096;
    };
    const directory = (linear: number): number =>
      child(child(AT.TABLES, 0), Math.floor(linear / 0x4000_0000));
    ram.setUint32(directory(0), PAGE.PRESENT | PAGE.WRITE | PAGE.LARGE, true);
    const noExecute = 0x8000_0000;
    // Where branches may go to, nothing is to be executed.
    const pages: [number, number, number][] = [
      [PLACE.CODE_PAGE, AT.CODE, rights],
      [PLACE.DATA_PAGE, AT.DATA0, rights],
      [PLACE.DATA_PAGE + 4096, AT.DATA1, rights],
      [PLACE.READ_ONLY, AT.READ_ONLY, PAGE.PRESENT | PAGE.USER],
    ];
    for (const [linear, physical, flags] of pages) {
      const table = child(directory(linear), (linear >>> 21) & 511);
      const entry = table + ((linear >>> 12) & 511) * 8;
      ram.setUint32(entry, physical | flags, true);
      if (physical !== AT.CODE) ram.setUint32(entry + 4, noExecute, true);
    }
  }

  /** @param code whether the instruction is another one than before */
  #load(input: Uint8Array, code = true): void {
    const view = new DataView(input.buffer, input.byteOffset, INPUT.BYTES);
    const state = this.#state;
    this.#bytes.set(input.subarray(INPUT.FXSAVE, INPUT.FXSAVE + FXSAVE_BYTES), AT.FX_IN);
    if (code) {
      const at = AT.CODE + (PLACE.CODE - PLACE.CODE_PAGE);
      this.#bytes.set(input.subarray(INPUT.CODE, INPUT.CODE + CODE_BYTES), at);
      this.#cpu.invalidate(AT.CODE, 4096);
    }
    const { first, second } = windowParts();
    this.#bytes.set(input.subarray(INPUT.WINDOW, INPUT.WINDOW + first.length), first.at);
    this.#bytes.set(input.subarray(INPUT.WINDOW + first.length, INPUT.WINDOW + WINDOW_BYTES), second.at);
    for (const [i, register] of FRAME_GPRS.entries()) {
      state.setBigUint64(STATE.REGS + register * 8, view.getBigUint64(INPUT.REGISTERS + i * 8, true), true);
    }
    const frame = [
      view.getBigUint64(INPUT.RIP, true),
      BigInt(SELECTOR.USER_CODE),
      view.getBigUint64(INPUT.RFLAGS, true),
      state.getBigUint64(STATE.REGS + RSP * 8, true),
      BigInt(SELECTOR.USER_DATA),
    ];
    for (const [i, word] of frame.entries()) this.#ram.setBigUint64(AT.IRET_FRAME + i * 8, word, true);
    state.setBigUint64(STATE.REGS + RSP * 8, BigInt(AT.IRET_FRAME), true);
    state.setBigUint64(STATE.RIP, BigInt(AT.ENTRY), true);
    state.setUint32(STATE.HALTED, 0, true);
  }

  #save(vector: number, output: Uint8Array): void {
    const view = new DataView(output.buffer, output.byteOffset, OUTPUT.BYTES);
    const hasError = WITH_ERROR_CODE.has(vector);
    const frame = AT.STACK - 40;
    const error = hasError ? this.#ram.getBigUint64(frame - 8, true) : 0n;
    const rip = this.#ram.getBigUint64(frame, true);
    const elsewhere = rip !== BigInt(PLACE.CODE);
    const halted = vector === GENERAL_PROTECTION && error === 0n;
    // The instruction may have gone to where nothing can be executed.
    const fetching = vector === PAGE_FAULT && (error & FETCH) !== 0n;
    const ended = elsewhere && (halted || fetching);
    output.set(this.#bytes.subarray(AT.FX_OUT, AT.FX_OUT + FXSAVE_BYTES), OUTPUT.FXSAVE);
    for (const [i, register] of FRAME_GPRS.entries()) {
      const value =
        register === RSP
          ? this.#ram.getBigUint64(frame + 24, true)
          : this.#state.getBigUint64(STATE.REGS + register * 8, true);
      view.setBigUint64(OUTPUT.REGISTERS + i * 8, value, true);
    }
    view.setBigUint64(OUTPUT.RIP, rip, true);
    view.setBigUint64(OUTPUT.RFLAGS, this.#ram.getBigUint64(frame + 16, true), true);
    view.setBigUint64(OUTPUT.ERROR_CODE, ended ? 0n : error, true);
    view.setBigUint64(OUTPUT.VECTOR, BigInt(ended ? END_VECTOR : vector), true);
    view.setBigUint64(OUTPUT.CR2, this.#state.getBigUint64(STATE.CR2, true), true);
    const { first, second } = windowParts();
    output.set(this.#bytes.subarray(first.at, first.at + first.length), OUTPUT.WINDOW);
    output.set(this.#bytes.subarray(second.at, second.at + second.length), OUTPUT.WINDOW + first.length);
  }
}

/** Where the two parts of the window are in guest memory. */
function windowParts() {
  const offset = PLACE.WINDOW - PLACE.DATA_PAGE;
  const length = 4096 - offset;
  return {
    first: { at: AT.DATA0 + offset, length },
    second: { at: AT.DATA1, length: WINDOW_BYTES - length },
  };
}
