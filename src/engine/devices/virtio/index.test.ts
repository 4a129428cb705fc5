import { expect, test } from 'vitest';
import { createPciBus } from '../pci/index.ts';
import { createVirtioDevices, plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { RNG_REPLY_BYTES_MAX } from './rng.ts';
import { Driver } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

const backend = {
  sizeBytes: 512,
  readOnly: false,
  read() {},
  write() {},
  flush() {},
  discard() {},
  writeZeroes() {},
  close() {},
};
const charPort = { output() {}, input: () => new Uint8Array(0), onReadable() {} };
const fileShare = { messageBytesMax: 4096, serve() {}, reset() {}, close() {} };
const nicPort = {
  send: () => true,
  onWritable() {},
  receive: () => undefined,
  checksum: 0,
  segmentation: 0,
  accept() {},
  onReadable() {},
  close() {},
};

test('devices take slots in the order given', () => {
  const board = fakeBoard();
  const bus = createPciBus(board);
  const devices = createVirtioDevices(board, bus, {
    disks: [
      { backend, serial: 'ubd0' },
      { backend, serial: 'ubd1' },
    ],
    nics: [{ port: nicPort, mac: '02:00:00:00:00:01' }],
    consoles: [{ port: charPort, console: true }],
    rng: true,
    shares: [{ share: fileShare, tag: 'src' }],
  });
  const slots = [...devices.disks, ...devices.nics, devices.console!, devices.rng!, ...devices.shares].map(
    ({ slot }) => slot,
  );
  expect(slots).toEqual([1, 2, 3, 4, 5, 6]);
  const ids = slots.map((slot) => new Driver(board, slot).config.read(2, 2));
  expect(ids).toEqual([0x1042, 0x1042, 0x1041, 0x1043, 0x1044, 0x1049]);
});

test('no console device without ports, no entropy device unless wanted', () => {
  const board = fakeBoard();
  const options = { disks: [], nics: [], consoles: [], rng: false, shares: [] };
  const devices = createVirtioDevices(board, createPciBus(board), options);
  expect([devices.console, devices.rng]).toEqual([undefined, undefined]);
});

test('entropy fills a request up to a limit', () => {
  const board = fakeBoard();
  const { slot, handle } = plugVirtioDevice(board, createPciBus(board), VIRTIO_DEVICES.rng, undefined);
  const driver = new Driver(board, slot).start();
  const small = driver.writable(16);
  const large = driver.writable(RNG_REPLY_BYTES_MAX + 1);
  driver.queues[0].add([small]);
  driver.queues[0].submit([large]);
  expect(driver.queues[0].takeUsed().map(({ length }) => length)).toEqual([16, RNG_REPLY_BYTES_MAX]);
  expect(driver.bytes(small)).toEqual(new Uint8Array(16).fill(0xa5));
  expect(driver.bytes(large).at(-1)).toBe(0);
  expect(handle.counters).toEqual({ requests: 2, bytes: 16 + RNG_REPLY_BYTES_MAX });
});
