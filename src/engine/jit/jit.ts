/**
 * The second tier: compiles hot blocks' regions and hooks them into the interpreter.
 *
 * A compiled block's first micro-op becomes `region` with the function's index in the table; the region's
 * code bytes are covered by block headers of their own, whose OWNER is the block, so that a write to any of
 * them ends it.
 */
import type { CoreExports } from '../core/exports.ts';
import type { BlockDecoder } from '../decode/index.ts';
import { BLOCK, type MemoryMap, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { exportedFunctions } from '../wasm/module-reader.ts';
import { ModuleWriter } from '../wasm/module-writer.ts';
import { buildFlowGraph, type FlowGraph } from './flow-graph.ts';
import { compileRegion } from './region-compiler.ts';

/** Mode bit of headers that only guard bytes: no look-up asks for it. */
const GUARD_MODE = 0x8000_0000;
/** A heat that is not reached again: the block is compiled, or cannot be. */
const NEVER = 0x7fff_ffff;
const TABLE_GROWTH = 256;

export interface JitStats {
  regions: number;
  moduleBytes: number;
  guestInstructions: number;
  compileMs: number;
}

export class Jit {
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_GROWTH });
  readonly stats: JitStats = { regions: 0, moduleBytes: 0, guestInstructions: 0, compileMs: 0 };
  readonly #core: CoreExports;
  readonly #signatures: ReturnType<typeof exportedFunctions>;
  readonly #imports: WebAssembly.Imports;
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  readonly #decoder: BlockDecoder;
  readonly #tlbEntries: number;
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
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    for (let n = 0; n < this.#used; n++) this.table.set(n, null);
    this.#used = 0;
  }

  /** Compiles the region of a block that has become hot. */
  compile(header: number): void {
    const view = this.#view;
    view.setUint32(header + BLOCK.HEAT, NEVER, true);
    if (view.getUint32(header + BLOCK.PAGE2, true) !== BLOCK.NO_PAGE) return;
    const started = performance.now();
    const offset = view.getUint32(header + BLOCK.PHYS, true);
    const mode = view.getUint32(header + BLOCK.MODE, true);
    const page = offset & ~4095;
    const graph = buildFlowGraph(this.#ram, page, offset & 4095, mode);
    if (!graph.blocks.has(graph.entry) || !this.#guard(header, graph, page, mode)) return;
    const uop = header + BLOCK.SIZE;
    view.setUint32(uop + UOP.LINK, this.#instantiate(graph), true);
    view.setUint16(uop + UOP.OP, uopNumber('region'), true);
    this.stats.regions += 1;
    this.stats.guestInstructions += graph.instructions;
    this.stats.compileMs += performance.now() - started;
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

  /** Makes the region's function and returns its index in the table. */
  #instantiate(graph: FlowGraph): number {
    const module = new ModuleWriter();
    module.importMemory('env', 'memory', 65536);
    const imports = new Map<string, number>();
    for (const [name, signature] of this.#signatures) {
      imports.set(name, module.importFunction('core', name, signature));
    }
    module.addFunction('region', compileRegion(graph, imports, this.#tlbEntries));
    const bytes = module.finish();
    this.stats.moduleBytes += bytes.length;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), this.#imports);
    if (this.#used >= this.table.length) this.table.grow(TABLE_GROWTH);
    this.table.set(this.#used, instance.exports.region);
    this.#used += 1;
    return this.#used - 1;
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
