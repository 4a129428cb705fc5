/** Copies of whole disk files: a disk from a backup, or an independent disk from an image. */
import { open } from 'node:fs/promises';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { BackupTarget } from './backup-target.ts';
import { syncFolder } from './durable.ts';
import { fileError } from './errors.ts';

const PIECE_BYTES = 1 << 20;

export interface CopyOptions {
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes the disk file `to` with the content of `from`: sharing blocks where the file system can (reflink),
 * else by a copy that leaves out zeros. The file appears complete and durable or not at all, with mode 0600.
 * AppErrors: `not_found`, `already_exists`, `disk_full`, `io_error`, `canceled`.
 */
export async function copyDisk(from: string, to: string, options: CopyOptions = {}): Promise<void> {
  const source = await openSource(from);
  try {
    const { size } = await source.stat();
    const target = new BackupTarget(to, size);
    try {
      if (!target.cloneFrom(source.fd)) await copyPieces(source, target, size, options);
      await target.complete();
      target.publish();
    } catch (error) {
      target.discard();
      throw error;
    }
    syncFolder(path.dirname(path.resolve(to)));
    options.onProgress?.(size, size);
  } catch (error) {
    throw fileError(error, 'to', `cannot copy ${from} to ${to}`);
  } finally {
    await source.close();
  }
}

async function openSource(from: string): Promise<Awaited<ReturnType<typeof open>>> {
  try {
    return await open(from, 'r');
  } catch (error) {
    throw new AppError('not_found', `cannot open ${from}`, {
      field: 'from',
      remedy: 'give the path of an existing disk or backup file',
      cause: error,
    });
  }
}

async function copyPieces(
  source: Awaited<ReturnType<typeof open>>,
  target: BackupTarget,
  size: number,
  options: CopyOptions,
): Promise<void> {
  const buffer = new Uint8Array(PIECE_BYTES);
  for (let done = 0; done < size; ) {
    if (options.signal?.aborted) throw new AppError('canceled', 'the copy was cancelled', { field: 'to' });
    const { bytesRead } = await source.read(buffer, 0, Math.min(PIECE_BYTES, size - done), done);
    if (bytesRead === 0) throw new Error('the source became shorter while it was copied');
    await target.write(done, buffer.subarray(0, bytesRead));
    done += bytesRead;
    if (done < size) options.onProgress?.(done, size);
  }
}
