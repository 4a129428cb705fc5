/**
 * A switch port as shared memory: a VM's worker thread holds one end, the switch's worker thread the other.
 * Both have an event loop: waiting is Atomics.waitAsync, and the other side notifies only who waits.
 */
import type { NicOffloads, NicPort } from '../engine/backends.ts';
import { checksumOf, GSO, segmentationOf } from './offload/offload.ts';
import { Segmenter } from './offload/segmenter.ts';
import { RingConsumer, RingCorruptError } from './ring/consumer.ts';
import { allocateRings, RING_BYTES_DEFAULT, ringViews } from './ring/layout.ts';
import { type FrameSource, RingProducer } from './ring/producer.ts';

export { RingCorruptError } from './ring/consumer.ts';
export { FRAME_BYTES_MAX, FRAME_BYTES_MIN } from './ring/layout.ts';

/** The VM's end, as the engine's devices take it. */
export type RingNicPort = NicPort;

/** The switch's end. */
export interface SwitchPort {
  /** Frames from the VM. */
  readonly input: RingConsumer;
  /** Frames to the VM. */
  readonly output: RingProducer;
}

/** Makes the memory of a port, `ringBytes` (a power of two) per direction. */
export function createPortRings(ringBytes = RING_BYTES_DEFAULT): SharedArrayBuffer {
  return allocateRings(ringBytes);
}

/**
 * Opens the switch's end. `wake` is for a VM's end that sleeps elsewhere than on the ring (RingConsumer.arm).
 * Throws RangeError when the memory is no port's.
 */
export function openSwitchPort(memory: SharedArrayBuffer, wake?: () => void): SwitchPort {
  return {
    input: new RingConsumer(ringViews(memory, 'vm')),
    output: new RingProducer(ringViews(memory, 'switch'), wake),
  };
}

/** Opens the VM's end; again after a `close` it goes on where the first left off. Throws RangeError as above. */
export function openNicPort(memory: SharedArrayBuffer): RingNicPort {
  return new NicEnd(memory);
}

class NicEnd implements NicPort {
  checksum = 0;
  segmentation = 0;
  readonly #output: RingProducer;
  readonly #input: RingConsumer;
  #segmenter: Segmenter | undefined;
  #accepted: NicOffloads = { checksum: false, tcp4: false, tcp6: false };
  #ready: (() => void) | undefined;
  #writable: (() => void) | undefined;
  #waiting = false;
  #closed = false;

  constructor(memory: SharedArrayBuffer) {
    this.#output = new RingProducer(ringViews(memory, 'vm'));
    this.#input = new RingConsumer(ringViews(memory, 'switch'));
  }

  send(pieces: readonly Uint8Array[], checksum = 0, segmentation = 0): boolean {
    if (this.#closed) return true;
    if (this.#output.pushPieces(pieces, checksum, segmentation)) {
      this.#output.publish();
      return true;
    }
    this.#output.waitForRoom(() => this.#writable?.());
    return false;
  }

  onWritable(ready: () => void): void {
    this.#writable = ready;
  }

  accept(offloads: NicOffloads): void {
    this.#accepted = offloads;
  }

  receive(): Uint8Array | undefined {
    if (this.#closed) return undefined;
    for (;;) {
      if (this.#segmenter?.next()) return this.#take(this.#segmenter.frame);
      this.#input.release();
      if (!this.#next()) {
        this.#wait();
        return undefined;
      }
      if (this.#acceptsCurrent()) return this.#take(this.#input);
      this.#segmenter ??= new Segmenter();
      this.#segmenter.begin(this.#input);
    }
  }

  #take(frame: FrameSource): Uint8Array {
    this.checksum = checksumOf(frame);
    this.segmentation = segmentationOf(frame);
    return frame.bytes.subarray(frame.offset, frame.offset + frame.length);
  }

  #acceptsCurrent(): boolean {
    const checksum = checksumOf(this.#input);
    const segmentation = segmentationOf(this.#input);
    if ((checksum | segmentation) === 0) return true;
    const { checksum: mayLack, tcp4, tcp6 } = this.#accepted;
    if (segmentation === 0) return mayLack;
    const isTcp4 = ((segmentation >>> 16) & ~GSO.ECN) === GSO.TCP4;
    return mayLack && (isTcp4 ? tcp4 : tcp6);
  }

  onReadable(ready: () => void): void {
    this.#ready = ready;
    this.#wait();
  }

  close(): void {
    this.#closed = true;
    this.#ready = undefined;
    this.#writable = undefined;
    this.#input.release();
    this.#input.close();
  }

  #next(): boolean {
    try {
      return this.#input.next();
    } catch (error) {
      if (!(error instanceof RingCorruptError)) throw error;
      // The guest loses frames, as it would on a bad cable.
      this.#input.reset();
      return false;
    }
  }

  #wait(): void {
    if (this.#waiting || this.#ready === undefined) return;
    this.#waiting = true;
    this.#input.wait(() => {
      this.#waiting = false;
      this.#ready?.();
    });
  }
}
