/**
 * Zstandard for chunks. Node's functions set a compressor up for each call, which takes longer than compressing 64 KiB that do
 * not shrink. Here a thread has one for all its chunks: libzstd's, which is in Node's executable, in memory that belongs to the
 * thread and goes with it. A Node without these symbols does it with its own functions; the format is the same.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import koffi from 'koffi';
import { CHUNK_BYTES } from './format.ts';

/** The fastest of the standard levels. */
const LEVEL = 1;
/** A target of this size holds whatever a chunk is compressed to (ZSTD_COMPRESSBOUND). */
export const COMPRESSED_BYTES_MAX = CHUNK_BYTES + (CHUNK_BYTES >> 8) + 64;

/** From one buffer to another, which need not be filled; how many bytes. Throws when it cannot be done. */
type Transform = (to: Uint8Array, from: Uint8Array) => number;

export interface Codec {
  readonly compress: Transform;
  readonly decompress: Transform;
}

/** Node's own functions. */
export const nodeCodec: Codec = {
  compress(to, from) {
    const params = { [constants.ZSTD_c_compressionLevel]: LEVEL };
    // In one piece: Node would otherwise hand out 16 KiB at a time.
    const packed = zstdCompressSync(from, { params, chunkSize: COMPRESSED_BYTES_MAX });
    to.set(packed);
    return packed.length;
  },
  decompress(to, from) {
    const raw = zstdDecompressSync(from, { maxOutputLength: to.length, chunkSize: CHUNK_BYTES });
    to.set(raw);
    return raw.length;
  },
};

/** What is used of libzstd; sizes as numbers, errors as small negative ones, which they are as size_t. */
interface Libzstd {
  estimateCompressor(level: number): number;
  estimateDecompressor(): number;
  /** A context within `memory`, null when that is too small. */
  initCompressor(memory: Uint8Array, bytes: number): unknown;
  initDecompressor(memory: Uint8Array, bytes: number): unknown;
  compress(
    context: unknown,
    to: Uint8Array,
    room: number,
    from: Uint8Array,
    bytes: number,
    level: number,
  ): number;
  decompress(context: unknown, to: Uint8Array, room: number, from: Uint8Array, bytes: number): number;
}

function loadLibzstd(): Libzstd {
  const library = koffi.load(null);
  const buffers = 'void *to, size_t room, const void *from, size_t bytes';
  // INVARIANT: these signatures are those of zstd.h since version 1.4; koffi functions are untyped.
  return {
    estimateCompressor: library.func('int64_t ZSTD_estimateCCtxSize(int level)'),
    estimateDecompressor: library.func('int64_t ZSTD_estimateDCtxSize()'),
    initCompressor: library.func('void *ZSTD_initStaticCCtx(void *memory, size_t bytes)'),
    initDecompressor: library.func('void *ZSTD_initStaticDCtx(void *memory, size_t bytes)'),
    compress: library.func(`int64_t ZSTD_compressCCtx(void *context, ${buffers}, int level)`),
    decompress: library.func(`int64_t ZSTD_decompressDCtx(void *context, ${buffers})`),
  } as unknown as Libzstd;
}

/** The contexts are in these; they must stay as long as the thread. */
const memories: Uint8Array[] = [];

function within(bytes: number, init: (memory: Uint8Array, bytes: number) => unknown): unknown {
  const memory = new Uint8Array(bytes);
  memories.push(memory);
  const context = init(memory, bytes);
  if (context === null) throw new Error(`libzstd makes no context of ${bytes} bytes`);
  return context;
}

/** Throws where this Node does not have it. */
export function libzstdCodec(): Codec {
  const zstd = loadLibzstd();
  const compressor = within(zstd.estimateCompressor(LEVEL), zstd.initCompressor);
  const decompressor = within(zstd.estimateDecompressor(), zstd.initDecompressor);
  const checked = (result: number): number => {
    if (result < 0) throw new Error(`zstd error ${-result}`);
    return result;
  };
  return {
    compress: (to, from) => checked(zstd.compress(compressor, to, to.length, from, from.length, LEVEL)),
    decompress: (to, from) => checked(zstd.decompress(decompressor, to, to.length, from, from.length)),
  };
}

let chosen: Codec | undefined;

/** The thread's codec. */
function codec(): Codec {
  if (chosen === undefined) {
    try {
      chosen = libzstdCodec();
    } catch {
      chosen = nodeCodec;
    }
  }
  return chosen;
}

/** Compresses a chunk; `to` has COMPRESSED_BYTES_MAX bytes. How many of them were needed. */
export function compress(to: Uint8Array, chunk: Uint8Array): number {
  return codec().compress(to, chunk);
}

/** Decompresses whole frames into `to`; how many bytes. Throws when they are none, or give more than fits. */
export function decompress(to: Uint8Array, frames: Uint8Array): number {
  return codec().decompress(to, frames);
}
