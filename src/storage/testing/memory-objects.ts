/** A store's objects in memory, with a log of what was done, and failures when a test wants them. */
import { AppError } from '../../contracts/errors.ts';
import { damaged } from '../backup-store/damaged.ts';
import type { ObjectFolder, ObjectStore, StoredObject } from '../backup-store/objects.ts';

export type ObjectChange =
  | { readonly kind: 'put'; readonly name: string; readonly bytes: Buffer }
  | { readonly kind: 'remove'; readonly name: string };

export class MemoryObjects implements ObjectStore {
  readonly content: Map<string, Buffer>;
  /** Every change in the order in which it began, and those that had ended before each began. */
  readonly log: { readonly change: ObjectChange; ended: boolean }[] = [];
  /** Called before each change; what it throws is the change's failure. */
  before: (change: ObjectChange, index: number) => void | Promise<void> = () => undefined;

  constructor(content: ReadonlyMap<string, Buffer> = new Map()) {
    this.content = new Map(content);
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#change({ kind: 'put', name, bytes: Buffer.from(bytes) });
  }

  async get(name: string, bytesMax: number): Promise<Buffer> {
    const bytes = this.#find(name);
    if (bytes.length > bytesMax) throw damaged(`${name} is too large`);
    return bytes;
  }

  async read(name: string, offset: number, length: number): Promise<Buffer> {
    const bytes = this.#find(name);
    if (offset + length > bytes.length) throw damaged(`${name} is too short`);
    return bytes.subarray(offset, offset + length);
  }

  async list(folder: ObjectFolder): Promise<StoredObject[]> {
    return [...this.content]
      .filter(([name]) => name.startsWith(`${folder}/`))
      .map(([name, bytes]) => ({ name: name.slice(folder.length + 1), sizeBytes: bytes.length }));
  }

  async remove(name: string): Promise<void> {
    await this.#change({ kind: 'remove', name });
  }

  removeDrafts(): void {}
  close(): void {}

  async #change(change: ObjectChange): Promise<void> {
    const entry = { change, ended: false };
    const index = this.log.push(entry) - 1;
    await this.before(change, index);
    apply(this.content, change);
    entry.ended = true;
  }

  #find(name: string): Buffer {
    const bytes = this.content.get(name);
    if (bytes === undefined) throw new AppError('not_found', `there is no ${name}`);
    return bytes;
  }
}

export function apply(content: Map<string, Buffer>, change: ObjectChange): void {
  if (change.kind === 'put') content.set(change.name, change.bytes);
  else content.delete(change.name);
}
