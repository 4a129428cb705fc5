/**
 * The compiled modules of a VM, within a budget: what has not been used for longest goes first.
 *
 * A module can only go as a whole: its functions share an instance. Regions set their block's USED flag whenever they
 * are entered. Modules wait in a queue, the oldest first; one of which a region was used since it was last looked at
 * goes to the queue's end (second chance). The blocks of those that go are interpreted again, and may become hot again.
 */
import type { CoreExports } from '../core/exports.ts';
import type { AddressRange } from '../decode/index.ts';
import { BLOCK, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { modulesDropped } from '../v8.ts';

const TABLE_GROWTH = 256;

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

/** A region in its place, and what was there before. */
interface Hook {
  readonly region: Omit<InstalledRegion, 'code'>;
  /** Index in the table. */
  readonly index: number;
  readonly op: number;
  link: number;
}

interface CachedModule {
  readonly bytes: number;
  hooks: readonly Hook[];
}

const isIn = (address: number, { start, end }: AddressRange): boolean => address >= start && address < end;

/** Whether a region has its block, the record of its pages or one of its guards in a range. */
function needs({ region: { header, guards, placement } }: Hook, range: AddressRange): boolean {
  return isIn(header, range) || isIn(placement, range) || guards.some((guard) => isIn(guard, range));
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
  add(bytes: number, regions: readonly InstalledRegion[]): void {
    const hooks = regions.map((region) => this.#hook(region));
    this.#modules.push({ bytes, hooks });
    this.bytes += bytes;
    this.regions += hooks.length;
    this.#makeRoom();
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
    for (const { hooks } of this.#modules) {
      for (const hook of hooks) if (this.#isLive(hook) && needs(hook, range)) count += 1;
    }
    return count;
  }

  /** Drops the regions that need something at these addresses; what is kept leads there no more. */
  forget(range: AddressRange): void {
    for (const module of this.#modules) {
      const gone = module.hooks.filter((hook) => needs(hook, range));
      for (const hook of gone) this.#drop(hook);
      if (gone.length > 0) module.hooks = module.hooks.filter((hook) => !gone.includes(hook));
      for (const hook of module.hooks) if (isIn(hook.link, range)) hook.link = 0;
    }
    const empty = this.#modules.filter(({ hooks }) => hooks.length === 0);
    for (const module of empty) this.#remove(module);
  }

  #hook({ code, header, guards, placement }: InstalledRegion): Hook {
    const index = this.#free.pop() ?? this.#used++;
    if (index >= this.table.length) this.table.grow(TABLE_GROWTH);
    this.table.set(index, code);
    const view = this.#view;
    const uop = header + BLOCK.SIZE;
    const op = view.getUint16(uop + UOP.OP, true);
    const link = view.getUint32(uop + UOP.LINK, true);
    view.setUint32(uop + UOP.LINK, index, true);
    view.setUint16(uop + UOP.OP, uopNumber('region'), true);
    view.setUint32(header + BLOCK.USED, 1, true);
    return { region: { header, guards, placement }, index, op, link };
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

  #isLive({ region }: Hook): boolean {
    return this.#view.getUint16(region.header + BLOCK.DEAD, true) === 0;
  }

  /** Whether a region of a module was entered since this was last asked. */
  #wasUsed({ hooks }: CachedModule): boolean {
    let used = false;
    for (const hook of hooks) {
      const at = hook.region.header + BLOCK.USED;
      if (this.#isLive(hook) && this.#view.getUint32(at, true) !== 0) used = true;
      this.#view.setUint32(at, 0, true);
    }
    return used;
  }

  /** Of a module that is no more in the queue. */
  #evict({ bytes, hooks }: CachedModule): void {
    for (const hook of hooks) this.#drop(hook);
    this.bytes -= bytes;
    modulesDropped(bytes);
  }

  #remove(module: CachedModule): void {
    this.#modules.splice(this.#modules.indexOf(module), 1);
    this.#evict(module);
  }

  #drop(hook: Hook): void {
    if (this.#isLive(hook)) this.#unhook(hook);
    for (const guard of hook.region.guards) this.#core.forgetGuard(guard);
    this.table.set(hook.index, null);
    this.#free.push(hook.index);
    this.regions -= 1;
    this.evicted += 1;
  }

  /** The block is as it was before, and cold. */
  #unhook({ region, op, link }: Hook): void {
    const view = this.#view;
    const uop = region.header + BLOCK.SIZE;
    view.setUint16(uop + UOP.OP, op, true);
    view.setUint32(uop + UOP.LINK, link, true);
    view.setUint32(region.header + BLOCK.HEAT, this.#heat, true);
  }
}
