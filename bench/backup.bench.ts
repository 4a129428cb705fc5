/**
 * How fast a disk is backed up, next to `zstd -1` over the same file on one thread (Debian package zstd), and what that costs a guest
 * that writes meanwhile. Run with `node bench/backup.bench.ts [MiB] [folder] [file]`: `file`, repeated, is what the disk has; without
 * it, an executable program and random bytes, half and half. Runs take turns; each line is the best of three, files in the page cache.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { StoreConfig } from '../src/contracts/backup.ts';
import { type GuestDisk, openDisk, prepareBackup, runStoreTask } from '../src/storage/index.ts';
import { backupPlan } from '../src/storage/testing/store-kit.ts';

const RUNS = 3;
const MIB = 1 << 20;
const sizeMib = Number(process.argv[2] ?? 512);
const folder = fs.mkdtempSync(path.join(process.argv[3] ?? os.tmpdir(), 'umlaut-bench-'));
const raw = path.join(folder, 'disk.raw');
const write = new Uint8Array(new SharedArrayBuffer(MIB)).fill(0xa5);

function makeDisk(): void {
  const source = fs.readFileSync(process.argv[4] ?? process.execPath);
  const fd = fs.openSync(raw, 'w');
  for (let at = 0; at < sizeMib; at++) {
    const from = (at * MIB) % Math.max(source.length - MIB, 1);
    const piece = Buffer.alloc(MIB);
    source.copy(piece, 0, from, from + MIB);
    // Nothing twice, so that nothing is saved by that.
    piece.writeUInt32LE(at, 0);
    for (let chunk = 0; chunk < MIB; chunk += 65_536) piece.writeUInt32LE(at, chunk);
    fs.writeSync(
      fd,
      process.argv[4] === undefined && at % 2 === 1 ? randomBytes(MIB) : piece,
      0,
      MIB,
      at * MIB,
    );
  }
  fs.closeSync(fd);
}

let stores = 0;
function freshStore(): StoreConfig {
  const at = path.join(folder, `store-${stores++}`);
  return { location: { kind: 'directory', folder: at }, indexFile: `${at}.sqlite` };
}

async function seconds(work: () => unknown): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

const rate = (mib: number, time: number): string => `${Math.round(mib / time)} MiB/s`.padStart(12);
const print = (name: string, text: string): void => void process.stdout.write(`${name.padEnd(52)} ${text}\n`);

async function backUp(disk: GuestDisk, store: StoreConfig, parent: string | null = null): Promise<string> {
  const run = (await prepareBackup([disk], backupPlan(store, parent))).begin('crash');
  return (await run.finished).id;
}

/** How much a guest writes in sequence, round and round, until `until` settles. MiB per second. */
async function writeUntil(disk: GuestDisk, until: Promise<unknown>): Promise<number> {
  let ended = false;
  void until.finally(() => {
    ended = true;
  });
  const begun = performance.now();
  let mib = 0;
  for (; !ended; mib++) {
    await disk.write((mib % sizeMib) * MIB, [write]);
    if (mib % 16 === 0) await new Promise(setImmediate);
  }
  return mib / ((performance.now() - begun) / 1000);
}

function zstd(): void {
  const { status, error } = spawnSync('zstd', [
    '-1',
    '--single-thread',
    '-q',
    '-f',
    raw,
    '-o',
    path.join(folder, 'out.zst'),
  ]);
  if (error !== undefined || status !== 0) throw error ?? new Error(`zstd ended with ${status}`);
}

try {
  makeDisk();
  const best = { zstd: Number.POSITIVE_INFINITY, full: Number.POSITIVE_INFINITY };
  const config = { device: 'ubd0', file: raw, readOnly: false };
  for (let run = 0; run < RUNS; run++) {
    best.zstd = Math.min(best.zstd, await seconds(zstd));
    const disk = openDisk(config);
    const store = freshStore();
    best.full = Math.min(best.full, await seconds(() => backUp(disk, store)));
    await disk.close();
    fs.rmSync(path.join(folder, `store-${stores - 1}`), { recursive: true });
  }
  print('zstd -1, one thread', rate(sizeMib, best.zstd));
  print('full backup', `${rate(sizeMib, best.full)}   ${(best.zstd / best.full).toFixed(2)} of zstd`);

  const disk = openDisk(config);
  const store = freshStore();
  const first = await backUp(disk, store);
  for (let n = 0; n < sizeMib / 100; n++) await disk.write(((n * 97) % sizeMib) * MIB, [randomBytes(MIB)]);
  let second = '';
  const one = await seconds(async () => {
    second = await backUp(disk, store, first);
  });
  print(
    'incremental backup after 1 % changed',
    `${one.toFixed(2).padStart(9)} s   ${(best.full / one).toFixed(1)} times as fast as a full one`,
  );
  const none = await seconds(() => backUp(disk, store, second));
  print('incremental backup after nothing changed', `${none.toFixed(2).padStart(9)} s`);
  const restored = path.join(folder, 'restored');
  const restore = await seconds(() =>
    runStoreTask(store, 'restore', { backupId: second, disks: [{ device: 'ubd0', file: restored }] }),
  );
  print('restore', rate(sizeMib, restore));
  print('verify', rate(sizeMib, await seconds(() => runStoreTask(store, 'verify', { backupIds: [second] }))));

  const alone: number[] = [];
  const meanwhile: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    alone.push(await writeUntil(disk, new Promise((resolve) => setTimeout(resolve, best.full * 1000))));
    const place = freshStore();
    meanwhile.push(await writeUntil(disk, backUp(disk, place)));
  }
  const [before, during] = [Math.max(...alone), Math.max(...meanwhile)];
  print('writes of a guest, alone', rate(before, 1));
  print(
    'writes of a guest, during a full backup',
    `${rate(during, 1)}   ${(during / before).toFixed(2)} of that`,
  );
  await disk.close();
} finally {
  fs.rmSync(folder, { recursive: true });
}
