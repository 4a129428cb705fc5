/**
 * The compiled modules of a VM, within a budget: what has not been used for longest goes first.
 *
 * A module can only go as a whole: its functions share an instance. Regions set their block's USED flag whenever they
 * are entered. Modules wait in a queue, the oldest first; one of which a region was used since it was last looked at
 * goes to the queue's end (second chance). The blocks of those that go are interpreted again, and may become hot again.
 */
import type { CoreExports } from '../core/exports.ts';
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
}

/** A region in its place, and what was there before. */
interface Hook {
  readonly region: Omit<InstalledRegion, 'code'>;
  /** Index in the table. */
  readonly index: number;
  readonly op: number;
  readonly link: number;
}

interface CachedModule {
  readonly bytes: number;
  readonly hooks: readonly Hook[];
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

  #hook({ code, header, guards }: InstalledRegion): Hook {
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
    return { region: { header, guards }, index, op, link };
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
    return this.#view.getUint32(region.header + BLOCK.DEAD, true) === 0;
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

  #evict({ bytes, hooks }: CachedModule): void {
    for (const hook of hooks) {
      if (this.#isLive(hook)) this.#unhook(hook);
      for (const guard of hook.region.guards) this.#core.forgetGuard(guard);
      this.table.set(hook.index, null);
      this.#free.push(hook.index);
    }
    this.bytes -= bytes;
    this.regions -= hooks.length;
    this.evicted += hooks.length;
    modulesDropped(bytes);
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
