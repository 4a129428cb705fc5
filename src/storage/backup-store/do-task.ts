/** What the tasks on a store do. */
import { setImmediate } from 'node:timers/promises';
import type { BackupSummary } from '../../contracts/backup.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import { fileError } from '../errors.ts';
import { collectGarbage } from './collect.ts';
import { type FilePlace, fileSystemsOf, listFiles, openFile } from './files.ts';
import { summaryOf } from './manifest.ts';
import { PieceHasher } from './piece-hasher.ts';
import { restoreDisks, type TaskControl } from './restore.ts';
import { BackupSession } from './session.ts';
import { BackupStore } from './store.ts';
import type { TaskChannel } from './task-channel.ts';
import type { StoreContent, StoreJob, ToStoreTask } from './tasks.ts';
import { verifyBackups } from './verify.ts';

const NO_HASHES = new Uint8Array(0);

/** Does a task, and tells its owner how it ended. */
export async function doTask(job: StoreJob, channel: TaskChannel): Promise<void> {
  let store: BackupStore | undefined;
  try {
    store = new BackupStore(job.store);
    channel.post({ type: 'done', result: await run(store, job, channel) });
  } catch (error) {
    channel.post({ type: 'failed', error: fileError(error, 'backup', 'the backup store').toPlain() });
  } finally {
    store?.close();
  }
}

async function content(store: BackupStore): Promise<StoreContent> {
  const backups: BackupSummary[] = [];
  const damaged: { id: string; detail: string }[] = [];
  for (const id of await store.backupIds()) {
    try {
      backups.push(summaryOf(await store.readManifest(id)));
    } catch (error) {
      const { code, detail } = toAppError(error);
      if (code === 'backup_corrupt') damaged.push({ id, detail });
      else if (code !== 'not_found') throw error;
    }
  }
  return { backups, damaged };
}

/** Takes the messages of a backup one after the other. */
async function write(
  session: BackupSession,
  parent: string | null,
  channel: TaskChannel,
): Promise<BackupSummary> {
  const hasher = new PieceHasher();
  try {
    channel.post({ type: 'ready', parent: await session.goOnFrom(parent) });
    for await (const { message, hashes } of arrivals(channel, hasher)) {
      if (message.type === 'begin') {
        session.begin(message.disks);
      } else if (message.type === 'piece') {
        const bytes = new Uint8Array(message.buffer, 0, message.length);
        await session.add(message.disk, message.offset, bytes, await hashes);
        channel.post({ type: 'taken' });
      } else if (message.type === 'finish') {
        const { consistency, takenAt } = message;
        return await session.finish({ consistency, takenAt });
      }
    }
    throw new AppError('canceled', 'it was canceled on request');
  } finally {
    await hasher.close();
    await session.close();
  }
}

interface Arrival {
  readonly message: ToStoreTask;
  /** Of a piece; under way since it came. */
  readonly hashes: Promise<Uint8Array>;
}

/** Messages in their order, until it is canceled. */
async function* arrivals(channel: TaskChannel, hasher: PieceHasher): AsyncGenerator<Arrival> {
  const { signal } = channel;
  const waiting: Arrival[] = [];
  let wake: (() => void) | undefined;
  channel.onMessage((message) => {
    const hashes =
      message.type === 'piece' ? hasher.hash(message.buffer, message.length) : Promise.resolve(NO_HASHES);
    waiting.push({ message, hashes });
    wake?.();
  });
  signal.addEventListener('abort', () => wake?.(), { once: true });
  while (!signal.aborted) {
    // The packs on their way get on, and messages come in.
    await setImmediate();
    const next = waiting.shift();
    if (next !== undefined) yield next;
    else if (!signal.aborted) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}

function run(store: BackupStore, job: StoreJob, channel: TaskChannel): Promise<unknown> {
  switch (job.task) {
    case 'synchronize':
      return store.synchronize();
    case 'list':
      return content(store);
    case 'remove':
      return removeBackups(store, job.input.backupIds);
    case 'restore':
      return restore(store, job.input, channel);
    case 'verify':
      return verify(store, job.input.backupIds, channel);
    case 'file-systems':
      return fileSystemsOf(store, job.input.backupId);
    case 'list-files':
      return listFiles(store, job.input);
    case 'read-file':
      return giveOut(store, job.input, channel);
    case 'collect':
      return collectGarbage(store, channel);
    case 'write':
      return write(new BackupSession(store, job.input.head), job.input.parent, channel);
  }
}

/** Until it is canceled. */
async function giveOut(store: BackupStore, place: FilePlace, channel: TaskChannel): Promise<null> {
  const { signal } = channel;
  const file = await openFile(store, place);
  const { promise, resolve, reject } = Promise.withResolvers<null>();
  let before: Promise<void> = Promise.resolve();
  const give = async (offset: number, length: number): Promise<void> => {
    const bytes = new Uint8Array(length);
    await file.read(offset, Buffer.from(bytes.buffer));
    channel.post({ type: 'bytes', bytes }, [bytes.buffer]);
  };
  channel.onMessage((message) => {
    if (message.type !== 'read') return;
    before = before.then(() => give(message.offset, message.length));
    before.catch(reject);
  });
  signal.addEventListener('abort', () => resolve(null), { once: true });
  if (signal.aborted) resolve(null);
  channel.post({ type: 'opened', entry: file.entry });
  return await promise;
}

async function removeBackups(store: BackupStore, backupIds: readonly string[]): Promise<null> {
  for (const id of backupIds) await store.removeManifest(id);
  return null;
}

async function restore(
  store: BackupStore,
  input: Extract<StoreJob, { task: 'restore' }>['input'],
  control: TaskControl,
): Promise<null> {
  await restoreDisks(store, await store.readManifest(input.backupId), input.disks, control);
  return null;
}

async function verify(
  store: BackupStore,
  backupIds: readonly string[] | null,
  control: TaskControl,
): Promise<unknown> {
  return await verifyBackups(store, backupIds ?? (await store.backupIds()), control);
}
