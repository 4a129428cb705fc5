/**
 * The compiled modules of a VM, within a budget: what has not been used for longest goes first.
 *
 * A module can only go as a whole: its functions share an instance. Regions set their block's USED flag whenever they
 * are entered. Modules wait in a queue, the oldest first; one of which a region was used since it was last looked at
 * goes to the queue's end (second chance). The blocks of those that go are interpreted again, and may become hot again.
 */
import type { CoreExports } from '../core/exports.ts';
import type { AddressRange } from '../decode/index.ts';
import { BLOCK, REGION_LINK, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { modulesDropped } from '../v8.ts';

const TABLE_GROWTH = 256;
/** A heat that is not reached again: the block is compiled, or cannot be. */
export const NEVER = 0x7fff_ffff;

/** A compiled function, and the blocks that belong to it. */
export interface InstalledRegion {
  readonly code: unknown;
  /** Header of the block that it replaces. */
  readonly header: number;
  /** Headers of the blocks that guard its bytes. */
  readonly guards: readonly number[];
  /** Address of the record of where its pages are. */
  readonly placement: number;
}

/** A block whose first micro-op enters a region, and what that was before. */
interface Hook {
  readonly header: number;
  readonly op: number;
  link: number;
}

/** A region in its place. */
export interface CachedRegion {
  readonly guards: readonly number[];
  readonly placement: number;
  /** Index in the table. */
  readonly index: number;
  /** The first is of the region's own block. */
  hooks: readonly Hook[];
  evicted: boolean;
}

interface CachedModule {
  readonly bytes: number;
  regions: readonly CachedRegion[];
}

const isIn = (address: number, { start, end }: AddressRange): boolean => address >= start && address < end;

/** Whether a region has its block, the record of its pages or one of its guards in a range. */
function needs({ hooks: [own], guards, placement }: CachedRegion, range: AddressRange): boolean {
  return isIn(own.header, range) || isIn(placement, range) || guards.some((guard) => isIn(guard, range));
}

export class CodeCache {
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_GROWTH });
  /** Bytes of the modules that are there, and regions in them. */
  bytes = 0;
  regions = 0;
  /** Regions that had to go. */
  evicted = 0;
  readonly #view: DataView;
  readonly #core: CoreExports;
  readonly #budgetBytes: number;
  readonly #heat: number;
  readonly #modules: CachedModule[] = [];
  readonly #free: number[] = [];
  #used = 0;

  /** @param heat executions of a block before it is hot */
  constructor(memory: WebAssembly.Memory, core: CoreExports, budgetBytes: number, heat: number) {
    this.#view = new DataView(memory.buffer);
    this.#core = core;
    this.#budgetBytes = budgetBytes;
    this.#heat = heat;
  }

  /** Puts a module's regions in their places; others go if the budget is spent. */
  add(bytes: number, installed: readonly InstalledRegion[]): readonly CachedRegion[] {
    const regions = installed.map((region) => this.#place(region));
    this.#modules.push({ bytes, regions });
    this.bytes += bytes;
    this.regions += regions.length;
    this.#makeRoom();
    return regions;
  }

  /** Has another block enter a live region, at an entry that is not the first. */
  addEntry(region: CachedRegion, entry: number, header: number): void {
    const hook = this.#hook(header, region.index | (entry << REGION_LINK.ENTRY_SHIFT));
    this.#setHooks(region, [...region.hooks.filter((other) => !this.#isDead(other)), hook]);
  }

  /** Whether a region can still be entered. */
  isLive(region: CachedRegion): boolean {
    return !region.evicted && !this.#isDead(region.hooks[0]);
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    for (let n = 0; n < this.#used; n++) this.table.set(n, null);
    this.#used = 0;
    this.#free.length = 0;
    this.#modules.length = 0;
    modulesDropped(this.bytes);
    this.bytes = 0;
    this.regions = 0;
  }

  /** How many regions need something at these addresses. */
  regionsIn(range: AddressRange): number {
    let count = 0;
    for (const { regions } of this.#modules) {
      for (const region of regions) if (this.isLive(region) && needs(region, range)) count += 1;
    }
    return count;
  }

  /** Drops the regions that need something at these addresses; what is kept leads there no more. */
  forget(range: AddressRange): void {
    for (const module of this.#modules) {
      const gone = module.regions.filter((region) => needs(region, range));
      for (const region of gone) this.#drop(region);
      if (gone.length > 0) module.regions = module.regions.filter((region) => !gone.includes(region));
      for (const region of module.regions) this.#forgetIn(region, range);
    }
    const empty = this.#modules.filter(({ regions }) => regions.length === 0);
    for (const module of empty) this.#remove(module);
  }

  /** The region's own block stays; further entries and old links at these addresses go. */
  #forgetIn(region: CachedRegion, range: AddressRange): void {
    const kept = region.hooks.filter(({ header }) => !isIn(header, range));
    for (const hook of kept) if (isIn(hook.link, range)) hook.link = 0;
    if (kept.length < region.hooks.length) this.#setHooks(region, kept);
  }

  #place({ code, header, guards, placement }: InstalledRegion): CachedRegion {
    const index = this.#free.pop() ?? this.#used++;
    if (index >= this.table.length) this.table.grow(TABLE_GROWTH);
    this.table.set(index, code);
    this.#view.setUint32(header + BLOCK.USED, 1, true);
    return { guards, placement, index, hooks: [this.#hook(header, index)], evicted: false };
  }

  #hook(header: number, regionLink: number): Hook {
    const view = this.#view;
    const uop = header + BLOCK.SIZE;
    const op = view.getUint16(uop + UOP.OP, true);
    const link = view.getUint32(uop + UOP.LINK, true);
    view.setUint32(uop + UOP.LINK, regionLink, true);
    view.setUint16(uop + UOP.OP, uopNumber('region'), true);
    view.setUint32(header + BLOCK.HEAT, NEVER, true);
    return { header, op, link };
  }

  /** A write to the region's code kills its own block, and by a chain of owners all that enter it. */
  #setHooks(region: CachedRegion, hooks: readonly Hook[]): void {
    region.hooks = hooks;
    hooks.forEach(({ header }, n) => {
      this.#view.setUint32(header + BLOCK.OWNER, hooks[n + 1]?.header ?? 0, true);
    });
  }

  /** The newest module stays, however large it is. */
  #makeRoom(): void {
    let chances = this.#modules.length;
    while (this.bytes > this.#budgetBytes && this.#modules.length > 1) {
      const oldest = this.#modules.shift()!;
      if (chances > 0 && this.#wasUsed(oldest)) this.#modules.push(oldest);
      else this.#evict(oldest);
      chances -= 1;
    }
  }

  #isDead({ header }: Hook): boolean {
    return this.#view.getUint16(header + BLOCK.DEAD, true) !== 0;
  }

  /** Whether a region of a module was entered since this was last asked. */
  #wasUsed({ regions }: CachedModule): boolean {
    let used = false;
    for (const region of regions) {
      const at = region.hooks[0].header + BLOCK.USED;
      if (this.isLive(region) && this.#view.getUint32(at, true) !== 0) used = true;
      this.#view.setUint32(at, 0, true);
    }
    return used;
  }

  /** Of a module that is no more in the queue. */
  #evict({ bytes, regions }: CachedModule): void {
    for (const region of regions) this.#drop(region);
    this.bytes -= bytes;
    modulesDropped(bytes);
  }

  #remove(module: CachedModule): void {
    this.#modules.splice(this.#modules.indexOf(module), 1);
    this.#evict(module);
  }

  #drop(region: CachedRegion): void {
    region.evicted = true;
    for (const hook of region.hooks) if (!this.#isDead(hook)) this.#unhook(hook);
    for (const guard of region.guards) this.#core.forgetGuard(guard);
    this.table.set(region.index, null);
    this.#free.push(region.index);
    this.regions -= 1;
    this.evicted += 1;
  }

  /** The block is as it was before, and cold. */
  #unhook({ header, op, link }: Hook): void {
    const view = this.#view;
    const uop = header + BLOCK.SIZE;
    view.setUint16(uop + UOP.OP, op, true);
    view.setUint32(uop + UOP.LINK, link, true);
    view.setUint32(header + BLOCK.OWNER, 0, true);
    view.setUint32(header + BLOCK.HEAT, this.#heat, true);
  }
}
