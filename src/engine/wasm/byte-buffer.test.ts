import { expect, test } from 'vitest';
import { ByteBuffer } from './byte-buffer.ts';

const encoded = (value: bigint | number): number[] => {
  const out = new ByteBuffer();
  out.s64(value);
  return [...out.view()];
};

test('safe integers are encoded as the same bigints are', () => {
  const edges = [0, 6, 7, 13, 14, 30, 31, 32, 33, 34, 35, 41, 42, 48, 49, 52].flatMap((bits) => [
    2 ** bits - 1,
    2 ** bits,
    2 ** bits + 1,
  ]);
  for (const edge of [...edges, Number.MAX_SAFE_INTEGER]) {
    for (const value of [edge, -edge]) expect(encoded(value)).toEqual(encoded(BigInt(value)));
  }
});
