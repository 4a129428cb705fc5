import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { pattern, randomNumbers, scratchFolder } from '../../test/support/storage.ts';
import { inspectCow } from './cow/create.ts';
import { openDisk } from './disk.ts';
import type { HostFile } from './host-file.ts';
import { shrinkCow } from './shrink.ts';
import { shrinkDisk, shrinkDiskFile } from './shrink-disk.ts';

const SIZE = (20 << 20) + 1536;

async function contentOf(file: string, cow?: string): Promise<Buffer> {
  const disk = openDisk({ device: 'ubd0', file, cow, readOnly: true });
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, [bytes]);
  await disk.close();
  return bytes;
}

const allocated = (file: string): number => fs.statSync(file).blocks * 512;

describe('shrinking', () => {
  it('a raw disk makes holes of its zeros', async () => {
    const file = path.join(scratchFolder(), 'disk');
    const content = Buffer.alloc(SIZE);
    content.set(pattern(100_000, 1), 5 << 20);
    content.set(pattern(700, 2), SIZE - 700);
    fs.writeFileSync(file, content);
    const { beforeBytes, afterBytes } = await shrinkDiskFile(file);
    expect(beforeBytes).toBeGreaterThanOrEqual(SIZE);
    expect(afterBytes).toBe(allocated(file));
    expect(afterBytes).toBeLessThan(200_000);
    expect(fs.readFileSync(file).equals(content)).toBe(true);
  });

  it('a COW disk makes holes of zeros and of what is below, and changes nothing that is read', async () => {
    const folder = scratchFolder();
    const [file, cow] = [path.join(folder, 'base'), path.join(folder, 'cow')];
    const base = Buffer.from(pattern(SIZE, 9));
    base.fill(0, 3 << 20, 6 << 20);
    fs.writeFileSync(file, base);
    const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
    const model = Buffer.alloc(disk.sizeBytes);
    base.copy(model);
    const random = randomNumbers(4);
    for (let round = 0; round < 1500; round++) {
      const offset = random(disk.sizeBytes / 512 - 64) * 512;
      const length = (1 + random(64)) * 512;
      const range = model.subarray(offset, offset + length);
      const kind = random(5);
      if (kind === 0) range.set(pattern(length, round));
      else if (kind === 1) range.fill(0);
      else {
        range.fill(0);
        base.copy(range, 0, offset, offset + length);
      }
      await disk.write(offset, [range]);
    }
    await disk.close();
    const before = allocated(cow);
    const { beforeBytes, afterBytes } = await shrinkDisk({ file, cow });
    expect(beforeBytes).toBe(before);
    expect(afterBytes).toBe(allocated(cow));
    // Two fifths were changed for good, in part over each other.
    expect(afterBytes).toBeLessThan(before * 0.55);
    expect((await contentOf(file, cow)).equals(model)).toBe(true);
    expect(fs.readFileSync(file).equals(base)).toBe(true);
    const again = await shrinkDiskFile(cow);
    expect(again.afterBytes).toBe(afterBytes);
    expect((await contentOf(file, cow)).equals(model)).toBe(true);
  });

  it('a disk that was filled and emptied leaves next to nothing', async () => {
    const folder = scratchFolder();
    const [file, cow] = [path.join(folder, 'base'), path.join(folder, 'cow')];
    fs.writeFileSync(file, '');
    fs.truncateSync(file, 64 << 20);
    const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
    const piece = pattern(1 << 20, 3);
    for (let at = 0; at < disk.sizeBytes; at += piece.length) await disk.write(at, [piece]);
    for (let at = 0; at < disk.sizeBytes; at += piece.length) await disk.write(at, [new Uint8Array(1 << 20)]);
    await disk.close();
    const { beforeBytes, afterBytes } = await shrinkDisk({ file, cow });
    expect(beforeBytes).toBeGreaterThan(60 << 20);
    expect(afterBytes).toBeLessThan(1 << 20);
  });

  it('is refused while the disk is open, over a changed backing file, and of qcow2', async () => {
    const folder = scratchFolder();
    const [file, cow] = [path.join(folder, 'base'), path.join(folder, 'cow')];
    fs.writeFileSync(file, pattern(1 << 20, 1));
    const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
    await expect(shrinkDisk({ file, cow })).rejects.toMatchObject({ code: 'in_use' });
    await disk.close();
    fs.utimesSync(file, 5, 5);
    await expect(shrinkDiskFile(cow)).rejects.toMatchObject({ code: 'cow_backing_changed' });
    fs.writeFileSync(
      path.join(folder, 'q'),
      Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(500)]),
    );
    await expect(shrinkDiskFile(path.join(folder, 'q'))).rejects.toMatchObject({ code: 'unsupported' });
    await expect(shrinkDiskFile(path.join(folder, 'none'))).rejects.toMatchObject({ code: 'not_found' });
  });

  it('stops when told, in the middle, and nothing is lost', async () => {
    const folder = scratchFolder();
    const [file, cow] = [path.join(folder, 'base'), path.join(folder, 'cow')];
    const base = Buffer.from(pattern(40 << 20, 1));
    fs.writeFileSync(file, base);
    const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
    for (let at = 0; at < base.length; at += 1 << 20)
      await disk.write(at, [base.subarray(at, at + (1 << 20))]);
    await disk.close();
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    await expect(shrinkDisk({ file, cow }, { signal: stop.signal, onProgress })).rejects.toMatchObject({
      code: 'canceled',
    });
    const left = allocated(cow) - inspectCow(cow).dataOffset;
    expect(left).toBeGreaterThan(1 << 20);
    expect(left).toBeLessThan(39 << 20);
    expect((await contentOf(file, cow)).equals(base)).toBe(true);
  });
});

const SECTOR = 512;
const PLACEMENT = { sizeBytes: 3 << 20, bitmapOffset: 8192, bitmapBytes: 768, dataOffset: 12_288 };

/** A COW file in memory that keeps its writes and fdatasyncs in order. */
class Recorder implements HostFile {
  setSize(): void {
    throw new Error('nobody makes it larger');
  }

  state(): string {
    return '';
  }
  readonly bytes = Buffer.alloc(PLACEMENT.dataOffset + PLACEMENT.sizeBytes);
  readonly events: ({ readonly at: number; readonly bytes: Buffer } | 'sync')[] = [];

  read(offset: number, into: readonly Uint8Array[]): void {
    let at = offset;
    for (const piece of into) {
      piece.fill(0);
      this.bytes.copy(piece, 0, at, at + piece.length);
      at += piece.length;
    }
  }
  write(offset: number, from: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(from);
    bytes.copy(this.bytes, offset);
    for (let at = 0; at < bytes.length; at += SECTOR) {
      this.events.push({ at: offset + at, bytes: bytes.subarray(at, at + SECTOR) });
    }
  }
  sync(): Promise<void> {
    this.events.push('sync');
    return Promise.resolve();
  }
  makeHole(_how: 'punch' | 'zero', offset: number, length: number): 'done' {
    this.write(offset, [new Uint8Array(length)]);
    return 'done';
  }
  close(): void {}
}

describe('a crash while a COW disk is shrunk', () => {
  it('changes nothing that is read, wherever it comes and whatever of the unflushed is lost', async () => {
    const random = randomNumbers(77);
    const below = Buffer.from(pattern(PLACEMENT.sizeBytes, 2));
    below.fill(0, 1 << 20, 1_200_000);
    const file = new Recorder();
    const sectors = PLACEMENT.sizeBytes / SECTOR;
    const set = (at: number) => (file.bytes[PLACEMENT.bitmapOffset + (at >> 3)]! & (1 << (at & 7))) !== 0;
    for (let run = 0; run < 600; run++) {
      const first = random(sectors - 24);
      const kind = random(3);
      for (let sector = first; sector < first + 1 + random(24); sector++) {
        const at = sector * SECTOR;
        const place = file.bytes.subarray(PLACEMENT.dataOffset + at).subarray(0, SECTOR);
        file.bytes[PLACEMENT.bitmapOffset + (sector >> 3)]! |= 1 << (sector & 7);
        if (kind === 0) place.fill(0);
        else if (kind === 1) below.copy(place, 0, at, at + SECTOR);
        else place.set(pattern(SECTOR, sector));
      }
    }
    const start = Buffer.from(file.bytes);
    const seen = (bytes: Buffer): Buffer => {
      const view = Buffer.from(below);
      for (let sector = 0; sector < sectors; sector++) {
        if ((bytes[PLACEMENT.bitmapOffset + (sector >> 3)]! & (1 << (sector & 7))) === 0) continue;
        const at = PLACEMENT.dataOffset + sector * SECTOR;
        bytes.copy(view, sector * SECTOR, at, at + SECTOR);
      }
      return view;
    };
    const expected = seen(start);
    const had = Array.from({ length: sectors }, (_, sector) => set(sector)).filter(Boolean).length;
    const nextData = (offset: number) =>
      offset < file.bytes.length ? { start: offset, end: file.bytes.length } : undefined;
    const theirs = {
      read(offset: number, into: readonly Uint8Array[]): void {
        below.copy(into[0]!, 0, offset, offset + into[0]!.length);
      },
    };
    await shrinkCow({ file, nextData, allocatedBytes: () => 0 }, PLACEMENT, theirs);
    expect(Array.from({ length: sectors }, (_, sector) => set(sector)).filter(Boolean).length).toBeLessThan(
      had,
    );
    expect(seen(file.bytes).equals(expected)).toBe(true);

    // Up to each event, with some of those since the last fdatasync lost.
    const durable = Buffer.from(start);
    let unflushed: { readonly at: number; readonly bytes: Buffer }[] = [];
    let cuts = 0;
    for (const event of file.events) {
      if (event === 'sync') {
        for (const { at, bytes } of unflushed) bytes.copy(durable, at);
        unflushed = [];
      } else unflushed.push(event);
      if (cuts++ % 8 !== 0 && event !== 'sync') continue;
      const after = Buffer.from(durable);
      for (const { at, bytes } of unflushed) if (random(2) === 0) bytes.copy(after, at);
      if (!seen(after).equals(expected)) throw new Error(`another disk after ${cuts} events`);
    }
    expect(cuts).toBeGreaterThan(500);
  }, 60_000);
});
