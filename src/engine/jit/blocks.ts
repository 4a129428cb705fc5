/** What the compiler looks up in the VM's memory: decoded blocks, and what is known of places. */
import { BLOCK, BLOCK_HASH, MISSES, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';

/** Blocks that are looked at in a chain of the hash, which may change meanwhile. */
const MAX_CHAIN = 256;

/** Header of the block at a RAM offset that lies in one page, 0 if there is none. */
export function blockAt(view: DataView, ramOffset: number, mode: number): number {
  const hash = (Math.imul(ramOffset, 0x9e3779b1) ^ Math.imul(mode, 0x85ebca6b)) >>> 16;
  let header = view.getUint32(BLOCK_HASH.BASE + (hash & (BLOCK_HASH.ENTRIES - 1)) * 4, true);
  for (let n = 0; header !== 0 && n < MAX_CHAIN; n++) {
    const isIt =
      view.getUint32(header + BLOCK.PHYS, true) === ramOffset &&
      view.getUint32(header + BLOCK.MODE, true) === mode &&
      view.getUint32(header + BLOCK.PAGE2, true) === BLOCK.NO_PAGE;
    if (isIt) return header;
    header = view.getUint32(header + BLOCK.HASH_NEXT, true);
  }
  return 0;
}

/** How often the instruction at a RAM offset made a region leave; `missSlot` of the core has the same hash. */
export function missesAt(view: DataView, ramOffset: number): number {
  const slot = (ramOffset ^ (ramOffset >>> 13)) & (MISSES.ENTRIES - 1);
  return view.getUint16(MISSES.BASE + slot * 2, true);
}

/** Whether a block's place is taken by a compiled region. */
export function isCompiled(view: DataView, header: number): boolean {
  return view.getUint16(header + BLOCK.SIZE + UOP.OP, true) === uopNumber('region');
}
