/** The receiving half of a connection with a guest: the window that it is given, and what came too early (RFC 9293 §3.8.6). */
import type { TcpSegment } from './tcp-segment.ts';
import { isBefore, OUR_SHIFT } from './tcp-segment.ts';

/** Bytes that wait for the host at most. */
export const RECEIVE_BYTES_MAX = 512 * 1024;
const RECEIVE_BYTES_MIN = 16 * 1024;
const EARLY_SEGMENTS_MAX = 64;

interface Early {
  readonly sequence: number;
  readonly data: Buffer;
}

export class TcpReceiver {
  next: number;
  /** The end of the window as the guest knows it: it never moves back. */
  #edge: number;
  #shift = 0;
  #early: Early[] = [];

  /** `next`: after the guest's SYN. */
  constructor(next: number) {
    this.next = next;
    this.#edge = next;
  }

  /** The guest scales windows, so we do. */
  scale(): void {
    this.#shift = OUR_SHIFT;
  }

  /** The header's window, for so many bytes waiting for the host. */
  window(waiting: number, isTight: boolean): number {
    const most = isTight ? RECEIVE_BYTES_MIN : RECEIVE_BYTES_MAX;
    const free = Math.max(0, Math.min(most - waiting, 0xffff << this.#shift));
    const rounded = (free >> this.#shift) << this.#shift;
    const edge = (this.next + rounded) | 0;
    if (isBefore(this.#edge, edge)) this.#edge = edge;
    return Math.min(0xffff, ((this.#edge - this.next) | 0) >>> this.#shift);
  }

  /** The window in a SYN is never scaled. */
  synWindow(): number {
    const edge = (this.next + 0xffff) | 0;
    if (isBefore(this.#edge, edge)) this.#edge = edge;
    return 0xffff;
  }

  /** Is the guest down to less than half of what it could have? */
  needsUpdate(waiting: number): boolean {
    const known = (this.#edge - this.next) | 0;
    return RECEIVE_BYTES_MAX - waiting - known >= RECEIVE_BYTES_MAX / 2;
  }

  /** RFC 9293 §3.10.7.4, table 6. */
  isAcceptable(segment: TcpSegment): boolean {
    const { sequence, span } = segment;
    const last = (sequence + Math.max(0, span - 1)) | 0;
    const window = (this.#edge - this.next) | 0;
    if (window === 0) return span === 0 && sequence === this.next;
    const inWindow = (number: number): boolean =>
      !isBefore(number, this.next) && isBefore(number, this.#edge);
    return inWindow(sequence) || (span > 0 && inWindow(last)) || (span === 0 && sequence === this.#edge);
  }

  /** Takes a segment's payload; gives what is in order now, copied. Empty: it came too early, or again. */
  take(segment: TcpSegment): Buffer[] {
    const packet = segment.packet!;
    const skip = (this.next - segment.sequence) | 0;
    const room = (this.#edge - segment.sequence) | 0;
    if (segment.dataBytes === 0 || skip >= segment.dataBytes) return [];
    const data = packet.copy(segment.dataAt + Math.max(0, skip)).subarray(0, room - Math.max(0, skip));
    if (skip < 0) {
      this.#keep({ sequence: segment.sequence, data });
      return [];
    }
    this.next = (this.next + data.length) | 0;
    return this.#early.length === 0 ? [data] : [data, ...this.#catchUp()];
  }

  #keep(early: Early): void {
    if (this.#early.length >= EARLY_SEGMENTS_MAX) return;
    const at = this.#early.findIndex(({ sequence }) => !isBefore(sequence, early.sequence));
    if (at >= 0 && this.#early[at]!.sequence === early.sequence) {
      if (this.#early[at]!.data.length < early.data.length) this.#early[at] = early;
    } else {
      this.#early.splice(at < 0 ? this.#early.length : at, 0, early);
    }
  }

  #catchUp(): Buffer[] {
    const ready: Buffer[] = [];
    for (let first = this.#early[0]; first !== undefined; first = this.#early[0]) {
      const skip = (this.next - first.sequence) | 0;
      if (skip < 0) break;
      this.#early.shift();
      if (skip >= first.data.length) continue;
      const data = first.data.subarray(skip);
      this.next = (this.next + data.length) | 0;
      ready.push(data);
    }
    return ready;
  }
}
