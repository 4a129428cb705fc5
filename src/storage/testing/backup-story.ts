/**
 * A store of backups in a folder whose every change is recorded: backups of a disk that changes, full and from each other, their
 * removal, and collections of garbage, also while a backup is made. The power is then cut behind any step.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { CHUNK_BYTES } from '../backup-store/format.ts';
import { collectGarbage } from '../backup-store/collect.ts';
import { DirectoryObjects } from '../backup-store/directory-objects.ts';
import { BackupStore } from '../backup-store/store.ts';
import { MemoryObjects } from './memory-objects.ts';
import { RecordedFiles } from './recorded-files.ts';
import { readBackup, writeBackup } from './stored-backups.ts';

const CHUNKS = 10;
const SIZE = CHUNKS * CHUNK_BYTES - 4096;
/** Chunks compress to some 500 bytes: a pack takes three. */
const PACK = 1500;
const PATTERN_BYTES = 512;
const CONTROL = { signal: new AbortController().signal, progress: () => undefined };

type Random = (below: number) => number;

/** An index as it was when there were so many steps: a cut may leave any earlier one. */
interface OldIndex {
  readonly steps: number;
  readonly file: string;
}

export class BackupStory {
  readonly files = new RecordedFiles();
  readonly #folder: string;
  readonly #random: Random;
  readonly #store: BackupStore;
  /** What each backup that was reported done holds. */
  readonly #contents = new Map<string, Buffer>();
  readonly #indexes: OldIndex[] = [];
  readonly #disk: Buffer;
  #last: string | undefined;

  /** @param folder for the store and its indexes @param random the story is another one with other numbers */
  constructor(folder: string, random: Random) {
    this.#folder = folder;
    this.#random = random;
    const objects = new DirectoryObjects(path.join(folder, 'store'), this.files);
    this.#store = openStore(objects, path.join(folder, 'index.sqlite'));
    this.#disk = Buffer.alloc(SIZE);
    for (let chunk = 0; chunk < CHUNKS; chunk++) this.#scribble(chunk);
  }

  async tell(rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      this.#keepIndex();
      const choice = this.#random(6);
      if (choice < 2 || this.#last === undefined) await this.#backUp();
      else if (choice === 2) await this.#removeOne();
      else if (choice === 3) await this.#collect();
      else if (choice === 4) await Promise.all([this.#backUp(), this.#collect()]);
      else await Promise.all([this.#backUp(), this.#removeOne()]);
    }
    this.#store.close();
  }

  /** Backups that were reported done by then, and whose removal had not begun. */
  promisedAt(cut: number): ReadonlySet<string> {
    const promised = new Set<string>();
    for (const step of this.files.steps.slice(0, cut)) {
      const [verb, id] = step.kind === 'note' ? step.text.split(' ') : [];
      if (verb === 'made') promised.add(id!);
      if (verb === 'removing') promised.delete(id!);
    }
    return promised;
  }

  /**
   * Looks at what is left behind a cut, as a daemon does that is started then, and goes on from it. Throws unless all that was promised is
   * there and whole, and stays so.
   * @param chance of one thing that was not durable @param scratch a folder for an index of earlier; without one it is made anew
   */
  async check(cut: number, chance: () => boolean, scratch?: string): Promise<void> {
    const store = openStore(this.#left(cut, chance), this.#indexFor(cut, scratch));
    try {
      const broken = await store.synchronize();
      if (broken.length > 0) throw new Error(`cut at ${cut}: packs ${broken.join(' ')} are broken`);
      const there = await store.backupIds();
      for (const id of this.promisedAt(cut)) {
        if (!there.includes(id)) throw new Error(`cut at ${cut}: backup ${id} is gone`);
      }
      // A new backup and a collection find what they need, and harm nothing.
      const another = await writeBackup(store, this.#disk, PACK);
      await collectGarbage(store, CONTROL);
      for (const id of there) await this.#compare(cut, store, id, this.#contents.get(id));
      await this.#compare(cut, store, another.id, this.#disk);
    } finally {
      store.close();
    }
  }

  /** What was not promised yet, or no longer, is whole as well if it is there; only what it holds is not always known. */
  async #compare(cut: number, store: BackupStore, id: string, expected: Buffer | undefined): Promise<void> {
    const content = await readBackup(store, id);
    if (expected === undefined || content.equals(expected)) return;
    throw new Error(`cut at ${cut}: backup ${id} has another content`);
  }

  #left(cut: number, chance: () => boolean): MemoryObjects {
    const objects = new Map<string, Buffer>();
    for (const [file, bytes] of this.files.after(cut, chance)) {
      // As DirectoryObjects removes them when a store is opened.
      if (!file.endsWith('.partial'))
        objects.set(path.relative(path.join(this.#folder, 'store'), file), bytes);
    }
    return new MemoryObjects(objects);
  }

  #indexFor(cut: number, scratch: string | undefined): string {
    const old = this.#indexes.filter(({ steps }) => steps <= cut);
    if (scratch === undefined || old.length === 0) return ':memory:';
    const { file } = old[this.#random(old.length)]!;
    const copy = path.join(scratch, 'index.sqlite');
    for (const part of ['', '-wal', '-shm']) fs.rmSync(`${copy}${part}`, { force: true });
    for (const part of ['', '-wal']) {
      if (fs.existsSync(`${file}${part}`)) fs.copyFileSync(`${file}${part}`, `${copy}${part}`);
    }
    return copy;
  }

  #keepIndex(): void {
    const from = path.join(this.#folder, 'index.sqlite');
    const file = `${from}.${this.#indexes.length}`;
    for (const part of ['', '-wal']) fs.copyFileSync(`${from}${part}`, `${file}${part}`);
    this.#indexes.push({ steps: this.files.steps.length, file });
  }

  async #backUp(): Promise<void> {
    const chunks = new Set(Array.from({ length: 1 + this.#random(4) }, () => this.#random(CHUNKS)));
    for (const chunk of chunks) this.#scribble(chunk);
    const full = this.#last === undefined || this.#random(4) === 0;
    const parent = full ? undefined : { id: this.#last!, changed: [...chunks] };
    const content = Buffer.from(this.#disk);
    const { id } = await writeBackup(this.#store, content, PACK, parent);
    this.#contents.set(id, content);
    this.#last = id;
    this.files.note(`made ${id}`);
  }

  /** Any but the last, which the next one goes on from. */
  async #removeOne(): Promise<void> {
    const ids = [...this.promisedAt(this.files.steps.length)].filter((id) => id !== this.#last);
    const id = ids[this.#random(Math.max(ids.length, 1))];
    if (id === undefined) return;
    this.files.note(`removing ${id}`);
    await this.#store.removeManifest(id);
  }

  async #collect(): Promise<void> {
    await collectGarbage(this.#store, CONTROL);
  }

  #scribble(chunk: number): void {
    const bytes = Uint8Array.from({ length: PATTERN_BYTES }, () => this.#random(256));
    this.#disk.fill(bytes, chunk * CHUNK_BYTES, Math.min((chunk + 1) * CHUNK_BYTES, SIZE));
  }
}

function openStore(objects: MemoryObjects | DirectoryObjects, indexFile: string): BackupStore {
  // INVARIANT: a store with objects of its own does not look at the location.
  return new BackupStore({ location: { kind: 'directory', folder: '' }, indexFile }, objects);
}

/** Tells a story and cuts it behind every step, several times. @returns how many cuts */
export async function cutBackups(
  { folder, scratch, rounds, keeps }: CutOptions,
  random: Random,
): Promise<number> {
  const story = new BackupStory(folder, random);
  await story.tell(rounds);
  let cuts = 0;
  for (let cut = 0; cut <= story.files.steps.length; cut++) {
    for (const keep of keeps) {
      await story.check(cut, keep, random(4) === 0 ? scratch : undefined);
      cuts++;
    }
  }
  return cuts;
}

export interface CutOptions {
  readonly folder: string;
  /** On a file system in memory, for speed. */
  readonly scratch: string;
  readonly rounds: number;
  /** Each tells of one thing that was not durable whether it is there. */
  readonly keeps: readonly (() => boolean)[];
}
