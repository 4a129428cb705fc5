/** Compressed clusters: raw deflate with a window of 4 KiB, or a zstd frame. */
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { AppError } from '../../contracts/errors.ts';
import type { Compression } from './header.ts';

const inflateRaw = promisify<zlib.InputType, zlib.ZlibOptions, Buffer>(zlib.inflateRaw);
const deflateRaw = promisify<zlib.InputType, zlib.ZlibOptions, Buffer>(zlib.deflateRaw);
const zstdDecompress = promisify<zlib.InputType, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);
const zstdCompress = promisify<zlib.InputType, zlib.ZstdOptions, Buffer>(zlib.zstdCompress);

/** 2^12, which every reader of qcow2 expects. */
const DEFLATE_WINDOW_BITS = 12;
/** Output goes into buffers of at least this size. */
const CHUNK_BYTES_MIN = 4096;

function damaged(cause?: unknown): AppError {
  return new AppError('bad_image', 'a compressed cluster of the qcow2 file is damaged', {
    field: 'disk',
    remedy: 'check the file with `qemu-img check`, or get it again',
    cause,
  });
}

/** The cluster in `bytes`, which may go on after it. AppError `bad_image`; never more than `clusterBytes` of memory. */
export async function decompressCluster(
  how: Compression,
  bytes: Uint8Array,
  clusterBytes: number,
): Promise<Uint8Array> {
  const limits = { maxOutputLength: clusterBytes, chunkSize: Math.max(clusterBytes, CHUNK_BYTES_MIN) };
  let cluster: Buffer;
  try {
    cluster =
      how === 'zlib'
        ? await inflateRaw(bytes, limits)
        : await zstdDecompress(bytes.subarray(0, zstdFrameBytes(bytes)), limits);
  } catch (error) {
    throw damaged(error);
  }
  if (cluster.length !== clusterBytes) throw damaged();
  return cluster;
}

export function compressCluster(how: Compression, bytes: Uint8Array): Promise<Buffer> {
  return how === 'zlib'
    ? deflateRaw(bytes, { windowBits: DEFLATE_WINDOW_BITS, level: zlib.constants.Z_BEST_SPEED })
    : // Without the length, zstd prepares for much more.
      zstdCompress(bytes, { pledgedSrcSize: bytes.length, chunkSize: bytes.length });
}

const ZSTD_MAGIC = 0xfd2f_b528;

/**
 * The length of the zstd frame that `bytes` begin with (RFC 8878, 3.1.1): what follows it is the next cluster, which a
 * decoder would take for another frame. AppError `bad_image`.
 */
export function zstdFrameBytes(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 6 || view.getUint32(0, true) !== ZSTD_MAGIC) throw damaged();
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  const contentSizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  let at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  for (;;) {
    if (at + 3 > bytes.length) throw damaged();
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    const type = (header >> 1) & 3;
    // A run-length block stores one byte, however many it stands for.
    at += 3 + (type === 1 ? 1 : header >> 3);
    if ((header & 1) !== 0) break;
  }
  const checksumBytes = (descriptor & 4) === 0 ? 0 : 4;
  if (at + checksumBytes > bytes.length) throw damaged();
  return at + checksumBytes;
}
