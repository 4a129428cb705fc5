/** The compression formats of Linux kernel images that the host unpacks. */
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { BootError } from './errors.ts';
import { unpackLz4Legacy } from './lz4.ts';
import { unpackXz } from './xz.ts';

interface Format {
  readonly name: string;
  readonly magic: readonly number[];
  unpack(packed: Uint8Array, maxBytes: number): Uint8Array;
}

const FORMATS: readonly Format[] = [
  {
    name: 'gzip',
    magic: [0x1f, 0x8b],
    // The image's last four bytes are the size that the kernel's build adds after the stream.
    unpack: (packed, maxBytes) => gunzipSync(packed, { maxOutputLength: maxBytes }),
  },
  {
    name: 'zstd',
    magic: [0x28, 0xb5, 0x2f, 0xfd],
    unpack: (packed, maxBytes) => zstdDecompressSync(packed.subarray(0, -4), { maxOutputLength: maxBytes }),
  },
  { name: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18], unpack: unpackLz4Legacy },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], unpack: unpackXz },
];

/**
 * Unpacks a kernel payload; undefined for a format that is not known here.
 * @param maxBytes the most it may unpack to
 * @throws BootError when the data is damaged
 */
export function decompress(packed: Uint8Array, maxBytes: number): Uint8Array | undefined {
  const format = FORMATS.find(({ magic }) => magic.every((byte, index) => packed[index] === byte));
  if (format === undefined) return undefined;
  try {
    return format.unpack(packed, maxBytes);
  } catch (cause) {
    throw new BootError('bad_kernel', `the kernel's ${format.name} data is damaged: copy the file again`, {
      cause,
    });
  }
}

/** Smaller ones may lie in a buffer that others use too. */
const RELEASE_BYTES_MIN = 1 << 20;

/** Gives the memory of an unpacked kernel back at once: a garbage collection may be far away. */
export function release(unpacked: Uint8Array): void {
  const { buffer } = unpacked;
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= RELEASE_BYTES_MIN) buffer.transfer(0);
}
