/** The second tier: has hot blocks' regions compiled, and put into the interpreter's way. */
import type { CoreExports } from '../core/exports.ts';
import type { JitStats } from '../cpu.ts';
import { BLOCK, CPU, type MemoryMap, MODE, PLACEMENT, REGION, STATE } from '../layout.ts';
import { type TracePoints, tracePointsIn } from '../trace-points.ts';
import { BATCH, type CompiledModule, type CompilerBackend } from './backend.ts';
import { blockAt, isCompiled } from './blocks.ts';
import { type CodeCache, NEVER } from './code-cache.ts';
import { RESULT } from '../region-call.ts';
import type { CompileRequest, TranslatedRegion } from './translator.ts';

/** What is asked for again has to be executed a fraction of the threshold's times once more: it is known to be hot. */
const AGAIN = 1 / 4;

/** The place that a region begins at. */
export type RegionEntry = Pick<CompileRequest, 'rip' | 'linear' | 'paging'> & {
  /** Address of its block's header. */
  readonly header: number;
};

export class Jit {
  readonly #imports: WebAssembly.Imports;
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  readonly #backend: CompilerBackend;
  /** Executions of a block before it is asked for again. */
  readonly #again: number;
  /** Requests since the last look at what has been compiled. */
  #requests = 0;
  /** How often all blocks were forgotten. */
  #epoch = 0;
  readonly #cache: CodeCache;
  #regions = 0;
  #modules = 0;
  #moduleBytes = 0;
  #guestInstructions = 0;
  #compileMs = 0;

  constructor(
    memory: WebAssembly.Memory,
    map: MemoryMap,
    core: CoreExports,
    backend: CompilerBackend,
    cache: CodeCache,
    threshold: number,
  ) {
    this.#again = Math.max(1, Math.floor(threshold * AGAIN));
    this.#cache = cache;
    this.#imports = {
      env: { memory, regions: cache.table },
      core: core as unknown as Record<string, WebAssembly.ImportValue>,
    };
    this.#ram = new Uint8Array(memory.buffer, map.ram, map.ramBytes);
    this.#view = new DataView(memory.buffer);
    this.#backend = backend;
  }

  get stats(): JitStats {
    const count = (offset: number): number => Number(this.#view.getBigUint64(CPU + offset, true));
    const returns = (result: number): number => count(STATE.JIT_RETURNS + result * 8);
    return {
      regions: this.#regions,
      modules: this.#modules,
      moduleBytes: this.#moduleBytes,
      guestInstructions: this.#guestInstructions,
      compileMs: this.#compileMs,
      evictedRegions: this.#cache.evicted,
      residentRegions: this.#cache.regions,
      residentBytes: this.#cache.bytes,
      instructions: count(STATE.ICOUNT),
      compiledInstructions: count(STATE.JIT_INSTRUCTIONS),
      leftForCode: returns(RESULT.LOOKUP),
      leftForFault: returns(RESULT.FAULT) + returns(RESULT.STACK_FAULT),
      leftForMiss: returns(RESULT.MISS),
      leftForSystem: returns(RESULT.LEAVE),
    };
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    this.#cache.clear();
    this.#epoch += 1;
    this.#backend.clear();
  }

  /** Asks for the region of a block that has become hot. */
  request(entry: RegionEntry): void {
    const { header, rip, linear, paging } = entry;
    const view = this.#view;
    view.setUint32(header + BLOCK.HEAT, NEVER, true);
    if (isCompiled(view, header)) return;
    // A trap follows each instruction; one that lies in two pages is a block by itself.
    if (paging.mode & MODE.SINGLE_STEP || view.getUint32(header + BLOCK.PAGE2, true) !== BLOCK.NO_PAGE)
      return;
    const record = this.#backend.isBusy ? undefined : this.#cache.reserve();
    if (record === undefined) {
      view.setUint32(header + BLOCK.HEAT, this.#again, true);
      return;
    }
    const ramOffset = view.getUint32(header + BLOCK.PHYS, true);
    this.#backend.request({ record, ramOffset, rip, linear, paging, epoch: this.#epoch });
    this.#requests += 1;
    if (this.#requests >= BATCH) this.collect();
  }

  /** Installs what has been compiled. */
  collect(): void {
    this.#requests = 0;
    const { modules, deferred, refused } = this.#backend.collect();
    for (const module of modules) this.#install(module);
    for (const request of refused) this.#release(request);
    for (const request of deferred) {
      this.#release(request);
      this.#countAnew(request);
    }
  }

  #release({ record, epoch }: CompileRequest): void {
    if (epoch === this.#epoch) this.#cache.release(record);
  }

  #countAnew({ ramOffset, paging }: CompileRequest): void {
    const header = blockAt(this.#view, ramOffset, paging.mode);
    if (header === 0 || isCompiled(this.#view, header)) return;
    this.#view.setUint32(header + BLOCK.HEAT, this.#again, true);
  }

  /** Puts the functions of a module in their places. */
  #install({ module, bytes, regions, ms }: CompiledModule): void {
    this.#compileMs += ms;
    const started = performance.now();
    const current = regions.flatMap((region, n) => {
      if (this.#isCurrent(region)) return [{ region, name: String(n) }];
      this.#release(region.request);
      return [];
    });
    if (current.length > 0) {
      const { exports } = new WebAssembly.Instance(module, this.#imports);
      for (const { region } of current) this.#writePlacement(region);
      this.#cache.add(
        bytes,
        current.map(({ region: { request, entries, ranges }, name }) => ({
          code: exports[name],
          record: request.record,
          mode: request.paging.mode,
          entries,
          ranges: ranges.map(({ ramOffset, bytes: code }) => ({ ramOffset, length: code.length })),
        })),
      );
      this.#guestInstructions += current.reduce((sum, { region }) => sum + region.instructions, 0);
      this.#regions += current.length;
      this.#modules += 1;
      this.#moduleBytes += bytes;
    }
    this.#compileMs += performance.now() - started;
  }

  /** The code is what the region was made from, and what is to be told of is what it tells. */
  #isCurrent({ request, ranges }: TranslatedRegion): boolean {
    if (request.epoch !== this.#epoch) return false;
    return ranges.every(
      ({ ramOffset, bytes, tracePoints }) =>
        bytes.every((byte, n) => this.#ram[ramOffset + n] === byte) &&
        isEqual(tracePointsIn(this.#view, ramOffset, bytes.length), tracePoints),
    );
  }

  /** The record of where the region's pages are: not looked at yet. */
  #writePlacement({ request: { record }, pages }: TranslatedRegion): void {
    const placement = record + REGION.PLACEMENT;
    const view = this.#view;
    view.setBigInt64(placement + PLACEMENT.GENERATION, -1n, true);
    view.setBigInt64(placement + PLACEMENT.PAGE, -1n, true);
    view.setUint32(placement + PLACEMENT.OWNER, record, true);
    view.setUint32(placement + PLACEMENT.COUNT, pages.length, true);
    pages.forEach(([relative, ramPage], n) => {
      const at = placement + PLACEMENT.PAGES + n * PLACEMENT.PAGE_SIZE;
      view.setInt32(at, relative, true);
      view.setUint32(at + 4, ramPage, true);
    });
  }
}

function isEqual(a: TracePoints, b: TracePoints): boolean {
  return a.size === b.size && [...a].every(([ramOffset, number]) => b.get(ramOffset) === number);
}
