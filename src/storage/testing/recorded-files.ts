/**
 * A store's changes of its file system, recorded one by one, and what a power cut after any of them may leave: the content of a
 * file is certain once it has been synced, its name once its folder has; of all else anything may be there or not.
 */
import * as path from 'node:path';
import { hostStoreFiles, type StoreFiles } from '../backup-store/store-files.ts';

type Step =
  | { readonly kind: 'create'; readonly file: string; readonly inode: number }
  | { readonly kind: 'write'; readonly inode: number; readonly bytes: Buffer }
  | { readonly kind: 'rename'; readonly file: string; readonly to: string }
  | { readonly kind: 'remove'; readonly file: string }
  /** It has ended; `covers` is how many steps there were when it began. */
  | { readonly kind: 'synced'; readonly inode: number; readonly covers: number }
  | { readonly kind: 'folder-synced'; readonly folder: string; readonly covers: number }
  /** The test's own, such as that a backup was reported done. */
  | { readonly kind: 'note'; readonly text: string };

export class RecordedFiles implements StoreFiles {
  readonly steps: Step[] = [];
  /** What a step throws fails it, before it is done. */
  before: (step: string) => void = () => undefined;
  #nextInode = 1;

  note(text: string): void {
    this.steps.push({ kind: 'note', text });
  }

  async create(file: string): ReturnType<StoreFiles['create']> {
    this.before('create');
    const inode = this.#nextInode++;
    const draft = await hostStoreFiles.create(file);
    this.steps.push({ kind: 'create', file, inode });
    return {
      write: async (bytes) => {
        this.before('write');
        this.steps.push({ kind: 'write', inode, bytes: Buffer.from(bytes) });
        await draft.write(bytes);
      },
      sync: async () => {
        this.before('sync');
        const covers = this.steps.length;
        await draft.sync();
        this.steps.push({ kind: 'synced', inode, covers });
      },
      close: () => draft.close(),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.before('rename');
    await hostStoreFiles.rename(from, to);
    this.steps.push({ kind: 'rename', file: from, to });
  }

  async remove(file: string): Promise<void> {
    this.before('remove');
    await hostStoreFiles.remove(file);
    this.steps.push({ kind: 'remove', file });
  }

  async syncFolder(folder: string): Promise<void> {
    this.before('folder');
    const covers = this.steps.length;
    await hostStoreFiles.syncFolder(folder);
    this.steps.push({ kind: 'folder-synced', folder, covers });
  }

  /** The files after a cut behind `cut` steps. @param chance of one thing that was not made durable */
  after(cut: number, chance: () => boolean): Map<string, Buffer> {
    const steps = this.steps.slice(0, cut);
    const folders = coveredBy(steps, (step) => (step.kind === 'folder-synced' ? step.folder : undefined));
    const inodes = coveredBy(steps, (step) => (step.kind === 'synced' ? step.inode : undefined));
    const names = new Map<string, number>();
    const moved = new Map<string, number>();
    const contents = new Map<number, Buffer>();
    for (const [at, step] of steps.entries()) {
      if (step.kind === 'write') {
        const durable = (inodes.get(step.inode) ?? 0) > at;
        contents.set(step.inode, durable ? step.bytes : partOf(step.bytes, chance));
      }
      if (step.kind === 'create') moved.set(step.file, step.inode);
      if (step.kind === 'rename') moved.set(step.to, moved.get(step.file)!);
      const named = step.kind === 'create' || step.kind === 'rename' || step.kind === 'remove';
      if (!named) continue;
      const durable = (folders.get(path.dirname(step.file)) ?? 0) > at;
      if (!durable && !chance()) continue;
      if (step.kind === 'create') names.set(step.file, step.inode);
      else names.delete(step.file);
      if (step.kind === 'rename') names.set(step.to, moved.get(step.to)!);
    }
    return new Map([...names].map(([file, inode]) => [file, contents.get(inode) ?? Buffer.alloc(0)]));
  }
}

/** Up to which step what is named so has been made durable. */
function coveredBy<K>(steps: readonly Step[], nameOf: (step: Step) => K | undefined): Map<K, number> {
  const covered = new Map<K, number>();
  for (const step of steps) {
    const name = nameOf(step);
    if (name !== undefined && 'covers' in step)
      covered.set(name, Math.max(covered.get(name) ?? 0, step.covers));
  }
  return covered;
}

/** All of it, half of it, or as many zeros. */
function partOf(bytes: Buffer, chance: () => boolean): Buffer {
  if (!chance()) return Buffer.alloc(chance() ? bytes.length : 0);
  return chance() ? bytes : bytes.subarray(0, bytes.length >> 1);
}
