import { expect, test } from 'vitest';
import { checksumOf, checksumWord, GSO, segmentationOf, segmentationWord } from './offload/offload.ts';
import { createPortRings, openNicPort, openSwitchPort, RingCorruptError } from './port-rings.ts';
import { FrameBuffer } from './ring/frame-buffer.ts';
import { BASE, FRAME_BYTES_MAX, HEAD, ringViews, SKIP, TAIL } from './ring/layout.ts';
import { tcp4Frame } from './testing/tcp-frame.ts';

const RING_BYTES = 256 * 1024;

function port() {
  const memory = createPortRings(RING_BYTES);
  return { memory, nic: openNicPort(memory), side: openSwitchPort(memory), views: ringViews(memory, 'vm') };
}

/** Deterministic: x' = x · 1664525 + 1013904223 (Numerical Recipes). */
function* numbers(below: number): Generator<number, never> {
  for (let x = 1; ; ) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    yield x % below;
  }
}

test('frames of all sizes arrive whole and in order, many times around the ring', () => {
  const { nic, side } = port();
  const sizes = numbers(FRAME_BYTES_MAX + 1);
  const sent: Uint8Array[] = [];
  for (let i = 0; i < 400; i++) {
    const frame = new Uint8Array(i % 3 === 0 ? sizes.next().value : i % 300).fill(i);
    nic.send([frame.subarray(0, i), frame.subarray(i)]);
    sent.push(frame);
    if (i % 2 === 0) continue;
    for (const expected of sent.splice(0)) {
      expect(side.input.next()).toBe(true);
      const { bytes, offset, length } = side.input;
      expect(Buffer.compare(bytes.subarray(offset, offset + length), expected)).toBe(0);
    }
    side.input.release();
  }
  expect(side.input.next()).toBe(false);
  expect(side.input.dropped).toBe(0);
});

test('the positions may wrap at 2^32', () => {
  const memory = createPortRings(RING_BYTES);
  const { header } = ringViews(memory, 'vm');
  header[HEAD] = header[TAIL] = -32;
  const [nic, side] = [openNicPort(memory), openSwitchPort(memory)];
  for (let i = 0; i < 10; i++) nic.send([Uint8Array.of(i)]);
  for (let i = 0; i < 10; i++) {
    expect(side.input.next()).toBe(true);
    expect(side.input.bytes[side.input.offset]).toBe(i);
  }
});

test('an empty ring is begun anew: its memory stays small, also when its ends are replaced', () => {
  let { memory, nic, side } = port();
  const counts = numbers(40);
  const sizes = numbers(1515);
  let farthest = 0;
  for (let round = 0; round < 3000; round++) {
    const count = counts.next().value;
    const frames = Array.from({ length: count }, (_, i) =>
      new Uint8Array(14 + sizes.next().value).fill(round + i),
    );
    for (const frame of frames) nic.send([frame]);
    if (round % 7 === 0) nic = openNicPort(memory);
    if (round % 5 === 0) side = openSwitchPort(memory);
    for (const frame of frames) {
      expect(side.input.next()).toBe(true);
      const { bytes, offset, length } = side.input;
      expect(Buffer.compare(bytes.subarray(offset, offset + length), frame)).toBe(0);
      farthest = Math.max(farthest, offset + length);
    }
    expect(side.input.next()).toBe(false);
    side.input.release();
  }
  expect(side.input.dropped).toBe(0);
  // A batch, behind less than what is used before it is begun anew.
  expect(farthest).toBeLessThan(80_000);
});

test('whatever base a producer tells, its frames are within the ring', () => {
  for (const base of [0, 8, 4, 1, -1, RING_BYTES - 8, 0x7fff_ffff]) {
    const { nic, side, views } = port();
    nic.send([Uint8Array.of(1, 2, 3)]);
    views.header[BASE] = base;
    try {
      while (side.input.next()) {
        const { offset, length } = side.input;
        expect(offset + length).toBeLessThanOrEqual(RING_BYTES);
      }
    } catch (error) {
      expect(error).toBeInstanceOf(RingCorruptError);
    }
  }
});

test('a full ring takes nothing, and tells when there is room again', async () => {
  const { nic, side } = port();
  const frame = new Uint8Array(60_000);
  const room = Promise.withResolvers<void>();
  nic.onWritable(room.resolve);
  const taken = Array.from({ length: 6 }, () => nic.send([frame]));
  expect(taken).toEqual([true, true, true, true, false, false]);
  expect(side.input.dropped).toBe(0);
  side.input.next();
  side.input.release();
  await room.promise;
  expect(nic.send([frame])).toBe(true);
  let count = 0;
  while (side.input.next()) count++;
  expect(count).toBe(4);
});

test('offloads go with their frame, and the VM’s end finishes what its guest does not take', () => {
  const { nic, side } = port();
  const whole = tcp4Frame(4000);
  nic.send([whole], checksumWord(34, 16), segmentationWord(GSO.TCP4, 1460));
  expect(side.input.next()).toBe(true);
  expect([checksumOf(side.input), segmentationOf(side.input)]).toEqual([34 | (16 << 16), 1460 | (1 << 16)]);
  const toGuest = (): void => {
    side.output.push(side.input);
    side.output.publish();
  };
  toGuest();
  const segments: Uint8Array[] = [];
  for (let frame = nic.receive(); frame !== undefined; frame = nic.receive()) segments.push(frame.slice());
  expect(segments.map(({ length }) => length)).toEqual([1514, 1514, 54 + 1080]);
  expect([nic.checksum, nic.segmentation]).toEqual([0, 0]);
  nic.accept({ checksum: true, tcp4: true, tcp6: false });
  toGuest();
  expect(nic.receive()).toEqual(whole);
  expect([nic.checksum, nic.segmentation]).toEqual([34 | (16 << 16), 1460 | (1 << 16)]);
});

test('what is larger than a frame is dropped', () => {
  const { nic, side } = port();
  nic.send([new Uint8Array(FRAME_BYTES_MAX), Uint8Array.of(1)]);
  expect([side.input.next(), side.input.dropped]).toEqual([false, 1]);
});

test('a producer’s broken positions and lengths are found out', () => {
  const breakages: [string, (words: Int32Array, header: Int32Array) => void][] = [
    ['a head off the grid', (_, header) => Atomics.store(header, HEAD, 12)],
    ['a head beyond the ring', (_, header) => Atomics.store(header, HEAD, RING_BYTES + 8)],
    ['a head before the tail', (_, header) => Atomics.store(header, HEAD, -8)],
    ['a frame too long', (words) => (words[0] = FRAME_BYTES_MAX + 1)],
    ['a negative length', (words) => (words[0] = -2)],
    ['a frame beyond the head', (words) => (words[0] = 1000)],
    ['a skip beyond the head', (words) => (words[0] = SKIP | 0)],
  ];
  for (const [name, damage] of breakages) {
    const { nic, side, views } = port();
    nic.send([new Uint8Array(60)]);
    damage(views.words, views.header);
    expect(() => side.input.next(), name).toThrow(RingCorruptError);
  }
});

test('a consumer’s broken tail costs frames, no more', () => {
  const { memory, side } = port();
  const frame = new FrameBuffer();
  frame.set(new Uint8Array(60_000));
  const { header } = ringViews(memory, 'switch');
  while (side.output.push(frame));
  for (const tail of [3, 8, -8, 0x7fff_fff8]) {
    Atomics.store(header, TAIL, tail);
    const pushed = side.output.push(frame);
    expect(pushed, `tail ${tail}`).toBe(false);
  }
});

test('the VM’s end loses frames when the ring is broken and goes on', () => {
  const { memory, nic, side } = port();
  const frame = new FrameBuffer();
  frame.set(Uint8Array.of(1, 2, 3));
  side.output.push(frame);
  side.output.publish();
  ringViews(memory, 'switch').words[0] = -2;
  expect(nic.receive()).toBeUndefined();
  side.output.push(frame);
  side.output.publish();
  expect(nic.receive()).toEqual(Uint8Array.of(1, 2, 3));
});

test('readiness is told once per emptiness, later, and not after closing', async () => {
  const { nic, side } = port();
  const frame = new FrameBuffer();
  frame.set(Uint8Array.of(9));
  const send = (): void => {
    side.output.push(frame);
    side.output.publish();
  };
  let calls = 0;
  let told = Promise.withResolvers<void>();
  nic.onReadable(() => {
    calls++;
    told.resolve();
  });
  for (let round = 1; round <= 3; round++) {
    told = Promise.withResolvers<void>();
    send();
    expect(calls).toBe(round - 1);
    await told.promise;
    send();
    while (nic.receive() !== undefined);
    expect(calls).toBe(round);
  }
  nic.close();
  send();
  await new Promise((resolve) => setImmediate(resolve));
  expect([calls, nic.receive()]).toEqual([3, undefined]);
});

test('memory that is no port is refused', () => {
  expect(() => openSwitchPort(new SharedArrayBuffer(1000))).toThrow(RangeError);
  expect(() => createPortRings(300_000)).toThrow(RangeError);
});
