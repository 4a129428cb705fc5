import { expect, test } from 'vitest';
import { fakeBoard } from '../virtio/testing/fake-board.ts';
import { PCI_HOTPLUG, PciHotplug } from './index.ts';

const { BASE, ADDED, WANTED, EJECT } = PCI_HOTPLUG;

function setUp() {
  const board = fakeBoard();
  const ejected: number[] = [];
  let raised = 0;
  const hotplug = new PciHotplug(board, {
    raise: () => void raised++,
    ejected: (slot) => void ejected.push(slot),
  });
  return { ports: board.ports, hotplug, ejected, raised: () => raised };
}

test('tells of a new device once', () => {
  const { ports, hotplug, raised } = setUp();
  hotplug.added(3);
  hotplug.added(31);
  expect(raised()).toBe(2);
  expect(ports.read(BASE + ADDED, 4)).toBe(0x8000_0008);
  expect(ports.read(BASE + ADDED, 4)).toBe(0);
});

test('a device goes when the guest lets go of it, and no other can be thrown out', () => {
  const { ports, hotplug, ejected } = setUp();
  hotplug.remove(31);
  expect(ports.read(BASE + WANTED, 4)).toBe(0x8000_0000);
  expect(ejected).toEqual([]);
  ports.write(BASE + EJECT, 4, 0xffff_ffff);
  expect(ejected).toEqual([31]);
  ports.write(BASE + EJECT, 4, 0xffff_ffff);
  expect(ejected).toEqual([31]);
});

test('what was to go goes with a reset', () => {
  const { ports, hotplug, ejected } = setUp();
  hotplug.added(1);
  hotplug.remove(2);
  hotplug.reset();
  expect(ejected).toEqual([2]);
  expect(ports.read(BASE + ADDED, 4)).toBe(0);
  expect(ports.read(BASE + WANTED, 4)).toBe(0);
});
