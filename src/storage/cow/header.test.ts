import { describe, expect, it } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import { encodeCowHeader, isCow, parseCowHeader } from './header.ts';

/** What uml_mkcow writes for a backing file of 65536 bytes, modified 2020-02-02 02:02:02 UTC. */
const WORKED_EXAMPLE =
  '4f4f4f4d000000035e362d9a00000000' +
  '00010000000002000000100000000000' +
  '2f746d702f756d6c7265662f772f6261' +
  '636b2e696d6700000000000000000000';

function example(): Buffer {
  const bytes = Buffer.alloc(4136);
  Buffer.from(WORKED_EXAMPLE, 'hex').copy(bytes);
  return bytes;
}

function v1(size: bigint, sectorBytes = 512): Buffer {
  const bytes = Buffer.alloc(300);
  bytes.writeUInt32LE(0x4f4f4f4d, 0);
  bytes.writeUInt32LE(1, 4);
  bytes.write('/b', 8);
  bytes.writeUInt32LE(77, 264);
  bytes.writeBigUInt64LE(size, 268);
  bytes.writeUInt32LE(sectorBytes, 276);
  return bytes;
}

function v2(size: bigint): Buffer {
  const bytes = Buffer.alloc(4136);
  bytes.writeUInt32BE(0x4f4f4f4d, 0);
  bytes.writeUInt32BE(2, 4);
  bytes.write('/b', 8);
  bytes.writeUInt32BE(77, 4104);
  bytes.writeBigUInt64BE(size, 4108);
  bytes.writeUInt32BE(512, 4116);
  return bytes;
}

function broken64(size: bigint, alignment: number): Buffer {
  const bytes = Buffer.alloc(4136);
  bytes.writeUInt32BE(0x4f4f4f4d, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(77, 8);
  bytes.writeBigUInt64BE(size, 16);
  bytes.writeUInt32BE(512, 24);
  bytes.writeUInt32BE(alignment, 28);
  bytes.write('/b', 36);
  return bytes;
}

function failure(bytes: Uint8Array): AppError {
  try {
    parseCowHeader(bytes);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('the header was accepted');
}

describe('encodeCowHeader', () => {
  it('writes the bytes of uml_mkcow', () => {
    const { bytes, header } = encodeCowHeader({
      backingPath: '/tmp/umlref/w/back.img',
      backingMtime: 1580608922,
      sizeBytes: 65536,
      alignment: 4096,
    });
    expect(bytes.equals(example().subarray(0, 4128))).toBe(true);
    expect(header).toMatchObject({ bitmapOffset: 8192, bitmapBytes: 16, dataOffset: 12288 });
  });

  it.each([
    [24 << 20, 4096, 8192, 6144, 16384],
    [2 ** 30, 4096, 8192, 262144, 270336],
    [65536, 512, 4608, 16, 5120],
  ])(
    'places bitmap and data for %d bytes aligned to %d',
    (sizeBytes, alignment, bitmapOffset, bitmapBytes, dataOffset) => {
      const { bytes, header } = encodeCowHeader({ backingPath: '/b', backingMtime: 1, sizeBytes, alignment });
      expect(header).toMatchObject({ bitmapOffset, bitmapBytes, dataOffset });
      expect(parseCowHeader(bytes)).toEqual(header);
    },
  );

  it('places the data so that what guests align to a MiB is aligned in the file', () => {
    const { header } = encodeCowHeader({ backingPath: '/b', backingMtime: 1, sizeBytes: 2 ** 30 });
    expect(header).toMatchObject({ bitmapOffset: 1 << 20, bitmapBytes: 262144, dataOffset: 2 << 20 });
  });

  it('refuses a path that does not fit', () => {
    const cow = { backingMtime: 1, sizeBytes: 65536 };
    expect(() => encodeCowHeader({ ...cow, backingPath: `/${'x'.repeat(4095)}` })).toThrow(AppError);
    expect(encodeCowHeader({ ...cow, backingPath: `/${'x'.repeat(4094)}` }).header.backingPath).toHaveLength(
      4095,
    );
  });
});

describe('parseCowHeader', () => {
  it('reads version 3', () => {
    expect(parseCowHeader(example())).toEqual({
      version: 3,
      broken64: false,
      backingPath: '/tmp/umlref/w/back.img',
      backingMtime: 1580608922,
      sizeBytes: 65536,
      alignment: 4096,
      bitmapOffset: 8192,
      bitmapBytes: 16,
      dataOffset: 12288,
    });
  });

  it('reads version 1, with its bitmap rounded down', () => {
    expect(parseCowHeader(v1(65536n))).toMatchObject({
      version: 1,
      bitmapOffset: 280,
      bitmapBytes: 16,
      dataOffset: 512,
    });
    expect(parseCowHeader(v1(65536n + 3n * 512n))).toMatchObject({ bitmapBytes: 16 });
  });

  it('reads version 2', () => {
    expect(parseCowHeader(v2(65536n))).toMatchObject({
      version: 2,
      bitmapOffset: 4120,
      bitmapBytes: 16,
      dataOffset: 4608,
    });
  });

  it('reads the broken 64-bit layout of version 3', () => {
    const common = { version: 3, broken64: true, backingPath: '/b', backingMtime: 77, sizeBytes: 65536 };
    expect(parseCowHeader(broken64(65536n, 4096))).toMatchObject({
      ...common,
      bitmapOffset: 8192,
      dataOffset: 12288,
    });
    expect(parseCowHeader(broken64(65536n, 8))).toMatchObject({
      ...common,
      bitmapOffset: 4136,
      dataOffset: 4152,
    });
  });

  it.each<[string, string, (bytes: Buffer) => Buffer]>([
    ['no magic', 'magic', (bytes) => bytes.fill(0, 0, 4)],
    ['nothing', 'magic', () => Buffer.alloc(0)],
    ['the magic only', 'version', (bytes) => bytes.subarray(0, 7)],
    ['half a header', 'header', (bytes) => bytes.subarray(0, 4127)],
    ['version 4', 'version', (bytes) => bytes.fill(4, 7, 8)],
    ['version 0', 'version', (bytes) => bytes.fill(0, 7, 8)],
    ['alignment 0', 'alignment', (bytes) => bytes.fill(0, 24, 28)],
    ['a huge alignment', 'size', (bytes) => bytes.fill(0xff, 24, 28)],
    ['sector size 0', 'sectorsize', (bytes) => bytes.fill(0, 20, 24)],
    ['another format', 'cow_format', (bytes) => bytes.fill(1, 31, 32)],
    ['a size beyond 8 TiB', 'size', (bytes) => bytes.fill(0x7f, 12, 20)],
    ['a size of 2^64 - 1', 'size', (bytes) => bytes.fill(0xff, 12, 20)],
    ['an endless path', 'backing_file', (bytes) => bytes.fill(0x61, 32)],
    ['a path that is no text', 'backing_file', (bytes) => bytes.fill(0xff, 33, 36)],
  ])('refuses %s and names the field', (_what, field, change) => {
    const error = failure(change(example()));
    expect(error).toMatchObject({ code: 'cow_corrupt', field });
    expect(error.remedy).toBeTruthy();
  });

  it('refuses version 1 of the other byte order', () => {
    const bytes = v1(65536n);
    bytes.writeUInt32BE(0x4f4f4f4d, 0);
    bytes.writeUInt32BE(1, 4);
    expect(failure(bytes)).toMatchObject({ code: 'cow_corrupt', field: 'magic' });
  });

  it('gives a clear error or sane offsets for any bytes', () => {
    const random = generator(7);
    let accepted = 0;
    for (let round = 0; round < 20_000; round++) {
      const bytes = [example(), v1(65536n), v2(65536n), broken64(65536n, 4096)][round % 4]!;
      for (let change = 0; change <= round % 3; change++) bytes[random() % 300] = random();
      if (round % 7 === 0) bytes[4104 + (random() % 32)] = random();
      try {
        const header = parseCowHeader(bytes.subarray(0, round % 11 === 0 ? random() % 4136 : 4136));
        accepted++;
        expect(header.bitmapOffset).toBeGreaterThanOrEqual(280);
        expect(header.dataOffset).toBeGreaterThanOrEqual(header.bitmapOffset + header.bitmapBytes);
        expect(header.dataOffset).toBeLessThan(2 ** 31);
        expect(Number.isSafeInteger(header.dataOffset + header.sizeBytes)).toBe(true);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        expect(error.code).toBe('cow_corrupt');
      }
    }
    expect(accepted).toBeGreaterThan(1000);
  });
});

it('recognises the magic in both byte orders', () => {
  expect(isCow(Buffer.from('OOOM'))).toBe(true);
  expect(isCow(Buffer.from('MOOO'))).toBe(true);
  expect(isCow(Buffer.from('OOO'))).toBe(false);
  expect(isCow(Buffer.from('MOOM'))).toBe(false);
});

/** xorshift32: the same numbers in every run. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
