/**
 * Layers of a disk: reading through many of them next to one, and what a snapshot costs a guest that writes. Run with
 * `node bench/layers.bench.ts [MiB] [folder]`. The same content, a tenth of it written per layer in pieces of 64 KiB all over the
 * disk, is read through a single layer and through 32; files in the page cache, runs take turns, medians.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { createCow, createLayer, type GuestDisk, openDisk, openNewTop } from '../src/storage/index.ts';

const MIB = 1 << 20;
const RUNS = 5;
const LAYERS = 32;
const CHUNK = 64 * 1024;
const BLOCK = 4096;
/** Of the disks that are frozen: 20 GB in two. */
const SNAPSHOT_DISK_BYTES = 10 * 2 ** 30;
const SNAPSHOTS = 20;

const sizeBytes = Number(process.argv[2] ?? 512) * MIB;
const folder = fs.mkdtempSync(path.join(process.argv[3] ?? os.tmpdir(), 'umlaut-bench-'));
const file = (name: string): string => path.join(folder, name);

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;
const line = (text: string): void => void process.stdout.write(`${text}\n`);

function makeBase(name: string, bytes: number): string {
  const fd = fs.openSync(file(name), 'w');
  fs.ftruncateSync(fd, bytes);
  fs.closeSync(fd);
  return file(name);
}

/** Which layer writes a chunk last. */
const ownerOf = (chunk: number): number => (chunk * 7919) % LAYERS;

async function fill(disk: GuestDisk, layer: number | undefined): Promise<void> {
  const bytes = new Uint8Array(new SharedArrayBuffer(CHUNK));
  for (let chunk = 0; chunk * CHUNK < disk.sizeBytes; chunk++) {
    if (layer !== undefined && ownerOf(chunk) !== layer) continue;
    bytes.fill(chunk);
    await disk.write(chunk * CHUNK, [bytes]);
  }
}

function addLayer(disk: GuestDisk, below: string, name: string, bytes: number): string {
  const mtime = Math.floor(Date.now() / 1000);
  createLayer(file(name), { below, mtime, sizeBytes: bytes });
  disk.layers.freeze(openNewTop(disk.layers, file(name), { mtime, readOnly: false }), mtime);
  return file(name);
}

async function oneLayer(): Promise<GuestDisk> {
  const base = makeBase('one.base', sizeBytes);
  const disk = openDisk({ device: 'ubd0', file: base, cow: file('one'), readOnly: false });
  await fill(disk, undefined);
  await disk.flush();
  return disk;
}

async function manyLayers(): Promise<GuestDisk> {
  const base = makeBase('many.base', sizeBytes);
  createCow(file('layer0'), base);
  const disk = openDisk({ device: 'ubd0', file: base, cow: file('layer0'), readOnly: false });
  let top = file('layer0');
  for (let layer = 0; layer < LAYERS; layer++) {
    await fill(disk, layer);
    if (layer < LAYERS - 1) top = addLayer(disk, top, `layer${layer + 1}`, sizeBytes);
  }
  await disk.layers.sealed();
  await disk.flush();
  return disk;
}

async function readAll(disk: GuestDisk, requestBytes: number, random: boolean): Promise<number> {
  const buffer = new Uint8Array(new SharedArrayBuffer(requestBytes));
  const requests = Math.min(disk.sizeBytes / requestBytes, 40_000);
  const begun = performance.now();
  for (let i = 0; i < requests; i++) {
    const at = random ? (i * 1_000_003) % (disk.sizeBytes / requestBytes) : i;
    await disk.read(at * requestBytes, [buffer]);
  }
  return (requests * requestBytes) / MIB / ((performance.now() - begun) / 1000);
}

async function compareReads(): Promise<void> {
  const [one, many] = [await oneLayer(), await manyLayers()];
  line(`reading through ${LAYERS} layers, of those one after the other by turns of 64 KiB`);
  for (const [what, bytes, random] of [
    ['1 MiB, in order', MIB, false],
    ['64 KiB, in order', CHUNK, false],
    ['4 KiB, in order', BLOCK, false],
    ['4 KiB, all over', BLOCK, true],
  ] as const) {
    const rates: [number[], number[]] = [[], []];
    for (let run = 0; run <= RUNS; run++) {
      const pair = [await readAll(one, bytes, random), await readAll(many, bytes, random)] as const;
      // The first run finds the index and the page cache cold.
      if (run > 0) for (const which of [0, 1] as const) rates[which].push(pair[which]);
    }
    const [of1, of32] = rates.map(median) as [number, number];
    line(
      `  ${what.padEnd(18)} 1 layer ${of1.toFixed(0).padStart(6)} MiB/s  ${LAYERS} layers ${of32.toFixed(0).padStart(6)} MiB/s  ratio ${(of32 / of1).toFixed(2)}`,
    );
  }
  await one.close();
  await many.close();
}

/** A guest that writes 4 KiB at a time on both disks, and flushes now and then, while snapshots are taken. */
async function snapshots(): Promise<void> {
  const tops: string[] = [];
  const disks = ['a', 'b'].map((name) => {
    tops.push(file(`snap-${name}`));
    const base = makeBase(`snap-${name}.base`, SNAPSHOT_DISK_BYTES);
    return openDisk({ device: 'ubd0', file: base, cow: file(`snap-${name}`), readOnly: false });
  });
  const bytes = new Uint8Array(new SharedArrayBuffer(BLOCK)).fill(1);
  let longest = 0;
  let writes = 0;
  let over = false;
  const guest = (async () => {
    let last = performance.now();
    for (let i = 0; !over; i++) {
      for (const disk of disks)
        await disk.write(((i * 7919) % (SNAPSHOT_DISK_BYTES / BLOCK)) * BLOCK, [bytes]);
      writes += disks.length;
      if (i % 64 === 0) await new Promise(setImmediate);
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
    }
  })();
  const frozen: number[] = [];
  const durable: number[] = [];
  for (let i = 0; i < SNAPSHOTS; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const begun = performance.now();
    for (const [index, disk] of disks.entries()) {
      tops[index] = addLayer(disk, tops[index]!, `snap-${index}-${i}`, SNAPSHOT_DISK_BYTES);
    }
    frozen.push(performance.now() - begun);
    await Promise.all(disks.map((disk) => disk.layers.sealed()));
    durable.push(performance.now() - begun);
  }
  over = true;
  await guest;
  line(
    `snapshots of two disks of 10 GiB while ${writes} blocks of 4 KiB were written to them (${SNAPSHOTS} times)`,
  );
  line(
    `  new layers made, durable, and in place: median ${median(frozen).toFixed(1)} ms, longest ${Math.max(...frozen).toFixed(1)} ms`,
  );
  line(
    `  what was written before is durable: median ${median(durable).toFixed(1)} ms, longest ${Math.max(...durable).toFixed(1)} ms`,
  );
  line(`  longest time between two writes of the guest: ${longest.toFixed(1)} ms`);
  for (const disk of disks) await disk.close();
}

try {
  await compareReads();
  await snapshots();
} finally {
  fs.rmSync(folder, { recursive: true });
}
