/** One TCP connection: its guest's end, which we speak for the other side, and a socket of the host. */
import type { Duplex } from 'node:stream';
import { systemErrorCode } from '../../contracts/errors.ts';
import type { Budget } from './send-buffer.ts';
import { TcpReceiver } from './tcp-receiver.ts';
import { type SegmentWriter, type SynOptions, TCP_FLAG, type TcpSegment } from './tcp-segment.ts';
import { type SenderHost, TcpSender } from './tcp-sender.ts';

/** Kept after both sides have closed, to answer a FIN that comes again (TIME-WAIT, for a path without delays). */
const LINGER_MS = 2000;
/** Of errors of connecting. */
const NO_WAY: readonly string[] = [
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'EADDRNOTAVAIL',
  'EACCES',
  'EPERM',
  'EINVAL',
];

/**
 * connecting: the guest has asked, the host's socket is being connected. asked: the guest has our SYN and not yet answered
 * with its own. answered: it has our SYN as an answer to its own. open: both know of each other, halves may be closed.
 */
type State = 'connecting' | 'asked' | 'answered' | 'open' | 'lingering' | 'closed';

/** The other side: a socket of the host's, or a stream within this process that is like one. */
export interface HostEnd extends Duplex {
  readonly connecting: boolean;
  setNoDelay(noDelay: boolean): unknown;
  setKeepAlive(keepAlive: boolean, initialDelayMs: number): unknown;
  resetAndDestroy(): unknown;
}

export interface ConnectionHost {
  readonly budget: Budget;
  /** It has something to send: `flush` is to be called soon. */
  wantsFlush(connection: TcpConnection): void;
  closed(connection: TcpConnection): void;
}

export interface ConnectionOptions {
  readonly key: string;
  /** Of the guest's port on the switch. */
  readonly slot: number;
  readonly host: ConnectionHost;
  readonly segments: SegmentWriter;
  /** Random (RFC 9293 §3.4.1). */
  readonly initial: number;
}

export class TcpConnection implements SenderHost {
  readonly key: string;
  readonly slot: number;
  readonly #host: ConnectionHost;
  readonly #segments: SegmentWriter;
  readonly #sender: TcpSender;
  #receiver = new TcpReceiver(0);
  #socket: HostEnd | undefined;
  #state: State = 'connecting';
  #scales = false;
  #ackWanted = false;
  #guestFinished = false;
  #isPaused = false;
  #linger: NodeJS.Timeout | undefined;

  constructor({ key, slot, host, segments, initial }: ConnectionOptions) {
    this.key = key;
    this.slot = slot;
    this.#host = host;
    this.#segments = segments;
    this.#sender = new TcpSender(this, host.budget, initial);
  }

  /** The guest asks: its SYN is remembered, and answered when the host's socket is connected. */
  begin(syn: TcpSegment, socket: HostEnd): void {
    this.#adopt(syn.sequence, syn.synOptions());
    this.#use(socket);
    socket.once('connect', () => {
      if (this.#state !== 'connecting') return;
      this.#state = 'answered';
      this.#sendSyn();
      this.#sender.synSent();
    });
  }

  /** The host asks: the socket is there, the guest gets a SYN. */
  ask(socket: HostEnd): void {
    this.#scales = true;
    this.#state = 'asked';
    this.#use(socket);
    this.#pause();
    this.#sendSyn();
    this.#sender.synSent();
  }

  /** A segment of the guest's. */
  receive(segment: TcpSegment): void {
    switch (this.#state) {
      case 'connecting':
        if (segment.has(TCP_FLAG.RST)) this.abort();
        return;
      case 'asked':
        this.#receiveAnswer(segment);
        break;
      case 'closed':
        return;
      default:
        this.#receiveInSequence(segment);
    }
    this.#host.wantsFlush(this);
  }

  /** Bytes of the host for the guest. False: it should stop reading until it is told to go on. */
  received(bytes: Uint8Array): boolean {
    if (this.#state === 'closed' || this.#state === 'lingering') return true;
    this.#sender.buffer.append(bytes);
    this.#host.wantsFlush(this);
    if (this.#sender.buffer.hasRoom) return true;
    this.#isPaused = true;
    return false;
  }

  /** Sends what there is, and an acknowledgment if one is due. */
  flush(): void {
    if (this.#state !== 'open' && this.#state !== 'lingering') return;
    if (!this.#sender.flush() && this.#ackWanted) this.#send(this.#sender.next, TCP_FLAG.ACK);
    this.#ackWanted = false;
    if (this.#isPaused && this.#sender.buffer.hasRoom) {
      this.#isPaused = false;
      this.#socket?.resume();
    }
    if (this.#sender.isFinished && this.#guestFinished && this.#state === 'open') this.#finish();
  }

  /** Ends it towards the guest with a reset, and towards the host. */
  reset(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'connecting') this.#send(0, TCP_FLAG.RST | TCP_FLAG.ACK);
    else if (this.#state !== 'lingering') this.#send(this.#sender.next, TCP_FLAG.RST | TCP_FLAG.ACK);
    this.abort();
  }

  /** Ends it without a word to the guest. */
  abort(): void {
    if (this.#state === 'closed') return;
    // After both ends have finished, the host's socket ends by itself, when it has taken everything.
    const isOver = this.#state === 'lingering';
    this.#state = 'closed';
    clearTimeout(this.#linger);
    this.#sender.close();
    this.#host.closed(this);
    if (isOver || this.#socket === undefined) return;
    // A socket that is still being connected cannot be reset.
    if (this.#socket.connecting) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }

  /** Both ends have finished: the guest may use its port for another connection. */
  get isOver(): boolean {
    return this.#state === 'lingering';
  }

  emit(sequence: number, count: number, offset: number, isLast: boolean, fin: boolean): void {
    const flags = TCP_FLAG.ACK | (isLast ? TCP_FLAG.PSH : 0) | (fin ? TCP_FLAG.FIN : 0);
    this.#ackWanted = false;
    const { buffer, mss } = this.#sender;
    const segment = {
      sequence,
      acknowledgment: this.#receiver.next,
      flags,
      window: this.#window(),
      dataBytes: count,
    };
    this.#segments.send(segment, mss, (bytes, at) => buffer.copyTo(bytes, at, offset, count));
  }

  resendSyn(): void {
    this.#sendSyn();
  }

  dead(): void {
    this.reset();
  }

  #adopt(sequence: number, { mss, shift }: SynOptions): void {
    this.#receiver = new TcpReceiver((sequence + 1) | 0);
    this.#sender.mss = mss;
    this.#sender.shift = shift ?? 0;
    this.#scales = shift !== undefined;
    if (this.#scales) this.#receiver.scale();
  }

  #use(socket: HostEnd): void {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    socket.on('end', () => {
      this.#sender.finish();
      this.#host.wantsFlush(this);
    });
    socket.on('drain', () => this.#drained());
    socket.on('error', (error) => this.#failed(error));
    socket.on('close', () => {
      // Both directions have ended in order, or there was an error before.
      if (this.#state !== 'open' && this.#state !== 'lingering') this.reset();
    });
  }

  /** A connection that is refused is reset; where the host has no way, the guest is told so. */
  #failed(error: Error): void {
    if (this.#state === 'connecting' && NO_WAY.includes(systemErrorCode(error) ?? '')) {
      this.#segments.sendUnreachable((this.#receiver.next - 1) | 0);
      this.abort();
    } else this.reset();
  }

  #drained(): void {
    if (this.#state !== 'open' || !this.#receiver.needsUpdate(this.#waiting)) return;
    this.#ackWanted = true;
    this.#host.wantsFlush(this);
  }

  #receiveAnswer(segment: TcpSegment): void {
    const isAck = segment.has(TCP_FLAG.ACK) && segment.acknowledgment === this.#sender.next;
    if (segment.has(TCP_FLAG.RST)) {
      if (isAck) this.abort();
      return;
    }
    if (!isAck || !segment.has(TCP_FLAG.SYN)) return;
    this.#adopt(segment.sequence, segment.synOptions());
    this.#open(segment, segment.window);
    this.#isPaused = true;
    this.#ackWanted = true;
  }

  #receiveInSequence(segment: TcpSegment): void {
    const isFirst = segment.sequence === ((this.#receiver.next - 1) | 0);
    if (this.#state === 'answered' && segment.has(TCP_FLAG.SYN) && isFirst) {
      this.#sendSyn();
      return;
    }
    if (!this.#receiver.isAcceptable(segment)) {
      if (!segment.has(TCP_FLAG.RST)) this.#ackWanted = true;
      return;
    }
    if (segment.has(TCP_FLAG.RST)) {
      // Only the very next number ends it; any other may be forged (RFC 9293 §3.10.7.4).
      if (segment.sequence === this.#receiver.next) this.abort();
      else this.#ackWanted = true;
      return;
    }
    if (segment.has(TCP_FLAG.SYN)) {
      this.#ackWanted = true;
      return;
    }
    if (segment.has(TCP_FLAG.ACK) && this.#acknowledge(segment)) this.#takeData(segment);
  }

  #acknowledge(segment: TcpSegment): boolean {
    const window = segment.window << this.#sender.shift;
    if (this.#state === 'answered') {
      if (segment.acknowledgment !== this.#sender.next) return false;
      this.#open(segment, window);
    }
    const isBare = segment.span === 0;
    if (this.#sender.acknowledge(segment.acknowledgment, window, segment.sequence, isBare)) return true;
    this.#ackWanted = true;
    return false;
  }

  #open(segment: TcpSegment, window: number): void {
    this.#state = 'open';
    this.#sender.open(window, segment.sequence, segment.acknowledgment);
  }

  #takeData(segment: TcpSegment): void {
    if (segment.span > 0) this.#ackWanted = true;
    const wasFinished = this.#guestFinished;
    if (wasFinished) return;
    for (const data of this.#receiver.take(segment)) this.#toHost(data);
    const end = (segment.sequence + segment.dataBytes) | 0;
    if (!segment.has(TCP_FLAG.FIN) || end !== this.#receiver.next) return;
    this.#receiver.next = (end + 1) | 0;
    this.#guestFinished = true;
    this.#socket?.end();
  }

  #toHost(data: Buffer): void {
    const { budget } = this.#host;
    budget.used += data.length;
    this.#socket?.write(data, () => {
      budget.used -= data.length;
    });
  }

  #finish(): void {
    this.#state = 'lingering';
    this.#sender.close();
    this.#linger = setTimeout(() => this.abort(), LINGER_MS);
    this.#linger.unref();
  }

  #pause(): void {
    this.#isPaused = true;
    this.#socket?.pause();
  }

  get #waiting(): number {
    return this.#socket?.writableLength ?? 0;
  }

  #window(): number {
    return this.#receiver.window(this.#waiting, this.#host.budget.isSpent);
  }

  #send(sequence: number, flags: number): void {
    const acknowledgment = this.#receiver.next;
    this.#segments.send(
      { sequence, acknowledgment, flags, window: this.#window(), dataBytes: 0 },
      this.#sender.mss,
    );
  }

  #sendSyn(): void {
    const isAnswer = this.#state === 'answered';
    const segment = {
      sequence: this.#sender.initial,
      acknowledgment: isAnswer ? this.#receiver.next : 0,
      flags: TCP_FLAG.SYN | (isAnswer ? TCP_FLAG.ACK : 0),
      window: isAnswer ? this.#receiver.synWindow() : 0xffff,
      dataBytes: 0,
    };
    this.#segments.sendSyn(segment, this.#scales);
  }
}
