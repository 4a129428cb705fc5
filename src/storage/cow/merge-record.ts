/** COW.merge: says that a merge of COW into its backing file has begun and has not ended. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { removeQuietly, syncFolder } from '../durable.ts';
import type { CowHeader } from './header.ts';

export class MergeRecord {
  readonly #file: string;
  readonly #text: string;

  /** Of the merge of this very COW file into this very backing file: any other record does not count. */
  constructor(cow: string, header: CowHeader, backing: fs.Stats) {
    this.#file = `${cow}.merge`;
    this.#text = `${JSON.stringify({
      format: 1,
      backing_inode: backing.ino,
      backing_size_bytes: header.sizeBytes,
      backing_mtime_seconds: header.backingMtime,
    })}\n`;
  }

  exists(): boolean {
    const stat = fs.lstatSync(this.#file, { throwIfNoEntry: false });
    // A longer one is none of ours, and not worth reading.
    if (!stat?.isFile() || stat.size !== Buffer.byteLength(this.#text)) return false;
    return fs.readFileSync(this.#file, 'utf8') === this.#text;
  }

  /** Durable when it returns; one that is there already stays. */
  write(): void {
    if (!this.exists()) {
      const draft = `${this.#file}.new`;
      removeQuietly(draft);
      fs.writeFileSync(draft, this.#text, { mode: 0o600, flag: 'wx', flush: true });
      fs.renameSync(draft, this.#file);
    }
    this.#syncFolder();
  }

  remove(): void {
    if (!this.exists()) return;
    removeQuietly(this.#file);
    this.#syncFolder();
  }

  #syncFolder(): void {
    syncFolder(path.dirname(path.resolve(this.#file)));
  }
}
