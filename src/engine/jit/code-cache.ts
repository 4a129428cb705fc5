/**
 * The compiled modules of a VM, within a budget: what has not been used for longest goes first.
 *
 * A region is entered by blocks of its own, of one micro-op `region`, that stand at its entries in place of decoded
 * ones. Its bytes are covered by guards: blocks that are never executed. A write to any of them kills its owner, the
 * region's first block, and by a chain of owners all that enter it.
 *
 * A module can only go as a whole: its functions share an instance. Regions set their first block's USED flag whenever
 * they are entered. Modules wait in a queue, the oldest first; one of which a region was used since it was last looked at
 * goes to the queue's end (second chance). The code of those that go is decoded anew, and may become hot again.
 */
import type { CoreExports } from '../core/exports.ts';
import { BLOCK, type MemoryMap, REGION, REGION_LINK, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import { modulesDropped } from '../v8.ts';
import { blockAt, isCompiled } from './blocks.ts';
import { CellPool } from './cell-pool.ts';

const TABLE_GROWTH = 256;
/** A heat that is not reached again: the block is compiled, or cannot be. */
export const NEVER = 0x7fff_ffff;
/** Mode bit of blocks that only guard bytes: no look-up asks for it. */
const GUARD_MODE = 0x8000_0000;
/** Cells that are kept free for what is being compiled. */
const RECORDS_SPARE = 64;
const BLOCKS_SPARE = 4096;
/** Modules after which regions that have died are looked for, of which there are few. */
const SWEEP_EACH = 16;

/** A compiled function, and what it was made from; all places are offsets in RAM. */
export interface InstalledRegion {
  readonly code: unknown;
  /** Address of its record, which the function has in it. */
  readonly record: number;
  readonly mode: number;
  /** Where it can be entered, in the order of the entries' numbers. */
  readonly entries: readonly number[];
  readonly ranges: readonly { readonly ramOffset: number; readonly length: number }[];
}

/** A region in its place. */
interface CachedRegion {
  readonly record: number;
  /** Index in the table. */
  readonly index: number;
  /** Addresses of the blocks that enter it; the first is in its record. */
  readonly blocks: readonly number[];
  readonly guards: readonly number[];
}

interface CachedModule {
  readonly bytes: number;
  regions: readonly CachedRegion[];
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
  readonly #records: CellPool;
  readonly #blocks: CellPool;
  #modules: CachedModule[] = [];
  readonly #free: number[] = [];
  #used = 0;
  /** Modules that came since dead regions were last looked for. */
  #unswept = 0;

  constructor(buffer: ArrayBufferLike, map: MemoryMap, core: CoreExports, budgetBytes: number) {
    this.#view = new DataView(buffer);
    this.#core = core;
    this.#budgetBytes = budgetBytes;
    this.#records = new CellPool(map.regionRecords, REGION.RECORD_SIZE, REGION.RECORDS);
    this.#blocks = new CellPool(map.regionBlocks, REGION.BLOCK_SIZE, REGION.BLOCKS);
  }

  /** Address of a record for a region that is to be compiled; undefined when there is no room. */
  reserve(): number | undefined {
    return this.#records.take();
  }

  /** Nothing has come of the region that a record was reserved for. */
  release(record: number): void {
    this.#records.give(record);
  }

  /**
   * Puts a module's regions in their places; others go if the budget is spent. Records of those that are not wanted any
   * more, or for which there is no room, are released.
   */
  add(bytes: number, installed: readonly InstalledRegion[]): void {
    const evicted = this.evicted;
    if (this.#isShort || ++this.#unswept >= SWEEP_EACH) this.#sweep();
    const regions = installed.flatMap((region) => this.#place(region) ?? []);
    this.#modules.push({ bytes, regions });
    this.bytes += bytes;
    this.regions += regions.length;
    this.#makeRoom();
    if (this.evicted > evicted) this.#core.flushJumpCache();
  }

  /** All blocks have been forgotten: so are the regions. */
  clear(): void {
    for (let n = 0; n < this.#used; n++) this.table.set(n, null);
    this.#used = 0;
    this.#free.length = 0;
    this.#modules = [];
    this.#records.clear();
    this.#blocks.clear();
    modulesDropped(this.bytes);
    this.bytes = 0;
    this.regions = 0;
  }

  /** A region's first block is at its entry as long as nobody has written to its code. */
  #isLive({ record }: CachedRegion): boolean {
    return this.#view.getUint16(record + BLOCK.DEAD, true) === 0;
  }

  #place({ code, record, mode, entries, ranges }: InstalledRegion): CachedRegion | undefined {
    const [first, ...others] = entries as [number, ...number[]];
    const cells = this.#isEntered(first, mode)
      ? undefined
      : this.#blocks.takeMany(others.length + ranges.length);
    if (cells === undefined) {
      this.release(record);
      return undefined;
    }
    const index = this.#free.pop() ?? this.#used++;
    if (index >= this.table.length) this.table.grow(TABLE_GROWTH);
    this.table.set(index, code);
    const guards = ranges.map(({ ramOffset, length }) =>
      this.#guard(cells.pop()!, record, ramOffset, mode, length),
    );
    const blocks = [record];
    this.#enter(record, first, mode, index);
    for (const [n, ramOffset] of others.entries()) {
      if (this.#isEntered(ramOffset, mode)) continue;
      const block = cells.pop()!;
      this.#enter(block, ramOffset, mode, index | ((n + 1) << REGION_LINK.ENTRY_SHIFT));
      this.#view.setUint32(blocks.at(-1)! + BLOCK.OWNER, block, true);
      blocks.push(block);
    }
    for (const cell of cells) this.#blocks.give(cell);
    return { record, index, blocks, guards };
  }

  /** Whether a region is entered at a place already. */
  #isEntered(ramOffset: number, mode: number): boolean {
    const header = blockAt(this.#view, ramOffset, mode);
    return header !== 0 && isCompiled(this.#view, header);
  }

  /** Puts a block in the place of the one that was decoded there. */
  #enter(block: number, ramOffset: number, mode: number, regionLink: number): void {
    const view = this.#view;
    const decoded = blockAt(view, ramOffset, mode);
    if (decoded !== 0) {
      const uops = view.getUint16(decoded + BLOCK.UOPS, true);
      this.#retire(decoded, BLOCK.SIZE + uops * UOP.SIZE);
    }
    // The guards have the other bytes.
    this.#writeBlock(block, ramOffset, mode, 1);
    const uop = block + BLOCK.SIZE;
    view.setUint16(uop + UOP.OP, uopNumber('region'), true);
    view.setUint32(uop + UOP.LINK, regionLink, true);
    this.#core.insertBlock(block);
  }

  #guard(guard: number, record: number, ramOffset: number, mode: number, length: number): number {
    this.#writeBlock(guard, ramOffset, mode | GUARD_MODE, length);
    this.#view.setUint32(guard + BLOCK.OWNER, record, true);
    this.#core.insertBlock(guard);
    return guard;
  }

  /** A block of one micro-op that is nothing yet. */
  #writeBlock(at: number, ramOffset: number, mode: number, length: number): void {
    const view = this.#view;
    for (let n = 0; n < REGION.BLOCK_SIZE; n += 4) view.setUint32(at + n, 0, true);
    view.setUint32(at + BLOCK.PHYS, ramOffset, true);
    view.setUint32(at + BLOCK.MODE, mode >>> 0, true);
    view.setUint16(at + BLOCK.LENGTH, length, true);
    view.setUint32(at + BLOCK.HEAT, NEVER, true);
    view.setUint16(at + BLOCK.UOPS, 1, true);
    view.setUint32(at + BLOCK.PAGE2, BLOCK.NO_PAGE, true);
    view.setUint32(at + BLOCK.USED, 1, true);
    view.setUint16(at + BLOCK.SIZE + UOP.PC, ramOffset & 4095, true);
    view.setUint16(at + BLOCK.SIZE + UOP.NEXT_PC, ramOffset & 4095, true);
  }

  /** Takes a block out of use: no other leads to it any more. */
  #retire(block: number, bytes: number): void {
    this.#core.killBlock(block);
    this.#core.forgetBlock(block, block, block + bytes);
  }

  /** Gives up what the guest has written over. */
  #sweep(): void {
    this.#unswept = 0;
    for (const module of this.#modules) {
      if (module.regions.every((region) => this.#isLive(region))) continue;
      const gone = module.regions.filter((region) => !this.#isLive(region));
      module.regions = module.regions.filter((region) => !gone.includes(region));
      for (const region of gone) this.#drop(region);
    }
    const empty = this.#modules.filter(({ regions }) => regions.length === 0);
    if (empty.length === 0) return;
    this.#modules = this.#modules.filter((module) => !empty.includes(module));
    for (const module of empty) this.#evict(module);
  }

  /** The newest module stays, however large it is. */
  #makeRoom(): void {
    let chances = this.#modules.length;
    while (this.#isShort && this.#modules.length > 1) {
      const oldest = this.#modules.shift()!;
      if (chances > 0 && this.#wasUsed(oldest)) this.#modules.push(oldest);
      else this.#evict(oldest);
      chances -= 1;
    }
  }

  get #isShort(): boolean {
    const cells = this.#records.available < RECORDS_SPARE || this.#blocks.available < BLOCKS_SPARE;
    return cells || this.bytes > this.#budgetBytes;
  }

  /** Whether a region of a module was entered since this was last asked. */
  #wasUsed({ regions }: CachedModule): boolean {
    let used = false;
    for (const region of regions) {
      const at = region.record + BLOCK.USED;
      if (this.#isLive(region) && this.#view.getUint32(at, true) !== 0) used = true;
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

  /** The jump cache has to be flushed before the guest goes on. */
  #drop({ record, index, blocks, guards }: CachedRegion): void {
    for (const block of blocks) this.#retire(block, REGION.BLOCK_SIZE);
    for (const guard of guards) this.#core.killBlock(guard);
    for (const cell of [...blocks.slice(1), ...guards]) this.#blocks.give(cell);
    this.release(record);
    this.table.set(index, null);
    this.#free.push(index);
    this.regions -= 1;
    this.evicted += 1;
  }
}
