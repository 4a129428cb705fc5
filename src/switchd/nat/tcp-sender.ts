/**
 * The sending half of a connection to a guest: what is in flight, the guest's window, retransmission (RFC 9293 §3.8) and
 * congestion control (RFC 5681, RFC 6582). The path is a ring in memory: frames are lost where that is full, never out of order.
 */
import { type Budget, SendBuffer } from './send-buffer.ts';
import { isBefore } from './tcp-segment.ts';

/** Payload of a large segment that the guest, or its port, cuts into small ones. */
const LARGE_BYTES_MAX = 62 * 1024;
/** No more is in flight to a guest on one connection: half of its port's ring. */
const WINDOW_MAX = 256 * 1024;
const RETRY_MS_MIN = 300;
const RETRY_MS_MAX = 60_000;
/** About eight minutes. A guest that is stopped for longer loses its connections. */
const RETRIES_MAX = 14;
/** The ring keeps the order, so two acknowledgments of the same number tell of a loss. */
const DUPLICATES = 2;

export interface SenderHost {
  /** Sends `count` bytes of the buffer from `offset` on, with these flags. */
  emit(sequence: number, count: number, offset: number, isLast: boolean, fin: boolean): void;
  /** Time to send the SYN again. */
  resendSyn(): void;
  /** The guest does not answer any more. */
  dead(): void;
}

export class TcpSender {
  readonly buffer: SendBuffer;
  mss = 536;
  /** Bits by which the guest's windows are to be shifted. */
  shift = 0;
  readonly #host: SenderHost;
  /** First number that is not acknowledged, next one to be sent, and the one behind all that ever were. */
  #una: number;
  #nxt: number;
  #max: number;
  /** Number of the buffer's first byte. */
  #base: number;
  #window = 0;
  #windowSequence = 0;
  #windowAcknowledgment = 0;
  #congestion = 64 * 1024;
  #threshold = WINDOW_MAX;
  #duplicates = 0;
  /** Set during recovery: until this is acknowledged. */
  #recover: number | undefined;
  #isOpen = false;
  #finQueued = false;
  #retries = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(host: SenderHost, budget: Budget, initial: number) {
    this.#host = host;
    this.buffer = new SendBuffer(budget);
    this.#una = initial;
    this.#nxt = initial;
    this.#max = initial;
    this.#base = (initial + 1) | 0;
  }

  get next(): number {
    return this.#nxt;
  }
  /** Our FIN has been acknowledged. */
  get isFinished(): boolean {
    return this.#finQueued && this.buffer.length === 0 && isBefore(this.#base, this.#una);
  }
  get initial(): number {
    return (this.#base - 1) | 0;
  }

  /** The SYN has been sent. */
  synSent(): void {
    this.#nxt = this.#base;
    this.#max = this.#base;
    this.#arm();
  }

  /** The guest knows our SYN. */
  open(window: number, sequence: number, acknowledgment: number): void {
    this.#isOpen = true;
    this.#una = this.#base;
    this.#setWindow(window, sequence, acknowledgment);
    this.#retries = 0;
  }

  /** After what is in the buffer comes a FIN. */
  finish(): void {
    this.#finQueued = true;
  }

  /** False: it acknowledges what was never sent. */
  acknowledge(acknowledgment: number, window: number, sequence: number, isBare: boolean): boolean {
    if (isBefore(this.#max, acknowledgment)) return false;
    if (isBefore(acknowledgment, this.#una)) return true;
    const acked = (acknowledgment - this.#una) | 0;
    const isSameWindow = window === this.#window;
    if (!isBefore(sequence, this.#windowSequence)) this.#setWindow(window, sequence, acknowledgment);
    if (acked > 0) this.#advance(acknowledgment, acked);
    else if (isBare && isSameWindow && this.#nxt !== this.#una && window > 0) this.#duplicate();
    return true;
  }

  /** Sends what windows and buffer allow. True when anything was sent: it carries the acknowledgment. */
  flush(): boolean {
    if (!this.#isOpen) return false;
    let count = 0;
    while (this.#sendOne()) count++;
    if (this.#nxt !== this.#una || this.#isStuck) this.#arm();
    else this.#disarm();
    return count > 0;
  }

  close(): void {
    this.#disarm();
    this.#isOpen = false;
    this.buffer.free();
  }

  /** There is something to send and no window. */
  get #isStuck(): boolean {
    return this.#window === 0 && this.#unsent > 0;
  }
  get #unsent(): number {
    return this.buffer.length - ((this.#nxt - this.#base) | 0);
  }

  #sendOne(): boolean {
    const offset = (this.#nxt - this.#base) | 0;
    const unsent = this.buffer.length - offset;
    if (unsent < 0 || (unsent === 0 && !this.#finQueued)) return false;
    const inFlight = (this.#nxt - this.#una) | 0;
    const usable = Math.min(this.#window, this.#congestion) - inFlight;
    let count = Math.min(unsent, usable, LARGE_BYTES_MAX);
    if (unsent > 0 && count <= 0) return false;
    if (count < unsent) {
      // No part of a segment while the rest of the window is on its way (RFC 9293 §3.8.6.2.1).
      if (count < this.mss && inFlight > 0) return false;
      if (count > this.mss) count -= count % this.mss;
    }
    this.#emit(offset, Math.max(0, count));
    return true;
  }

  #emit(offset: number, count: number): void {
    const isLast = offset + count === this.buffer.length;
    const fin = isLast && this.#finQueued;
    this.#host.emit((this.#base + offset) | 0, count, offset, isLast, fin);
    const end = (this.#base + offset + count + (fin ? 1 : 0)) | 0;
    if (isBefore(this.#nxt, end)) this.#nxt = end;
    if (isBefore(this.#max, end)) this.#max = end;
  }

  #advance(acknowledgment: number, acked: number): void {
    this.#una = acknowledgment;
    if (isBefore(this.#nxt, acknowledgment)) this.#nxt = acknowledgment;
    const dropped = Math.min(this.buffer.length, (acknowledgment - this.#base) | 0);
    this.buffer.drop(dropped);
    this.#base = (this.#base + dropped) | 0;
    this.#duplicates = 0;
    this.#retries = 0;
    this.#disarm();
    if (this.#recover !== undefined && isBefore(acknowledgment, this.#recover)) {
      this.#resendFirst();
      return;
    }
    this.#recover = undefined;
    const growth = this.#congestion < this.#threshold ? acked : (this.mss * acked) / this.#congestion;
    this.#congestion = Math.min(WINDOW_MAX, this.#congestion + growth);
  }

  #duplicate(): void {
    if (++this.#duplicates !== DUPLICATES || this.#recover !== undefined) return;
    this.#recover = this.#max;
    this.#threshold = Math.max(((this.#nxt - this.#una) | 0) / 2, 2 * this.mss);
    this.#congestion = this.#threshold;
    this.#resendFirst();
  }

  /** A whole large segment: losses in a ring are of such. */
  #resendFirst(): void {
    const offset = (this.#una - this.#base) | 0;
    const count = Math.min(this.buffer.length - offset, LARGE_BYTES_MAX, (this.#max - this.#una) | 0);
    if (count > 0 || this.#finQueued) this.#emit(offset, Math.max(0, count));
  }

  #setWindow(window: number, sequence: number, acknowledgment: number): void {
    // An older segment does not set it back (RFC 9293 §3.10.7.4).
    if (sequence === this.#windowSequence && isBefore(acknowledgment, this.#windowAcknowledgment)) return;
    this.#window = window;
    this.#windowSequence = sequence;
    this.#windowAcknowledgment = acknowledgment;
  }

  #arm(): void {
    if (this.#timer !== undefined) return;
    const delay = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.#retries);
    this.#timer = setTimeout(() => this.#timeout(), delay);
    this.#timer.unref();
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #timeout(): void {
    this.#timer = undefined;
    // A guest that only has no window is asked for it as long as it answers.
    if (++this.#retries > RETRIES_MAX) {
      this.#host.dead();
      return;
    }
    if (!this.#isOpen) {
      this.#host.resendSyn();
      this.#arm();
      return;
    }
    this.#threshold = Math.max(((this.#max - this.#una) | 0) / 2, 2 * this.mss);
    this.#congestion = 2 * this.mss;
    this.#recover = undefined;
    this.#duplicates = 0;
    this.#nxt = this.#una;
    if (this.#window === 0 && this.buffer.length > 0) this.#emit(0, 1);
    this.flush();
  }
}
