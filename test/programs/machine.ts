/** A vCPU with RAM that runs generated programs, and shows its whole state. */
import { CPU, memoryMap, STATE } from '../../src/engine/layout.ts';
import type { Cpu, CpuHooks } from '../../src/engine/cpu.ts';
import { createCpu } from '../../src/engine/vcpu.ts';
import { GDT_LIMIT, IDT_LIMIT, RETURN, SYSCALL_ENTRY, writeKernel } from './kernel.ts';
import { HIGH_HALF, KERNEL_DATA, PLACE, PML4, PTE, RAM_BYTES, SELECTOR, VECTOR } from './places.ts';
import type { ProgramOptions } from './settings.ts';
import { KINDS, type Program } from './program.ts';

const ARENA_BYTES = 4 << 20;
/** Of linear memory: what the core asks for. */
const PAGES_MIN = 64;
const TSS_LIMIT = 0x67;
const FLAGS = 0x202n;
/** Kernel's code and what SYSRET makes the user's (AMD APM volume 2, 6.1.1). */
const STAR = (0x23n << 48n) | (0x10n << 32n);
/** SYSCALL clears the interrupt, direction and trap flags. */
const FMASK = 0x700n;
const RSP = 4;

const HOOKS: CpuHooks = {
  readMmio: () => 0x5a5a_5a5a,
  writeMmio: () => {},
  readPort: () => 0x5a,
  writePort: () => {},
  readMsr: () => undefined,
  writeMsr: () => false,
  tscNow: () => 0,
};

/** Parts of the state that have one form in both tiers, as [begin, end) offsets; `dump` has the rest. */
const COMPARED = [
  [STATE.SEG_BASE, STATE.FAULT_VECTOR],
  [STATE.MXCSR, STATE.NMI_BLOCKED],
  [STATE.XMM, STATE.XMM_TEMP0],
] as const;

/** How a run has ended: EXIT_REASON, or what the engine threw. */
export type Ending = number | string;

export class ProgramMachine {
  readonly ram: Buffer;
  readonly state: DataView;
  readonly #cpu: Cpu;
  readonly #compared: readonly Buffer[];
  #before = 0;

  constructor(options: ProgramOptions) {
    const map = memoryMap(RAM_BYTES, options.arenaBytes ?? ARENA_BYTES);
    const pages = Math.max(PAGES_MIN, Math.ceil(map.end / 65536));
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.ram = Buffer.from(memory.buffer as unknown as ArrayBuffer, map.ram, RAM_BYTES);
    this.state = new DataView(memory.buffer, CPU, STATE.SIZE);
    this.#compared = COMPARED.map(([begin, end]) =>
      Buffer.from(memory.buffer as unknown as ArrayBuffer, CPU + begin, end - begin),
    );
    this.#cpu = createCpu(memory, map, HOOKS, options);
  }

  /** Loads a program, and stands before the kernel's return to it. */
  start(program: Program): void {
    const { kernel, high, bits } = KINDS[program.kind];
    const { ram, state } = this;
    ram.fill(0);
    writeKernel(ram, kernel);
    ram.set(program.code, PLACE.CODE);
    ram.set(program.otherCode, PLACE.OTHER_CODE);
    ram.set(program.lengths, PLACE.LENGTHS);
    ram.set(program.data, PLACE.DATA);
    const half = high ? HIGH_HALF : 0n;
    const entry = half | BigInt(PLACE.CODE);
    const stack = half | BigInt(PLACE.STACK);
    ram.writeBigUInt64LE(entry, KERNEL_DATA.ENTRY);
    ram.writeBigUInt64LE(stack, KERNEL_DATA.STACK);
    const frame = PLACE.KERNEL_STACK - 40;
    const code = kernel ? SELECTOR.CODE64 : bits === 64 ? SELECTOR.USER64 : SELECTOR.USER32;
    [entry, BigInt(code), FLAGS, stack, BigInt(kernel ? SELECTOR.DATA : SELECTOR.USER_DATA)].forEach(
      (word, n) => {
        ram.writeBigUInt64LE(word, frame + n * 8);
      },
    );
    this.#cpu.reset({
      mode: 'long64',
      rip: RETURN,
      cr3: BigInt(PML4[0]),
      gdt: { base: BigInt(PLACE.GDT), limit: GDT_LIMIT },
    });
    program.registers.forEach((value, n) => {
      state.setBigUint64(STATE.REGS + n * 8, n === RSP ? BigInt(frame) : value, true);
    });
    new Uint8Array(state.buffer, CPU + STATE.XMM, 256).set(program.xmm);
    state.setBigUint64(STATE.IDTR_BASE, BigInt(PLACE.IDT), true);
    state.setUint32(STATE.IDTR_LIMIT, IDT_LIMIT, true);
    state.setBigUint64(STATE.TR_BASE, BigInt(PLACE.TSS), true);
    state.setUint32(STATE.TR_LIMIT, TSS_LIMIT, true);
    state.setBigUint64(STATE.STAR, STAR, true);
    state.setBigUint64(STATE.LSTAR, SYSCALL_ENTRY, true);
    state.setBigUint64(STATE.FMASK, FMASK, true);
    this.#before = this.#cpu.instructions;
  }

  run(instructions: number): Ending {
    try {
      return this.#cpu.run(instructions);
    } catch (error) {
      if (error instanceof Error) return `${error.name}: ${error.message.split('\n')[0]}`;
      throw error;
    }
  }

  /** Instructions of this program so far. */
  get retired(): number {
    return this.#cpu.instructions - this.#before;
  }
  get interruptible(): boolean {
    return this.#cpu.interruptible;
  }
  get halted(): boolean {
    return this.#cpu.halted;
  }
  interrupt(): void {
    this.#cpu.interrupt(VECTOR.INTERRUPT);
  }

  register(n: number): bigint {
    return this.state.getBigUint64(STATE.REGS + n * 8, true);
  }
  get rip(): bigint {
    return this.state.getBigUint64(STATE.RIP, true);
  }
  dump(): string {
    return this.#cpu.dump();
  }
  get regions(): number {
    return this.#cpu.jitStats.regions;
  }

  /** First offset at which the parts of the state that `dump` leaves out differ. */
  stateDifference(other: ProgramMachine): number | undefined {
    for (const [n, mine] of this.#compared.entries()) {
      const theirs = other.#compared[n]!;
      if (mine.equals(theirs)) continue;
      return COMPARED[n]![0] + mine.findIndex((byte, at) => byte !== theirs[at]);
    }
    return undefined;
  }

  /** First physical address at which RAM differs; accessed and dirty bits are left out. */
  ramDifference(other: ProgramMachine): number | undefined {
    if (this.ram.compare(other.ram, PLACE.TABLES_END, RAM_BYTES, PLACE.TABLES_END) !== 0) {
      for (let at: number = PLACE.TABLES_END; ; at++) if (this.ram[at] !== other.ram[at]) return at;
    }
    if (this.ram.compare(other.ram, 0, PLACE.TABLES_END, 0, PLACE.TABLES_END) === 0) return undefined;
    for (let at: number = PLACE.TABLES; at < PLACE.TABLES_END; at += 8) {
      const difference = this.ram.readBigUInt64LE(at) ^ other.ram.readBigUInt64LE(at);
      if ((difference & ~(PTE.A | PTE.D)) !== 0n) return at;
    }
    return undefined;
  }
}
