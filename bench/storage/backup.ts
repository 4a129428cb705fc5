/**
 * How fast a disk is backed up, next to `zstd -1` over the same file on one thread (Debian package zstd), and what that costs a guest
 * that writes meanwhile. Runs take turns; each figure is the best of three, files in the page cache.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { StoreConfig } from '../../src/contracts/backup.ts';
import { findTool } from '../../src/images/tools.ts';
import { type GuestDisk, openDisk, prepareBackup, runStoreTask } from '../../src/storage/index.ts';
import { backupPlan } from '../../src/storage/testing/store-kit.ts';

const RUNS = 3;
const MIB = 1 << 20;
const CHUNK_BYTES = 65_536;
/** What guests write: random bytes. */
const written = new Uint8Array(new SharedArrayBuffer(MIB));
written.set(randomBytes(MIB));
const words = new Uint32Array(written.buffer);

export interface BackupOptions {
  readonly mib: number;
  /** For scratch files, on the file system that is to be measured. */
  readonly folder: string;
  /** What the disk has, repeated; without it an executable program and random bytes, half and half. */
  readonly content?: string | undefined;
}

/** What a run works on: a raw disk in a scratch folder, and stores beside it. */
class Scratch {
  readonly folder: string;
  readonly raw: string;
  readonly mib: number;
  #stores = 0;

  constructor({ mib, folder, content }: BackupOptions) {
    this.mib = mib;
    this.folder = fs.mkdtempSync(path.join(folder, 'umlaut-bench-'));
    this.raw = this.file('disk.raw');
    makeDisk(this.raw, mib, content);
  }

  file(name: string): string {
    return path.join(this.folder, name);
  }

  freshStore(): StoreConfig {
    const at = this.file(`store-${this.#stores++}`);
    return { location: { kind: 'directory', folder: at }, indexFile: `${at}.sqlite` };
  }

  openDisk(): GuestDisk {
    return openDisk({ device: 'ubd0', file: this.raw, readOnly: false });
  }

  remove(): void {
    fs.rmSync(this.folder, { recursive: true });
  }
}

function makeDisk(raw: string, mib: number, content: string | undefined): void {
  const source = fs.readFileSync(content ?? process.execPath);
  const fd = fs.openSync(raw, 'w');
  for (let at = 0; at < mib; at++) {
    const from = (at * MIB) % Math.max(source.length - MIB, 1);
    const piece = Buffer.alloc(MIB);
    source.copy(piece, 0, from, from + MIB);
    // Nothing twice, so that nothing is saved by that.
    for (let chunk = 0; chunk < MIB; chunk += CHUNK_BYTES) piece.writeUInt32LE(at, chunk);
    fs.writeSync(fd, content === undefined && at % 2 === 1 ? randomBytes(MIB) : piece, 0, MIB, at * MIB);
  }
  fs.closeSync(fd);
}

async function seconds(work: () => unknown): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

async function backUp(disk: GuestDisk, store: StoreConfig, parent: string | null = null): Promise<string> {
  const run = (await prepareBackup([disk], backupPlan(store, parent))).begin('crash');
  return (await run.finished).id;
}

/** How much a guest writes in sequence, round and round and nothing twice, until `until` settles. MiB per second. */
async function writeUntil(disk: GuestDisk, until: Promise<unknown>): Promise<number> {
  let ended = false;
  void until.finally(() => {
    ended = true;
  });
  const begun = performance.now();
  let mib = 0;
  for (; !ended; mib++) {
    for (let at = 0; at < words.length; at += CHUNK_BYTES / 4) words[at]!++;
    await disk.write((mib * MIB) % disk.sizeBytes, [written]);
    if (mib % 16 === 0) await new Promise(setImmediate);
  }
  return mib / ((performance.now() - begun) / 1000);
}

function zstd({ raw }: Scratch, to: string): void {
  const { status, error } = spawnSync('zstd', ['-1', '--single-thread', '-q', '-f', raw, '-o', to]);
  if (error !== undefined || status !== 0) throw error ?? new Error(`zstd ended with ${status}`);
}

interface Row {
  readonly what: string;
  readonly figure: string;
  readonly note?: string;
}

const rate = (mib: number, time: number): string => `${Math.round(mib / time)} MiB/s`;

/** Seconds of a full backup, the best of all runs. */
async function full(scratch: Scratch, rows: Row[]): Promise<number> {
  const best = { zstd: Number.POSITIVE_INFINITY, full: Number.POSITIVE_INFINITY };
  for (let run = 0; run < RUNS; run++) {
    best.zstd = Math.min(best.zstd, await seconds(() => zstd(scratch, scratch.file('out.zst'))));
    const disk = scratch.openDisk();
    const store = scratch.freshStore();
    best.full = Math.min(best.full, await seconds(() => backUp(disk, store)));
    await disk.close();
    fs.rmSync(store.indexFile.replace(/\.sqlite$/, ''), { recursive: true });
  }
  rows.push({ what: 'zstd -1, one thread', figure: rate(scratch.mib, best.zstd) });
  rows.push({
    what: 'full backup',
    figure: rate(scratch.mib, best.full),
    note: `${(best.zstd / best.full).toFixed(2)} of zstd`,
  });
  return best.full;
}

async function incremental(
  scratch: Scratch,
  disk: GuestDisk,
  fullSeconds: number,
  rows: Row[],
): Promise<void> {
  const store = scratch.freshStore();
  const first = await backUp(disk, store);
  for (let n = 0; n < scratch.mib / 100; n++) {
    await disk.write(((n * 97) % scratch.mib) * MIB, [randomBytes(MIB)]);
  }
  let second = '';
  const one = await seconds(async () => {
    second = await backUp(disk, store, first);
  });
  rows.push({
    what: 'incremental backup after 1 % changed',
    figure: `${one.toFixed(2)} s`,
    note: `${(fullSeconds / one).toFixed(1)} times as fast as a full one`,
  });
  const none = await seconds(() => backUp(disk, store, second));
  rows.push({
    what: 'incremental backup after nothing changed',
    figure: `${none.toFixed(2)} s`,
    note: 'what each backup costs at least',
  });
  const disks = [{ device: 'ubd0', file: scratch.file('restored') }];
  const restore = await seconds(() => runStoreTask(store, 'restore', { backupId: second, disks }));
  rows.push({ what: 'restore', figure: rate(scratch.mib, restore) });
  const verify = await seconds(() => runStoreTask(store, 'verify', { backupIds: [second] }));
  rows.push({ what: 'verify', figure: rate(scratch.mib, verify) });
}

async function beside(scratch: Scratch, disk: GuestDisk, fullSeconds: number, rows: Row[]): Promise<void> {
  const alone: number[] = [];
  const meanwhile: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    alone.push(await writeUntil(disk, new Promise((resolve) => setTimeout(resolve, fullSeconds * 1000))));
    meanwhile.push(await writeUntil(disk, backUp(disk, scratch.freshStore())));
  }
  const [before, during] = [Math.max(...alone), Math.max(...meanwhile)];
  rows.push({ what: 'writes of 1 MiB to the disk, alone', figure: rate(before, 1) });
  rows.push({
    what: 'writes of 1 MiB to the disk, during a full backup',
    figure: rate(during, 1),
    note: `${(during / before).toFixed(2)} of that`,
  });
}

/** A table in Markdown, or why there is none. */
export async function backup(options: BackupOptions): Promise<string> {
  if (findTool('zstd') === undefined) return 'Not run: it needs zstd.';
  const scratch = new Scratch(options);
  try {
    const rows: Row[] = [];
    const fullSeconds = await full(scratch, rows);
    const disk = scratch.openDisk();
    await incremental(scratch, disk, fullSeconds, rows);
    await beside(scratch, disk, fullSeconds, rows);
    await disk.close();
    const lines = rows.map(({ what, figure, note = '' }) => `| ${what} | ${figure} | ${note} |`);
    return ['| | | |', '|---|---:|---|', ...lines].join('\n');
  } finally {
    scratch.remove();
  }
}
