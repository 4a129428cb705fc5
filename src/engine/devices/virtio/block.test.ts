import { describe, expect, test } from 'vitest';
import { type BlockBackend, BlockError, type MaybePromise } from '../../backends.ts';
import { createPciBus } from '../pci/index.ts';
import { plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { type Buffer, Driver, type DriverOptions } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

const DISK_BYTES = 0x10_0000;
const TYPE = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 };
const OK = 0;
const IOERR = 1;
const UNSUPP = 2;
const FLUSH_FEATURE = 9;

/** A disk in memory that records calls; `hold` makes it finish when the test says so. */
class MemoryDisk implements BlockBackend {
  sizeBytes = DISK_BYTES;
  readonly readOnly: boolean;
  readonly bytes = Uint8Array.from({ length: DISK_BYTES }, (_, i) => (i >> 9) & 0xff);
  readonly calls: string[] = [];
  /** Requests that wait, in order of arrival. */
  readonly held: { finish(): void; fail(error: unknown): void }[] = [];
  hold = false;
  failure: unknown;

  constructor(readOnly = false) {
    this.readOnly = readOnly;
  }

  read(offset: number, into: readonly Uint8Array[]): MaybePromise<void> {
    return this.#run('read', () => {
      for (const view of into) {
        view.set(this.bytes.subarray(offset, offset + view.length));
        offset += view.length;
      }
    });
  }

  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    return this.#run('write', () => {
      for (const view of from) {
        this.bytes.set(view, offset);
        offset += view.length;
      }
    });
  }

  flush(): MaybePromise<void> {
    return this.#run('flush', () => {});
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.#run(`discard ${offset}+${length}`, () => {});
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void> {
    return this.#run(`zero ${offset}+${length} ${mayUnmap}`, () => {
      this.bytes.fill(0, offset, offset + length);
    });
  }

  close(): void {}

  #run(call: string, action: () => void): MaybePromise<void> {
    this.calls.push(call);
    if (this.failure !== undefined) throw this.failure;
    if (!this.hold) return action();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const finish = (): void => {
      action();
      resolve();
    };
    this.held.push({ finish, fail: reject });
    return promise;
  }
}

function setup(disk = new MemoryDisk(), options: DriverOptions = {}) {
  const board = fakeBoard();
  const bus = createPciBus(board);
  const instance = plugVirtioDevice(board, bus, VIRTIO_DEVICES.block, { backend: disk, serial: 'disk-ubd0' });
  const driver = new Driver(board, instance.slot).start(options);
  const [queue] = driver.queues;

  function header(type: number, sector: number): Buffer {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setBigUint64(8, BigInt(sector), true);
    return driver.readable(bytes);
  }

  /** Sends a request; `status` reads its outcome, 0xff while it runs. */
  function send(type: number, sector: number, data: readonly Buffer[]) {
    const last = driver.writable(1);
    board.bytes[last.gpa] = 0xff;
    const head = queue.submit([header(type, sector), ...data, last]);
    return { head, status: () => board.bytes[last.gpa] };
  }

  return { board, bus, disk, instance, driver, queue, send, header, counters: instance.handle.counters };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function segment(sector: number, sectors: number, flags = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return bytes;
}

describe('configuration', () => {
  test('tells capacity, block size and limits', () => {
    const { driver } = setup();
    expect(driver.config.read(2, 2)).toBe(0x1042);
    expect(driver.deviceConfig(0, 4)).toBe(DISK_BYTES / 512);
    expect(driver.deviceConfig(12, 4)).toBe(256);
    expect(driver.deviceConfig(20, 4)).toBe(512);
    expect(driver.deviceConfig(200, 4)).toBe(0);
  });

  test('tells the guest when the disk has become larger', () => {
    const { disk, driver, instance, send } = setup();
    const generation = driver.common(21, 1);
    expect(send(TYPE.IN, DISK_BYTES / 512, [driver.writable(512)]).status()).toBe(IOERR);
    driver.takeMessages();
    disk.sizeBytes *= 2;
    instance.handle.resized();
    expect(driver.takeMessages()).toEqual([0x40]);
    expect(driver.deviceConfig(0, 4)).toBe((2 * DISK_BYTES) / 512);
    expect(driver.common(21, 1)).not.toBe(generation);
    expect(send(TYPE.IN, DISK_BYTES / 512, [driver.writable(512)]).status()).toBe(OK);
  });

  test('offers no tables of descriptors, and takes none', () => {
    const { driver, instance, queue, header } = setup();
    expect(driver.offered()).not.toContain(28);
    queue.submit([header(TYPE.IN, 0), driver.writable(513)], true);
    expect(instance.lastFault()).toContain('indirect');
  });

  test('a read-only disk says so and offers no discard', () => {
    const offered = setup(new MemoryDisk(true)).driver.offered();
    expect(offered).toContain(5);
    expect(offered).not.toContain(13);
    expect(setup().driver.offered()).not.toContain(5);
  });
});

describe('requests', () => {
  test('reads into several buffers', () => {
    const { board, driver, queue, send, counters } = setup();
    const data = [driver.writable(512), driver.writable(100), driver.writable(924)];
    const { head, status } = send(TYPE.IN, 3, data);
    expect(status()).toBe(OK);
    expect(queue.takeUsed()).toEqual([{ id: head, length: 1537 }]);
    expect(board.bytes[data[0].gpa]).toBe(3);
    expect(board.bytes[data[1].gpa + 99]).toBe(4);
    expect([...driver.bytes(data[2]).subarray(411, 413)]).toEqual([4, 5]);
    expect(counters).toMatchObject({ reads: 1, readBytes: 1536, errors: 0 });
    expect(driver.takeMessages()).toEqual([0x41]);
  });

  test('writes', () => {
    const { disk, driver, send, counters } = setup();
    const { status } = send(TYPE.OUT, 2, [driver.readable(new Uint8Array(1024).fill(0xee))]);
    expect(status()).toBe(OK);
    expect([...disk.bytes.subarray(1023, 1025)]).toEqual([1, 0xee]);
    expect([...disk.bytes.subarray(2047, 2049)]).toEqual([0xee, 4]);
    expect(counters).toMatchObject({ writes: 1, writtenBytes: 1024 });
    expect(disk.calls).toEqual(['write']);
  });

  test('header, data and status may be cut anywhere', () => {
    const { board, driver, queue, header } = setup();
    const whole = header(TYPE.IN, 7);
    const { gpa } = driver.writable(513);
    queue.submit([
      { gpa: whole.gpa, length: 5, writable: false },
      { gpa: whole.gpa + 5, length: 11, writable: false },
      { gpa, length: 513, writable: true },
    ]);
    expect(queue.takeUsed()).toEqual([{ id: 0, length: 513 }]);
    expect([board.bytes[gpa], board.bytes[gpa + 511], board.bytes[gpa + 512]]).toEqual([7, 7, OK]);
  });

  test('flushes and tells its serial number', () => {
    const { disk, driver, send, counters } = setup();
    expect(send(TYPE.FLUSH, 0, []).status()).toBe(OK);
    const id = driver.writable(20);
    expect(send(TYPE.GET_ID, 0, [id]).status()).toBe(OK);
    expect(new TextDecoder().decode(driver.bytes(id))).toBe(`disk-ubd0${'\0'.repeat(11)}`);
    expect(disk.calls).toEqual(['flush']);
    expect(counters.flushes).toBe(1);
  });

  test('discards and zeroes ranges', async () => {
    const { disk, driver, send } = setup();
    const discard = send(TYPE.DISCARD, 0, [driver.readable(segment(8, 16))]);
    const both = new Uint8Array([...segment(1, 1, 1), ...segment(3, 2)]);
    const zero = send(TYPE.WRITE_ZEROES, 0, [driver.readable(both)]);
    await turn();
    expect([discard.status(), zero.status()]).toEqual([OK, OK]);
    expect(disk.calls).toEqual(['discard 4096+8192', 'zero 512+512 true', 'zero 1536+1024 false']);
    expect([disk.bytes[512], disk.bytes[1024], disk.bytes[1536]]).toEqual([0, 2, 0]);
  });

  test('offers no discards on a disk that is not to have any', () => {
    const offered = (disk: MemoryDisk): boolean[] => {
      const features = setup(disk).driver.offered();
      return [13, 14].map((feature) => features.includes(feature));
    };
    expect(offered(new MemoryDisk())).toEqual([true, true]);
    expect(offered(Object.assign(new MemoryDisk(), { noDiscard: true }))).toEqual([false, false]);
  });

  test('without flush in the driver, a write is flushed before it completes', async () => {
    const { disk, driver, send } = setup(new MemoryDisk(), { features: [] });
    send(TYPE.OUT, 0, [driver.readable(new Uint8Array(512))]);
    expect(disk.calls).toEqual(['write', 'flush']);
    disk.hold = true;
    const later = send(TYPE.OUT, 0, [driver.readable(new Uint8Array(512))]);
    disk.held[0].finish();
    await turn();
    expect(later.status()).toBe(0xff);
    disk.held[1].finish();
    await turn();
    expect(later.status()).toBe(OK);
  });

  test('write-through mode by configuration', () => {
    const { board, disk, driver, send } = setup(new MemoryDisk(), { features: [FLUSH_FEATURE, 11] });
    board.mmio.write(driver.structures.get(4)! + 32, 1, 0);
    expect(driver.deviceConfig(32, 1)).toBe(0);
    send(TYPE.OUT, 0, [driver.readable(new Uint8Array(512))]);
    expect(disk.calls).toEqual(['write', 'flush']);
  });
});

describe('requests that fail', () => {
  test.each([
    ['beyond the end', DISK_BYTES / 512, 512],
    ['across the end', DISK_BYTES / 512 - 1, 1024],
    ['at a sector near 2^64', Number(2n ** 63n), 512],
    ['of part of a sector', 0, 100],
  ])('reading %s', (_name, sector, bytes) => {
    const { disk, driver, send, counters } = setup();
    expect(send(TYPE.IN, sector, [driver.writable(bytes)]).status()).toBe(IOERR);
    expect(disk.calls).toEqual([]);
    expect(counters).toMatchObject({ reads: 0, errors: 1 });
  });

  test('writing to a read-only disk', () => {
    const { disk, driver, send } = setup(new MemoryDisk(true));
    expect(send(TYPE.OUT, 0, [driver.readable(new Uint8Array(512))]).status()).toBe(IOERR);
    expect(send(TYPE.DISCARD, 0, [driver.readable(segment(0, 1))]).status()).toBe(IOERR);
    expect(disk.calls).toEqual([]);
  });

  test('an unknown type', () => {
    expect(setup().send(99, 0, []).status()).toBe(UNSUPP);
  });

  test.each([
    ['a discard with a flag', TYPE.DISCARD, segment(0, 1, 1), UNSUPP],
    ['an unknown flag', TYPE.WRITE_ZEROES, segment(0, 1, 2), UNSUPP],
    ['a range beyond the end', TYPE.DISCARD, segment(DISK_BYTES / 512, 1), IOERR],
    ['a range longer than allowed', TYPE.DISCARD, segment(0, 0x20_0001), IOERR],
    ['part of a segment', TYPE.DISCARD, new Uint8Array(15), IOERR],
    ['too many segments', TYPE.DISCARD, new Uint8Array(65 * 16), IOERR],
  ])('%s', (_name, type, body, status) => {
    const { disk, driver, send } = setup();
    expect(send(type, 0, [driver.readable(body)]).status()).toBe(status);
    expect(disk.calls).toEqual([]);
  });

  test('the backend throws', () => {
    const { disk, driver, send, instance } = setup();
    disk.failure = new BlockError('ENOSPC', 'no space left');
    expect(send(TYPE.OUT, 0, [driver.readable(new Uint8Array(512))]).status()).toBe(IOERR);
    expect(instance.handle.lastError()).toBe(disk.failure);
    expect(instance.transport.faults).toBe(0);
  });

  test('the backend rejects', async () => {
    const { disk, driver, send, counters } = setup();
    disk.hold = true;
    const { status } = send(TYPE.IN, 0, [driver.writable(512)]);
    disk.held[0].fail(new BlockError('EIO', 'bad sector'));
    await turn();
    expect(status()).toBe(IOERR);
    expect(counters.errors).toBe(1);
  });

  test.each([
    ['no header', (d: Driver) => [d.readable(new Uint8Array(15)), d.writable(1)]],
    ['no status byte', (d: Driver) => [d.readable(new Uint8Array(16))]],
  ])('%s: the device needs a reset', (_name, buffers) => {
    const { driver, instance, queue } = setup();
    queue.submit(buffers(driver));
    expect(driver.status & 0x40).toBe(0x40);
    expect(instance.lastFault()).toContain('header or status');
  });
});

describe('requests in flight', () => {
  test('complete in the order in which the backend finishes, with one interrupt a turn', async () => {
    const { disk, driver, queue, send } = setup(new MemoryDisk(), { features: [FLUSH_FEATURE] });
    disk.hold = true;
    const requests = [0, 1, 2].map((sector) => send(TYPE.IN, sector, [driver.writable(512)]));
    expect(queue.takeUsed()).toEqual([]);
    disk.held[2].finish();
    disk.held[0].finish();
    await turn();
    expect(queue.takeUsed().map(({ id }) => id)).toEqual([requests[2].head, requests[0].head]);
    expect(driver.takeMessages()).toEqual([0x41]);
    expect(requests.map(({ status }) => status())).toEqual([OK, 0xff, OK]);
    disk.held[1].finish();
    await turn();
    expect(queue.takeUsed().map(({ id }) => id)).toEqual([requests[1].head]);
  });

  test('a reset by the driver is complete when they have ended, and they leave the ring alone', async () => {
    const { board, disk, driver, instance, queue, send } = setup();
    disk.hold = true;
    const request = send(TYPE.IN, 0, [driver.writable(512)]);
    driver.status = 0;
    expect(driver.status).not.toBe(0);
    const ring = board.bytes.slice(queue.used, queue.used + 64);
    disk.held[0].finish();
    await instance.settled();
    expect(driver.status).toBe(0);
    expect(request.status()).toBe(0xff);
    expect(board.bytes.slice(queue.used, queue.used + 64)).toEqual(ring);
    expect(driver.takeMessages()).toEqual([]);
  });

  test('after the driver broke the ring, they leave it alone', async () => {
    const { disk, driver, queue, send } = setup();
    disk.hold = true;
    send(TYPE.IN, 0, [driver.writable(512)]);
    queue.expose(0xffff);
    queue.notify();
    expect(driver.status & 0x40).toBe(0x40);
    const before = driver.board.memory.readU32(queue.used + 8);
    disk.held[0].finish();
    await turn();
    expect(queue.takeUsed()).toEqual([]);
    expect(driver.board.memory.readU32(queue.used + 8)).toBe(before);
  });

  test('until a reset is complete, the driver cannot start again', async () => {
    const { disk, driver, instance, send } = setup();
    disk.hold = true;
    send(TYPE.FLUSH, 0, []);
    driver.status = 0;
    driver.status = 1;
    expect(driver.status).toBe(15);
    disk.held[0].finish();
    await instance.settled();
    expect(driver.status).toBe(0);
  });

  test('after a reset of the machine, the next life is not disturbed by the last', async () => {
    const { bus, disk, driver, instance, send } = setup();
    disk.hold = true;
    send(TYPE.IN, 0, [driver.writable(512)]);
    bus.reset();
    disk.held[0].finish();
    await instance.settled();
    disk.hold = false;
    driver.start();
    const [queue] = driver.queues;
    queue.submit([driver.readable(new Uint8Array(16).fill(0)), driver.writable(512), driver.writable(1)]);
    expect(queue.takeUsed()).toEqual([{ id: 0, length: 513 }]);
  });

  test('after close, they touch nothing', async () => {
    const { board, bus, disk, driver, instance, queue, send } = setup();
    disk.hold = true;
    const request = send(TYPE.FLUSH, 0, []);
    bus.close();
    const ram = board.bytes.slice(queue.used, queue.used + 64);
    disk.held[0].finish();
    await instance.settled();
    expect(request.status()).toBe(0xff);
    expect(board.bytes.slice(queue.used, queue.used + 64)).toEqual(ram);
    expect(driver.takeMessages()).toEqual([]);
  });
});
