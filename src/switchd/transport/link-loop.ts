/**
 * Moves frames between a port's ring and a link, in a thread that sleeps in epoll_wait and nowhere else. A link that ends is
 * opened again, by and by; what is sent meanwhile is lost, as on a cable that is pulled out.
 */
import { hasOffload } from '../offload/offload.ts';
import { Segmenter } from '../offload/segmenter.ts';
import { type RingConsumer, RingCorruptError } from '../ring/consumer.ts';
import type { RingProducer } from '../ring/producer.ts';
import { BATCH, FrameSlots, FrameTransfer } from '../uml/frame-slots.ts';
import { clearEventFd, Epoll, EPOLLIN, EPOLLOUT } from '../uml/libc.ts';
import type { Link, LinkOpener } from './link.ts';

const SLEEP_MS_MAX = 500;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 2000;

export interface LinkLoopOptions {
  /** Frames from the switch, and to it. */
  readonly input: RingConsumer;
  readonly output: RingProducer;
  /** Written for every frame while `input` is armed, and for every message. */
  readonly wakeFd: number;
  readonly open: LinkOpener;
  readonly onMessages: () => void;
  /** The link is up (`undefined`) or down, because of this. */
  readonly onState: (error: unknown) => void;
}

export class LinkLoop {
  readonly #options: LinkLoopOptions;
  readonly #epoll = new Epoll();
  readonly #transfer = new FrameTransfer();
  readonly #segmenter = new Segmenter();
  /** Frames that the link has not taken yet. */
  readonly #outbox = new FrameSlots(BATCH);
  readonly #slots = Int32Array.from({ length: BATCH }, (_, index) => index);
  #waiting = 0;
  /** The link tells when it takes more. */
  #isFull = false;
  #link: Link | undefined;
  #retryAt = 0;
  #retryMs = RETRY_MS_MIN;
  #running = true;

  constructor(options: LinkLoopOptions) {
    this.#options = options;
    this.#epoll.add(options.wakeFd, EPOLLIN);
  }

  /** The path that `Link` tells of. */
  get path(): string | undefined {
    return this.#link?.path;
  }

  /** Opens the link for the first time. Throws what the opener throws. */
  start(): void {
    this.#open();
  }

  run(): void {
    while (this.#running) {
      const more = this.#serveRing();
      this.#epoll.wait(more ? 0 : this.#sleepMs(), (fd, events) => this.#ready(fd, events));
      if (this.#link === undefined && performance.now() >= this.#retryAt) this.#retry();
    }
    this.#link?.close();
    this.#epoll.close();
    this.#outbox.free();
  }

  stop(): void {
    this.#running = false;
  }

  #sleepMs(): number {
    if (this.#link !== undefined) return SLEEP_MS_MAX;
    return Math.min(SLEEP_MS_MAX, Math.max(1, Math.ceil(this.#retryAt - performance.now())));
  }

  #open(): void {
    const link = this.#options.open(this.#transfer);
    this.#link = link;
    this.#epoll.add(link.fd, EPOLLIN);
    if (link.controlFd !== undefined) this.#epoll.add(link.controlFd, EPOLLIN);
    this.#retryMs = RETRY_MS_MIN;
    this.#options.onState(undefined);
  }

  #retry(): void {
    try {
      this.#open();
    } catch (error) {
      this.#retryLater(error);
    }
  }

  #retryLater(error: unknown): void {
    this.#retryAt = performance.now() + this.#retryMs;
    this.#retryMs = Math.min(RETRY_MS_MAX, 2 * this.#retryMs);
    this.#options.onState(error);
  }

  #down(reason: string): void {
    const link = this.#link;
    if (link === undefined) return;
    this.#link = undefined;
    this.#epoll.remove(link.fd);
    if (link.controlFd !== undefined) this.#epoll.remove(link.controlFd);
    link.close();
    this.#waiting = 0;
    this.#isFull = false;
    this.#retryLater(new Error(reason));
  }

  #ready(fd: number, events: number): void {
    const link = this.#link;
    if (fd === this.#options.wakeFd) {
      clearEventFd(fd);
      this.#options.onMessages();
    } else if (fd === link?.controlFd) this.#down('the switch has gone');
    else if (fd === link?.fd) {
      if ((events & EPOLLOUT) !== 0) this.#send();
      if ((events & ~EPOLLOUT) !== 0) this.#receive();
    }
  }

  #receive(): void {
    const count = this.#link?.receive();
    if (count === undefined) {
      this.#down('the link has ended');
      return;
    }
    const { output } = this.#options;
    for (let slot = 0; slot < count; slot++) output.push(this.#transfer.arena.select(slot));
    output.publish();
  }

  /** True when there is more in the ring, or there may be. */
  #serveRing(): boolean {
    const { input } = this.#options;
    // What waits comes first; the ring fills meanwhile, and the switch counts what it drops.
    if (this.#waiting > 0) return false;
    try {
      let turns = 0;
      for (; turns < BATCH && this.#waiting < BATCH && input.next(); turns++) this.#take();
      input.release();
      this.#send();
      return this.#waiting === 0 && (turns === BATCH || !input.arm());
    } catch (error) {
      if (!(error instanceof RingCorruptError)) throw error;
      input.reset();
      return false;
    }
  }

  #take(): void {
    const { input } = this.#options;
    if (this.#link === undefined) return;
    if (!hasOffload(input)) {
      if (this.#outbox.put(this.#waiting, input)) this.#waiting++;
      return;
    }
    this.#segmenter.begin(input);
    while (this.#segmenter.next()) {
      if (this.#waiting === BATCH) this.#send();
      // A link that is full in the middle of a large segment loses the rest of it.
      if (this.#waiting < BATCH && this.#outbox.put(this.#waiting, this.#segmenter.frame)) this.#waiting++;
    }
  }

  #send(): void {
    const link = this.#link;
    if (link === undefined || this.#waiting === 0) return;
    const { sent, end } = link.send(this.#outbox, this.#slots, this.#waiting);
    if (end === 'gone') {
      this.#down('the link takes no more frames');
      return;
    }
    this.#keep(sent);
    if (link.hasFrames === true) this.#receive();
    if (this.#isFull === this.#waiting > 0) return;
    this.#isFull = this.#waiting > 0;
    this.#epoll.change(link.fd, EPOLLIN | (this.#isFull ? EPOLLOUT : 0));
  }

  /** Moves what was not sent to the front. */
  #keep(sent: number): void {
    const left = this.#waiting - sent;
    for (let i = 0; i < left && sent > 0; i++) this.#outbox.put(i, this.#outbox.select(sent + i));
    this.#waiting = left;
  }
}
