import { describe, expect, test } from 'vitest';
import type { CharPort } from '../../backends.ts';
import { createPciBus } from '../pci/index.ts';
import { plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { Driver, type DriverOptions } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

const MULTIPORT = 1;
const EVENT = {
  DEVICE_READY: 0,
  DEVICE_ADD: 1,
  DEVICE_REMOVE: 2,
  PORT_READY: 3,
  CONSOLE: 4,
  RESIZE: 5,
  OPEN: 6,
  NAME: 7,
};
const CONTROL = { RECEIVE: 2, TRANSMIT: 3 };

class FakeTerminal implements CharPort {
  text = '';
  #typed = '';
  #ready = (): void => {};
  output(bytes: Uint8Array): void {
    this.text += String.fromCharCode(...bytes);
  }
  input(max: number): Uint8Array {
    const bytes = new TextEncoder().encode(this.#typed.slice(0, max));
    this.#typed = this.#typed.slice(max);
    return bytes;
  }
  onReadable(ready: () => void): void {
    this.#ready = ready;
  }
  type(text: string): void {
    this.#typed += text;
    this.#ready();
  }
}

function setup(options: DriverOptions = {}) {
  const board = fakeBoard();
  const bus = createPciBus(board);
  const terminal = new FakeTerminal();
  const channel = new FakeTerminal();
  const ports = [
    { port: terminal, console: true },
    { port: channel, console: false, name: 'umlaut.notify' },
  ];
  const instance = plugVirtioDevice(board, bus, VIRTIO_DEVICES.console, { ports });
  const driver = new Driver(board, instance.slot).start({ queueSize: 16, ...options });
  return { board, bus, terminal, channel, instance, driver, queues: driver.queues };
}

type Setup = ReturnType<typeof setup>;

/** Gives the device buffers for control messages; returns a function that reads what has come. */
function listen({ driver, queues }: Setup, count = 16): () => number[][] {
  const buffers = Array.from({ length: count }, () => driver.writable(64));
  for (const buffer of buffers) queues[CONTROL.RECEIVE].add([buffer]);
  queues[CONTROL.RECEIVE].notify();
  return () =>
    queues[CONTROL.RECEIVE].takeUsed().map(({ id, length }) => {
      const bytes = driver.bytes(buffers[id]).subarray(0, length);
      return [bytes[0], bytes[4], bytes[6], ...bytes.subarray(8)];
    });
}

function tell({ driver, queues }: Setup, port: number, event: number, value: number): void {
  const message = Uint8Array.of(port, 0, 0, 0, event, 0, value, 0);
  queues[CONTROL.TRANSMIT].submit([driver.readable(message)]);
}

describe('one port', () => {
  test('output of several buffers arrives in order', () => {
    const { driver, queues, terminal, instance } = setup({ features: [] });
    const text = 'x'.repeat(5000);
    queues[1].submit([
      driver.readable(new TextEncoder().encode('hello ')),
      driver.readable(new Uint8Array([33])),
    ]);
    queues[1].submit([driver.readable(new TextEncoder().encode(text))]);
    expect(terminal.text).toBe(`hello !${text}`);
    expect(queues[1].takeUsed()).toHaveLength(2);
    expect(instance.handle.counters.txBytes).toBe(5007);
  });

  test('input waits in the port until there are buffers', () => {
    const { driver, queues, terminal } = setup({ features: [] });
    const buffers = [driver.writable(4), driver.writable(4)];
    terminal.type('abcdef');
    queues[0].submit([buffers[0]]);
    expect(queues[0].takeUsed()).toEqual([{ id: 0, length: 4 }]);
    queues[0].submit([buffers[1]]);
    expect(queues[0].takeUsed()).toEqual([{ id: 1, length: 2 }]);
    expect(String.fromCharCode(...driver.bytes(buffers[0]))).toBe('abcd');
    queues[0].submit([driver.writable(4)]);
    terminal.type('g');
    expect(queues[0].takeUsed()).toEqual([{ id: 2, length: 1 }]);
  });

  test('an emergency write needs no queue', () => {
    const { board, driver, terminal } = setup({ features: [2] });
    board.mmio.write(driver.structures.get(4)! + 8, 4, 0x21);
    expect(terminal.text).toBe('!');
  });

  test('other ports are shut', () => {
    const { driver, queues, channel } = setup({ features: [] });
    queues[4].submit([driver.writable(4)]);
    channel.type('x');
    expect(queues[4].takeUsed()).toEqual([]);
  });
});

describe('several ports', () => {
  test('are introduced one by one', () => {
    const guest = setup({ features: [MULTIPORT] });
    const messages = listen(guest);
    expect(guest.driver.deviceConfig(4, 4)).toBe(2);
    tell(guest, 0, EVENT.DEVICE_READY, 1);
    expect(messages()).toEqual([
      [0, EVENT.DEVICE_ADD, 1],
      [1, EVENT.DEVICE_ADD, 1],
    ]);
    guest.instance.handle.setSize(0, 80, 25);
    tell(guest, 0, EVENT.PORT_READY, 1);
    expect(messages()).toEqual([
      [0, EVENT.CONSOLE, 1],
      [0, EVENT.RESIZE, 0, 80, 0, 25, 0],
      [0, EVENT.OPEN, 1],
    ]);
    tell(guest, 1, EVENT.PORT_READY, 1);
    const name = [...new TextEncoder().encode('umlaut.notify')];
    expect(messages()).toEqual([
      [1, EVENT.NAME, 1, ...name],
      [1, EVENT.OPEN, 1],
    ]);
  });

  test('input flows only while the guest has the port open', () => {
    const guest = setup({ features: [MULTIPORT] });
    const { channel, driver, queues } = guest;
    for (let i = 0; i < 4; i++) queues[4].submit([driver.writable(8)]);
    channel.type('one');
    expect(queues[4].takeUsed()).toEqual([]);
    tell(guest, 1, EVENT.OPEN, 1);
    expect(queues[4].takeUsed()).toEqual([{ id: 0, length: 3 }]);
    tell(guest, 1, EVENT.OPEN, 0);
    channel.type('two');
    expect(queues[4].takeUsed()).toEqual([]);
    queues[5].submit([driver.readable(new TextEncoder().encode('out'))]);
    expect(channel.text).toBe('out');
  });

  test('a new size reaches the guest, in configuration space too', () => {
    const guest = setup({ features: [0, MULTIPORT] });
    const messages = listen(guest);
    tell(guest, 0, EVENT.PORT_READY, 1);
    messages();
    guest.driver.takeMessages();
    guest.instance.handle.setSize(0, 132, 43);
    expect(messages()).toEqual([[0, EVENT.RESIZE, 0, 132, 0, 43, 0]]);
    expect(guest.driver.deviceConfig(0, 4)).toBe((43 << 16) | 132);
    expect(guest.driver.takeMessages()).toContain(0x40);
  });

  test('control messages wait for buffers', () => {
    const guest = setup({ features: [MULTIPORT] });
    tell(guest, 0, EVENT.DEVICE_READY, 1);
    expect(listen(guest)()).toHaveLength(2);
  });

  test('a guest that never collects them is stopped', () => {
    const guest = setup({ features: [MULTIPORT] });
    for (let i = 0; i < 200; i++) tell(guest, 0, EVENT.DEVICE_READY, 1);
    expect(guest.instance.lastFault()).toContain('does not collect');
    expect(guest.driver.status & 0x40).toBe(0x40);
  });

  test('messages about unknown ports, of unknown kinds or cut short are ignored', () => {
    const guest = setup({ features: [MULTIPORT] });
    const messages = listen(guest);
    tell(guest, 9, EVENT.PORT_READY, 1);
    tell(guest, 0, 99, 1);
    guest.queues[CONTROL.TRANSMIT].submit([guest.driver.readable(new Uint8Array(7))]);
    expect(messages()).toEqual([]);
    expect(guest.queues[CONTROL.TRANSMIT].takeUsed()).toHaveLength(3);
    expect(guest.instance.transport.faults).toBe(0);
  });

  test('a reset closes the ports', () => {
    const guest = setup({ features: [MULTIPORT] });
    tell(guest, 1, EVENT.OPEN, 1);
    guest.driver.start({ features: [MULTIPORT], queueSize: 16 });
    guest.driver.queues[4].submit([guest.driver.writable(4)]);
    guest.channel.type('x');
    expect(guest.driver.queues[4].takeUsed()).toEqual([]);
  });

  test('come and go, while one that is no line stays', () => {
    const board = fakeBoard();
    const port = () => new FakeTerminal();
    const ports = [
      { port: port(), console: true },
      { port: port(), console: true },
      { port: port(), console: false, name: 'umlaut.notify' },
    ];
    const instance = plugVirtioDevice(board, createPciBus(board), VIRTIO_DEVICES.console, {
      ports,
      lines: { ports: 2, count: 1 },
    });
    const driver = new Driver(board, instance.slot).start({ queueSize: 16, features: [MULTIPORT] });
    const guest = { board, instance, driver, queues: driver.queues } as unknown as Setup;
    const messages = listen(guest);
    tell(guest, 0, EVENT.DEVICE_READY, 1);
    expect(messages().map(([id, event]) => [id, event])).toEqual([
      [0, EVENT.DEVICE_ADD],
      [2, EVENT.DEVICE_ADD],
    ]);
    tell(guest, 1, EVENT.PORT_READY, 1);
    expect(messages()).toEqual([]);
    instance.handle.setLineCount(2);
    expect(messages()).toEqual([[1, EVENT.DEVICE_ADD, 1]]);
    instance.handle.setLineCount(0);
    expect(messages()).toEqual([
      [0, EVENT.DEVICE_REMOVE, 1],
      [1, EVENT.DEVICE_REMOVE, 1],
    ]);
  });
});
