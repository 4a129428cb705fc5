import { describe, expect, test } from 'vitest';
import type { NicOffloads, NicPort } from '../../backends.ts';
import { createPciBus } from '../pci/index.ts';
import { plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { Driver, type DriverOptions } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

const HEADER_BYTES = 12;
const MRG_RXBUF = 15;
const CTRL = [17, 18, 23];
const MAC = [0x02, 0, 0, 0, 0, 0x01];

class FakePort implements NicPort {
  readonly sent: Uint8Array[] = [];
  /** Of each frame sent. */
  readonly offloads: [checksum: number, segmentation: number][] = [];
  checksum = 0;
  segmentation = 0;
  accepted: NicOffloads | undefined;
  /** False: there is no room. */
  hasRoom = true;
  readonly #frames: Uint8Array[] = [];
  #ready = (): void => {};

  #writable = (): void => {};

  send(pieces: readonly Uint8Array[], checksum = 0, segmentation = 0): boolean {
    if (!this.hasRoom) return false;
    this.sent.push(new Uint8Array(pieces.flatMap((piece) => [...piece])));
    this.offloads.push([checksum, segmentation]);
    return true;
  }
  onWritable(ready: () => void): void {
    this.#writable = ready;
  }
  accept(offloads: NicOffloads): void {
    this.accepted = offloads;
  }
  makeRoom(): void {
    this.hasRoom = true;
    this.#writable();
  }
  receive(): Uint8Array | undefined {
    return this.#frames.shift();
  }
  onReadable(ready: () => void): void {
    this.#ready = ready;
  }
  close(): void {}

  deliver(...frames: Uint8Array[]): void {
    const wasEmpty = this.#frames.length === 0;
    this.#frames.push(...frames);
    if (wasEmpty) this.#ready();
  }
  get waiting(): number {
    return this.#frames.length;
  }
}

function setup(options: DriverOptions = {}, mtu?: number) {
  const board = fakeBoard();
  const port = new FakePort();
  const bus = createPciBus(board);
  const nic = { port, mac: '02:00:00:00:00:01', mtu };
  const instance = plugVirtioDevice(board, bus, VIRTIO_DEVICES.net, nic);
  const driver = new Driver(board, instance.slot).start({ queueSize: 16, ...options });
  const [rx, tx, ctrl] = driver.queues;
  return { board, bus, port, instance, driver, rx, tx, ctrl, counters: instance.handle.counters };
}

/** A frame to `to` whose other bytes count up. */
function frame(length: number, to: readonly number[] = MAC): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => to[i] ?? i & 0xff);
}

describe('configuration', () => {
  test('tells address, link and MTU', () => {
    const { driver } = setup({}, 9000);
    expect(driver.offered()).toContain(3);
    expect([0, 1, 2, 3, 4, 5].map((i) => driver.deviceConfig(i, 1))).toEqual(MAC);
    expect(driver.deviceConfig(6, 2)).toBe(1);
    expect(driver.deviceConfig(10, 2)).toBe(9000);
    expect(setup().driver.offered()).not.toContain(3);
  });

  test('a malformed address is refused', () => {
    const board = fakeBoard();
    const options = { port: new FakePort(), mac: '02:00:00:00:01' };
    expect(() => plugVirtioDevice(board, createPciBus(board), VIRTIO_DEVICES.net, options)).toThrow(
      'not a MAC address',
    );
  });

  test('pulling the cable changes the status and interrupts', () => {
    const { driver, instance, port, tx, counters } = setup();
    const generation = driver.common(0x15, 1);
    instance.handle.setLink(false);
    expect(driver.deviceConfig(6, 2)).toBe(0);
    expect(driver.common(0x15, 1)).not.toBe(generation);
    expect(driver.takeMessages()).toEqual([0x40]);
    tx.submit([driver.readable(new Uint8Array(HEADER_BYTES + 60))]);
    expect(port.sent).toEqual([]);
    expect(counters.txDropped).toBe(1);
  });
});

describe('transmit', () => {
  test.each([false, true])('a frame in pieces, without its header (indirect: %s)', (indirect) => {
    const { driver, port, tx, counters } = setup();
    const data = frame(60);
    const head = new Uint8Array([...new Uint8Array(HEADER_BYTES), ...data.subarray(0, 14)]);
    tx.submit([driver.readable(head), driver.readable(data.subarray(14))], indirect);
    expect(port.sent).toEqual([data]);
    expect(tx.takeUsed()).toEqual([{ id: 0, length: 0 }]);
    expect(counters).toMatchObject({ txFrames: 1, txBytes: 60, txDropped: 0 });
  });

  test.each([
    ['shorter than an Ethernet header', new Uint8Array(HEADER_BYTES + 13)],
    ['longer than any MTU', new Uint8Array(HEADER_BYTES + 65554)],
    ['with a checksum to fill in', new Uint8Array(HEADER_BYTES + 60).fill(1, 0, 1)],
    ['to be segmented', new Uint8Array(HEADER_BYTES + 60).fill(1, 1, 2)],
  ])('a frame %s is dropped and its buffer returned', (_name, bytes) => {
    const { driver, port, tx, counters, instance } = setup();
    tx.submit([driver.readable(bytes)]);
    expect(port.sent).toEqual([]);
    expect(counters.txDropped).toBe(1);
    expect(tx.takeUsed()).toHaveLength(1);
    expect(instance.transport.faults).toBe(0);
  });
});

/** struct virtio_net_hdr_v1. */
function header(flags: number, kind: number, size: number, start: number, offset: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = flags;
  bytes[1] = kind;
  view.setUint16(4, size, true);
  view.setUint16(6, start, true);
  view.setUint16(8, offset, true);
  return bytes;
}

describe('offloads', () => {
  const [CSUM, GUEST_CSUM, GUEST_OFFLOADS, GUEST_TSO4, GUEST_TSO6] = [0, 1, 2, 7, 8];
  const [HOST_TSO4, HOST_TSO6] = [11, 12];
  const all = [CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6];

  test.each([
    ['a checksum', header(1, 0, 0, 34, 6), [34 | (6 << 16), 0]],
    ['a TCP segment over IPv4', header(1, 1, 1460, 34, 16), [34 | (16 << 16), 1460 | (1 << 16)]],
    [
      'a TCP segment over IPv6 with ECN',
      header(1, 0x84, 1440, 54, 16),
      [54 | (16 << 16), 1440 | (0x84 << 16)],
    ],
  ])('%s goes with the frame', (_name, head, words) => {
    const { driver, port, tx } = setup({ features: all });
    tx.submit([driver.readable(new Uint8Array([...head, ...frame(2000)]))]);
    expect(port.sent).toEqual([frame(2000)]);
    expect(port.offloads).toEqual([words]);
  });

  test.each([
    ['a checksum beyond the frame', header(1, 0, 0, 1990, 10)],
    ['a checksum within the Ethernet header', header(1, 0, 0, 12, 6)],
    ['a segment of another protocol', header(1, 3, 1400, 34, 6)],
    ['a segment without a checksum', header(0, 1, 1460, 34, 16)],
    ['segments of no size', header(1, 1, 0, 34, 16)],
  ])('%s is dropped', (_name, head) => {
    const { driver, port, tx, counters } = setup({ features: all });
    tx.submit([driver.readable(new Uint8Array([...head, ...frame(1999)]))]);
    expect(port.sent).toEqual([]);
    expect(counters.txDropped).toBe(1);
  });

  test('what was not negotiated is dropped', () => {
    const { driver, port, tx } = setup({ features: [CSUM, HOST_TSO6] });
    tx.submit([driver.readable(new Uint8Array([...header(1, 1, 1460, 34, 16), ...frame(2000)]))]);
    expect(port.sent).toEqual([]);
    const plain = setup({ features: [] });
    plain.tx.submit([plain.driver.readable(new Uint8Array([...header(1, 0, 0, 34, 16), ...frame(2000)]))]);
    expect(plain.port.sent).toEqual([]);
  });

  test('a received frame tells the driver what is left to do', () => {
    const { driver, port, rx } = setup({ features: [...all, MRG_RXBUF] });
    const buffer = driver.writable(4000);
    rx.submit([buffer]);
    port.checksum = 34 | (16 << 16);
    port.segmentation = 1460 | (1 << 16);
    port.deliver(frame(3000));
    const expected = header(1, 1, 1460, 34, 16);
    expected[2] = 54;
    expected[10] = 1;
    expect(driver.bytes(buffer).subarray(0, HEADER_BYTES)).toEqual(expected);
  });

  test('the port knows what the driver takes, until the reset', () => {
    const { driver, port, bus } = setup({ features: [GUEST_CSUM, GUEST_TSO6] });
    expect(port.accepted).toEqual({ checksum: true, tcp4: false, tcp6: true });
    expect(driver.offered()).toEqual(expect.arrayContaining([...all, GUEST_OFFLOADS]));
    bus.reset();
    expect(port.accepted).toEqual({ checksum: false, tcp4: false, tcp6: false });
  });

  test('the driver can stop taking them while it runs', () => {
    const { driver, port, ctrl } = setup({ features: [...all, ...CTRL, GUEST_OFFLOADS] });
    const command = (...bytes: number[]): unknown =>
      ctrl.submit([driver.readable(Uint8Array.from(bytes)), driver.writable(1)]);
    command(5, 0, 1 << GUEST_CSUM, 0, 0, 0, 0, 0, 0, 0);
    expect(port.accepted).toEqual({ checksum: true, tcp4: false, tcp6: false });
    command(5, 0, 0x82, 1, 0, 0, 0, 0, 0, 0);
    expect(port.accepted).toEqual({ checksum: true, tcp4: true, tcp6: true });
  });

  test('a frame waits for room in the port, and nothing is lost', () => {
    const { driver, port, tx, counters } = setup();
    port.hasRoom = false;
    for (const length of [60, 61, 62]) {
      tx.submit([driver.readable(new Uint8Array([...new Uint8Array(HEADER_BYTES), ...frame(length)]))]);
    }
    expect(tx.takeUsed()).toEqual([]);
    port.makeRoom();
    expect(port.sent.map(({ length }) => length)).toEqual([60, 61, 62]);
    expect(tx.takeUsed()).toHaveLength(3);
    expect(counters).toMatchObject({ txFrames: 3, txDropped: 0 });
  });

  test('a frame that waited for room when the device was reset is gone', () => {
    const { driver, port, tx } = setup();
    port.hasRoom = false;
    tx.submit([driver.readable(new Uint8Array([...new Uint8Array(HEADER_BYTES), ...frame(60)]))]);
    driver.status = 0;
    driver.start({ queueSize: 16 });
    port.makeRoom();
    expect(port.sent).toEqual([]);
    expect(driver.queues[1].takeUsed()).toEqual([]);
  });
});

describe('receive', () => {
  test('a frame into one buffer', () => {
    const { driver, port, rx, counters } = setup({ features: [MRG_RXBUF] });
    const buffer = driver.writable(1600);
    rx.submit([buffer]);
    driver.takeMessages();
    port.deliver(frame(60));
    expect(rx.takeUsed()).toEqual([{ id: 0, length: 72 }]);
    const bytes = driver.bytes(buffer);
    expect([...bytes.subarray(0, HEADER_BYTES)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(bytes.subarray(HEADER_BYTES, 72)).toEqual(frame(60));
    expect(counters).toMatchObject({ rxFrames: 1, rxBytes: 60 });
    expect(driver.takeMessages()).toEqual([0x41]);
  });

  test('a frame over merged buffers', () => {
    const { driver, port, rx } = setup({ features: [MRG_RXBUF] });
    const buffers = [driver.writable(100), driver.writable(100), driver.writable(100)];
    for (const buffer of buffers) rx.submit([buffer]);
    port.deliver(frame(200));
    expect(rx.takeUsed()).toEqual([
      { id: 0, length: 100 },
      { id: 1, length: 100 },
      { id: 2, length: 12 },
    ]);
    const all = buffers.flatMap((buffer) => [...driver.bytes(buffer)]);
    expect(all[10]).toBe(3);
    expect(Uint8Array.from(all.slice(HEADER_BYTES, 212))).toEqual(frame(200));
  });

  test('waits for buffers and leaves further frames in the port', () => {
    const { driver, port, rx } = setup({ features: [MRG_RXBUF] });
    port.deliver(frame(60), frame(61), frame(62));
    expect(port.waiting).toBe(2);
    rx.add([driver.writable(40)]);
    rx.notify();
    expect(rx.takeUsed()).toEqual([]);
    rx.add([driver.writable(40)]);
    rx.add([driver.writable(1600)]);
    rx.notify();
    expect(rx.takeUsed().map(({ length }) => length)).toEqual([40, 32, 73]);
    expect(port.waiting).toBe(0);
    rx.submit([driver.writable(1600)]);
    expect(rx.takeUsed().map(({ length }) => length)).toEqual([74]);
  });

  test('without merging, a frame that does not fit is dropped', () => {
    const { driver, port, rx, counters } = setup({ features: [] });
    rx.submit([driver.writable(100)]);
    port.deliver(frame(200), frame(60));
    expect(rx.takeUsed()).toEqual([{ id: 0, length: 72 }]);
    expect(counters).toMatchObject({ rxDropped: 1, rxFrames: 1 });
  });

  test('a buffer shorter than the header breaks the device', () => {
    const { driver, port, rx, instance } = setup({ features: [MRG_RXBUF] });
    rx.add([driver.writable(8)]);
    rx.submit([driver.writable(1600)]);
    port.deliver(frame(60));
    expect(instance.lastFault()).toContain('shorter than the header');
    expect(rx.takeUsed()).toEqual([]);
  });

  test('after a burst the rest waits for its turn', () => {
    const { board, driver, port, rx } = setup({ features: [], queueSize: 256 });
    const buffer = driver.writable(1600);
    for (let i = 0; i < 256; i++) rx.add([buffer]);
    rx.notify();
    port.deliver(...Array.from({ length: 300 }, () => frame(60)));
    expect(rx.takeUsed()).toHaveLength(256);
    for (let i = 0; i < 44; i++) rx.add([buffer]);
    board.clock.run();
    expect(rx.takeUsed()).toHaveLength(44);
  });

  test('nothing arrives after a reset until the driver is back', () => {
    const { driver, port, rx } = setup({ features: [] });
    rx.submit([driver.writable(1600)]);
    driver.status = 0;
    port.deliver(frame(60));
    expect(rx.takeUsed()).toEqual([]);
    driver.start({ features: [], queueSize: 16 });
    driver.queues[0].submit([driver.writable(1600)]);
    expect(driver.queues[0].takeUsed()).toHaveLength(1);
  });
});

describe('control queue', () => {
  const OTHER = [0x02, 0, 0, 0, 0, 0x02];
  const GROUP = [0x33, 0x33, 0, 0, 0, 1];
  const BROADCAST = [255, 255, 255, 255, 255, 255];

  function controlled() {
    const nic = setup({ features: [...CTRL, MRG_RXBUF] });
    for (let i = 0; i < 16; i++) nic.rx.add([nic.driver.writable(1600)]);
    nic.rx.notify();
    const command = (...bytes: number[]): number => {
      const ack = nic.driver.writable(1);
      nic.board.bytes[ack.gpa] = 0xff;
      nic.ctrl.submit([nic.driver.readable(Uint8Array.from(bytes)), ack]);
      return nic.board.bytes[ack.gpa];
    };
    /** Does a frame to this address arrive? */
    const arrives = (to: readonly number[]): boolean => {
      nic.port.deliver(frame(60, to));
      return nic.rx.takeUsed().length === 1;
    };
    return { ...nic, command, arrives };
  }

  test('everything arrives until the driver sets modes', () => {
    const { arrives } = controlled();
    expect([MAC, OTHER, GROUP, BROADCAST].map(arrives)).toEqual([true, true, true, true]);
  });

  test('promiscuous and all-multicast modes off', () => {
    const { arrives, command } = controlled();
    expect(command(0, 0, 0)).toBe(0);
    expect([MAC, OTHER, GROUP, BROADCAST].map(arrives)).toEqual([true, false, true, true]);
    expect(command(0, 1, 0)).toBe(0);
    expect([MAC, OTHER, GROUP, BROADCAST].map(arrives)).toEqual([true, false, false, true]);
  });

  test('address tables', () => {
    const { arrives, command } = controlled();
    command(0, 0, 0);
    command(0, 1, 0);
    expect(command(1, 0, 1, 0, 0, 0, ...OTHER, 1, 0, 0, 0, ...GROUP)).toBe(0);
    expect([OTHER, GROUP].map(arrives)).toEqual([true, true]);
    expect(command(1, 0, 0, 0, 0, 0, 0, 0, 0, 0)).toBe(0);
    expect([OTHER, GROUP].map(arrives)).toEqual([false, false]);
  });

  test('another address of its own, until the reset', () => {
    const { arrives, bus, command, driver } = controlled();
    command(0, 0, 0);
    expect(command(1, 1, ...OTHER)).toBe(0);
    expect([MAC, OTHER].map(arrives)).toEqual([false, true]);
    expect(driver.deviceConfig(5, 1)).toBe(2);
    bus.reset();
    expect(driver.deviceConfig(5, 1)).toBe(1);
  });

  test.each([
    ['an unknown class', [9, 0, 0]],
    ['an unknown mode', [0, 9, 0]],
    ['no body', [0, 0]],
    ['one byte', [0]],
    ['a table that is cut off', [1, 0, 2, 0, 0, 0, ...OTHER]],
    ['a second table that is cut off', [1, 0, 0, 0, 0, 0, 2, 0, 0, 0, ...OTHER]],
    ['a table of 2^32 entries', [1, 0, 255, 255, 255, 255, ...OTHER]],
    ['a short address', [1, 1, 2, 0, 0]],
  ])('%s is refused', (_name, bytes) => {
    const { command, instance } = controlled();
    expect(command(...bytes)).toBe(1);
    expect(instance.transport.faults).toBe(0);
  });
});

describe('several pairs of queues', () => {
  const MQ = 22;
  const CONTROL_QUEUE = 8;
  /** IPv4 from one to another, both told by their last bytes, UDP ports too. */
  const packet = (from: number, to: number): Uint8Array => {
    const bytes = frame(64);
    bytes.set([8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to], 12);
    bytes.set([1, from, 1, to], 34);
    return bytes;
  };

  function several() {
    const nic = setup({ features: [...CTRL, MRG_RXBUF, MQ] });
    const { driver, board } = nic;
    const queue = (index: number) => driver.queues[index];
    for (let pair = 0; pair < 4; pair++) {
      for (let i = 0; i < 8; i++) queue(2 * pair).add([driver.writable(1600)]);
      queue(2 * pair).notify();
    }
    const setPairs = (pairs: number, command = 0): number => {
      const ack = driver.writable(1);
      board.bytes[ack.gpa] = 0xff;
      const bytes = Uint8Array.of(4, command, pairs & 255, pairs >> 8);
      queue(CONTROL_QUEUE).submit([driver.readable(bytes), ack]);
      return board.bytes[ack.gpa];
    };
    const send = (pair: number, sent: Uint8Array): void => {
      const bytes = new Uint8Array([...new Uint8Array(HEADER_BYTES), ...sent]);
      queue(2 * pair + 1).submit([driver.readable(bytes)]);
    };
    /** The pair by which a frame arrives. */
    const arrivesBy = (received: Uint8Array): number => {
      nic.port.deliver(received);
      return [0, 1, 2, 3].find((pair) => queue(2 * pair).takeUsed().length === 1) ?? -1;
    };
    return { ...nic, setPairs, send, arrivesBy };
  }

  test('an answer comes by the pair that the question went by', () => {
    const nic = several();
    expect(nic.setPairs(3)).toBe(0);
    nic.send(1, packet(15, 1));
    nic.send(2, packet(15, 7));
    expect(nic.port.sent).toHaveLength(2);
    expect(nic.arrivesBy(packet(1, 15))).toBe(1);
    expect(nic.arrivesBy(packet(7, 15))).toBe(2);
    nic.send(0, packet(15, 7));
    expect(nic.arrivesBy(packet(7, 15))).toBe(0);
    expect(nic.arrivesBy(frame(60))).toBe(0);
  });

  test('the first alone is used until the driver asks, and again when it asks for one', () => {
    const nic = several();
    nic.send(1, packet(15, 1));
    expect(nic.port.sent).toHaveLength(0);
    expect(nic.arrivesBy(packet(1, 15))).toBe(0);
    // What was there before is sent then.
    expect(nic.setPairs(4)).toBe(0);
    expect(nic.port.sent).toHaveLength(1);
    expect(nic.arrivesBy(packet(1, 15))).toBe(1);
    expect(nic.setPairs(1)).toBe(0);
    expect(nic.arrivesBy(packet(1, 15))).toBe(0);
  });

  test('a frame of each pair waits for room in the port, and nothing is lost', () => {
    const nic = several();
    nic.setPairs(2);
    nic.port.hasRoom = false;
    for (const pair of [0, 1]) for (const to of [1, 2]) nic.send(pair, packet(15, to));
    expect(nic.port.sent).toHaveLength(0);
    nic.port.makeRoom();
    expect(nic.port.sent).toHaveLength(4);
  });

  test('other numbers are refused, and all of it where it was not negotiated', () => {
    const nic = several();
    for (const pairs of [0, 5, 0x8000]) expect(nic.setPairs(pairs)).toBe(1);
    expect(nic.setPairs(2, 1)).toBe(1);
    const plain = setup({ features: [...CTRL, MRG_RXBUF] });
    const ack = plain.driver.writable(1);
    plain.ctrl.submit([plain.driver.readable(Uint8Array.of(4, 0, 1, 0)), ack]);
    expect(plain.board.bytes[ack.gpa]).toBe(1);
  });
});
