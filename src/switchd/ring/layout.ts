/**
 * Layout of a port's shared memory: two rings of variable-length Ethernet frames, one per direction,
 * each with one producer and one consumer in different threads.
 *
 *   header of ring 0 (128 bytes) | header of ring 1 (128 bytes) | data of ring 0 | data of ring 1
 *
 * Head and tail count bytes and wrap at 2^32; both are multiples of 8. Where in the data they are is told by BASE, so that an empty
 * ring can be begun anew. An entry starts at a multiple of 8:
 *
 *   u32 length of the frame (0 … 65,550) | u32 checksum | u32 segmentation | frame | padding to 8
 *
 * `checksum` and `segmentation` are what the receiver has to finish (offload/offload.ts); 0 and 0 for a plain frame.
 *
 * A frame is never split. Where it does not fit before the end of the data, the producer writes SKIP in
 * place of a length and goes on at the start. Words are in host byte order (both ends are one process).
 */

/** Largest frame: 14 bytes of Ethernet header, 65,536 − 1 of IP packet at most, rounded as uml_switch's users do. */
export const FRAME_BYTES_MAX = 65_550;
/** Ethernet header (IEEE 802.3 §3.1.1, without FCS). Anything shorter is no frame. */
export const FRAME_BYTES_MIN = 14;

export const RING_BYTES_DEFAULT = 512 * 1024;
export const RING_BYTES_MIN = 256 * 1024;
export const RING_BYTES_MAX = 64 * 1024 * 1024;

/** Entry header in place of a length: the rest up to the end of the data is unused. */
export const SKIP = 0xffff_ffff;

/** In front of a frame: its length and two words of offloads. A frame is thus 4 bytes behind a multiple of 8. */
export const ENTRY_HEADER_BYTES = 12;

const HEADER_BYTES = 128;
const HEADERS_BYTES = 2 * HEADER_BYTES;

/** Words of a ring's header: those the producer writes on one cache line, the consumer's on another. */
export const HEAD = 0;
/** Frames that the producer had to drop, modulo 2^32. */
export const DROPPED = 1;
/** 1 while the producer waits on this word for room. */
export const ROOM_WANTED = 2;
/** The position that is at the start of the data; changed only while the ring is empty. A multiple of 8. */
export const BASE = 3;
export const TAIL = 16;
/** 1 while the consumer waits on this word for a notify. */
export const WAITING = 17;

/** vm: what the VM sends. switch: what the switch sends to the VM. */
export type RingSide = 'vm' | 'switch';

export interface RingViews {
  readonly header: Int32Array;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
}

/** Bytes an entry takes for a frame of `length` bytes. */
export function entryBytes(length: number): number {
  return (length + ENTRY_HEADER_BYTES + 7) & ~7;
}

/** Makes the memory of a port. `ringBytes` is per direction and a power of two. Throws RangeError otherwise. */
export function allocateRings(ringBytes: number): SharedArrayBuffer {
  if (!isRingSize(ringBytes)) {
    throw new RangeError(`ring of ${ringBytes} bytes: use a power of two, at least ${RING_BYTES_MIN}`);
  }
  return new SharedArrayBuffer(HEADERS_BYTES + 2 * ringBytes);
}

function isRingSize(bytes: number): boolean {
  return bytes >= RING_BYTES_MIN && bytes <= RING_BYTES_MAX && (bytes & (bytes - 1)) === 0;
}

/** Views on the ring that `producer` writes. Throws RangeError when the buffer is no port's memory. */
export function ringViews(memory: SharedArrayBuffer, producer: RingSide): RingViews {
  const ringBytes = (memory.byteLength - HEADERS_BYTES) / 2;
  if (!isRingSize(ringBytes)) throw new RangeError(`${memory.byteLength} bytes are not a port's rings`);
  const index = producer === 'vm' ? 0 : 1;
  const data = HEADERS_BYTES + index * ringBytes;
  return {
    header: new Int32Array(memory, index * HEADER_BYTES, HEADER_BYTES / 4),
    words: new Int32Array(memory, data, ringBytes / 4),
    bytes: new Uint8Array(memory, data, ringBytes),
  };
}
