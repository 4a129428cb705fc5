import { expect, test } from 'vitest';
import type { FileShare } from '../../backends.ts';
import { createPciBus } from '../pci/index.ts';
import { plugVirtioDevice, VIRTIO_DEVICES } from './index.ts';
import { Driver } from './testing/driver.ts';
import { fakeBoard } from './testing/fake-board.ts';

const STATUS_NEEDS_RESET = 0x40;

/** A share that answers with what it was asked, at once or when it is told to. */
class EchoShare implements FileShare {
  readonly messageBytesMax = 4096;
  readonly replies: (() => void)[] = [];
  resets = 0;
  late = false;

  serve(request: Uint8Array, replyBytesMax: number, respond: (reply: Uint8Array) => void): void {
    const reply = request.slice(0, replyBytesMax);
    if (this.late) this.replies.push(() => respond(reply));
    else respond(reply);
  }
  reset(): void {
    this.resets++;
  }
  close(): void {}
}

function device() {
  const board = fakeBoard();
  const share = new EchoShare();
  const instance = plugVirtioDevice(board, createPciBus(board), VIRTIO_DEVICES.p9, { share, tag: 'src' });
  return { share, instance, driver: new Driver(board, instance.slot).start() };
}

const MESSAGE = Uint8Array.from({ length: 32 }, (_, n) => n);

test('the tag is in the configuration, and requests are answered', () => {
  const { driver, instance } = device();
  expect(driver.deviceConfig(0, 2)).toBe(3);
  expect(String.fromCharCode(...[2, 3, 4].map((at) => driver.deviceConfig(at, 1)))).toBe('src');
  const reply = driver.writable(64);
  driver.queues[0]!.submit([driver.readable(MESSAGE), reply]);
  expect(driver.queues[0]!.takeUsed().map(({ length }) => length)).toEqual([MESSAGE.length]);
  expect(driver.bytes(reply).slice(0, MESSAGE.length)).toEqual(MESSAGE);
  expect(instance.handle.counters).toEqual({ requests: 1, rxBytes: 32, txBytes: 32 });
});

test('an answer that comes later is published then; one of before a reset never', async () => {
  const { driver, share, instance } = device();
  share.late = true;
  const [first, second] = [driver.writable(64), driver.writable(64)];
  driver.queues[0]!.submit([driver.readable(MESSAGE), first]);
  driver.queues[0]!.submit([driver.readable(MESSAGE), second]);
  expect(driver.queues[0]!.takeUsed()).toEqual([]);
  share.replies.shift()!();
  expect(driver.queues[0]!.takeUsed()).toHaveLength(1);
  const resets = share.resets;
  driver.status = 0;
  expect(share.resets).toBe(resets + 1);
  // A folder that hangs does not hold up the reset.
  await instance.settled();
  expect(driver.status).toBe(0);
  share.replies.shift()!();
  expect(driver.bytes(second)).toEqual(new Uint8Array(64));
});

test('a request that is too long, or without room for a reply, stops the device', () => {
  for (const [request, reply] of [
    [new Uint8Array(5000), 64],
    [MESSAGE, 10],
  ] as const) {
    const { driver, instance } = device();
    driver.queues[0]!.submit([driver.readable(request), driver.writable(reply)]);
    expect(driver.status & STATUS_NEEDS_RESET).toBe(STATUS_NEEDS_RESET);
    expect(instance.lastFault()).toContain('9P request');
  }
});
