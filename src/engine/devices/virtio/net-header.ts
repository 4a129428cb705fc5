/** Offloads in struct virtio_net_hdr (virtio 1.2, 5.1.6), to and from the two words that travel with a frame. */
import type { NicOffloads } from '../../backends.ts';

const FLAG_NEEDS_CHECKSUM = 1;
const GSO = { NONE: 0, TCP4: 1, TCP6: 4, ECN: 0x80 } as const;
const AT = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HEADER_BYTES: 2,
  GSO_SIZE: 4,
  CHECKSUM_START: 6,
  CHECKSUM_OFFSET: 8,
} as const;
const ETHERNET_BYTES = 14;
/** Ethernet, IPv4 and TCP headers: a segment behind less is none. */
const GSO_FRAME_BYTES_MIN = 54;

export interface FrameOffload {
  readonly checksum: number;
  readonly segmentation: number;
}

const NONE: FrameOffload = { checksum: 0, segmentation: 0 };

/** Of a frame of `frameBytes`; undefined when it asks for what was not negotiated or does not fit it. */
export function readOffload(
  header: Uint8Array,
  frameBytes: number,
  may: NicOffloads,
): FrameOffload | undefined {
  const flags = header[AT.FLAGS];
  const kind = header[AT.GSO_TYPE];
  if (flags === 0 && kind === GSO.NONE) return NONE;
  if (flags !== FLAG_NEEDS_CHECKSUM || !may.checksum) return undefined;
  const start = get16(header, AT.CHECKSUM_START);
  const offset = get16(header, AT.CHECKSUM_OFFSET);
  if (start < ETHERNET_BYTES || start + offset + 2 > frameBytes) return undefined;
  const checksum = start | (offset << 16);
  if (kind === GSO.NONE) return { checksum, segmentation: 0 };
  const family = kind & ~GSO.ECN;
  const isAllowed = (family === GSO.TCP4 && may.tcp4) || (family === GSO.TCP6 && may.tcp6);
  const size = get16(header, AT.GSO_SIZE);
  if (!isAllowed || size === 0 || frameBytes < GSO_FRAME_BYTES_MIN) return undefined;
  return { checksum, segmentation: size | (kind << 16) };
}

/** The header of a received frame, but for the number of buffers. */
export function writeOffload(
  header: Uint8Array,
  { checksum, segmentation }: FrameOffload,
  ecn: boolean,
): void {
  const kind = segmentation >>> 16;
  header[AT.FLAGS] = checksum === 0 ? 0 : FLAG_NEEDS_CHECKSUM;
  header[AT.GSO_TYPE] = ecn ? kind : kind & ~GSO.ECN;
  // A hint; the driver finds the headers' end by itself.
  put16(header, AT.HEADER_BYTES, segmentation === 0 ? 0 : (checksum & 0xffff) + (checksum >>> 16) + 4);
  put16(header, AT.GSO_SIZE, segmentation & 0xffff);
  put16(header, AT.CHECKSUM_START, checksum & 0xffff);
  put16(header, AT.CHECKSUM_OFFSET, checksum >>> 16);
}

function get16(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 0xff;
  bytes[at + 1] = value >> 8;
}
