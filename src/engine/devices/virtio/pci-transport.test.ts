import { describe, expect, test } from 'vitest';
import { createPciBus, intxGsi } from '../pci/index.ts';
import { plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { Driver } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

const VERSION_1 = 32;
const STATUS_NEEDS_RESET = 0x40;

/** The entropy device: one queue, the simplest use of the transport. */
function setup() {
  const board = fakeBoard();
  const bus = createPciBus(board);
  const instance = plugVirtioDevice(board, bus, VIRTIO_DEVICES.rng, undefined);
  return { board, bus, instance, driver: new Driver(board, instance.slot) };
}

describe('discovery', () => {
  test('has the modern id, all structures, and no I/O BAR', () => {
    const { driver } = setup();
    expect(driver.config.read(0, 4)).toBe(0x1044_1af4);
    expect([...driver.structures.keys()].sort()).toEqual([1, 2, 3, 5]);
    expect(driver.config.read(0x06, 2) & 0x10).toBe(0x10);
  });

  test('the configuration window reaches the common structure', () => {
    const { driver } = setup();
    const at = driver.config.capabilities().find((c) => driver.config.read(c + 3, 1) === 5)!;
    driver.config.write(at + 4, 1, 0);
    driver.config.write(at + 8, 4, 0x14);
    driver.config.write(at + 12, 4, 1);
    driver.config.write(at + 16, 1, 3);
    expect(driver.status).toBe(3);
    expect(driver.config.read(at + 16, 1)).toBe(3);
    driver.config.write(at + 8, 4, 0xffff_fff0);
    driver.config.write(at + 16, 1, 0);
    expect(driver.status).toBe(3);
  });
});

describe('negotiation', () => {
  test('offers ring features and VERSION_1', () => {
    expect(setup().driver.offered()).toEqual([28, 29, VERSION_1]);
  });

  test('FEATURES_OK stays clear without VERSION_1 or with a bit that was not offered', () => {
    const { driver } = setup();
    driver.status = 3;
    driver.accept([28]);
    driver.status = 11;
    expect(driver.status).toBe(3);
    driver.accept([VERSION_1, 5]);
    driver.status = 11;
    expect(driver.status).toBe(3);
    driver.accept([VERSION_1]);
    driver.status = 11;
    expect(driver.status).toBe(11);
  });

  test('DRIVER_OK needs FEATURES_OK, and features are fixed afterwards', () => {
    const { driver } = setup();
    driver.status = 7;
    expect(driver.status).toBe(3);
    driver.negotiate([]);
    driver.accept([VERSION_1, 28]);
    driver.setCommon(8, 4, 0);
    expect(driver.common(12, 4)).toBe(0);
  });

  test('feature words beyond 64 bits read as 0', () => {
    const { driver } = setup();
    driver.setCommon(0, 4, 7);
    expect(driver.common(4, 4)).toBe(0);
  });

  test('queue sizes are powers of two up to the maximum', () => {
    const { driver } = setup();
    driver.negotiate();
    for (const refused of [0, 3, 16, 0xffff]) driver.setCommon(0x18, 2, refused);
    expect(driver.common(0x18, 2)).toBe(8);
    driver.setCommon(0x18, 2, 4);
    expect(driver.common(0x18, 2)).toBe(4);
  });

  test('a queue that does not exist has size 0', () => {
    const { driver } = setup();
    driver.setCommon(0x16, 2, 1);
    expect(driver.common(0x18, 2)).toBe(0);
    expect(driver.common(0x1a, 2)).toBe(0xffff);
  });

  test('a reset forgets queues, features and vectors', () => {
    const { driver } = setup();
    driver.start();
    driver.status = 0;
    expect(driver.status).toBe(0);
    driver.setCommon(0x16, 2, 0);
    expect([driver.common(0x1c, 2), driver.common(0x20, 4), driver.common(0x1a, 2)]).toEqual([0, 0, 0xffff]);
    expect(driver.common(0x10, 2)).toBe(0xffff);
  });
});

describe('interrupts', () => {
  test('a vector that the table does not have reads back as none', () => {
    const { driver } = setup();
    driver.negotiate();
    driver.setCommon(0x1a, 2, 1);
    expect(driver.common(0x1a, 2)).toBe(1);
    driver.setCommon(0x1a, 2, 2);
    expect(driver.common(0x1a, 2)).toBe(0xffff);
  });

  test('by message: one per batch', () => {
    const { driver } = setup();
    driver.start({ features: [] });
    driver.queues[0].add([driver.writable(8)]);
    driver.queues[0].submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([0x41]);
    expect(driver.isr()).toBe(0);
  });

  test('a masked vector waits in the pending bits', () => {
    const { board, driver } = setup();
    driver.start({ features: [] });
    driver.setVector(1, 0x77, true);
    driver.queues[0].submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([]);
    expect(board.mmio.read(driver.msixTable() + 0x800, 4)).toBe(2);
    driver.setVector(1, 0x77, false);
    expect(driver.takeMessages()).toEqual([0x77]);
    expect(board.mmio.read(driver.msixTable() + 0x800, 4)).toBe(0);
  });

  test('the function mask holds all vectors back', () => {
    const { driver } = setup();
    driver.start({ features: [] });
    driver.config.write(driver.msixCapability() + 2, 2, 0xc000);
    driver.queues[0].submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([]);
    driver.config.write(driver.msixCapability() + 2, 2, 0x8000);
    expect(driver.takeMessages()).toEqual([0x41]);
  });

  test('by pin without MSI-X, until the ISR is read', () => {
    const { board, driver, instance } = setup();
    driver.start({ features: [], msix: false });
    const gsi = intxGsi(instance.slot, 0);
    driver.queues[0].submit([driver.writable(8)]);
    expect(board.levels.get(gsi)).toBe(true);
    expect(driver.isr()).toBe(1);
    expect(board.levels.get(gsi)).toBe(false);
    expect(driver.isr()).toBe(0);
  });

  test('none when the driver says so in the ring', () => {
    const { driver } = setup();
    driver.start({ features: [] });
    driver.board.memory.writeU16(driver.queues[0].available, 1);
    driver.queues[0].submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([]);
  });

  test('with event indices: only when the used index passes the event', () => {
    const { driver } = setup();
    const [queue] = driver.start({ features: [29] }).queues;
    queue.setUsedEvent(1);
    queue.submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([]);
    expect(queue.availEvent()).toBe(1);
    queue.submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([0x41]);
    queue.submit([driver.writable(8)]);
    expect(driver.takeMessages()).toEqual([]);
    expect(queue.availEvent()).toBe(3);
  });

  test('a message to an address that is no interrupt controller is not sent', () => {
    const { board, driver } = setup();
    driver.start({ features: [] });
    board.mmio.write(driver.msixTable() + 16, 4, 0x1000);
    driver.queues[0].submit([driver.writable(8)]);
    expect(board.messages).toEqual([]);
  });
});

describe('the life of a device', () => {
  test('does nothing before DRIVER_OK, then looks at what is queued', () => {
    const { driver } = setup();
    driver.negotiate([]);
    const queue = driver.setupQueue(0);
    queue.submit([driver.writable(8)]);
    expect(queue.takeUsed()).toEqual([]);
    driver.status = 15;
    expect(queue.takeUsed()).toEqual([{ id: 0, length: 8 }]);
  });

  test('does nothing without bus mastering, then looks at what is queued', () => {
    const { driver } = setup();
    driver.start({ features: [] });
    driver.config.write(4, 2, 2);
    driver.queues[0].submit([driver.writable(8)]);
    expect(driver.queues[0].takeUsed()).toEqual([]);
    driver.config.write(4, 2, 6);
    expect(driver.queues[0].takeUsed()).toEqual([{ id: 0, length: 8 }]);
  });

  test('the ring wraps around many times', () => {
    const { driver } = setup();
    const [queue] = driver.start({ queueSize: 4 }).queues;
    const buffer = driver.writable(8);
    for (let i = 0; i < 70_000; i++) queue.submit([buffer]);
    const used = queue.takeUsed();
    expect(used).toHaveLength(70_000 - 65_536);
    expect(queue.availEvent()).toBe(70_000 - 65_536);
  });

  test('a machine reset takes the device back to power-on', () => {
    const { bus, driver } = setup();
    driver.start();
    bus.reset();
    expect(driver.status).toBe(0);
    expect(driver.config.read(driver.msixCapability() + 2, 2) & 0x8000).toBe(0);
    driver.start({ features: [] });
    driver.queues[0].submit([driver.writable(4)]);
    expect(driver.queues[0].takeUsed()).toHaveLength(1);
  });
});

describe('a driver that breaks the ring', () => {
  const NEXT = 1;
  const WRITE = 2;
  const INDIRECT = 4;
  const NOT_RAM = 0xd000_0000;

  function broken(arrange: (driver: Driver) => void) {
    const { driver, instance } = setup();
    driver.start();
    arrange(driver);
    driver.notify(0);
    return { driver, instance };
  }

  const cases: [string, string, (driver: Driver) => void][] = [
    [
      'a loop',
      'loops',
      ({ queues: [queue] }) => {
        queue.describe(queue.descriptors, 0, 0x1000, 16, WRITE | NEXT, 1);
        queue.describe(queue.descriptors, 1, 0x1000, 16, WRITE | NEXT, 0);
        queue.expose(0);
      },
    ],
    [
      'a head out of range',
      'out of range',
      ({ queues: [queue] }) => {
        queue.expose(8);
      },
    ],
    [
      'a successor out of range',
      'out of range',
      ({ queues: [queue] }) => {
        queue.describe(queue.descriptors, 0, 0x1000, 16, WRITE | NEXT, 0xffff);
        queue.expose(0);
      },
    ],
    [
      'an address outside RAM',
      'outside RAM',
      ({ queues: [queue] }) => {
        queue.add([{ gpa: NOT_RAM, length: 16, writable: true }]);
      },
    ],
    [
      'an address near 2^64',
      'outside RAM',
      ({ queues: [queue] }) => {
        queue.add([{ gpa: 2 ** 64 - 2048, length: 4096, writable: true }]);
      },
    ],
    [
      'a length of 4 GiB',
      'outside RAM',
      ({ queues: [queue] }) => {
        queue.add([{ gpa: 0x1000, length: 0xffff_ffff, writable: true }]);
      },
    ],
    [
      'a readable buffer after a writable one',
      'readable buffer after',
      ({ queues: [queue] }) => {
        queue.add([
          { gpa: 0x1000, length: 16, writable: true },
          { gpa: 0x2000, length: 16, writable: false },
        ]);
      },
    ],
    [
      'an available index that runs ahead',
      'runs ahead',
      ({ queues: [queue], board }) => {
        board.memory.writeU16(queue.available + 2, 9);
      },
    ],
    [
      'an indirect table in an indirect table',
      'not allowed',
      ({ queues: [queue] }) => {
        queue.describe(0x8000, 0, 0x9000, 16, INDIRECT, 0);
        queue.describe(queue.descriptors, 0, 0x8000, 16, INDIRECT, 0);
        queue.expose(0);
      },
    ],
    [
      'an indirect table of odd size',
      'odd size',
      ({ queues: [queue] }) => {
        queue.describe(queue.descriptors, 0, 0x8000, 17, INDIRECT, 0);
        queue.expose(0);
      },
    ],
    [
      'an indirect table outside RAM',
      'table outside RAM',
      ({ queues: [queue] }) => {
        queue.describe(queue.descriptors, 0, NOT_RAM, 16, INDIRECT, 0);
        queue.expose(0);
      },
    ],
    [
      'an indirect table with a successor',
      'successor',
      ({ queues: [queue] }) => {
        queue.describe(queue.descriptors, 0, 0x8000, 16, INDIRECT | NEXT, 1);
        queue.expose(0);
      },
    ],
    [
      'a huge indirect table of empty descriptors',
      'too long',
      ({ queues: [queue] }) => {
        for (let i = 0; i < 2048; i++) queue.describe(0x20_0000, i, 0, 0, NEXT, i + 1);
        queue.describe(queue.descriptors, 0, 0x20_0000, 0x10_0000, INDIRECT, 0);
        queue.expose(0);
      },
    ],
  ];

  test.each(cases)('%s: the device needs a reset', (_name, reason, arrange) => {
    const { driver, instance } = broken(arrange);
    expect(driver.status & STATUS_NEEDS_RESET).toBe(STATUS_NEEDS_RESET);
    expect(instance.lastFault()).toContain(reason);
    expect(instance.transport.faults).toBe(1);
    expect(driver.takeMessages()).toEqual([0x40]);
    expect(driver.queues[0].takeUsed()).toEqual([]);
  });

  test('works again after the reset', () => {
    const { driver, instance } = broken(({ queues: [queue] }) => queue.expose(8));
    driver.notify(0);
    expect(instance.transport.faults).toBe(1);
    driver.start();
    driver.queues[0].submit([driver.writable(4)]);
    expect(driver.queues[0].takeUsed()).toEqual([{ id: 0, length: 4 }]);
  });

  test('an indirect descriptor without the feature is a fault', () => {
    const { driver, instance } = setup();
    driver.start({ features: [] });
    driver.queues[0].submit([driver.writable(4)], true);
    expect(instance.lastFault()).toContain('not allowed');
  });

  test.each([
    ['outside RAM', NOT_RAM],
    ['not aligned', 0x1008],
  ])('a ring %s is refused when the queue is enabled', (reason, address) => {
    const { driver, instance } = setup();
    driver.negotiate();
    driver.setCommon(0x16, 2, 0);
    driver.setCommon(0x20, 4, address);
    driver.setCommon(0x28, 4, 0x4000);
    driver.setCommon(0x30, 4, 0x5000);
    driver.setCommon(0x1c, 2, 1);
    expect(instance.lastFault()).toContain(reason);
    expect(driver.status & STATUS_NEEDS_RESET).toBe(STATUS_NEEDS_RESET);
  });

  test('notifications of queues that do not exist are ignored', () => {
    const { driver, instance } = setup();
    driver.start();
    driver.notify(1);
    driver.notify(1000);
    expect(instance.transport.faults).toBe(0);
  });
});
