/** A vCPU: core runtime, interpreter and decoder around one linear memory. */
import { readFileSync } from 'node:fs';
import type { MessagePort } from 'node:worker_threads';
import type { CoreExports } from './core/exports.ts';
import { type Cpu, type CpuHooks, type EntryState, GPR, type JitStats } from './cpu.ts';
import { FetchFault } from './decode/code-bytes.ts';
import { BlockDecoder } from './decode/index.ts';
import { buildInterpreter } from './interp/build.ts';
import { specialize } from './interp/superinstructions.ts';
import { LocalBackend, RemoteBackend } from './jit/backend.ts';
import type { Profiler } from './profiler.ts';
import { CodeCache } from './jit/code-cache.ts';
import { Jit } from './jit/jit.ts';
import { exportedFunctions } from './wasm/module-reader.ts';
import { setTracePoints } from './trace-points.ts';
import { BLOCK, CPU, EXIT, LOW_RAM_MAX, type MemoryMap, MODE, STATE, TLB } from './layout.ts';

/** The guest runs code where there is no RAM: nothing can be executed there. */
export class ExecutionAddressError extends Error {}

export interface CpuOptions {
  /** Entries of each TLB bank, a power of two up to TLB.ENTRIES. */
  readonly tlbEntries?: number | undefined;
  /** Executions of a block before its region is compiled; 0 = interpreter alone. Default JIT_THRESHOLD. */
  readonly jitThreshold?: number | undefined;
  /** Bytes of WebAssembly that compiled regions may have; beyond that the least used go. Default JIT_CODE_BYTES. */
  readonly jitCodeBytes?: number | undefined;
  /** A port of a `CompileService`, which compiles beside the guest; without it the guest waits. */
  readonly compiler?: MessagePort | undefined;
  /** Instructions of a decoded block at most. With 1 and no compiler `run` can stop behind every instruction. */
  readonly blockInstructions?: number;
  /** Hears where the CPU is whenever it is left. */
  readonly profiler?: Profiler | undefined;
}

/** Of WebAssembly; V8's machine code takes as much again, or twice that. A boot and a mixed load need some 15 MB. */
const JIT_CODE_BYTES = 12 << 20;

/** Lower, and a kernel's boot compiles more than it wins; higher, and short programs stay interpreted. */
const JIT_THRESHOLD = 5000;

const CORE_FILE = new URL('../../build/core.wasm', import.meta.url);

interface CompiledEngine {
  readonly coreBytes: Uint8Array;
  readonly core: WebAssembly.Module;
  readonly interpreter: WebAssembly.Module;
}
const compiled = new Map<number, CompiledEngine>();

/** Compiled modules are shared by all vCPUs of a thread. */
function compile(tlbEntries: number): CompiledEngine {
  let engine = compiled.get(tlbEntries);
  if (engine === undefined) {
    const core = readFileSync(CORE_FILE);
    engine = {
      coreBytes: core,
      core: new WebAssembly.Module(core),
      interpreter: new WebAssembly.Module(buildInterpreter(core, tlbEntries)),
    };
    compiled.set(tlbEntries, engine);
  }
  return engine;
}

const NMI = 2;
const CR0_PE = 1n;
const CR0_FLAT32 = 0x31n; // PE, ET, NE
const CR0_LONG = 0x8005_0033n; // PG, AM, WP, NE, ET, MP, PE
const CR4_LONG = 0x6a0n; // PAE, PGE, OSFXSR, OSXMMEXCPT
const EFER_LONG = 0xd01n; // NXE, LMA, LME, SCE
/** Segment attributes in STATE.SEG_ATTR's form. */
const ATTRIBUTES = {
  code64: 0xa09b,
  code32: 0xc09b,
  data32: 0xc093,
  code16: 0x009b,
  data16: 0x0093,
} as const;

class Vcpu implements Cpu {
  readonly #core: CoreExports;
  readonly #run: () => number;
  readonly #view: DataView;
  readonly #decoder: BlockDecoder;
  readonly #jit: Jit;
  readonly #profiler: Profiler | undefined;
  /** Somebody asked the present `run` to return. */
  #interrupted = false;

  constructor(memory: WebAssembly.Memory, map: MemoryMap, hooks: CpuHooks, options: CpuOptions) {
    const tlbEntries = options.tlbEntries ?? TLB.ENTRIES;
    const engine = compile(tlbEntries);
    this.#profiler = options.profiler;
    this.#view = new DataView(memory.buffer);
    const core = new WebAssembly.Instance(engine.core, { env: { memory, ...this.#imports(hooks) } });
    this.#core = core.exports as unknown as CoreExports;
    const threshold = options.jitThreshold ?? JIT_THRESHOLD;
    this.#decoder = new BlockDecoder(
      memory,
      map,
      this.#core,
      specialize,
      threshold,
      options.blockInstructions,
    );
    const backend = [
      memory.buffer,
      exportedFunctions(engine.coreBytes),
      { map, tlbEntries, threshold },
    ] as const;
    const cache = new CodeCache(memory.buffer, map, this.#core, options.jitCodeBytes ?? JIT_CODE_BYTES);
    this.#jit = new Jit(
      memory,
      map,
      this.#core,
      options.compiler === undefined
        ? new LocalBackend(...backend)
        : new RemoteBackend(options.compiler, ...backend),
      cache,
      threshold,
    );
    const interpreter = new WebAssembly.Instance(engine.interpreter, {
      env: { memory, regions: cache.table },
      core: core.exports as Record<string, WebAssembly.ImportValue>,
    });
    this.#run = interpreter.exports.run as () => number;
    const low = Math.min(map.ramBytes, LOW_RAM_MAX);
    this.#core.init(map.ram, map.ramBytes, low, map.pageBlocks, map.codeBitmap, map.writers, tlbEntries);
    this.#core.resetCpu();
  }

  #imports(hooks: CpuHooks): Record<string, (...args: never[]) => unknown> {
    const scratch = CPU + STATE.SCRATCH;
    return {
      readMmio: (physical: number, size: number) => hooks.readMmio(physical, size) | 0,
      writeMmio: (physical: number, size: number, value: number) =>
        hooks.writeMmio(physical, size, value >>> 0),
      readPort: (port: number, size: number) => hooks.readPort(port, size) | 0,
      writePort: (port: number, size: number, value: number) => hooks.writePort(port, size, value >>> 0),
      readMsr: (index: number) => {
        const value = hooks.readMsr(index >>> 0);
        if (value === undefined) return 0;
        this.#view.setBigUint64(scratch, BigInt.asUintN(64, value), true);
        return 1;
      },
      writeMsr: (index: number) =>
        hooks.writeMsr(index >>> 0, this.#view.getBigUint64(scratch, true)) ? 1 : 0,
      tscNow: () => hooks.tscNow(),
      tracePoint: (number: number) => (hooks.tracePoint?.(number) ? 1 : 0),
    };
  }

  #u32(offset: number): number {
    return this.#view.getUint32(CPU + offset, true);
  }
  #setU32(offset: number, value: number): void {
    this.#view.setUint32(CPU + offset, value, true);
  }
  #u64(offset: number): bigint {
    return this.#view.getBigUint64(CPU + offset, true);
  }
  #setU64(offset: number, value: bigint): void {
    this.#view.setBigUint64(CPU + offset, BigInt.asUintN(64, value), true);
  }

  reset(entry: EntryState): void {
    const instructions = this.#u64(STATE.ICOUNT);
    this.#core.resetCpu();
    this.#flushBlocks();
    this.#setU64(STATE.ICOUNT, instructions);
    for (const [name, value] of Object.entries(entry.registers ?? {})) {
      this.#setU64(STATE.REGS + GPR.indexOf(name as (typeof GPR)[number]) * 8, value);
    }
    this.#setU64(STATE.RIP, entry.rip);
    if (entry.mode === 'long64') this.#enterLongMode(entry);
    else if (entry.mode === 'protected32') this.#enterProtectedMode(entry);
    else this.#enterRealMode();
    this.#core.updateMode();
    this.#core.flushTlb();
  }

  #segment(n: number, selector: number, base: bigint, limit: number, attributes: number): void {
    this.#setU64(STATE.SEG_BASE + n * 8, base);
    this.#setU32(STATE.SEG_SEL + n * 4, selector);
    this.#setU32(STATE.SEG_LIMIT + n * 4, limit);
    this.#setU32(STATE.SEG_ATTR + n * 4, attributes);
  }

  #flatSegments(code: number): void {
    for (let n = 0; n < 6; n++) {
      this.#segment(n, n === 1 ? 0x10 : 0x18, 0n, 0xffff_ffff, n === 1 ? code : ATTRIBUTES.data32);
    }
  }

  #loadGdt(entry: EntryState): void {
    if (entry.gdt === undefined) return;
    this.#setU64(STATE.GDTR_BASE, entry.gdt.base);
    this.#setU32(STATE.GDTR_LIMIT, entry.gdt.limit);
  }

  #enterLongMode(entry: EntryState): void {
    this.#flatSegments(ATTRIBUTES.code64);
    this.#loadGdt(entry);
    this.#setU64(STATE.CR3, entry.cr3 ?? 0n);
    this.#setU64(STATE.CR4, CR4_LONG);
    this.#setU64(STATE.EFER, EFER_LONG);
    this.#setU64(STATE.CR0, CR0_LONG);
  }

  #enterProtectedMode(entry: EntryState): void {
    this.#flatSegments(ATTRIBUTES.code32);
    this.#loadGdt(entry);
    this.#setU64(STATE.CR0, CR0_FLAT32);
  }

  #enterRealMode(): void {
    for (let n = 0; n < 6; n++) {
      this.#segment(n, 0, 0n, 0xffff, n === 1 ? ATTRIBUTES.code16 : ATTRIBUTES.data16);
    }
    this.#setU64(STATE.CR0, this.#u64(STATE.CR0) & ~CR0_PE);
  }

  run(instructions: number): number {
    const profiler = this.#profiler;
    if (profiler === undefined) return this.#runSlice(instructions);
    const before = this.instructions;
    const reason = this.#runSlice(instructions);
    profiler.sample(this.#u64(STATE.RIP), this.instructions - before);
    return reason;
  }

  #runSlice(instructions: number): number {
    this.#jit.collect();
    this.#interrupted = false;
    const limit = this.#u64(STATE.ICOUNT) + BigInt(Math.max(1, Math.floor(instructions)));
    for (;;) {
      if (this.#core.nmiPossible() !== 0 && this.#core.interrupt(NMI) === 3) return EXIT.SHUTDOWN;
      const stepping = (this.#u32(STATE.MODE) & MODE.SINGLE_STEP) !== 0;
      const before = this.#u64(STATE.ICOUNT);
      const shadowed = this.#u32(STATE.INTR_SHADOW) !== 0;
      this.#setU32(STATE.STEPPING, stepping ? 1 : 0);
      this.#setU64(STATE.ICOUNT_LIMIT, stepping || shadowed ? before + 1n : limit);
      const reason = this.#run();
      const advanced = this.#u64(STATE.ICOUNT) !== before;
      if (shadowed && (advanced || reason === EXIT.BUDGET)) this.#setU32(STATE.INTR_SHADOW, 0);
      // A repetition traps behind each element, without having advanced.
      if (this.#u32(STATE.STEPPING) !== 0 && (advanced || reason === EXIT.BUDGET)) {
        if (this.#core.singleStep() === 3) return EXIT.SHUTDOWN;
      }
      if (reason === EXIT.DECODE) {
        if (!this.#decode()) return EXIT.SHUTDOWN;
        continue;
      }
      if (reason === EXIT.HOT) {
        this.#noteHot();
        continue;
      }
      if (reason !== EXIT.BUDGET || this.#interrupted || this.#u64(STATE.ICOUNT) >= limit) return reason;
      if (!stepping && !shadowed && (this.#u32(STATE.MODE) & MODE.SINGLE_STEP) === 0) return reason;
    }
  }

  /** The block at RIP has just become hot. */
  #noteHot(): void {
    const uop = this.#core.findBlock();
    if (uop === 0) return;
    const [cr0, cr3, efer] = [STATE.CR0, STATE.CR3, STATE.EFER].map((register) => this.#u64(register));
    this.#jit.request({
      header: uop - BLOCK.SIZE,
      rip: this.#u64(STATE.RIP),
      linear: this.#linearRip(),
      paging: { cr0, cr3, efer, mode: this.#u32(STATE.MODE) },
    });
  }

  #flushBlocks(): void {
    this.#core.flushBlocks();
    this.#decoder.arena.clear();
    this.#jit.clear();
  }

  /** Whoever is about to decode has room for it; some blocks may have gone. */
  #makeRoom(): void {
    if (!this.#decoder.full) return;
    this.#decoder.arena.advance(({ start, end }, headers) => {
      for (const header of headers) this.#core.forgetBlock(header, start, end);
      this.#core.flushJumpCache();
    });
  }

  /** Decodes the block at RIP; false on a triple fault. */
  #decode(): boolean {
    try {
      const offset = this.#core.fetchRip();
      const ramOffset = offset >= 0 ? offset : this.#fetchPage(this.#linearRip());
      this.#makeRoom();
      const header = this.#decoder.decode(ramOffset, this.#u32(STATE.MODE), this.#fetchNextPage);
      this.#setU32(STATE.FAULT_VECTOR, 0xffff_ffff);
      this.#core.insertBlock(header);
      return true;
    } catch (error) {
      if (error instanceof FetchFault) return this.#core.deliverFault() !== 3;
      throw error;
    }
  }

  #linearRip(): bigint {
    const linear = this.#u64(STATE.RIP) + this.#u64(STATE.SEG_BASE + 8);
    const wide = (this.#u32(STATE.MODE) & MODE.CODE_SIZE_MASK) === MODE.CODE64;
    return BigInt.asUintN(wide ? 64 : 32, linear);
  }

  /** The page that follows the one that RIP is in. */
  readonly #fetchNextPage = (): number => this.#fetchPage((this.#linearRip() | 4095n) + 1n);

  #fetchPage(linear: bigint): number {
    const offset = this.#core.translateFetch(BigInt.asIntN(64, linear));
    if (offset === -1n) throw new FetchFault();
    if (offset === -2n) {
      throw new ExecutionAddressError(
        `the guest jumped to 0x${linear.toString(16)}, where there is no memory to execute\n${this.dump()}`,
      );
    }
    return Number(offset);
  }

  interruptRun(): void {
    this.#interrupted = true;
    this.#setU64(STATE.ICOUNT_LIMIT, 0n);
  }

  get interruptible(): boolean {
    return this.#core.interruptsPossible() !== 0;
  }

  get halted(): boolean {
    return this.#u32(STATE.HALTED) !== 0 && this.#core.nmiPossible() === 0;
  }

  interrupt(vector: number): void {
    this.#core.interrupt(vector);
  }

  setInterruptPending(pending: boolean): void {
    this.#setU32(STATE.INTR_PENDING, pending ? 1 : 0);
    if (pending) this.interruptRun();
  }

  invalidate(ramOffset: number, length: number): void {
    // The device may have been called by the block that it wrote to.
    if (this.#core.invalidateRange(ramOffset, length) > 0) this.#setU32(STATE.CODE_WRITTEN, 1);
  }

  setTracePoints(ramOffsets: readonly number[]): void {
    setTracePoints(this.#view, ramOffsets);
    this.#flushBlocks();
  }

  get jitStats(): JitStats {
    return this.#jit.stats;
  }

  get instructions(): number {
    return Number(this.#u64(STATE.ICOUNT));
  }

  dump(): string {
    const hex = (value: bigint): string => value.toString(16).padStart(16, '0');
    const registers = GPR.map((name, n) => `${name.padStart(3)} ${hex(this.#u64(STATE.REGS + n * 8))}`);
    const lines: string[] = [];
    for (let n = 0; n < 16; n += 4) lines.push(registers.slice(n, n + 4).join('  '));
    const cs = this.#u32(STATE.SEG_SEL + 4).toString(16);
    lines.push(
      `rip ${hex(this.#u64(STATE.RIP))}  cs ${cs}  flags ${hex(this.#core.getFlags())}  mode ${this.#u32(STATE.MODE).toString(16)}`,
      `cr0 ${hex(this.#u64(STATE.CR0))}  cr2 ${hex(this.#u64(STATE.CR2))}  cr3 ${hex(this.#u64(STATE.CR3))}  cr4 ${hex(this.#u64(STATE.CR4))}`,
    );
    return lines.join('\n');
  }
}

/** Makes a vCPU on a linear memory that `memoryMap` laid out. */
export function createCpu(
  memory: WebAssembly.Memory,
  map: MemoryMap,
  hooks: CpuHooks,
  options: CpuOptions = {},
): Cpu {
  return new Vcpu(memory, map, hooks, options);
}
