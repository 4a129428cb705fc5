/**
 * The second tier: compiles hot blocks' regions and hooks them into the interpreter.
 *
 * A compiled block's first micro-op becomes `region` with the function's index in the table; the region's
 * code bytes are covered by block headers of their own, whose OWNER is the block, so that a write to any of
 * them ends it.
 */
import type { CoreExports } from '../core/exports.ts';
import type { JitStats } from '../cpu.ts';
import type { BlockDecoder } from '../decode/index.ts';
import { BLOCK, CPU, type MemoryMap, MODE, PLACEMENT, STATE, UOP } from '../layout.ts';
import { uopDefinitions, uopNumber } from '../uops/index.ts';
import { exportedFunctions } from '../wasm/module-reader.ts';
import { importOnUse, ModuleWriter } from '../wasm/module-writer.ts';
import { type CodeSource, pageOf } from './code-reader.ts';
import { buildFlowGraph, type FlowGraph } from './flow-graph.ts';
import { compileRegion, type RegionOptions, type RegionSource } from './region-compiler.ts';

/** Mode bit of headers that only guard bytes: no look-up asks for it. */
const GUARD_MODE = 0x8000_0000;
/** A heat that is not reached again: the block is compiled, or cannot be. */
const NEVER = 0x7fff_ffff;
const TABLE_GROWTH = 256;
const BATCH = 16;
/** A block belongs to a region when it has been executed 1 / WARM as often as makes a block hot. */
const WARM = 16;

/** Micro-ops that a block may have. */
const MAX_BLOCK_UOPS = 600;
/** How far a user program's computed jump may be followed: what is farther away is elsewhere in another process. */
const USER_REACH = 1 << 22;

const isComputedJump: boolean[] = [];
/** Whether micro-op `op` keeps its targets in its record. */
function keepsTargets(op: number): boolean {
  isComputedJump[op] ??= /^(jmp|call)\d.*\.r$/.test(uopDefinitions()[op]?.name ?? '');
  return isComputedJump[op];
}

/** The place that a region begins at. */
export interface RegionEntry {
  /** Header of its block. */
  readonly header: number;
  /** RIP of the first byte of its page. */
  readonly page: bigint;
  /** RAM offset of a page relative to the entry's, as mapped now; -1 if there is none. */
  ramPage(relative: number): number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class Jit {
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_GROWTH });
  readonly stats: Mutable<JitStats> = {
    regions: 0,
    modules: 0,
    moduleBytes: 0,
    guestInstructions: 0,
    compileMs: 0,
  };
  readonly #core: CoreExports;
  readonly #signatures: ReturnType<typeof exportedFunctions>;
  readonly #imports: WebAssembly.Imports;
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  readonly #decoder: BlockDecoder;
  readonly #options: Omit<RegionOptions, 'regionType'>;
  /** Blocks to compile. */
  readonly #queue: (RegionSource & { readonly header: number })[] = [];
  readonly #threshold: number;
  /** Bytes of the modules since `clear`. */
  codeBytes = 0;
  #used = 0;

  constructor(
    memory: WebAssembly.Memory,
    map: MemoryMap,
    core: CoreExports,
    coreBytes: Uint8Array,
    decoder: BlockDecoder,
    tlbEntries: number,
    threshold: number,
  ) {
    this.#core = core;
    this.#signatures = exportedFunctions(coreBytes);
    this.#imports = {
      env: { memory, regions: this.table },
      core: core as unknown as Record<string, WebAssembly.ImportValue>,
    };
    this.#ram = new Uint8Array(memory.buffer, map.ram, map.ramBytes);
    this.#view = new DataView(memory.buffer);
    this.#decoder = decoder;
    this.#options = { tlbEntries };
    this.#threshold = threshold;
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    for (let n = 0; n < this.#used; n++) this.table.set(n, null);
    this.#used = 0;
    this.codeBytes = 0;
    this.#queue.length = 0;
  }

  /** Takes the region of a block that has become hot; it is compiled with the next batch. */
  request(entry: RegionEntry): void {
    const view = this.#view;
    const { header } = entry;
    view.setUint32(header + BLOCK.HEAT, NEVER, true);
    const mode = view.getUint32(header + BLOCK.MODE, true);
    // A trap follows each instruction; one that lies in two pages is a block by itself.
    if ((mode & MODE.SINGLE_STEP) !== 0 || view.getUint32(header + BLOCK.PAGE2, true) !== BLOCK.NO_PAGE)
      return;
    const started = performance.now();
    const start = view.getUint32(header + BLOCK.PHYS, true) & 4095;
    const graph = buildFlowGraph(this.#source(entry, mode), start, mode);
    if (graph.instructions > 0) this.#enqueue(entry, graph, mode);
    this.stats.compileMs += performance.now() - started;
    if (this.#queue.length >= BATCH) this.compile();
  }

  #enqueue(entry: RegionEntry, graph: FlowGraph, mode: number): void {
    const { header } = entry;
    const guards = this.#guard(header, graph, mode);
    if (guards === undefined) return;
    const record = graph.pages.size > 1 ? this.#place(header, graph) : undefined;
    if (graph.pages.size > 1 && record === undefined) return;
    const half = entry.page < 0n || entry.page >= 1n << 63n ? STATE.GENERATION_HIGH : STATE.GENERATION_LOW;
    const placement = record === undefined ? undefined : { record, generation: CPU + half };
    this.#queue.push({ header, graph, placement });
  }

  #source(entry: RegionEntry, mode: number): CodeSource {
    const base = Number(BigInt.asIntN(32, entry.page));
    const reach = mode & MODE.USER ? USER_REACH : Number.POSITIVE_INFINITY;
    return {
      ram: this.#ram,
      page: entry.ramPage,
      executed: (at) => this.#isWarm(at, mode),
      targets: (block, pc) => {
        const page = entry.ramPage(pageOf(block));
        const uop = page < 0 ? 0 : this.#computedJump(page + (block & 4095), pc & 4095, mode);
        if (uop === 0) return [];
        const words = [UOP.LINK, UOP.IMM, UOP.IMM + 4].map((field) => this.#view.getInt32(uop + field, true));
        const offsets = words.filter((word) => word !== 0).map((word) => (word - base) | 0);
        return [...new Set(offsets)].filter((offset) => Math.abs(offset) < reach);
      },
    };
  }

  /** The computed jump at `pc` of its page in the block at a RAM offset, 0 if there is none. */
  #computedJump(block: number, pc: number, mode: number): number {
    const header = this.#core.blockAt(block, mode);
    if (header === 0) return 0;
    for (let n = 0; n < MAX_BLOCK_UOPS; n++) {
      const uop = header + BLOCK.SIZE + n * UOP.SIZE;
      if (this.#view.getUint16(uop + UOP.PC, true) !== pc) continue;
      if (keepsTargets(this.#view.getUint16(uop + UOP.OP, true))) return uop;
    }
    return 0;
  }

  /** Compiles what has been requested, as one module: most of a module's cost does not depend on its size. */
  compile(): void {
    const live = this.#queue.filter(({ header }) => this.#view.getUint32(header + BLOCK.DEAD, true) === 0);
    this.#queue.length = 0;
    if (live.length === 0) return;
    const started = performance.now();
    const module = new ModuleWriter();
    module.importMemory('env', 'memory', 65536);
    module.importTable('env', 'regions');
    const regionType = module.type({ params: [], results: ['i32'] });
    const coreFunction = importOnUse(module, this.#signatures);
    live.forEach((source, n) => {
      module.addFunction(String(n), compileRegion(source, coreFunction, { ...this.#options, regionType }));
      this.stats.guestInstructions += source.graph.instructions;
    });
    this.#install(
      module.finish(),
      live.map(({ header }) => header),
    );
    this.stats.compileMs += performance.now() - started;
  }

  /** A block starts there and has been executed a few times, or its region is compiled. */
  #isWarm(ramOffset: number, mode: number): boolean {
    const header = this.#core.blockAt(ramOffset, mode);
    if (header === 0) return false;
    const left = this.#view.getUint32(header + BLOCK.HEAT, true);
    return left > this.#threshold || left < this.#threshold - this.#threshold / WARM;
  }

  /** Puts the functions of a module into the table and hooks them to their blocks. */
  #install(bytes: Uint8Array, headers: readonly number[]): void {
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), this.#imports);
    headers.forEach((header, n) => {
      if (this.#used >= this.table.length) this.table.grow(TABLE_GROWTH);
      this.table.set(this.#used, instance.exports[String(n)]);
      const uop = header + BLOCK.SIZE;
      this.#view.setUint32(uop + UOP.LINK, this.#used, true);
      this.#view.setUint16(uop + UOP.OP, uopNumber('region'), true);
      this.#used += 1;
    });
    this.stats.regions += headers.length;
    this.stats.modules += 1;
    this.stats.moduleBytes += bytes.length;
    this.codeBytes += bytes.length;
  }

  /** Headers for the bytes that the region was made from; undefined when there is no room for them. */
  #guard(owner: number, graph: FlowGraph, mode: number): number | undefined {
    const ranges = codeRanges(graph);
    const size = BLOCK.SIZE + UOP.SIZE;
    const first = this.#decoder.allocate(ranges.length * size);
    if (first === undefined) return undefined;
    ranges.forEach(([start, end], n) => {
      const at = first + n * size;
      const view = this.#view;
      for (let i = 0; i < size; i += 4) view.setUint32(at + i, 0, true);
      const page = graph.pages.get(pageOf(start))!;
      view.setUint32(at + BLOCK.PHYS, page + (start & 4095), true);
      view.setUint32(at + BLOCK.MODE, (mode | GUARD_MODE) >>> 0, true);
      view.setUint16(at + BLOCK.LENGTH, end - start, true);
      view.setUint32(at + BLOCK.PAGE2, BLOCK.NO_PAGE, true);
      view.setUint32(at + BLOCK.OWNER, owner, true);
      this.#core.insertBlock(at);
    });
    return first;
  }

  /** Writes a region's record of its pages; undefined when there is no room for it. */
  #place(owner: number, graph: FlowGraph): number | undefined {
    const record = this.#decoder.allocate(PLACEMENT.PAGES + graph.pages.size * PLACEMENT.PAGE_SIZE);
    if (record === undefined) return undefined;
    const view = this.#view;
    view.setBigInt64(record + PLACEMENT.GENERATION, -1n, true);
    view.setBigInt64(record + PLACEMENT.PAGE, -1n, true);
    view.setUint32(record + PLACEMENT.OWNER, owner, true);
    view.setUint32(record + PLACEMENT.COUNT, graph.pages.size, true);
    [...graph.pages].forEach(([relative, ramPage], n) => {
      const at = record + PLACEMENT.PAGES + n * PLACEMENT.PAGE_SIZE;
      view.setInt32(at, relative, true);
      view.setUint32(at + 4, ramPage >>> 12, true);
    });
    return record;
  }
}

/** The bytes of the region's blocks as disjoint [start, end) offsets, each within a page. */
function codeRanges(graph: FlowGraph): [number, number][] {
  const spans = [...graph.nodes.values()]
    .filter((node) => node.kind === 'code')
    .map(({ start, instructions }): [number, number] => [start, instructions.at(-1)!.next])
    .sort((a, b) => a[0] - b[0]);
  const ranges: [number, number][] = [];
  for (const [start, end] of spans) {
    const last = ranges.at(-1);
    if (last !== undefined && start <= last[1] && pageOf(start) === pageOf(last[0]))
      last[1] = Math.max(last[1], end);
    else ranges.push([start, end]);
  }
  return ranges;
}
