// Where guest RAM and the block tables are in linear memory.

/** Guest physical address where RAM above the PCI hole continues. */
const HIGH_RAM: u64 = 0x100000000;

export let ram: usize = 0;
export let lowRamBytes: u64 = 0;
export let highRamBytes: u64 = 0;
export let ramPages: u32 = 0;
export let pageBlocks: usize = 0;
export let codeBitmap: usize = 0;
export let writers: usize = 0;

/** See `init` in mmu.ts. */
export function setMemoryMap(
  ramAt: usize,
  ramBytes: u32,
  lowBytes: u32,
  blocksAt: usize,
  bitmapAt: usize,
  writersAt: usize,
): void {
  ram = ramAt;
  lowRamBytes = lowBytes;
  highRamBytes = <u64>ramBytes - <u64>lowBytes;
  ramPages = ramBytes >>> 12;
  pageBlocks = blocksAt;
  codeBitmap = bitmapAt;
  writers = writersAt;
}

/** Offset in RAM of a guest physical address, -1 if it is not RAM. */
export function ramOffset(physical: i64): i64 {
  const address = <u64>physical;
  if (address < lowRamBytes) return physical;
  if (address - HIGH_RAM < highRamBytes) return <i64>(address - HIGH_RAM + lowRamBytes);
  return -1;
}
