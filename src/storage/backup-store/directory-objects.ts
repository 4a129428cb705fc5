/** A store in a folder of the host. */
import * as fs from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { threadId } from 'node:worker_threads';
import { AppError } from '../../contracts/errors.ts';
import { errnoOf, fileError } from '../errors.ts';
import { damaged } from './damaged.ts';
import type { ObjectFolder, ObjectStore, StoredObject } from './objects.ts';
import { hostStoreFiles, type StoreFiles } from './store-files.ts';

const PARTIAL = '.partial';

export class DirectoryObjects implements ObjectStore {
  readonly #folder: string;
  readonly #files: StoreFiles;
  /** The pack that was read last: its neighbours are usually wanted next. */
  #open: { readonly name: string; readonly fd: number } | undefined;

  /** Makes the folder when missing. */
  constructor(folder: string, files: StoreFiles = hostStoreFiles) {
    this.#folder = folder;
    this.#files = files;
    try {
      for (const part of ['', 'packs', 'manifests']) {
        fs.mkdirSync(path.join(folder, part), { recursive: true, mode: 0o700 });
      }
    } catch (error) {
      throw fileError(error, 'destination', `the folder ${folder} cannot be used`);
    }
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    const file = path.join(this.#folder, name);
    // Its own name: two that write the same object do not disturb each other.
    const draft = `${file}.${process.pid}-${threadId}-${nextDraft++}${PARTIAL}`;
    try {
      const handle = await this.#files.create(draft);
      try {
        await handle.write(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await this.#files.rename(draft, file);
      await this.#files.syncFolder(path.dirname(file));
    } catch (error) {
      await this.#files.remove(draft);
      throw fileError(error, 'destination', `cannot write ${file}`);
    }
  }

  async get(name: string, bytesMax: number): Promise<Buffer> {
    const file = path.join(this.#folder, name);
    try {
      const { size } = await stat(file);
      if (size > bytesMax) throw damaged(`${file} is larger than it can be`);
      return await this.read(name, 0, size);
    } catch (error) {
      throw readError(error, file);
    }
  }

  read(name: string, offset: number, length: number): Promise<Buffer> {
    const file = path.join(this.#folder, name);
    return new Promise((resolve, reject) => {
      const bytes = Buffer.allocUnsafe(length);
      let fd: number;
      try {
        fd = this.#fd(name, file);
      } catch (error) {
        return reject(readError(error, file));
      }
      // Small and mostly from the page cache; this is a thread of its own.
      try {
        for (let done = 0; done < length; ) {
          const count = fs.readSync(fd, bytes, done, length - done, offset + done);
          if (count === 0) throw damaged(`${file} is shorter than it was`);
          done += count;
        }
        resolve(bytes);
      } catch (error) {
        reject(readError(error, file));
      }
    });
  }

  async list(folder: ObjectFolder): Promise<StoredObject[]> {
    const at = path.join(this.#folder, folder);
    const objects: StoredObject[] = [];
    try {
      for (const entry of await readdir(at, { withFileTypes: true })) {
        if (!entry.isFile() || entry.name.endsWith(PARTIAL)) continue;
        const found = fs.statSync(path.join(at, entry.name), { throwIfNoEntry: false });
        if (found !== undefined) objects.push({ name: entry.name, sizeBytes: found.size });
      }
    } catch (error) {
      throw fileError(error, 'destination', `cannot read ${at}`);
    }
    return objects;
  }

  async remove(name: string): Promise<void> {
    const file = path.join(this.#folder, name);
    try {
      await this.#files.remove(file);
      await this.#files.syncFolder(path.dirname(file));
    } catch (error) {
      throw fileError(error, 'destination', `cannot remove ${file}`);
    }
  }

  close(): void {
    if (this.#open !== undefined) fs.closeSync(this.#open.fd);
    this.#open = undefined;
  }

  /** What killed processes left half written. Nobody else may be writing. */
  removeDrafts(): void {
    for (const folder of ['packs', 'manifests']) {
      for (const name of fs.readdirSync(path.join(this.#folder, folder))) {
        if (name.endsWith(PARTIAL)) fs.rmSync(path.join(this.#folder, folder, name), { force: true });
      }
    }
  }

  #fd(name: string, file: string): number {
    if (this.#open?.name === name) return this.#open.fd;
    this.close();
    // No link is followed: what is written into a store by others must not name files elsewhere.
    const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
    this.#open = { name, fd };
    return fd;
  }
}

let nextDraft = 0;

function readError(error: unknown, file: string): AppError {
  if (error instanceof AppError) return error;
  if (errnoOf(error) === 'ENOENT') {
    return new AppError('not_found', `there is no ${file}`, { field: 'backup', cause: error });
  }
  if (errnoOf(error) === 'ELOOP') return damaged(`${file} is a link`, error);
  return fileError(error, 'destination', `cannot read ${file}`);
}
