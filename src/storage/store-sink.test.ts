import * as fs from 'node:fs';
import * as path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pattern, scratchFolder } from '../../test/support/storage.ts';
import type { ToStoreTask } from './backup-store/tasks.ts';
import { DiskCopy, PIECE_BYTES, type PieceSink } from './disk-copy.ts';
import { openDisk } from './disk.ts';
import { StoreSink } from './store-sink.ts';

type PieceMessage = Extract<ToStoreTask, { type: 'piece' }>;

/** A sink whose thread takes pieces when it is told to. */
function fixture(folder = scratchFolder()) {
  const waiting: PieceMessage[] = [];
  const failures: unknown[] = [];
  let takenBytes = 0;
  const sink = new StoreSink((message) => void waiting.push(message as PieceMessage), folder, {
    taken: (bytes) => {
      takenBytes += bytes;
    },
    failed: (error) => void failures.push(error),
  });
  onTestFinished(() => sink.close());
  return {
    sink,
    failures,
    takenBytes: () => takenBytes,
    /** What the thread is sent next; it is done with it at once. */
    take(): PieceMessage & { readonly bytes: Buffer } {
      const message = waiting.shift()!;
      const bytes = Buffer.from(Buffer.from(message.buffer, 0, message.length));
      sink.taken();
      return { ...message, bytes };
    },
    waiting,
    /** As a guest's write that displaces a piece does. */
    async displace(index: number, length = PIECE_BYTES): Promise<void> {
      const buffer = await sink.acquire(length, true);
      new Uint8Array(buffer).set(pattern(length, index));
      sink.send({ disk: 0, offset: index * PIECE_BYTES, length }, buffer);
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}

describe('pieces on their way to the store', () => {
  it('wait in a file when a guest overwrites more than memory has room for, and come out as they were', async () => {
    const folder = scratchFolder();
    const { sink, displace, take, waiting, takenBytes } = fixture(folder);
    const pieces = 200;
    for (let index = 0; index < pieces; index++)
      await displace(index, index % 3 === 0 ? 65_536 : PIECE_BYTES);
    expect(waiting.length).toBeLessThan(20);
    // It has no name.
    expect(fs.readdirSync(folder)).toEqual([]);
    const drained = sink.drained();
    const seen = new Set<number>();
    while (seen.size < pieces) {
      await until(() => waiting.length > 0);
      const { offset, length, bytes } = take();
      const index = offset / PIECE_BYTES;
      expect(bytes.equals(Buffer.from(pattern(length, index)))).toBe(true);
      seen.add(index);
    }
    await drained;
    expect(takenBytes()).toBe(67 * 65_536 + 133 * PIECE_BYTES);
  });

  it('wait in memory alone where no file can be made; then guests wait, and go on', async () => {
    const { displace, take, waiting, failures } = fixture(path.join(scratchFolder(), 'missing'));
    let displaced = 0;
    const all = (async () => {
      for (; displaced < 100; displaced++) await displace(displaced);
    })();
    await until(() => displaced === 64);
    const seen = new Set<number>();
    while (seen.size < 100) {
      await until(() => waiting.length > 0);
      const { offset, length, bytes } = take();
      expect(bytes.equals(Buffer.from(pattern(length, offset / PIECE_BYTES)))).toBe(true);
      seen.add(offset);
    }
    await all;
    expect(failures).toEqual([]);
  });

  it('are not read in the background while others wait for the thread', async () => {
    const { sink, displace, take, waiting } = fixture();
    for (let index = 0; index < 10; index++) await displace(index);
    const background = sink.acquire(PIECE_BYTES, false);
    expect(background).toBeInstanceOf(Promise);
    let settled = false;
    void (background as Promise<unknown>).then(() => {
      settled = true;
    });
    for (let taken = 0; taken < 3; taken++) {
      expect(settled).toBe(false);
      take();
      await setImmediate();
    }
    expect(settled).toBe(true);
    expect(waiting).toHaveLength(7);
  });

  it('end with the backup: who waits is told', async () => {
    const { sink, displace } = fixture(path.join(scratchFolder(), 'missing'));
    for (let index = 0; index < 64; index++) await displace(index);
    const waits = sink.acquire(PIECE_BYTES, true);
    const drained = sink.drained();
    sink.fail(new Error('over'));
    await expect(waits).rejects.toThrow('over');
    await expect(drained).rejects.toThrow('over');
    expect(() => sink.acquire(1, true)).toThrow('over');
  });
});

describe('a write to a disk that is being copied', () => {
  it('does not wait while the store has no room for more', async () => {
    const folder = scratchFolder();
    const file = path.join(folder, 'raw');
    const content = pattern(4 * PIECE_BYTES, 1);
    fs.writeFileSync(file, content);
    const disk = openDisk({ device: 'ubd0', file, readOnly: false });
    onTestFinished(() => disk.close());
    const sent: { offset: number; bytes: Buffer }[] = [];
    const room = Promise.withResolvers<SharedArrayBuffer>();
    const sink: PieceSink = {
      acquire: (length, urgent) => (urgent ? new SharedArrayBuffer(length) : room.promise),
      release: () => undefined,
      send: ({ offset, length }, buffer) =>
        void sent.push({ offset, bytes: Buffer.from(Buffer.from(buffer, 0, length)) }),
    };
    const events = { failed: expect.unreachable, closing: () => Promise.resolve() };
    const copy = new DiskCopy(0, disk, sink, events, undefined);
    const all = copy.copyAll();
    await disk.write(0, [new Uint8Array(4096).fill(1)]);
    await disk.write(PIECE_BYTES + 65_536, [new Uint8Array(PIECE_BYTES).fill(2)]);
    room.resolve(new SharedArrayBuffer(PIECE_BYTES));
    await all;
    const copied = Buffer.alloc(content.length);
    for (const { offset, bytes } of sent) bytes.copy(copied, offset);
    expect(copied.equals(Buffer.from(content))).toBe(true);
    expect(sent.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBe(content.length);
  });
});
