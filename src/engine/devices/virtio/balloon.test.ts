import { expect, test } from 'vitest';
import { createPciBus } from '../pci/index.ts';
import { plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { Driver } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

function setUp() {
  const board = fakeBoard();
  const released: [number, number][] = [];
  const { slot, handle } = plugVirtioDevice(board, createPciBus(board), VIRTIO_DEVICES.balloon, {
    release: (address, length) => void released.push([address, length]),
  });
  const driver = new Driver(board, slot).start({ queueSize: 16 });
  return { board, driver, handle, released };
}

const numbers = (...pages: number[]): Uint8Array => new Uint8Array(Uint32Array.from(pages).buffer);

test('the target is in the configuration, and its change is told', () => {
  const { driver, handle } = setUp();
  driver.takeMessages();
  handle.setTarget(64 << 20);
  expect(driver.deviceConfig(0, 4)).toBe((64 << 20) / 4096);
  expect(driver.takeMessages()).toHaveLength(1);
});

test('pages that are given away are released, neighbours together; those that come back need nothing', () => {
  const { board, driver, handle, released } = setUp();
  driver.queues[0].submit([driver.readable(numbers(7, 5, 6, 100, 6))]);
  expect(released).toEqual([
    [5 * 4096, 3 * 4096],
    [100 * 4096, 4096],
  ]);
  expect(driver.queues[0].takeUsed()).toHaveLength(1);
  board.mmio.write(driver.structures.get(4)! + 4, 4, 4);
  expect(handle.bytes).toBe(4 * 4096);
  driver.queues[1].submit([driver.readable(numbers(5))]);
  expect(driver.queues[1].takeUsed()).toHaveLength(1);
  expect(released).toHaveLength(2);
});

test('an empty or odd buffer is taken', () => {
  const { driver, released } = setUp();
  driver.queues[0].submit([driver.readable(new Uint8Array(3))]);
  expect(released).toEqual([]);
  expect(driver.queues[0].takeUsed()).toHaveLength(1);
});
