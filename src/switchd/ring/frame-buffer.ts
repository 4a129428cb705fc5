import { ENTRY_HEADER_BYTES, FRAME_BYTES_MAX } from './layout.ts';
import type { FrameSource } from './producer.ts';

/** One frame in private memory, laid out as in a ring so that it can be pushed into one. */
export class FrameBuffer implements FrameSource {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly offset = ENTRY_HEADER_BYTES;
  length = 0;
  readonly capacity = FRAME_BYTES_MAX;

  constructor() {
    this.bytes = new Uint8Array((ENTRY_HEADER_BYTES + FRAME_BYTES_MAX + 7) & ~7);
    this.words = new Int32Array(this.bytes.buffer);
  }

  /** A frame without offloads. Throws RangeError for more than FRAME_BYTES_MAX. */
  set(frame: Uint8Array): void {
    this.bytes.set(frame, this.offset);
    this.length = frame.length;
    this.setOffload(0, 0);
  }

  setOffload(checksum: number, segmentation: number): void {
    this.words[1] = checksum;
    this.words[2] = segmentation;
  }
}
