/** Finding zeros, so that copies stay sparse. */

/** A piece of zeros shorter than this is written, not left out. */
export const SPARSE_UNIT_BYTES = 4096;
const ZEROS = Buffer.alloc(SPARSE_UNIT_BYTES);

function isZero(bytes: Buffer, from: number, to: number): boolean {
  return bytes.compare(ZEROS, 0, to - from, from, to) === 0;
}

/** The runs of `bytes` that are not zeros, in units of 4 KiB: [from, to) pairs. */
export function* dataRuns(bytes: Uint8Array): Generator<readonly [from: number, to: number]> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let start = -1;
  for (let at = 0; at < buffer.length; at += SPARSE_UNIT_BYTES) {
    const zero = isZero(buffer, at, Math.min(at + SPARSE_UNIT_BYTES, buffer.length));
    if (zero && start >= 0) {
      yield [start, at];
      start = -1;
    } else if (!zero && start < 0) start = at;
  }
  if (start >= 0) yield [start, buffer.length];
}
