/** Segments of discard and write-zeroes requests (virtio 1.2, 5.2.6: struct virtio_blk_discard_write_zeroes). */
import type { Chain } from './chain.ts';

export const SECTOR_BYTES = 512;
/** Last byte of a request (5.2.6). */
export const BLOCK_STATUS = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;
const SEGMENT_BYTES = 16;
const FLAG_UNMAP = 1;

/** Segments in one request. */
export const RANGES_MAX = 64;
/** Sectors in one segment: 1 GiB. */
export const RANGE_SECTORS_MAX = 0x20_0000;

export interface SectorRange {
  readonly offset: number;
  readonly bytes: number;
  readonly mayUnmap: boolean;
}

/**
 * Reads the segments of a request; a number is the status that the request ends with instead.
 * @param at offset of the segments in the chain's readable part
 * @param length their bytes
 * @param flagsAllowed write-zeroes may carry the unmap flag, discard none (5.2.6.2)
 */
export function parseRanges(
  chain: Chain,
  at: number,
  length: number,
  diskBytes: number,
  flagsAllowed: boolean,
): SectorRange[] | number {
  if (length === 0 || length % SEGMENT_BYTES !== 0 || length > RANGES_MAX * SEGMENT_BYTES)
    return BLOCK_STATUS.IOERR;
  const data = new Uint8Array(length);
  chain.read(at, data);
  const view = new DataView(data.buffer);
  const ranges: SectorRange[] = [];
  for (let i = 0; i < length; i += SEGMENT_BYTES) {
    const sector = view.getUint32(i, true) + view.getUint32(i + 4, true) * 0x1_0000_0000;
    const sectors = view.getUint32(i + 8, true);
    const flags = view.getUint32(i + 12, true);
    if ((flags & ~(flagsAllowed ? FLAG_UNMAP : 0)) !== 0) return BLOCK_STATUS.UNSUPP;
    const range = {
      offset: sector * SECTOR_BYTES,
      bytes: sectors * SECTOR_BYTES,
      mayUnmap: (flags & FLAG_UNMAP) !== 0,
    };
    if (sectors > RANGE_SECTORS_MAX || range.offset + range.bytes > diskBytes) return BLOCK_STATUS.IOERR;
    ranges.push(range);
  }
  return ranges;
}
