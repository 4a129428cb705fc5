/** Slicing of scatter-gather lists: views only, no copying. */

export function totalBytes(vectors: readonly Uint8Array[]): number {
  let total = 0;
  for (const vector of vectors) total += vector.length;
  return total;
}

/** The pieces of `vectors` that cover `length` bytes from `start` of their concatenation. */
export function sliceVectors(
  vectors: readonly Uint8Array[],
  start: number,
  length: number,
): readonly Uint8Array[] {
  const result: Uint8Array[] = [];
  let at = 0;
  const end = start + length;
  for (const vector of vectors) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, vector.length);
    if (from < to) result.push(from === 0 && to === vector.length ? vector : vector.subarray(from, to));
    at += vector.length;
    if (at >= end) break;
  }
  return result;
}

export function fillZeros(vectors: readonly Uint8Array[]): void {
  for (const vector of vectors) vector.fill(0);
}
