/**
 * A switch port as shared memory: a VM's worker thread holds one end, the switch's worker thread the other.
 * Both have an event loop: waiting is Atomics.waitAsync, and the other side notifies only who waits.
 */
import { RingConsumer, RingCorruptError } from './ring/consumer.ts';
import { allocateRings, RING_BYTES_DEFAULT, ringViews } from './ring/layout.ts';
import { RingProducer } from './ring/producer.ts';

export { RingCorruptError } from './ring/consumer.ts';
export { FRAME_BYTES_MAX, FRAME_BYTES_MIN } from './ring/layout.ts';

/** The VM's end. Structurally the engine's NicPort. */
export interface RingNicPort {
  /** Sends a frame given as consecutive pieces, which are copied. With a full ring the frame is dropped and counted. */
  send(pieces: readonly Uint8Array[]): void;
  /** The next received frame, a view on the ring that is valid until the next call; undefined when there is none. */
  receive(): Uint8Array | undefined;
  /** `ready` is called, always later, each time `receive` has something after it had nothing. */
  onReadable(ready: () => void): void;
  close(): void;
}

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

class NicEnd implements RingNicPort {
  readonly #output: RingProducer;
  readonly #input: RingConsumer;
  #ready: (() => void) | undefined;
  #waiting = false;
  #closed = false;

  constructor(memory: SharedArrayBuffer) {
    this.#output = new RingProducer(ringViews(memory, 'vm'));
    this.#input = new RingConsumer(ringViews(memory, 'switch'));
  }

  send(pieces: readonly Uint8Array[]): void {
    if (this.#closed) return;
    if (this.#output.pushPieces(pieces)) this.#output.publish();
  }

  receive(): Uint8Array | undefined {
    if (this.#closed) return undefined;
    this.#input.release();
    if (this.#next()) {
      const { offset, length } = this.#input;
      return this.#input.bytes.subarray(offset, offset + length);
    }
    this.#wait();
    return undefined;
  }

  onReadable(ready: () => void): void {
    this.#ready = ready;
    this.#wait();
  }

  close(): void {
    this.#closed = true;
    this.#ready = undefined;
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
