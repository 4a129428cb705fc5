/**
 * The second tier: compiles hot blocks' regions and hooks them into the interpreter.
 *
 * A compiled block's first micro-op becomes `region` with the function's index in the table; the region's
 * code bytes are covered by block headers of their own, whose OWNER is the block, so that a write to any of
 * them ends it.
 */
import type { CoreExports } from '../core/exports.ts';
import type { BlockDecoder } from '../decode/index.ts';
import { BLOCK, CODE_GRANULE, type MemoryMap, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import type { CoreFunction } from '../uops/memory-emitter.ts';
import { exportedFunctions } from '../wasm/module-reader.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';
import { importOnUse, ModuleWriter } from '../wasm/module-writer.ts';
import { buildFlowGraph, type FlowGraph } from './flow-graph.ts';
import { compileRegion } from './region-compiler.ts';

/** Mode bit of headers that only guard bytes: no look-up asks for it. */
const GUARD_MODE = 0x8000_0000;
/** A heat that is not reached again: the block is compiled, or cannot be. */
const NEVER = 0x7fff_ffff;
const TABLE_GROWTH = 256;
const BATCH = 16;

export interface JitStats {
  regions: number;
  modules: number;
  moduleBytes: number;
  guestInstructions: number;
  compileMs: number;
}

export class Jit {
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_GROWTH });
  readonly stats: JitStats = { regions: 0, modules: 0, moduleBytes: 0, guestInstructions: 0, compileMs: 0 };
  readonly #core: CoreExports;
  readonly #signatures: ReturnType<typeof exportedFunctions>;
  readonly #imports: WebAssembly.Imports;
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  readonly #decoder: BlockDecoder;
  readonly #tlbEntries: number;
  /** Headers of blocks to compile. */
  readonly #queue: number[] = [];
  readonly #codeBitmap: number;
  #used = 0;

  constructor(
    memory: WebAssembly.Memory,
    map: MemoryMap,
    core: CoreExports,
    coreBytes: Uint8Array,
    decoder: BlockDecoder,
    tlbEntries: number,
  ) {
    this.#core = core;
    this.#signatures = exportedFunctions(coreBytes);
    this.#imports = { env: { memory }, core: core as unknown as Record<string, WebAssembly.ImportValue> };
    this.#ram = new Uint8Array(memory.buffer, map.ram, map.ramBytes);
    this.#view = new DataView(memory.buffer);
    this.#decoder = decoder;
    this.#tlbEntries = tlbEntries;
    this.#codeBitmap = map.codeBitmap;
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    for (let n = 0; n < this.#used; n++) this.table.set(n, null);
    this.#used = 0;
    this.#queue.length = 0;
  }

  /** Notes a block that has become hot; its region is compiled with the next batch. */
  request(header: number): void {
    this.#view.setUint32(header + BLOCK.HEAT, NEVER, true);
    if (this.#view.getUint32(header + BLOCK.PAGE2, true) !== BLOCK.NO_PAGE) return;
    this.#queue.push(header);
    if (this.#queue.length >= BATCH) this.compile();
  }

  /** Compiles what has been requested, as one module: most of a module's cost does not depend on its size. */
  compile(): void {
    if (this.#queue.length === 0) return;
    const started = performance.now();
    const module = new ModuleWriter();
    module.importMemory('env', 'memory', 65536);
    const coreFunction = importOnUse(module, this.#signatures);
    const compiled: number[] = [];
    for (const header of this.#queue) {
      if (this.#view.getUint32(header + BLOCK.DEAD, true) !== 0) continue;
      const writer = this.#region(header, coreFunction);
      if (writer === undefined) continue;
      module.addFunction(String(compiled.length), writer);
      compiled.push(header);
    }
    this.#queue.length = 0;
    if (compiled.length > 0) this.#install(module.finish(), compiled);
    this.stats.compileMs += performance.now() - started;
  }

  #region(header: number, coreFunction: CoreFunction): FunctionWriter | undefined {
    const offset = this.#view.getUint32(header + BLOCK.PHYS, true);
    const mode = this.#view.getUint32(header + BLOCK.MODE, true);
    const page = offset & ~4095;
    const executed = (at: number): boolean => this.#holdsCode(page, at);
    const graph = buildFlowGraph(this.#ram, page, offset & 4095, mode, executed);
    if (!graph.blocks.has(graph.entry) || !this.#guard(header, graph, page, mode)) return undefined;
    this.stats.guestInstructions += graph.instructions;
    return compileRegion(graph, coreFunction, this.#tlbEntries);
  }

  /** Code near a page offset has been decoded, so it has probably been executed. */
  #holdsCode(page: number, at: number): boolean {
    const granule = Math.floor(at / CODE_GRANULE);
    const word = this.#view.getUint32(this.#codeBitmap + (page >>> 12) * 8 + (granule >>> 5) * 4, true);
    return ((word >>> (granule & 31)) & 1) !== 0;
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
  }

  /** Headers for the bytes that the region was made from; false when there is no room for them. */
  #guard(owner: number, graph: FlowGraph, page: number, mode: number): boolean {
    const ranges = codeRanges(graph);
    const size = BLOCK.SIZE + UOP.SIZE;
    const first = this.#decoder.allocate(ranges.length * size);
    if (first === undefined) return false;
    ranges.forEach(([start, end], n) => {
      const at = first + n * size;
      const view = this.#view;
      for (let i = 0; i < size; i += 4) view.setUint32(at + i, 0, true);
      view.setUint32(at + BLOCK.PHYS, page + start, true);
      view.setUint32(at + BLOCK.MODE, (mode | GUARD_MODE) >>> 0, true);
      view.setUint16(at + BLOCK.LENGTH, end - start, true);
      view.setUint32(at + BLOCK.PAGE2, BLOCK.NO_PAGE, true);
      view.setUint32(at + BLOCK.OWNER, owner, true);
      this.#core.insertBlock(at);
    });
    return true;
  }
}

/** The bytes of the region's blocks as disjoint [start, end) page offsets. */
function codeRanges(graph: FlowGraph): [number, number][] {
  const spans = [...graph.blocks.values()]
    .map((block): [number, number] => [block.start, block.instructions.at(-1)!.next])
    .sort((a, b) => a[0] - b[0]);
  const ranges: [number, number][] = [];
  for (const [start, end] of spans) {
    const last = ranges.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end);
    else ranges.push([start, end]);
  }
  return ranges;
}
