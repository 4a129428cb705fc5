import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { pattern } from '../../../test/support/storage.ts';
import { CHUNK_BYTES } from './format.ts';
import { COMPRESSED_BYTES_MAX, libzstdCodec, nodeCodec } from './zstd.ts';

const CODECS = [
  ['of libzstd', libzstdCodec()],
  ['of Node', nodeCodec],
] as const;
const CHUNKS = {
  text: Buffer.alloc(CHUNK_BYTES, 'the quick brown fox jumps over the lazy dog\n'),
  mixed: Buffer.concat([pattern(CHUNK_BYTES / 2, 7), Buffer.alloc(CHUNK_BYTES / 2)]),
  noise: randomBytes(CHUNK_BYTES),
  short: Buffer.from('x'),
};

describe.each(CODECS)('the codec %s', (_, codec) => {
  it.each(Object.entries(CHUNKS))('brings back %s, whoever compressed it', (_name, chunk) => {
    for (const [, other] of CODECS) {
      const packed = new Uint8Array(COMPRESSED_BYTES_MAX);
      const length = other.compress(packed, chunk);
      const raw = new Uint8Array(chunk.length);
      expect(codec.decompress(raw, packed.subarray(0, length))).toBe(chunk.length);
      expect(chunk.equals(raw)).toBe(true);
    }
  });

  it('refuses what is no frame, a frame that is cut off, and one that gives more than there is room for', () => {
    const packed = new Uint8Array(COMPRESSED_BYTES_MAX);
    const length = codec.compress(packed, CHUNKS.mixed);
    const frame = packed.subarray(0, length);
    const room = new Uint8Array(CHUNK_BYTES);
    expect(() => codec.decompress(room, CHUNKS.noise)).toThrow();
    expect(() => codec.decompress(room, frame.subarray(0, length - 1))).toThrow();
    expect(() => codec.decompress(room.subarray(1), frame)).toThrow();
    expect(() => codec.compress(room.subarray(0, 100), CHUNKS.noise)).toThrow();
  });
});
