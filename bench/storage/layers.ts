/**
 * Layers of a disk: reading through many of them next to one, and what a snapshot costs a guest that writes. The same content
 * is read through a single layer and through 32, each of which has every 32nd 64 KiB; files in the page cache, runs take turns,
 * medians.
 */
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';
import { createCow, createLayers, type GuestDisk, openDisk, openNewTop } from '../../src/storage/index.ts';
import { median } from '../figures.ts';

const MIB = 1 << 20;
const RUNS = 5;
const LAYERS = 32;
const CHUNK = 64 * 1024;
const BLOCK = 4096;
/** Of the disks that are frozen: 20 GB in two. */
const SNAPSHOT_DISK_BYTES = 10 * 2 ** 30;
const SNAPSHOTS = 20;
/** 80 MB/s. */
const GUEST_WRITES_PER_MS = 20;

/** So long the guest writes alone before a snapshot, and as long as the snapshot before took, so that the stalls can be compared. */
const ALONE_MS_MIN = 400;

/** What a run works on. */
interface Place {
  file(name: string): string;
  /** Of the disks that are read. */
  readonly sizeBytes: number;
}

function makeBase({ file }: Place, name: string, bytes: number): string {
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

function addLayer({ file, sizeBytes }: Place, disk: GuestDisk, below: string, name: string): string {
  const mtime = Math.floor(Date.now() / 1000);
  createLayers([{ file: file(name), below, mtime, sizeBytes }]);
  disk.layers.freeze(openNewTop(disk.layers, file(name), { mtime, readOnly: false }), mtime);
  return file(name);
}

async function oneLayer(place: Place): Promise<GuestDisk> {
  const base = makeBase(place, 'one.base', place.sizeBytes);
  const disk = openDisk({ device: 'ubd0', file: base, cow: place.file('one'), readOnly: false });
  await fill(disk, undefined);
  await disk.flush();
  return disk;
}

async function manyLayers(place: Place): Promise<GuestDisk> {
  const { file } = place;
  const base = makeBase(place, 'many.base', place.sizeBytes);
  createCow(file('layer0'), base);
  const disk = openDisk({ device: 'ubd0', file: base, cow: file('layer0'), readOnly: false });
  let top = file('layer0');
  for (let layer = 0; layer < LAYERS; layer++) {
    await fill(disk, layer);
    if (layer < LAYERS - 1) top = addLayer(place, disk, top, `layer${layer + 1}`);
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

/** A table in Markdown: reading through many layers next to one. */
async function compareReads(place: Place): Promise<string> {
  const [one, many] = [await oneLayer(place), await manyLayers(place)];
  const lines = [
    `| requests | 1 layer, MiB/s | ${LAYERS} layers, MiB/s | ${LAYERS} / 1 |`,
    '|---|---:|---:|---:|',
  ];
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
    lines.push(`| ${what} | ${of1.toFixed(0)} | ${of32.toFixed(0)} | ${(of32 / of1).toFixed(2)} |`);
  }
  await one.close();
  await many.close();
  return lines.join('\n');
}

/** As in the daemon the files are made by another thread than the guest's. */
async function makeLayers(
  { file }: Place,
  maker: Worker,
  belows: readonly string[],
  name: string,
): Promise<string[]> {
  const files = belows.map((_, index) => file(`${name}-${index}`));
  maker.postMessage(
    belows.map((below, index) => ({ file: files[index], below, mtime: 1, sizeBytes: SNAPSHOT_DISK_BYTES })),
  );
  await once(maker, 'message');
  return files;
}

interface Guest {
  readonly disks: readonly GuestDisk[];
  writes: number;
  /** Milliseconds: the longest time that a write took, or the next one had to wait. */
  longest: number;
  over: boolean;
}

/** Writes 4 KiB at a time on both disks by turns, and flushes the first after each 256; the second it never flushes. Other work gets its turn between the writes. */
async function beGuest(guest: Guest): Promise<void> {
  const bytes = new Uint8Array(new SharedArrayBuffer(BLOCK)).fill(1);
  const begun = performance.now();
  let last = begun;
  for (let i = 0; !guest.over; i++) {
    const disk = guest.disks[i & 1]!;
    await disk.write(((i * 7919) % (SNAPSHOT_DISK_BYTES / BLOCK)) * BLOCK, [bytes]);
    guest.writes++;
    if (i % 256 === 0) void disk.flush();
    // As fast as a guest is: a machine's thread has to run its CPU, too.
    const ahead = guest.writes / GUEST_WRITES_PER_MS - (performance.now() - begun);
    if (ahead > 1) await new Promise((resolve) => setTimeout(resolve, ahead));
    else if (i % 8 === 0) await new Promise(setImmediate);
    const now = performance.now();
    guest.longest = Math.max(guest.longest, now - last);
    last = now;
  }
}

/** A table in Markdown: what snapshots cost. */
async function snapshots(place: Place): Promise<string> {
  const { file } = place;
  const tops: string[] = [];
  const disks = ['a', 'b'].map((name) => {
    tops.push(file(`snap-${name}`));
    const base = makeBase(place, `snap-${name}.base`, SNAPSHOT_DISK_BYTES);
    return openDisk({ device: 'ubd0', file: base, cow: file(`snap-${name}`), readOnly: false });
  });
  const maker = new Worker(new URL('layer-maker.ts', import.meta.url));
  const guest: Guest = { disks, writes: 0, longest: 0, over: false };
  const writing = beGuest(guest);
  const figures: Record<'alone' | 'before' | 'moment' | 'frozen' | 'durable', number[]> = {
    alone: [],
    before: [],
    moment: [],
    frozen: [],
    durable: [],
  };
  const beside: number[] = [];
  let lastMs = ALONE_MS_MIN;
  for (let i = 0; i < SNAPSHOTS; i++) {
    guest.longest = 0;
    await new Promise((resolve) => setTimeout(resolve, lastMs));
    figures.alone.push(guest.longest);
    guest.longest = 0;
    const before = performance.now();
    await Promise.all(disks.map((disk) => disk.layers.flush()));
    const begun = performance.now();
    figures.before.push(begun - before);
    const made = await makeLayers(place, maker, tops, `snap-${i}`);
    const moment = performance.now();
    const opened = disks.map((disk, index) =>
      openNewTop(disk.layers, made[index]!, { mtime: 1, readOnly: false }),
    );
    for (const [index, disk] of disks.entries()) disk.layers.freeze(opened[index]!, 1);
    figures.moment.push(performance.now() - moment);
    figures.frozen.push(performance.now() - begun);
    tops.splice(0, tops.length, ...made);
    await Promise.all(disks.map((disk) => disk.layers.sealed()));
    figures.durable.push(performance.now() - begun);
    beside.push(guest.longest);
    lastMs = Math.max(ALONE_MS_MIN, performance.now() - before);
  }
  guest.over = true;
  await writing;
  await maker.terminate();
  for (const disk of disks) await disk.close();
  const row = (what: string, list: readonly number[]): string =>
    `| ${what} | ${median(list).toFixed(1)} | ${Math.max(...list).toFixed(1)} |`;
  return [
    `${SNAPSHOTS} snapshots of two disks of 10 GiB, to which ${guest.writes} blocks of 4 KiB were written meanwhile, the first disk flushed after each 256, the second never:`,
    '',
    '| | median, ms | longest, ms |',
    '|---|---:|---:|',
    row('before: what has been written is made durable, while the guest goes on', figures.before),
    row('until the new layers are in place', figures.frozen),
    row('of this the guest stands still', figures.moment),
    row('until what was written up to the moment is durable', figures.durable),
    row('longest wait of a write, in the same time without a snapshot', figures.alone),
    row('longest wait of a write, from before a snapshot until that is durable', beside),
  ].join('\n');
}

/** Tables in Markdown. @param folder for scratch files, on the file system that is to be measured */
export async function layers(mib: number, folder: string): Promise<string> {
  const scratch = fs.mkdtempSync(path.join(folder, 'umlaut-bench-'));
  const place: Place = { file: (name) => path.join(scratch, name), sizeBytes: mib * MIB };
  try {
    return `${await compareReads(place)}\n\n${await snapshots(place)}`;
  } finally {
    fs.rmSync(scratch, { recursive: true });
  }
}
