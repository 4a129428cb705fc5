import { describe, expect, test } from 'vitest';
import { ConfigSpace } from '../virtio/testing/driver.ts';
import { type FakeBoard, fakeBoard } from '../virtio/testing/fake-board.ts';
import { createPciBus, INTX_ROUTES, intxGsi, PCI_WINDOW, type PciDevice, PciFunction } from './index.ts';

const COMMAND = 0x04;
const BAR0 = 0x10;

function device(bytes = 0x1000): PciDevice & { writes: [number, number][] } {
  const writes: [number, number][] = [];
  const region = {
    name: 'test',
    read: (offset: number) => 0xabcd_0000 + offset,
    write: (offset: number, _size: number, value: number) => void writes.push([offset, value]),
  };
  const identity = {
    vendorId: 0x1234,
    deviceId: 0x5678,
    revision: 3,
    classCode: 0x020000,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x42,
    interruptPin: 1,
  };
  const pci = new PciFunction(identity, [{ index: 0, bytes, region }]);
  return { name: 'test', pci, reset() {}, writes };
}

function plugged(board: FakeBoard = fakeBoard()) {
  const bus = createPciBus(board);
  const plug = device();
  const slot = bus.plug(plug);
  return { board, bus, device: plug, slot, config: new ConfigSpace(board, slot) };
}

describe('configuration mechanism #1', () => {
  test('finds the host bridge in slot 0 and nothing in an empty slot', () => {
    const { board } = plugged();
    expect(new ConfigSpace(board, 0).read(0, 4)).toBe(0x1237_8086);
    expect(new ConfigSpace(board, 9).read(0, 4)).toBe(0xffff_ffff);
    expect(new ConfigSpace(board, 9).read(0, 2)).toBe(0xffff);
  });

  test('the address register keeps a dword, ignores bytes, and selects only bus 0, function 0', () => {
    const { board, slot } = plugged();
    board.ports.write(0xcfb, 1, 0x01);
    board.ports.write(0xcf8, 4, 0x8000_0000);
    expect(board.ports.read(0xcf8, 4)).toBe(0x8000_0000);
    board.ports.write(0xcf8, 4, 0x8000_0000 + 0x1_0000 + slot * 0x800);
    expect(board.ports.read(0xcfc, 4)).toBe(0xffff_ffff);
    board.ports.write(0xcf8, 4, 0x8000_0000 + 0x100 + slot * 0x800);
    expect(board.ports.read(0xcfc, 4)).toBe(0xffff_ffff);
    board.ports.write(0xcf8, 4, slot * 0x800);
    expect(board.ports.read(0xcfc, 4)).toBe(0xffff_ffff);
  });

  test('shows identity, class and subsystem, and refuses writes to them', () => {
    const { config, slot } = plugged();
    for (const offset of [0x00, 0x08, 0x2c]) config.write(offset, 4, 0);
    expect(config.read(0, 4)).toBe(0x5678_1234);
    expect(config.read(0x08, 4)).toBe(0x02000003);
    expect(config.read(0x2c, 4)).toBe(0x0042_1af4);
    expect(config.read(0x3d, 1)).toBe(1);
    expect(config.read(0x3c, 1)).toBe(intxGsi(slot, 0));
  });
});

describe('BARs', () => {
  test('are in the window and decoded after a reset', () => {
    const { board, config } = plugged();
    const base = config.read(BAR0, 4);
    expect(base).toBeGreaterThanOrEqual(PCI_WINDOW.BASE);
    expect(base).toBeLessThan(PCI_WINDOW.END);
    expect(board.mmio.read(base + 4, 4)).toBe(0xabcd_0004);
  });

  test('tell their size and move where the guest says', () => {
    const { board, config, device: plug } = plugged();
    const old = config.read(BAR0, 4);
    config.write(BAR0, 4, 0xffff_ffff);
    expect(config.read(BAR0, 4)).toBe(0xffff_f000);
    expect(config.read(BAR0 + 4, 4)).toBe(0);
    config.write(BAR0, 4, 0xe123_4567);
    expect(config.read(BAR0, 4)).toBe(0xe123_4000);
    board.mmio.write(0xe123_4010, 4, 7);
    expect(plug.writes).toEqual([[0x10, 7]]);
    expect(board.mmio.read(old, 4)).toBe(0xffff_ffff);
  });

  test('are not decoded while memory decoding is off', () => {
    const { board, config } = plugged();
    const base = config.read(BAR0, 4);
    config.write(COMMAND, 2, 0);
    expect(board.mmio.read(base, 4)).toBe(0xffff_ffff);
    config.write(COMMAND, 2, 2);
    expect(board.mmio.read(base, 4)).toBe(0xabcd_0000);
  });

  test.each([0x0010_0000, 0xfee0_0000, 0xfebf_f000 + 0x1000])('are not decoded at 0x%s', (address) => {
    const { board, bus, config } = plugged();
    const before = bus.counters.misplacedBars;
    config.write(BAR0, 4, address);
    expect(board.mmio.read(address, 4)).toBe(0xffff_ffff);
    expect(bus.counters.misplacedBars).toBe(before + 1);
  });

  test('of two devices at one address: the first keeps it', () => {
    const { board, bus, config } = plugged();
    const second = device();
    const other = new ConfigSpace(board, bus.plug(second));
    other.write(BAR0, 4, config.read(BAR0, 4));
    board.mmio.write(config.read(BAR0, 4), 4, 1);
    expect(second.writes).toEqual([]);
    expect(bus.counters.misplacedBars).toBe(1);
  });

  test('are back in place after a reset of the bus', () => {
    const { board, bus, config } = plugged();
    const base = config.read(BAR0, 4);
    config.write(BAR0, 4, 0xe000_0000);
    config.write(COMMAND, 2, 0);
    bus.reset();
    expect(config.read(BAR0, 4)).toBe(base);
    expect(board.mmio.read(base, 4)).toBe(0xabcd_0000);
  });
});

describe('slots', () => {
  test('a taken slot and a 33rd device are refused', () => {
    const bus = createPciBus(fakeBoard());
    expect(() => bus.plug(device(), 0)).toThrow('taken');
    for (let slot = 1; slot < 32; slot++) expect(bus.plug(device())).toBe(slot);
    expect(() => bus.plug(device())).toThrow('all PCI slots');
    expect(() => bus.plug(device(), 32)).toThrow('no PCI slot');
  });

  test('an unplugged device answers no more and releases its interrupt', () => {
    const { board, bus, config, device: plug, slot } = plugged();
    const base = config.read(BAR0, 4);
    plug.pci.setIntx(true);
    bus.unplug(slot);
    expect(config.read(0, 4)).toBe(0xffff_ffff);
    expect(board.mmio.read(base, 4)).toBe(0xffff_ffff);
    expect(board.levels.get(intxGsi(slot, 0))).toBe(false);
    expect(bus.plug(device())).toBe(slot);
  });
});

describe('interrupt pins', () => {
  test('every slot and pin has a route to GSI 16…19', () => {
    expect(INTX_ROUTES).toHaveLength(128);
    expect(INTX_ROUTES.find((r) => r.slot === 3 && r.pin === 2)!.gsi).toBe(17);
    expect(new Set(INTX_ROUTES.map((r) => r.gsi))).toEqual(new Set([16, 17, 18, 19]));
  });

  test('a shared line stays up until the last device releases it', () => {
    const board = fakeBoard();
    const bus = createPciBus(board);
    const [a, b] = [device(), device()];
    bus.plug(a, 1);
    bus.plug(b, 5);
    a.pci.setIntx(true);
    b.pci.setIntx(true);
    a.pci.setIntx(false);
    expect(board.levels.get(17)).toBe(true);
    b.pci.setIntx(false);
    expect(board.levels.get(17)).toBe(false);
  });

  test('the command register holds a pin back; the status register shows it all the same', () => {
    const { board, config, device: plug, slot } = plugged();
    config.write(COMMAND, 2, 0x402);
    plug.pci.setIntx(true);
    expect(board.levels.get(intxGsi(slot, 0)) ?? false).toBe(false);
    expect(config.read(0x06, 2) & 8).toBe(8);
    config.write(COMMAND, 2, 0x002);
    expect(board.levels.get(intxGsi(slot, 0))).toBe(true);
  });
});
