import { FRAME_BYTES_MAX, LENGTH_BYTES } from './layout.ts';
import type { FrameSource } from './producer.ts';

/** One frame in private memory, laid out as in a ring so that it can be pushed into one. */
export class FrameBuffer implements FrameSource {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly offset = LENGTH_BYTES;
  length = 0;

  constructor() {
    this.bytes = new Uint8Array((LENGTH_BYTES + FRAME_BYTES_MAX + 7) & ~7);
    this.words = new Int32Array(this.bytes.buffer);
  }

  /** Throws RangeError for more than FRAME_BYTES_MAX. */
  set(frame: Uint8Array): void {
    this.bytes.set(frame, this.offset);
    this.length = frame.length;
  }
}
