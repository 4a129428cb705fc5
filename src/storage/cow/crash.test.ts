/**
 * What a crash leaves of a COW file. A recorder stands for the host's file: it keeps every write and every fdatasync in
 * order. The file is then cut after each of them, keeping of the writes since the last fdatasync any sectors, as a
 * host that loses power does, and opened again.
 */
import { describe, expect, it } from 'vitest';
import { randomNumbers } from '../../../test/support/storage.ts';
import type { HostFile } from '../host-file.ts';
import { fillZeros } from '../vectors.ts';
import { CowVolume } from './volume.ts';

const SECTOR = 512;
const SECTORS = 200_000;
const PLACEMENT = {
  sizeBytes: SECTORS * SECTOR,
  bitmapOffset: 8192,
  bitmapBytes: 25_000,
  dataOffset: 36_864,
};
/** The content of the backing file: no write ever has it. */
const BACKING = 0xbb;
/** What the file held before, where the bitmap says nothing: must never be seen. */
const STALE = 0xdd;

type Event =
  | { readonly kind: 'write'; readonly sector: number; readonly bytes: Uint8Array }
  | { readonly kind: 'sync' };

/** A file in memory by sectors; everything is synchronous but `sync`, which ends when the test says so. */
class Recorder implements HostFile {
  readonly events: Event[] = [];
  readonly sectors: Map<number, Uint8Array>;
  readonly #syncs: (() => void)[] = [];

  constructor(sectors = new Map<number, Uint8Array>()) {
    this.sectors = sectors;
  }

  read(offset: number, into: readonly Uint8Array[]): void {
    let at = offset;
    for (const piece of into) {
      for (let i = 0; i < piece.length; i++, at++) {
        const stored = this.sectors.get(Math.floor(at / SECTOR));
        piece[i] = stored?.[at % SECTOR] ?? (at < PLACEMENT.dataOffset ? 0 : STALE);
      }
    }
  }

  write(offset: number, from: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(from);
    for (let at = 0; at < bytes.length; ) {
      const sector = Math.floor((offset + at) / SECTOR);
      const within = (offset + at) % SECTOR;
      const length = Math.min(SECTOR - within, bytes.length - at);
      const content = new Uint8Array(SECTOR);
      this.read(sector * SECTOR, [content]);
      content.set(bytes.subarray(at, at + length), within);
      this.sectors.set(sector, content);
      this.events.push({ kind: 'write', sector, bytes: content });
      at += length;
    }
  }

  sync(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const upTo = this.events.length;
    this.#syncs.push(() => {
      // It makes durable what was written before it was asked for.
      this.events.splice(upTo, 0, { kind: 'sync' });
      resolve();
    });
    return promise;
  }

  /** Ends the fdatasyncs that are under way; whether there were any. */
  finishSyncs(): boolean {
    const finishing = this.#syncs.splice(0);
    for (const finish of finishing.reverse()) finish();
    return finishing.length > 0;
  }

  makeHole(_how: 'punch' | 'zero', offset: number, length: number): 'done' {
    this.write(offset, [new Uint8Array(length)]);
    return 'done';
  }

  setSize(): void {
    throw new Error('nobody makes it larger');
  }

  state(): string {
    return '';
  }

  close(): void {}
}

const backing: HostFile = {
  read(_offset, into) {
    for (const piece of into) piece.fill(BACKING);
  },
  write() {
    throw new Error('the backing file was written to');
  },
  sync: () => Promise.resolve(),
  makeHole: () => 'unsupported',
  setSize: () => undefined,
  state: () => '',
  close() {},
};

interface History {
  readonly events: readonly Event[];
  /** For each sector the values written, each with the number of events before and after. */
  readonly written: ReadonlyMap<number, readonly { readonly value: number; readonly eventsBefore: number }[]>;
  /** What a guest's finished flush promised: sector → index of the value in `written`, from that event on. */
  readonly promises: readonly { readonly fromEvent: number; readonly values: ReadonlyMap<number, number> }[];
}

/** A guest that writes, flushes and goes on writing while the flush runs. */
async function run(seed: number): Promise<History> {
  const random = randomNumbers(seed);
  const file = new Recorder();
  const volume = new CowVolume(file, backing, PLACEMENT);
  const written = new Map<number, { value: number; eventsBefore: number }[]>();
  const promises: { fromEvent: number; values: Map<number, number> }[] = [];
  let value = 0;
  const write = (): void => {
    // Sectors near the borders of bitmap bytes, sectors and pages; 0xbb and 0xdd are nobody's values.
    const first = [0, 7, 4090, 32_760, 65_530, 199_990][random(6)]! + random(8);
    const count = Math.min(1 + random(12), SECTORS - first);
    value = (value + 1) % 180;
    for (let sector = first; sector < first + count; sector++) {
      const values = written.get(sector) ?? [];
      values.push({ value, eventsBefore: file.events.length });
      written.set(sector, values);
    }
    if (value % 10 === 0) {
      for (let sector = first; sector < first + count; sector++) written.get(sector)!.at(-1)!.value = 0;
      volume.writeZeroes(first * SECTOR, count * SECTOR, true);
    } else volume.write(first * SECTOR, [new Uint8Array(count * SECTOR).fill(value)]);
  };
  for (let round = 0; round < 8; round++) {
    for (let i = random(4); i >= 0; i--) write();
    const values = new Map([...written].map(([sector, list]) => [sector, list.length - 1]));
    let flushed = false;
    const flush = Promise.resolve(volume.flush()).then(() => {
      flushed = true;
    });
    while (!flushed) {
      if (random(3) === 0) write();
      file.finishSyncs();
      // Lets the flush go on to its next step.
      await new Promise(setImmediate);
    }
    await flush;
    promises.push({ fromEvent: file.events.length, values });
  }
  return { events: file.events, written, promises };
}

/** The file after a crash behind `cut` events: all that an fdatasync covers, and of the rest what `keep` says. */
function afterCrash(events: readonly Event[], cut: number, keep: (event: Event) => boolean): CowVolume {
  let durable = cut;
  while (durable > 0 && events[durable - 1]!.kind !== 'sync') durable--;
  const sectors = new Map<number, Uint8Array>();
  for (const [index, event] of events.slice(0, cut).entries()) {
    if (event.kind === 'write' && (index < durable || keep(event))) sectors.set(event.sector, event.bytes);
  }
  return new CowVolume(new Recorder(sectors), backing, PLACEMENT);
}

function check(history: History, cut: number, volume: CowVolume): void {
  const promised = history.promises.findLast(({ fromEvent }) => fromEvent <= cut);
  const content = new Uint8Array(SECTOR);
  for (const [sector, values] of history.written) {
    fillZeros([content]);
    volume.read(sector * SECTOR, [content]);
    const seen = content[0]!;
    if (!content.every((byte) => byte === seen)) throw new Error(`sector ${sector} is torn`);
    const least = promised?.values.get(sector);
    const allowed = values.filter((entry, index) => index >= (least ?? 0) && entry.eventsBefore < cut);
    const ok = allowed.some((entry) => entry.value === seen) || (least === undefined && seen === BACKING);
    if (!ok) {
      throw new Error(
        `cut at ${cut}: sector ${sector} holds 0x${seen.toString(16)}; flushed: ${least !== undefined}`,
      );
    }
  }
}

const isBitmap = (event: Event): boolean =>
  event.kind === 'write' && event.sector * SECTOR < PLACEMENT.dataOffset;

describe('a crash at any moment', () => {
  it.each([1, 2, 3])(
    'leaves no bit without its data, and all that was flushed (history %d)',
    async (seed) => {
      const history = await run(seed);
      const random = randomNumbers(seed + 100);
      expect(history.events.some(isBitmap)).toBe(true);
      for (let cut = 0; cut <= history.events.length; cut++) {
        check(
          history,
          cut,
          afterCrash(history.events, cut, () => true),
        );
        check(
          history,
          cut,
          afterCrash(history.events, cut, () => false),
        );
        check(history, cut, afterCrash(history.events, cut, isBitmap));
        check(
          history,
          cut,
          afterCrash(history.events, cut, () => random(2) === 0),
        );
      }
    },
  );
});

describe('what is new in the file', () => {
  /** A flush begins by itself after so much of it: 8 MiB. */
  const enough = 16_384;
  const step = 64;

  function fill(volume: CowVolume, from: number, to: number): void {
    for (let sector = from; sector < to; sector += step) {
      volume.write(sector * SECTOR, [new Uint8Array(step * SECTOR).fill(1)]);
    }
  }

  /** Lets all go on that can. */
  async function finish(file: Recorder): Promise<void> {
    do await new Promise(setImmediate);
    while (file.finishSyncs());
  }

  /** The bits of the first `count` sectors. */
  function bits(file: Recorder, count: number): Uint8Array {
    const bytes = new Uint8Array(count / 8);
    file.read(PLACEMENT.bitmapOffset, [bytes]);
    return bytes;
  }

  it('is made durable without being asked for, once', async () => {
    const file = new Recorder();
    const volume = new CowVolume(file, backing, PLACEMENT);
    fill(volume, step, enough);
    expect(file.finishSyncs()).toBe(false);
    fill(volume, 0, step);
    expect(file.finishSyncs()).toBe(true);
    await finish(file);
    expect(bits(file, enough).every((byte) => byte === 0xff)).toBe(true);
    expect(file.events.at(-1)!.kind).toBe('sync');
    fill(volume, 0, enough);
    expect(file.finishSyncs()).toBe(false);
    const closed = volume.close();
    await finish(file);
    await closed;
  });

  it('is counted wherever it is, from the flush before on', async () => {
    const file = new Recorder();
    const volume = new CowVolume(file, backing, PLACEMENT);
    fill(volume, 0, enough - step);
    const flushed = volume.flush();
    await finish(file);
    await flushed;
    fill(volume, 2 * enough, 2 * enough + step);
    fill(volume, 4 * enough, 5 * enough - 2 * step);
    expect(file.finishSyncs()).toBe(false);
    fill(volume, 3 * enough, 3 * enough + step);
    expect(file.finishSyncs()).toBe(true);
    await finish(file);
  });

  it('is nothing to hurry for when it was discarded', () => {
    const file = new Recorder();
    const volume = new CowVolume(file, backing, PLACEMENT);
    volume.discard(0, 2 * enough * SECTOR);
    expect(file.finishSyncs()).toBe(false);
  });
});

describe('a volume that is abandoned', () => {
  it('lets the flush that is under way come to its end, and begins none', async () => {
    const file = new Recorder();
    const volume = new CowVolume(file, backing, PLACEMENT);
    volume.write(0, [new Uint8Array(SECTOR)]);
    const flushed = volume.flush();
    volume.write(SECTOR, [new Uint8Array(SECTOR)]);
    let ended = false;
    const abandoned = volume.abandon().then(() => {
      ended = true;
    });
    await new Promise(setImmediate);
    expect(ended).toBe(false);
    while (file.finishSyncs()) await new Promise(setImmediate);
    await Promise.all([flushed, abandoned]);
    expect(file.events.filter(({ kind }) => kind === 'sync')).toHaveLength(2);
    expect(file.events.filter(isBitmap)).toHaveLength(4096 / SECTOR);
  });
});

describe('a flush that fails', () => {
  function failing(): { file: Recorder; volume: CowVolume; fail: { next: boolean } } {
    const fail = { next: false };
    const file = new Recorder();
    const sync = (): Promise<void> => (fail.next ? Promise.reject(new Error('EIO')) : Promise.resolve());
    const host: HostFile = {
      read: (offset, into) => file.read(offset, into),
      write: (offset, from) => file.write(offset, from),
      sync,
      makeHole: () => 'unsupported',
      setSize: () => undefined,
      state: () => '',
      close() {},
    };
    return { file, volume: new CowVolume(host, backing, PLACEMENT), fail };
  }

  it('ends the disk, because the next fdatasync would not tell of the lost pages', async () => {
    const { file, volume, fail } = failing();
    volume.write(0, [new Uint8Array(SECTOR)]);
    fail.next = true;
    await expect(volume.flush()).rejects.toMatchObject({ code: 'EIO' });
    fail.next = false;
    expect(() => volume.write(0, [new Uint8Array(SECTOR)])).toThrow('EIO');
    expect(() => volume.flush()).toThrow('EIO');
    expect(file.events.some(isBitmap)).toBe(false);
  });

  it('writes zeros where the file system has no holes, and leaves discards alone', async () => {
    const { volume } = failing();
    const content = new Uint8Array(3 * SECTOR);
    await volume.write(0, [new Uint8Array(3 * SECTOR).fill(5)]);
    await volume.writeZeroes(0, SECTOR, true);
    await volume.discard(SECTOR, SECTOR);
    await volume.read(0, [content]);
    expect([content[0], content[SECTOR], content[2 * SECTOR]]).toEqual([0, 5, 5]);
  });
});
