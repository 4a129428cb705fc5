/** What a disk and its snapshots may hold after a crash, by a journal of what was done and acknowledged. */

export const BLOCKS = 12;

export type Entry =
  /** What the disk holds when a run begins, and each snapshot. */
  | { readonly t: 'disk'; readonly blocks: readonly number[] }
  | { readonly t: 'snapshot'; readonly name: string; readonly blocks: readonly number[] }
  /** late: asked for before a crash and made after it. */
  | {
      readonly t: 'backup';
      readonly name: string;
      readonly blocks: readonly number[];
      readonly late: boolean;
    }
  /** A block is about to be filled with a value. */
  | { readonly t: 'write'; readonly block: number; readonly value: number }
  /** A flush has finished that was begun when the journal had so many entries. */
  | { readonly t: 'flushed'; readonly entries: number }
  | { readonly t: 'snapshot-begun' | 'snapshot-done' | 'delete-begun'; readonly name: string }
  | { readonly t: 'backup-begun' | 'backup-done' | 'remove-begun'; readonly name: string }
  | { readonly t: 'rollback-begun' | 'rollback-done'; readonly name: string };

interface Written {
  readonly at: number;
  readonly values: ReadonlySet<number>;
}

type Content = readonly Set<number>[];

export class LineageModel {
  /** What must be there, and what may. */
  readonly snapshots = new Map<string, Content>();
  readonly perhaps = new Map<string, Content>();
  readonly backups = new Map<string, Content>();
  readonly perhapsBackups = new Map<string, Content>();
  /** Those of them that were made of what a crash had left. */
  readonly lateBackups = new Set<string>();
  /** Per block what may be in it, the oldest first; the last one is what a reader sees now. */
  readonly #written: Written[][] = Array.from({ length: BLOCKS }, () => []);
  #rollback: string | undefined;
  #entries = 0;

  add(entry: Entry): void {
    const at = this.#entries++;
    switch (entry.t) {
      case 'disk':
        for (const [block, value] of entry.blocks.entries()) this.#set(block, at, new Set([value]));
        break;
      case 'snapshot':
        this.snapshots.set(entry.name, exactly(entry.blocks));
        break;
      case 'backup':
        this.backups.set(entry.name, exactly(entry.blocks));
        if (entry.late) this.lateBackups.add(entry.name);
        break;
      case 'write':
        this.#written[entry.block]!.push({ at, values: new Set([entry.value]) });
        for (const content of [...this.perhaps.values(), ...this.perhapsBackups.values()])
          content[entry.block]!.add(entry.value);
        break;
      case 'flushed':
        for (const [block, list] of this.#written.entries()) {
          const kept = list.findLastIndex((written) => written.at < entry.entries);
          this.#written[block] = list.slice(Math.max(kept, 0));
        }
        break;
      case 'snapshot-begun':
        this.perhaps.set(entry.name, this.#seen());
        break;
      case 'backup-begun':
        this.perhapsBackups.set(entry.name, this.#seen());
        break;
      case 'backup-done':
        this.backups.set(entry.name, this.perhapsBackups.get(entry.name)!);
        this.perhapsBackups.delete(entry.name);
        break;
      case 'remove-begun':
        this.perhapsBackups.set(entry.name, this.backups.get(entry.name)!);
        this.backups.delete(entry.name);
        break;
      case 'snapshot-done':
        this.snapshots.set(entry.name, this.perhaps.get(entry.name)!);
        this.perhaps.delete(entry.name);
        break;
      case 'delete-begun':
        this.perhaps.set(
          entry.name,
          this.snapshots.get(entry.name)!.map((values) => new Set(values)),
        );
        this.snapshots.delete(entry.name);
        break;
      case 'rollback-begun':
        this.#rollback = entry.name;
        break;
      case 'rollback-done':
        this.#rollback = undefined;
        for (const [block, values] of this.snapshots.get(entry.name)!.entries()) this.#set(block, at, values);
    }
  }

  /** What may be in each block after a crash now. */
  get disk(): Content {
    const back = this.#rollback === undefined ? undefined : this.snapshots.get(this.#rollback);
    return this.#written.map((list, block) => {
      const values = list.flatMap((written) => [...written.values]);
      return new Set([...values, ...(back?.[block] ?? [])]);
    });
  }

  /** What may be in a backup that was asked for before a crash and made after it. */
  lateBackup(name: string): Content | undefined {
    return this.perhapsBackups.has(name) ? this.disk : undefined;
  }

  /** What a reader sees now. */
  #seen(): Content {
    return this.#written.map((list) => new Set(list.at(-1)!.values));
  }

  #set(block: number, at: number, values: ReadonlySet<number>): void {
    this.#written[block] = [{ at, values: new Set(values) }];
  }
}

function exactly(blocks: readonly number[]): Content {
  return blocks.map((value) => new Set([value]));
}

/** What is wrong with a content; undefined when nothing is. */
export function judge(what: string, seen: readonly number[], allowed: Content): string | undefined {
  const bad = seen.findIndex((value, block) => !allowed[block]!.has(value));
  if (bad < 0) return undefined;
  return `${what}: block ${bad} holds ${seen[bad]}, which may be ${[...allowed[bad]!].join(' or ')}`;
}
