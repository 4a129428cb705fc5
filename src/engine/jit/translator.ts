/**
 * From requests to WebAssembly modules: finds a region's code in the VM's memory, and writes functions. It only reads
 * the memory, so that it can work beside the running guest; whoever installs its result looks whether the code is
 * still the same.
 */
import { BLOCK, CPU, type MemoryMap, MISSES, MODE, REGION, STATE, UOP } from '../layout.ts';
import { type TracePoints, tracePointAt } from '../trace-points.ts';
import { uopDefinitions, uopProperty } from '../uops/index.ts';
import type { ExportedFunction } from '../wasm/module-reader.ts';
import { importOnUse, ModuleWriter } from '../wasm/module-writer.ts';
import { blockAt, isCompiled, missesAt } from './blocks.ts';
import { type CodeSource, pageOf } from './code-reader.ts';
import { blocksOf, buildFlowGraph, type FlowGraph } from './flow-graph.ts';
import { type Paging, PageWalker } from './page-walk.ts';
import { Places } from './places.ts';
import { compileRegion } from './region-compiler.ts';
import { REGION_SIGNATURE } from '../region-call.ts';

/** A hot block whose region is wanted. */
export interface CompileRequest {
  /** Address of the record that the region will have, see `REGION`. */
  readonly record: number;
  /** Offset in RAM of the block's first byte, and the RIP and linear address of that. */
  readonly ramOffset: number;
  readonly rip: bigint;
  readonly linear: bigint;
  readonly paging: Paging;
  /** How often all blocks had been forgotten. */
  readonly epoch: number;
}

/** Bytes of guest code that a region was made from. */
export interface CodeRange {
  readonly ramOffset: number;
  readonly bytes: Uint8Array;
  /** The trace points that are told in it. */
  readonly tracePoints: TracePoints;
}

/** A function of a module. */
export interface TranslatedRegion {
  readonly request: CompileRequest;
  /** Pages of its code: number relative to the entry's, and number in RAM. */
  readonly pages: readonly (readonly [number, number])[];
  readonly ranges: readonly CodeRange[];
  /** Offsets in RAM of the places that it can be entered at, in the order of their numbers. */
  readonly entries: readonly number[];
  readonly instructions: number;
}

/** A module whose exports are named by the position of their regions. */
export interface Translation {
  readonly bytes: Uint8Array;
  readonly regions: readonly TranslatedRegion[];
}

/**
 * What became of a request: a place in the next module, or to be asked again if the block is hot once more, or nothing: there
 * is no code that can be compiled.
 */
export type Verdict = 'taken' | 'deferred' | 'refused';

export interface TranslatorOptions {
  readonly map: MemoryMap;
  readonly tlbEntries: number;
  /** Executions of a block before it is hot. */
  readonly threshold: number;
}

/** A block belongs to a region when it has been executed 1 / WARM as often as makes a block hot. */
const WARM = 16;
/** Micro-ops that a block may have. */
const MAX_BLOCK_UOPS = 600;
/** How far a user program's computed jump may be followed: what is farther away is elsewhere in another process. */
const USER_REACH = 1 << 22;

/** Whether a micro-op keeps its targets in its record. */
const keepsTargets = uopProperty((name) => /^(jmp|call)\d.*\.r$/.test(name));

export class Translator {
  readonly #signatures: ReadonlyMap<string, ExportedFunction>;
  readonly #options: TranslatorOptions;
  readonly #view: DataView;
  readonly #ram: Uint8Array;
  readonly #walker: PageWalker;
  /** Places in regions that have not been deferred yet, of one epoch. */
  readonly #covered = new Places();
  #epoch = 0;
  readonly #pending: { readonly request: CompileRequest; readonly graph: FlowGraph }[] = [];

  constructor(
    buffer: ArrayBufferLike,
    signatures: ReadonlyMap<string, ExportedFunction>,
    options: TranslatorOptions,
  ) {
    this.#signatures = signatures;
    this.#options = options;
    this.#view = new DataView(buffer);
    this.#ram = new Uint8Array(buffer, options.map.ram, options.map.ramBytes);
    this.#walker = new PageWalker(buffer, options.map);
  }

  /** Regions for the next module. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Forgets what is pending. */
  clear(): void {
    this.#pending.length = 0;
  }

  /**
   * Finds the region of a block.
   *
   * The blocks of a loop become hot together, and the region of the first has them all. So a block that is part of
   * another region is deferred once: if it is hot again, control gets to it by a way of its own.
   */
  add(request: CompileRequest): Verdict {
    if (request.epoch !== this.#epoch) {
      this.#epoch = request.epoch;
      this.#covered.clear();
    }
    const { mode } = request.paging;
    if (this.#covered.delete(request.ramOffset, mode)) return 'deferred';
    const graph = buildFlowGraph(this.#source(request), request.ramOffset & 4095, mode);
    if (graph.instructions === 0) return 'refused';
    this.#pending.push({ request, graph });
    this.#cover(graph, mode);
    return 'taken';
  }

  /** All instructions but the first: the interpreter's blocks may begin where no node does. */
  #cover(graph: FlowGraph, mode: number): void {
    const [first] = graph.entries;
    for (const node of blocksOf(graph)) {
      for (const { pc } of node.instructions) {
        if (pc === first.offset) continue;
        this.#covered.add(graph.pages.get(pageOf(pc))!.ramOffset + (pc & 4095), mode);
      }
    }
  }

  /** Writes the pending regions as one module: most of a module's cost does not depend on its size. */
  finish(): Translation | undefined {
    if (this.#pending.length === 0) return undefined;
    const module = new ModuleWriter();
    module.importMemory('env', 'memory', 65536);
    module.importTable('env', 'regions');
    const regionType = module.type(REGION_SIGNATURE);
    const coreFunction = importOnUse(module, this.#signatures);
    const { tlbEntries } = this.#options;
    const regions = this.#pending.map(({ request, graph }, n) => {
      const isUser = (request.paging.mode & MODE.USER) !== 0;
      const placement = graph.pages.size > 1 ? placementOf(request) : undefined;
      const region = compileRegion({ graph, placement, block: request.record, isUser }, coreFunction, {
        tlbEntries,
        regionType,
      });
      module.addFunction(String(n), region);
      return this.#describe(request, graph);
    });
    this.#pending.length = 0;
    return { bytes: module.finish(), regions };
  }

  #describe(request: CompileRequest, graph: FlowGraph): TranslatedRegion {
    const instructions = blocksOf(graph).flatMap((node) => node.instructions);
    const ranges = codeRanges(graph).map(([start, end]): CodeRange => {
      const page = graph.pages.get(pageOf(start))!;
      const at = start & 4095;
      const tracePoints = new Map<number, number>();
      for (const { pc, tracePoint } of instructions) {
        if (tracePoint >= 0 && pc >= start && pc < end)
          tracePoints.set(page.ramOffset + (pc & 4095), tracePoint);
      }
      return { ramOffset: page.ramOffset + at, bytes: page.bytes.slice(at, at + end - start), tracePoints };
    });
    const pages = [...graph.pages].map(([relative, { ramOffset }]) => [relative, ramOffset >>> 12] as const);
    const entries = graph.entries.map(
      ({ offset }) => graph.pages.get(pageOf(offset))!.ramOffset + (offset & 4095),
    );
    return { request, pages, ranges, entries, instructions: graph.instructions };
  }

  #source(request: CompileRequest): CodeSource {
    const { linear, paging } = request;
    const page = (relative: number): number => {
      if (relative === 0) return request.ramOffset & ~4095;
      const at = (linear & ~4095n) + BigInt(relative) * 4096n;
      // A region lies in one half of the address space.
      return BigInt.asUintN(64, at ^ linear) >> 63n === 0n ? this.#walker.codePage(at, paging) : -1;
    };
    return {
      ram: this.#ram,
      page,
      tracePoint: (at) => tracePointAt(this.#view, at),
      missesOften: (at) => missesAt(this.#view, at) >= MISSES.OFTEN,
      executed: (at) => this.#isWarm(at, paging.mode),
      compiled: (at) => this.#isCompiled(at, paging.mode),
      targets: (block, pc) => this.#targets(request, page(pageOf(block)) + (block & 4095), pc & 4095),
    };
  }

  /** A block starts there and has been executed a few times, or its region is compiled. */
  #isWarm(ramOffset: number, mode: number): boolean {
    const header = blockAt(this.#view, ramOffset, mode);
    if (header === 0) return false;
    const { threshold } = this.#options;
    const left = this.#view.getUint32(header + BLOCK.HEAT, true);
    return left > threshold || left < threshold - threshold / WARM;
  }

  #isCompiled(ramOffset: number, mode: number): boolean {
    const header = blockAt(this.#view, ramOffset, mode);
    return header !== 0 && isCompiled(this.#view, header);
  }

  /** Offsets that the computed jump at `pc` of its page, in the block at a RAM offset, went to. */
  #targets({ rip, linear, paging }: CompileRequest, block: number, pc: number): number[] {
    const header = block < 0 ? 0 : blockAt(this.#view, block, paging.mode);
    const uop = header === 0 ? 0 : this.#computedJump(header, pc);
    if (uop === 0) return [];
    const base = Number(BigInt.asIntN(32, rip - (linear & 4095n)));
    const reach = paging.mode & MODE.USER ? USER_REACH : Number.POSITIVE_INFINITY;
    const words = [UOP.LINK, UOP.IMM, UOP.IMM + 4].map((field) => this.#view.getInt32(uop + field, true));
    const offsets = words.filter((word) => word !== 0).map((word) => (word - base) | 0);
    return [...new Set(offsets)].filter((offset) => Math.abs(offset) < reach);
  }

  #computedJump(header: number, pc: number): number {
    for (let n = 0; n < MAX_BLOCK_UOPS; n++) {
      const uop = header + BLOCK.SIZE + n * UOP.SIZE;
      if (this.#view.getUint16(uop + UOP.PC, true) !== pc) continue;
      const op = this.#view.getUint16(uop + UOP.OP, true);
      if (op < uopDefinitions().length && keepsTargets(op)) return uop;
    }
    return 0;
  }
}

function placementOf({ record, linear }: CompileRequest): { record: number; generation: number } {
  const isHigh = BigInt.asUintN(64, linear) >> 63n !== 0n;
  const generation = CPU + (isHigh ? STATE.GENERATION_HIGH : STATE.GENERATION_LOW);
  return { record: record + REGION.PLACEMENT, generation };
}

/** The bytes of the region's blocks as disjoint [start, end) offsets, each within a page. */
function codeRanges(graph: FlowGraph): [number, number][] {
  const spans = blocksOf(graph)
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
