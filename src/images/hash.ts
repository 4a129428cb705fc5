/** SHA-256 of files, in pieces, so that the event loop turns. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { AppError } from '../contracts/errors.ts';

const PIECE_BYTES = 1 << 20;

export interface HashOptions {
  readonly onProgress?: ((doneBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** AppError `canceled`; otherwise Node's errors. */
export async function hashFile(
  file: string,
  options: HashOptions = {},
): Promise<{ readonly sizeBytes: number; readonly sha256: string }> {
  const handle = await open(file, 'r');
  try {
    const hash = createHash('sha256');
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let sizeBytes = 0; ; ) {
      if (options.signal?.aborted)
        throw new AppError('canceled', 'hashing was cancelled', { field: 'image' });
      const { bytesRead } = await handle.read(buffer, 0, PIECE_BYTES, sizeBytes);
      if (bytesRead === 0) return { sizeBytes, sha256: hash.digest('hex') };
      hash.update(buffer.subarray(0, bytesRead));
      sizeBytes += bytesRead;
      options.onProgress?.(sizeBytes);
    }
  } finally {
    await handle.close();
  }
}
