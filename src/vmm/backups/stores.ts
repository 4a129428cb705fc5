/** The stores that backups are in, one per destination: opened once, and then worked on by threads of their own. */
import * as fs from 'node:fs';
import type { StoreConfig, StoreLocation } from '../../contracts/backup.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { DestinationRow, Store } from '../../db/index.ts';
import {
  type HeldStore,
  holdRemoteStore,
  holdStoreFolder,
  isLost,
  openObjects,
  runStoreTask,
  type StoreTaskName,
  type StoreTasks,
  type TaskOptions,
} from '../../storage/index.ts';
import type { Home } from '../home.ts';
import type { Log } from '../ports.ts';

/** Of the destination that is always there, in the state folder. */
export const LOCAL_DESTINATION = 'dst-local';

interface Opened {
  readonly config: StoreConfig;
  readonly held: Held;
}

/** A store that is this daemon's: a folder by a lock, a remote by a lease. */
type Held = Partial<Omit<HeldStore, 'release'>> & { release(): void | Promise<void> };

export class BackupStores {
  readonly #store: Store;
  readonly #home: Home;
  readonly #log: Log;
  readonly #opened = new Map<string, Promise<Opened>>();
  /** Destinations with chunks that may be of no backup any more. */
  readonly #littered = new Set<string>();

  constructor(store: Store, home: Home, log: Log) {
    this.#store = store;
    this.#home = home;
    this.#log = log;
  }

  /**
   * How a thread opens it; the first time its index is brought up to date. AppErrors of the destination.
   * @param takeOver also from another daemon
   */
  async config(destinationId: string, { takeOver = false } = {}): Promise<StoreConfig> {
    const known = this.#opened.get(destinationId);
    if (known !== undefined) return (await known).config;
    const opening = this.#open(destinationId, takeOver);
    this.#opened.set(destinationId, opening);
    try {
      return (await opening).config;
    } catch (error) {
      // It may be there the next time.
      this.#opened.delete(destinationId);
      throw error;
    }
  }

  /** Takes a remote from whoever has it, unless this daemon does. AppErrors of the destination. */
  async takeOver(destinationId: string): Promise<void> {
    // One that is just being opened without that may be refused.
    const opened = await this.#opened.get(destinationId)?.catch(() => undefined);
    try {
      await opened?.held.confirm?.();
    } catch (error) {
      if (!isLost(error)) throw error;
      await this.#letGo(destinationId, opened!.config);
    }
    await this.config(destinationId, { takeOver: true });
  }

  /** Opens it anew, once, when it is found lost. */
  async run<K extends StoreTaskName>(
    destinationId: string,
    task: K,
    input: StoreTasks[K]['input'],
    options: TaskOptions = {},
  ): Promise<StoreTasks[K]['result']> {
    const config = await this.config(destinationId);
    try {
      return await runStoreTask(config, task, input, options);
    } catch (error) {
      if (!isLost(error)) throw error;
      await this.#letGo(destinationId, config);
      return await runStoreTask(await this.config(destinationId), task, input, options);
    }
  }

  littered(destinationId: string): void {
    this.#littered.add(destinationId);
  }

  /** Those with garbage, which from now on are taken to have none. */
  takeLittered(): string[] {
    const ids = [...this.#littered].filter((id) => this.#store.destinations.get(id) !== undefined);
    this.#littered.clear();
    return ids;
  }

  /** The index goes, and the place is free for others. What is stored stays. */
  async forget(destinationId: string): Promise<void> {
    const opened = this.#opened.get(destinationId);
    this.#opened.delete(destinationId);
    await (await opened?.catch(() => undefined))?.held.release();
    for (const part of ['', '-wal', '-shm']) {
      fs.rmSync(`${this.#indexFile(destinationId)}${part}`, { force: true });
    }
  }

  async close(): Promise<void> {
    for (const [id, opened] of this.#opened) {
      try {
        await (await opened.catch(() => undefined))?.held.release();
      } catch (error) {
        // Others are told by and by that nobody has it.
        this.#log.warn(
          { destination: id, error: toAppError(error).message },
          'a backup store was not given back',
        );
      }
    }
    this.#opened.clear();
  }

  location(row: DestinationRow): StoreLocation {
    if (row.kind === 'rclone') return { kind: 'rclone', remote: row.location };
    return {
      kind: 'directory',
      folder: row.location === '' ? this.#home.file('backups', 'store') : row.location,
    };
  }

  async #open(destinationId: string, takeOver: boolean): Promise<Opened> {
    const row = this.#store.destinations.get(destinationId);
    if (row === undefined) throw new AppError('not_found', 'the destination of the backup is gone');
    const location = this.location(row);
    const held = await this.#hold(destinationId, location, takeOver);
    const config = { location, lease: held.claim, indexFile: this.#indexFile(destinationId) };
    try {
      const broken = await runStoreTask(config, 'synchronize', {});
      if (broken.length > 0) {
        this.#log.warn({ destination: row.name, packs: broken }, 'packs of a backup store cannot be read');
      }
    } catch (error) {
      await held.release();
      throw error;
    }
    this.#littered.add(destinationId);
    return { config, held };
  }

  /** Takes the place for this daemon. */
  async #hold(destinationId: string, location: StoreLocation, takeOver: boolean): Promise<Held> {
    if (location.kind === 'directory') return { release: holdStoreFolder(location.folder) };
    const onLost = (): void => {
      this.#log.error({ destination: destinationId }, 'a remote is no longer held: it is opened anew');
      this.#opened.delete(destinationId);
    };
    return await holdRemoteStore(openObjects(location), destinationId, { onLost, takeOver });
  }

  /** What was opened as `config` is of no use any more; another may have been opened since. */
  async #letGo(destinationId: string, config: StoreConfig): Promise<void> {
    const known = this.#opened.get(destinationId);
    const opened = await known?.catch(() => undefined);
    if (opened?.config !== config || this.#opened.get(destinationId) !== known) return;
    opened.held.abandon?.();
    this.#opened.delete(destinationId);
  }

  #indexFile(destinationId: string): string {
    return this.#home.file('backups', `${destinationId}.sqlite`);
  }
}
