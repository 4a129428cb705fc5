/**
 * The second tier: has hot blocks' regions compiled and hooks them into the interpreter.
 *
 * A compiled block's first micro-op becomes `region` with the function's index in the table; the region's
 * code bytes are covered by block headers of their own, whose OWNER is the block, so that a write to any of
 * them ends it.
 */
import type { CoreExports } from '../core/exports.ts';
import type { JitStats } from '../cpu.ts';
import type { AddressRange, BlockDecoder } from '../decode/index.ts';
import { BLOCK, CPU, type MemoryMap, MODE, PLACEMENT, REGION_LINK, STATE, UOP } from '../layout.ts';
import { type TracePoints, tracePointsIn } from '../trace-points.ts';
import { BATCH, type CompiledModule, type CompilerBackend } from './backend.ts';
import { blockAt, isCompiled, placeKey } from './blocks.ts';
import { type CachedRegion, type CodeCache, type InstalledRegion, NEVER } from './code-cache.ts';
import { RESULT } from '../region-call.ts';
import { MAX_PAGES } from './code-reader.ts';
import type { CompileRequest, TranslatedRegion } from './translator.ts';

/** Mode bit of headers that only guard bytes: no look-up asks for it. */
const GUARD_MODE = 0x8000_0000;

/** The place that a region begins at. */
export type RegionEntry = Pick<CompileRequest, 'rip' | 'linear' | 'paging'> & {
  /** Address of its block's header. */
  readonly header: number;
};

export class Jit {
  readonly #core: CoreExports;
  readonly #imports: WebAssembly.Imports;
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  readonly #decoder: BlockDecoder;
  readonly #backend: CompilerBackend;
  /** Executions of a block before it is hot. */
  readonly #threshold: number;
  /** Requests since the last look at what has been compiled. */
  #requests = 0;
  /** How often all blocks were forgotten. */
  #epoch = 0;
  readonly #cache: CodeCache;
  /** Entries of regions by their places; some are of regions that are gone. */
  readonly #entries = new Map<number, { readonly region: CachedRegion; readonly entry: number }>();
  #regions = 0;
  #modules = 0;
  #moduleBytes = 0;
  #guestInstructions = 0;
  #compileMs = 0;

  constructor(
    memory: WebAssembly.Memory,
    map: MemoryMap,
    core: CoreExports,
    decoder: BlockDecoder,
    backend: CompilerBackend,
    cache: CodeCache,
    threshold: number,
  ) {
    this.#threshold = threshold;
    this.#core = core;
    this.#cache = cache;
    this.#imports = {
      env: { memory, regions: cache.table },
      core: core as unknown as Record<string, WebAssembly.ImportValue>,
    };
    this.#ram = new Uint8Array(memory.buffer, map.ram, map.ramBytes);
    this.#view = new DataView(memory.buffer);
    this.#decoder = decoder;
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
      leftForSystem: returns(RESULT.LEAVE),
    };
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    this.#entries.clear();
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
    const ramOffset = view.getUint32(header + BLOCK.PHYS, true);
    if (this.#enterThere(header, placeKey(ramOffset, paging.mode))) return;
    if (this.#backend.isBusy) {
      view.setUint32(header + BLOCK.HEAT, this.#threshold, true);
      return;
    }
    const placement = this.#decoder.allocate(PLACEMENT.PAGES + MAX_PAGES * PLACEMENT.PAGE_SIZE);
    if (placement === undefined) {
      view.setUint32(header + BLOCK.HEAT, this.#threshold, true);
      return;
    }
    const fillings = [header, placement].map((address) => this.#decoder.arena.fillingAt(address));
    this.#backend.request({
      header,
      ramOffset,
      rip,
      linear,
      paging,
      placement,
      fillings,
      epoch: this.#epoch,
    });
    this.#requests += 1;
    if (this.#requests >= BATCH) this.collect();
  }

  /** Has a hot block enter a region that is there, if one can be entered at its place. */
  #enterThere(header: number, place: number): boolean {
    const found = this.#entries.get(place);
    if (found === undefined) return false;
    if (this.#cache.isLive(found.region)) {
      this.#cache.addEntry(found.region, found.entry, header);
      return true;
    }
    this.#entries.delete(place);
    return false;
  }

  /** Installs what has been compiled. */
  collect(): void {
    this.#requests = 0;
    const { modules, deferred } = this.#backend.collect();
    for (const module of modules) this.#install(module);
    for (const request of deferred) this.#countAnew(request);
  }

  /** How many regions need something at these addresses. */
  regionsIn(range: AddressRange): number {
    return this.#cache.regionsIn(range);
  }

  /** Drops the regions that need something at these addresses. */
  forget(range: AddressRange): void {
    this.#cache.forget(range);
  }

  #countAnew(request: CompileRequest): void {
    if (this.#isThere(request) && !isCompiled(this.#view, request.header)) {
      this.#view.setUint32(request.header + BLOCK.HEAT, this.#threshold, true);
    }
  }

  /** What the request has in the arena is still that. */
  #isThere({ header, placement, fillings }: CompileRequest): boolean {
    const { arena } = this.#decoder;
    return arena.fillingAt(header) === fillings[0] && arena.fillingAt(placement) === fillings[1];
  }

  /** Puts the functions of a module in their places. */
  #install({ module, bytes, regions, ms }: CompiledModule): void {
    this.#compileMs += ms;
    const started = performance.now();
    const current = regions.flatMap((region, n) => {
      const guards = this.#isCurrent(region) ? this.#guard(region) : undefined;
      return guards === undefined ? [] : [{ region, guards, name: String(n) }];
    });
    if (current.length > 0) {
      const instance = new WebAssembly.Instance(module, this.#imports);
      const installed = current.map(({ region, guards, name }): InstalledRegion => {
        this.#writePlacement(region);
        this.#guestInstructions += region.instructions;
        const { header, placement } = region.request;
        return { code: instance.exports[name], header, guards, placement };
      });
      const cached = this.#cache.add(bytes, installed);
      for (const [n, region] of cached.entries()) this.#noteEntries(region, current[n].region);
      this.#forgetOldEntries();
      this.#regions += installed.length;
      this.#modules += 1;
      this.#moduleBytes += bytes;
    }
    this.#compileMs += performance.now() - started;
  }

  /** Blocks at a region's further entries enter it from now on, or when they become hot. */
  #noteEntries(region: CachedRegion, { request, entries }: TranslatedRegion): void {
    const { mode } = request.paging;
    for (let entry = 1; entry < entries.length; entry++) {
      const header = blockAt(this.#view, entries[entry], mode);
      if (header !== 0 && !isCompiled(this.#view, header)) this.#cache.addEntry(region, entry, header);
      this.#entries.set(placeKey(entries[entry], mode), { region, entry });
    }
  }

  #forgetOldEntries(): void {
    if (this.#entries.size < 2 * REGION_LINK.ENTRIES * (this.#cache.regions + BATCH)) return;
    for (const [place, { region }] of this.#entries) {
      if (!this.#cache.isLive(region)) this.#entries.delete(place);
    }
  }

  /** The block is still there, the code is what the region was made from, and what is to be told of is what it tells. */
  #isCurrent({ request, ranges }: TranslatedRegion): boolean {
    const { header } = request;
    if (!this.#isThere(request) || this.#view.getUint16(header + BLOCK.DEAD, true) !== 0) return false;
    if (isCompiled(this.#view, header)) return false;
    return ranges.every(
      ({ ramOffset, bytes, tracePoints }) =>
        bytes.every((byte, n) => this.#ram[ramOffset + n] === byte) &&
        isEqual(tracePointsIn(this.#view, ramOffset, bytes.length), tracePoints),
    );
  }

  /** Makes headers for the bytes that the region was made from; undefined when there is no room for them. */
  #guard({ request, ranges }: TranslatedRegion): number[] | undefined {
    const size = BLOCK.SIZE + UOP.SIZE;
    const first = this.#decoder.allocate(ranges.length * size);
    if (first === undefined) {
      this.#countAnew(request);
      return undefined;
    }
    return ranges.map(({ ramOffset, bytes }, n) => {
      const at = first + n * size;
      const view = this.#view;
      for (let i = 0; i < size; i += 4) view.setUint32(at + i, 0, true);
      view.setUint32(at + BLOCK.PHYS, ramOffset, true);
      view.setUint32(at + BLOCK.MODE, (request.paging.mode | GUARD_MODE) >>> 0, true);
      view.setUint16(at + BLOCK.LENGTH, bytes.length, true);
      view.setUint32(at + BLOCK.PAGE2, BLOCK.NO_PAGE, true);
      view.setUint32(at + BLOCK.OWNER, request.header, true);
      this.#decoder.arena.noteHeader(at);
      this.#core.insertBlock(at);
      return at;
    });
  }

  /** The record of where the region's pages are: not looked at yet. */
  #writePlacement({ request, pages }: TranslatedRegion): void {
    const { placement, header } = request;
    const view = this.#view;
    view.setBigInt64(placement + PLACEMENT.GENERATION, -1n, true);
    view.setBigInt64(placement + PLACEMENT.PAGE, -1n, true);
    view.setUint32(placement + PLACEMENT.OWNER, header, true);
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
