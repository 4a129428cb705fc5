/** Entry of a thread that does one task on a store. It ends by itself when the task has. */
import { setImmediate } from 'node:timers/promises';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { BackupSummary } from '../../contracts/backup.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import { fileError } from '../errors.ts';
import { collectGarbage } from './collect.ts';
import { type FilePlace, fileSystemsOf, listFiles, openFile } from './files.ts';
import { giveWay } from './give-way.ts';
import { summaryOf } from './manifest.ts';
import { PieceHasher } from './piece-hasher.ts';
import { restoreDisks, type TaskControl } from './restore.ts';
import { BackupSession } from './session.ts';
import { BackupStore } from './store.ts';
import type { FromStoreWorker, StoreContent, StoreJob, StoreTaskName, ToStoreWorker } from './tasks.ts';
import { verifyBackups } from './verify.ts';

/** Progress is told in about so many steps. */
const PROGRESS_STEPS = 200;

/** Somebody waits for these. */
const AWAITED: readonly StoreTaskName[] = ['restore', 'file-systems', 'list-files', 'read-file'];

const NO_HASHES = new Uint8Array(0);

const post = (message: FromStoreWorker): void => port.postMessage(message);

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
  store: BackupStore,
  session: BackupSession,
  control: TaskControl,
): Promise<BackupSummary> {
  const hasher = new PieceHasher();
  try {
    for await (const { message, hashes } of arrivals(control, hasher)) {
      if (message.type === 'begin') {
        await session.begin(message.disks, message.parent);
      } else if (message.type === 'piece') {
        const bytes = new Uint8Array(message.buffer, 0, message.length);
        await session.add(message.disk, message.offset, bytes, await hashes);
        post({ type: 'taken' });
      } else if (message.type === 'finish') {
        const { consistency, takenAt } = message;
        return await session.finish({ consistency, takenAt });
      }
    }
    throw new AppError('canceled', 'it was canceled on request');
  } finally {
    await hasher.close();
    await session.close();
    store.objects.close();
  }
}

interface Arrival {
  readonly message: ToStoreWorker;
  /** Of a piece; under way since it came. */
  readonly hashes: Promise<Uint8Array>;
}

/** Messages in their order, until it is canceled. */
async function* arrivals({ signal }: TaskControl, hasher: PieceHasher): AsyncGenerator<Arrival> {
  const waiting: Arrival[] = [];
  let wake: (() => void) | undefined;
  port.on('message', (message: ToStoreWorker) => {
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
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}

function run(store: BackupStore, job: StoreJob, control: TaskControl): Promise<unknown> {
  switch (job.task) {
    case 'synchronize':
      return store.synchronize();
    case 'list':
      return content(store);
    case 'remove':
      return removeBackups(store, job.input.backupIds);
    case 'restore':
      return restore(store, job.input, control);
    case 'verify':
      return verify(store, job.input.backupIds, control);
    case 'file-systems':
      return fileSystemsOf(store, job.input.backupId);
    case 'list-files':
      return listFiles(store, job.input);
    case 'read-file':
      return giveOut(store, job.input, control);
    case 'collect':
      return collectGarbage(store, control);
    case 'write':
      return write(store, new BackupSession(store, job.input.head), control);
  }
}

/** Until it is canceled. */
async function giveOut(store: BackupStore, place: FilePlace, { signal }: TaskControl): Promise<null> {
  const file = await openFile(store, place);
  const { promise, resolve, reject } = Promise.withResolvers<null>();
  let before: Promise<void> = Promise.resolve();
  const give = async (offset: number, length: number): Promise<void> => {
    const bytes = new Uint8Array(length);
    await file.read(offset, Buffer.from(bytes.buffer));
    port.postMessage({ type: 'bytes', bytes } satisfies FromStoreWorker, [bytes.buffer]);
  };
  port.on('message', (message: ToStoreWorker) => {
    if (message.type !== 'read') return;
    before = before.then(() => give(message.offset, message.length));
    before.catch(reject);
  });
  signal.addEventListener('abort', () => resolve(null), { once: true });
  if (signal.aborted) resolve(null);
  post({ type: 'opened', entry: file.entry });
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

function taskControl(): TaskControl {
  const abort = new AbortController();
  port.on('message', (message: ToStoreWorker) => {
    if (message.type === 'cancel') abort.abort();
  });
  let told = 0;
  return {
    signal: abort.signal,
    progress(done, total) {
      if (done < total && done < told + total / PROGRESS_STEPS) return;
      told = done;
      post({ type: 'progress', done, total });
    },
  };
}

// INVARIANT: this file is only ever started as a worker, with a StoreJob.
const port = parentPort as MessagePort;
const job = workerData as StoreJob;
const control = taskControl();
let store: BackupStore | undefined;
if (!AWAITED.includes(job.task)) giveWay();
try {
  store = new BackupStore(job.store);
  post({ type: 'ready' });
  post({ type: 'done', result: await run(store, job, control) });
} catch (error) {
  post({ type: 'failed', error: fileError(error, 'backup', 'the backup store').toPlain() });
} finally {
  store?.close();
  port.close();
}
