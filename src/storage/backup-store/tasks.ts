/** What is done with a store, in threads of its own: reading, hashing and compressing would hold up others. */
import type { MessagePort } from 'node:worker_threads';
import type { BackupHead, BackupSummary, Consistency, StoreConfig } from '../../contracts/backup.ts';
import type { PlainError } from '../../contracts/errors.ts';
import type { FilePage, FilePlace, FileSystemPlace } from './files.ts';
import type { SessionDisk } from './session.ts';
import type { FileEntry } from '../ext4/file-system.ts';
import type { RestoredDisk } from './restore.ts';
import type { CollectResult } from './collect.ts';
import type { VerifyResult } from './verify.ts';

export interface StoreContent {
  readonly backups: readonly BackupSummary[];
  readonly damaged: readonly { readonly id: string; readonly detail: string }[];
}

/** Each task and its result. */
export interface StoreTasks {
  synchronize: { readonly input: Record<never, never>; readonly result: readonly string[] };
  list: { readonly input: Record<never, never>; readonly result: StoreContent };
  remove: { readonly input: { readonly backupIds: readonly string[] }; readonly result: null };
  restore: {
    readonly input: { readonly backupId: string; readonly disks: readonly RestoredDisk[] };
    readonly result: null;
  };
  /** All backups of the store when none is named. */
  verify: {
    readonly input: { readonly backupIds: readonly string[] | null };
    readonly result: VerifyResult;
  };
  'file-systems': {
    readonly input: { readonly backupId: string };
    readonly result: readonly FileSystemPlace[];
  };
  'list-files': {
    readonly input: FilePlace & { readonly from: number; readonly limit: number };
    readonly result: FilePage;
  };
  /** Opens a file, and gives out what is asked for by messages until it is canceled. */
  'read-file': { readonly input: FilePlace; readonly result: null };
  collect: { readonly input: Record<never, never>; readonly result: CollectResult };
  /** Takes chunks by messages. `parent`: the backup to go on from, if it can be read. */
  write: {
    readonly input: { readonly head: BackupHead; readonly parent: string | null };
    readonly result: BackupSummary;
  };
}
export type StoreTaskName = keyof StoreTasks;

/**
 * How a task is done. background: in a thread for itself that leaves the processor to guests; awaited: in one that does not, since
 * somebody waits; shared: beside others.
 */
export type TaskManner = 'background' | 'awaited' | 'shared';

export const MANNERS: Readonly<Record<StoreTaskName, TaskManner>> = {
  synchronize: 'background',
  list: 'background',
  remove: 'background',
  restore: 'awaited',
  verify: 'background',
  'file-systems': 'shared',
  'list-files': 'shared',
  'read-file': 'shared',
  collect: 'background',
  write: 'background',
};

/** To a thread, which answers with the id when the task has ended. The port is the task's end of a channel to its owner. */
export interface StartTask {
  readonly type: 'start';
  readonly id: number;
  readonly job: StoreJob;
  readonly port: MessagePort;
}

export type ToStoreThread = StartTask | { readonly type: 'cancel'; readonly id: number };

/** What a thread is started with. */
export interface StoreThreadData {
  readonly manner: TaskManner;
}

export type StoreJob = {
  readonly [K in StoreTaskName]: {
    readonly task: K;
    readonly store: StoreConfig;
    readonly input: StoreTasks[K]['input'];
  };
}[StoreTaskName];

export type ToStoreTask =
  | { readonly type: 'cancel' }
  | { readonly type: 'begin'; readonly disks: readonly SessionDisk[] }
  /** A piece of a disk; the buffer is the worker's until it is given back. */
  | {
      readonly type: 'piece';
      readonly disk: number;
      readonly offset: number;
      readonly length: number;
      readonly buffer: SharedArrayBuffer;
    }
  | { readonly type: 'finish'; readonly consistency: Consistency; readonly takenAt: number }
  /** Of an open file. */
  | { readonly type: 'read'; readonly offset: number; readonly length: number };

export type FromStoreTask =
  /** A store can be written to. `parent`: the backup that is gone on from. */
  | { readonly type: 'ready'; readonly parent: string | null }
  | { readonly type: 'progress'; readonly done: number; readonly total: number }
  | { readonly type: 'taken' }
  | { readonly type: 'opened'; readonly entry: FileEntry }
  | { readonly type: 'bytes'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'done'; readonly result: unknown }
  | { readonly type: 'failed'; readonly error: PlainError };
