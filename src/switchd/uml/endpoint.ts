/**
 * A port whose frames are the datagrams of a socket, or the frames of a TAP device. What does not fit into the receiver's
 * queue (10 datagrams, by Linux's default) waits here, within bounds, until the receiver has read: nobody waits for it.
 */
import type { Outlet, Port } from '../fabric/port.ts';
import type { FrameSource } from '../ring/producer.ts';
import { BATCH, FrameSlots, type FrameTransfer, type SendEnd } from './frame-slots.ts';
import { EPOLLIN, EPOLLOUT, type Epoll, libc } from './libc.ts';

/** Frames that wait for a receiver. */
export const BACKLOG_FRAMES = 256;
/** From here on a receiver slows down who sends to it alone, so that neither loses anything; */
const HIGH_MARK = BACKLOG_FRAMES - 2 * BATCH;
/** until this is left. */
const LOW_MARK = BATCH;
/** A receiver that needs longer for that is none to wait for: what is too much for it is dropped, */
export const PATIENCE_MS = 50;
/** for so long at first, and twice as long each time: one that never reads takes a hundredth of others' time. */
const IMPATIENCE_MS = 25;
const IMPATIENCE_MS_MAX = 5000;

export class Endpoint implements Outlet {
  readonly fd: number;
  readonly kind: 'socket' | 'device';
  readonly #transfer: FrameTransfer;
  readonly #epoll: Epoll;
  readonly #pending = new Int32Array(BATCH);
  #pendingCount = 0;
  #receiving = EPOLLIN;
  #port: Port | undefined;
  #backlog: FrameSlots | undefined;
  #first = 0;
  #waiting = 0;
  /** Milliseconds, of performance.now(). */
  #impatientUntil = 0;
  #impatienceMs = IMPATIENCE_MS;

  /** Takes the descriptor over. */
  constructor(kind: 'socket' | 'device', fd: number, transfer: FrameTransfer, epoll: Epoll) {
    this.fd = fd;
    this.kind = kind;
    this.#transfer = transfer;
    this.#epoll = epoll;
    epoll.add(fd, EPOLLIN);
  }

  /** The port that it is the outlet of: where losses are counted. */
  set port(port: Port) {
    this.#port = port;
  }

  /** Who sends to it alone should wait. */
  get isCongested(): boolean {
    return this.#waiting >= HIGH_MARK && performance.now() >= this.#impatientUntil;
  }

  /** Who waits for it may go on. */
  get isRelieved(): boolean {
    return this.#waiting <= LOW_MARK;
  }

  /** Nobody should wait for it for a while. */
  giveUp(): void {
    this.#impatientUntil = performance.now() + this.#impatienceMs;
    this.#impatienceMs = Math.min(2 * this.#impatienceMs, IMPATIENCE_MS_MAX);
  }

  /** It was worth waiting for. */
  keepUp(): void {
    this.#impatienceMs = IMPATIENCE_MS;
  }

  /** Stops or resumes receiving. */
  set paused(paused: boolean) {
    this.#receiving = paused ? 0 : EPOLLIN;
    this.#epoll.change(this.fd, this.#receiving | (this.#waiting > 0 ? EPOLLOUT : 0));
  }

  /** Frames that are there, into the arena. Gives their number. */
  receive(): number {
    const transfer = this.#transfer;
    return this.kind === 'socket' ? transfer.receive(this.fd) : transfer.receiveFromDevice(this.fd);
  }

  /** Only for frames in the arena. */
  push(frame: FrameSource): boolean {
    if (this.#waiting > 0) return this.#keep(frame);
    this.#pending[this.#pendingCount++] = this.#transfer.arena.slot;
    return true;
  }

  publish(): void {
    const count = this.#pendingCount;
    this.#pendingCount = 0;
    if (count === 0) return;
    const { arena } = this.#transfer;
    const { sent, end } = this.#send(arena, this.#pending, count);
    for (let i = sent; i < count; i++) {
      const kept = end === 'full' && this.#keep(arena.select(this.#pending[i]!));
      if (!kept) this.#lost(arena.select(this.#pending[i]!).length);
    }
  }

  /** The receiver has room again. */
  drain(): void {
    const backlog = this.#backlog;
    if (backlog === undefined) return;
    const slots = new Int32Array(BATCH);
    while (this.#waiting > 0) {
      const count = Math.min(BATCH, this.#waiting);
      for (let i = 0; i < count; i++) slots[i] = (this.#first + i) % BACKLOG_FRAMES;
      const { sent, end } = this.#send(backlog, slots, count);
      this.#shift(sent);
      if (end === 'full') return;
      if (end === 'gone') {
        for (let i = sent; i < count; i++) this.#lost(backlog.lengths[slots[i]!]!);
        this.#shift(count - sent);
      }
    }
    this.#epoll.change(this.fd, this.#receiving);
  }

  close(): void {
    this.#epoll.remove(this.fd);
    libc().close(this.fd);
    this.#backlog?.free();
    this.#backlog = undefined;
    this.#waiting = 0;
  }

  #send(from: FrameSlots, slots: Int32Array, count: number): { sent: number; end: SendEnd } {
    const transfer = this.#transfer;
    return this.kind === 'socket'
      ? transfer.send(this.fd, from, slots, count)
      : transfer.sendToDevice(this.fd, from, slots, count);
  }

  #keep(frame: FrameSource): boolean {
    if (this.#waiting === BACKLOG_FRAMES) return false;
    this.#backlog ??= new FrameSlots(BACKLOG_FRAMES);
    this.#backlog.put((this.#first + this.#waiting) % BACKLOG_FRAMES, frame);
    if (this.#waiting++ === 0) this.#epoll.change(this.fd, this.#receiving | EPOLLOUT);
    return true;
  }

  #shift(count: number): void {
    this.#first = (this.#first + count) % BACKLOG_FRAMES;
    this.#waiting -= count;
  }

  /** The segment has counted it as sent. */
  #lost(bytes: number): void {
    if (this.#port === undefined) return;
    this.#port.counters.sentFrames--;
    this.#port.counters.sentBytes -= bytes;
    this.#port.drop('queueFull');
  }
}
