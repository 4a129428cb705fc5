/** What a store in a folder changes in its file system. */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';

export interface DraftFile {
  write(bytes: Uint8Array): Promise<void>;
  /** fdatasync. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Tests put a recorder in its place. Failures are Node's errors. */
export interface StoreFiles {
  /** A new file; it may not be there. */
  create(file: string): Promise<DraftFile>;
  rename(from: string, to: string): Promise<void>;
  /** Also of one that is not there. */
  remove(file: string): Promise<void>;
  /** Makes the names in a folder durable. */
  syncFolder(folder: string): Promise<void>;
}

export const hostStoreFiles: StoreFiles = {
  async create(file) {
    const handle = await open(file, 'wx', 0o600);
    return {
      write: (bytes) => writeAll(handle, bytes),
      sync: () => handle.datasync(),
      close: () => handle.close(),
    };
  },
  rename,
  remove: (file) => rm(file, { force: true }),
  /** As durable.ts has it, without holding up the hashing and compressing of this thread. */
  async syncFolder(folder) {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/** In as few steps as it takes: each waits for its turn of a thread that is busy. */
async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, done)).bytesWritten;
  }
}
