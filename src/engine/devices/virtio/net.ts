/**
 * Network device (virtio 1.2, 5.1) over a NicPort: mergeable receive buffers, several pairs of queues, a control
 * queue, and in both directions checksums left open and TCP segments of up to 64 KiB. What one of two guests cannot finish, the port finishes.
 */
import type { NicOffloads, NicPort } from '../../backends.ts';
import type { TimerHandle } from '../../machine/bus.ts';
import type { Chain } from './chain.ts';
import { defineVirtioDevice, type VirtioHost, type VirtioModel } from './device.ts';
import { ReceiveFilter } from './net-filter.ts';
import { readOffload, writeOffload } from './net-header.ts';
import { Steering } from './net-steering.ts';
import type { Virtqueue } from './queue.ts';

const FEATURE = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
} as const;
const CONFIG = { MAC: 0, STATUS: 6, MAX_QUEUE_PAIRS: 8, MTU: 10, BYTES: 12 } as const;
const LINK_UP = 1;
/** Pairs of a receive and a transmit queue, of which the driver uses one until it asks for more. */
const PAIRS = 4;
const QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 64;
const receiveQueue = (pair: number): number => 2 * pair;
const transmitQueue = (pair: number): number => 2 * pair + 1;
/** struct virtio_net_hdr, always with num_buffers since VERSION_1 is negotiated. */
const HEADER = { NUM_BUFFERS: 10, BYTES: 12 } as const;
const OFFLOADS = [
  FEATURE.CSUM,
  FEATURE.GUEST_CSUM,
  FEATURE.CTRL_GUEST_OFFLOADS,
  FEATURE.GUEST_TSO4,
  FEATURE.GUEST_TSO6,
  FEATURE.GUEST_ECN,
  FEATURE.HOST_TSO4,
  FEATURE.HOST_TSO6,
  FEATURE.HOST_ECN,
];
/** Ethernet header; the longest frame is that, a VLAN tag and the largest MTU. */
const FRAME_BYTES_MIN = 14;
const FRAME_BYTES_MAX = 65535 + 18;
/** Frames received before other work gets its turn. */
const RECEIVE_BURST = 256;
const CONTROL = {
  RX: 0,
  RX_PROMISC: 0,
  RX_ALLMULTI: 1,
  MAC: 1,
  MAC_TABLE_SET: 0,
  MAC_ADDR_SET: 1,
  MQ: 4,
  MQ_VQ_PAIRS_SET: 0,
  GUEST_OFFLOADS: 5,
  GUEST_OFFLOADS_SET: 0,
  OK: 0,
  ERR: 1,
} as const;
const CONTROL_BYTES_MAX = 16384;

export interface NetOptions {
  readonly port: NicPort;
  /** aa:bb:cc:dd:ee:ff */
  readonly mac: string;
  /** Told to the driver if given. */
  readonly mtu?: number | undefined;
}

export interface NetCounters {
  rxFrames: number;
  rxBytes: number;
  /** Frames that no buffer of the driver could hold. */
  rxDropped: number;
  txFrames: number;
  txBytes: number;
  /** Frames of impossible length or with an offload that was not negotiated. */
  txDropped: number;
}

export interface NetHandle {
  readonly counters: NetCounters;
  /** Plugs or pulls the cable. */
  setLink(up: boolean): void;
}

class NetModel implements VirtioModel, NetHandle {
  readonly features: readonly number[];
  readonly queueSizes = [...Array<number>(2 * PAIRS).fill(QUEUE_SIZE), CONTROL_QUEUE_SIZE];
  readonly config = new Uint8Array(CONFIG.BYTES);
  readonly counters: NetCounters = {
    rxFrames: 0,
    rxBytes: 0,
    rxDropped: 0,
    txFrames: 0,
    txBytes: 0,
    txDropped: 0,
  };
  readonly #host: VirtioHost;
  readonly #port: NicPort;
  readonly #mac: Uint8Array;
  readonly #filter = new ReceiveFilter(this.config.subarray(CONFIG.MAC, CONFIG.MAC + 6));
  readonly #receiveHeader = new Uint8Array(HEADER.BYTES);
  readonly #transmitHeader = new Uint8Array(HEADER.BYTES);
  /** Chains claimed for the frame being delivered. */
  readonly #claimed: Chain[] = [];
  /** A frame taken from the port that waits for buffers. */
  #waiting: Uint8Array | undefined;
  /** Frames taken from the driver that wait for room in the port, by pair. */
  readonly #held: (Chain | undefined)[] = [];
  readonly #steering = new Steering();
  #burst: TimerHandle | undefined;
  #linkUp = true;
  #closed = false;

  constructor(host: VirtioHost, { port, mac, mtu }: NetOptions) {
    this.#host = host;
    this.#port = port;
    this.#mac = parseMac(mac);
    const control = [FEATURE.CTRL_VQ, FEATURE.CTRL_RX, FEATURE.CTRL_MAC_ADDR, FEATURE.MQ];
    const optional = mtu === undefined ? [] : [FEATURE.MTU];
    this.features = [FEATURE.MAC, FEATURE.STATUS, FEATURE.MRG_RXBUF, ...OFFLOADS, ...control, ...optional];
    const view = new DataView(this.config.buffer);
    view.setUint16(CONFIG.MAX_QUEUE_PAIRS, PAIRS, true);
    view.setUint16(CONFIG.MTU, mtu ?? 0, true);
    view.setUint16(CONFIG.STATUS, LINK_UP, true);
    this.config.set(this.#mac, CONFIG.MAC);
    port.onReadable(() => this.#receive());
    port.onWritable(() => this.#transmitAll());
  }

  activate(): void {
    const has = (feature: number): boolean => this.#host.has(feature);
    this.#accept({
      checksum: has(FEATURE.GUEST_CSUM),
      tcp4: has(FEATURE.GUEST_TSO4),
      tcp6: has(FEATURE.GUEST_TSO6),
    });
  }

  setLink(up: boolean): void {
    this.#linkUp = up;
    this.config[CONFIG.STATUS] = up ? LINK_UP : 0;
    this.#host.configChanged();
  }

  notify(queueIndex: number): void {
    if (queueIndex === this.#controlQueue) this.#control();
    else if (queueIndex >= 2 * PAIRS) return;
    else if (queueIndex % 2 === 0) this.#receive();
    else this.#transmit(queueIndex >> 1);
  }

  reset(): undefined {
    this.#burst?.cancel();
    this.#burst = undefined;
    this.#held.length = 0;
    this.#waiting = undefined;
    this.#steering.use(1);
    this.#filter.reset();
    this.#accept({ checksum: false, tcp4: false, tcp6: false });
    this.config.set(this.#mac, CONFIG.MAC);
  }

  close(): void {
    this.#closed = true;
    this.#port.close();
  }

  /** A frame in `#waiting` stays as it is: it came under what was accepted before, which a driver copes with. */
  #accept(offloads: NicOffloads): void {
    this.#port.accept(offloads);
  }

  /** Behind the pairs of queues that the driver knows of (5.1.2). */
  get #controlQueue(): number {
    return this.#host.has(FEATURE.MQ) ? 2 * PAIRS : 2;
  }

  #transmitAll(): void {
    for (let pair = 0; pair < this.#steering.pairs; pair++) this.#transmit(pair);
  }

  /** Moves frames from the driver to the port while that has room. */
  #transmit(pair: number): void {
    if (this.#closed || !this.#host.live || pair >= this.#steering.pairs) return;
    const queue = this.#host.queue(transmitQueue(pair));
    let chain = this.#held[pair] ?? queue.pop();
    this.#held[pair] = undefined;
    for (; chain !== undefined; chain = queue.pop()) {
      if (!this.#send(chain, pair)) {
        this.#held[pair] = chain;
        break;
      }
      queue.put(chain, 0);
    }
    queue.publish();
  }

  /** False: it has to wait. */
  #send(chain: Chain, pair: number): boolean {
    const header = this.#transmitHeader;
    const bytes = chain.readableBytes - HEADER.BYTES;
    const inRange = bytes >= FRAME_BYTES_MIN && bytes <= FRAME_BYTES_MAX;
    chain.read(0, header);
    const offload = inRange && this.#linkUp ? readOffload(header, bytes, this.#mayLeave()) : undefined;
    if (offload === undefined) {
      this.counters.txDropped++;
      return true;
    }
    const views = chain.readableViews(HEADER.BYTES);
    if (!this.#port.send(views, offload.checksum, offload.segmentation)) return false;
    if (views[0] !== undefined) this.#steering.sent(views[0], pair);
    this.counters.txFrames++;
    this.counters.txBytes += bytes;
    return true;
  }

  /** What the driver may leave to us. */
  #mayLeave(): NicOffloads {
    const has = (feature: number): boolean => this.#host.has(feature);
    return { checksum: has(FEATURE.CSUM), tcp4: has(FEATURE.HOST_TSO4), tcp6: has(FEATURE.HOST_TSO6) };
  }

  /** Moves frames from the port to the driver while both have something. */
  #receive(): void {
    if (this.#closed || !this.#host.live) return;
    let left = RECEIVE_BURST;
    for (; left > 0; left--) {
      const frame = this.#waiting ?? this.#port.receive();
      if (frame === undefined) break;
      this.#waiting = undefined;
      if (!this.#wanted(frame)) continue;
      if (!this.#deliver(frame)) {
        this.#waiting = frame;
        break;
      }
    }
    for (let pair = 0; pair < this.#steering.pairs; pair++) this.#host.queue(receiveQueue(pair)).publish();
    if (left === 0) this.#continueSoon();
  }

  #wanted(frame: Uint8Array): boolean {
    return this.#linkUp && frame.length <= FRAME_BYTES_MAX && this.#filter.accepts(frame);
  }

  #continueSoon(): void {
    if (this.#burst !== undefined) return;
    const { clock } = this.#host.board;
    this.#burst = clock.at(clock.nowNs(), () => {
      this.#burst = undefined;
      this.#receive();
    });
  }

  /** Puts a frame into as many buffers as it takes; false if there are not enough now. */
  #deliver(frame: Uint8Array): boolean {
    const needed = HEADER.BYTES + frame.length;
    const queue = this.#host.queue(receiveQueue(this.#steering.pairFor(frame)));
    const room = this.#claim(queue, needed);
    if (room < needed) {
      // One buffer that is too small stays too small; several may be joined by another.
      const hopeless = !this.#host.has(FEATURE.MRG_RXBUF) && this.#claimed.length > 0;
      for (const chain of this.#claimed) queue.unpop(chain);
      if (hopeless) this.counters.rxDropped++;
      return hopeless;
    }
    if (this.#claimed[0].writableBytes < HEADER.BYTES) {
      this.#host.fail('receive buffer shorter than the header');
      return true;
    }
    this.#fill(queue, frame);
    this.counters.rxFrames++;
    this.counters.rxBytes += frame.length;
    return true;
  }

  /** Claims buffers until they hold `needed` bytes, or one if they cannot be merged. Returns their room. */
  #claim(queue: Virtqueue, needed: number): number {
    const limit = this.#host.has(FEATURE.MRG_RXBUF) ? queue.size : 1;
    let room = 0;
    this.#claimed.length = 0;
    while (room < needed && this.#claimed.length < limit) {
      const chain = queue.pop();
      if (chain === undefined) break;
      this.#claimed.push(chain);
      room += chain.writableBytes;
    }
    return room;
  }

  #fill(queue: Virtqueue, frame: Uint8Array): void {
    writeOffload(this.#receiveHeader, this.#port, this.#host.has(FEATURE.GUEST_ECN));
    this.#receiveHeader[HEADER.NUM_BUFFERS] = this.#claimed.length & 0xff;
    this.#receiveHeader[HEADER.NUM_BUFFERS + 1] = this.#claimed.length >> 8;
    let done = 0;
    let skip: number = HEADER.BYTES;
    this.#claimed[0].write(0, this.#receiveHeader);
    for (const chain of this.#claimed) {
      const bytes = Math.min(chain.writableBytes - skip, frame.length - done);
      chain.write(skip, frame.subarray(done, done + bytes));
      queue.put(chain, skip + bytes);
      done += bytes;
      skip = 0;
    }
  }

  #control(): void {
    const queue = this.#host.queue(this.#controlQueue);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const request = new Uint8Array(Math.min(chain.readableBytes, CONTROL_BYTES_MAX));
      chain.read(0, request);
      const ok = request.length >= 2 && this.#command(request[0], request[1], request.subarray(2));
      chain.write(0, Uint8Array.of(ok ? CONTROL.OK : CONTROL.ERR));
      queue.put(chain, Math.min(chain.writableBytes, 1));
    }
    queue.publish();
  }

  #command(kind: number, command: number, body: Uint8Array): boolean {
    if (kind === CONTROL.RX && body.length >= 1) {
      if (command === CONTROL.RX_PROMISC) this.#filter.promiscuous = body[0] !== 0;
      else if (command === CONTROL.RX_ALLMULTI) this.#filter.allMulticast = body[0] !== 0;
      else return false;
      return true;
    }
    if (kind === CONTROL.GUEST_OFFLOADS) return this.#setOffloads(command, body);
    if (kind === CONTROL.MQ) return this.#setPairs(command, body);
    if (kind !== CONTROL.MAC) return false;
    if (command === CONTROL.MAC_TABLE_SET) return this.#filter.setTables(body);
    if (command !== CONTROL.MAC_ADDR_SET || body.length < 6) return false;
    this.config.set(body.subarray(0, 6), CONFIG.MAC);
    return true;
  }

  /** 5.1.6.5.5. What a pair that is no longer used has left waits until it is again. */
  #setPairs(command: number, body: Uint8Array): boolean {
    const pairs = body[0] | (body[1] << 8);
    const isKnown = this.#host.has(FEATURE.MQ) && command === CONTROL.MQ_VQ_PAIRS_SET && body.length >= 2;
    if (!isKnown || pairs < 1 || pairs > PAIRS) return false;
    this.#steering.use(pairs);
    this.#transmitAll();
    return true;
  }

  /** 5.1.6.5.6: a set of the GUEST_ feature bits that were negotiated. */
  #setOffloads(command: number, body: Uint8Array): boolean {
    if (command !== CONTROL.GUEST_OFFLOADS_SET || body.length < 8) return false;
    const wanted = (feature: number): boolean =>
      (body[feature >> 3] & (1 << (feature & 7))) !== 0 && this.#host.has(feature);
    this.#accept({
      checksum: wanted(FEATURE.GUEST_CSUM),
      tcp4: wanted(FEATURE.GUEST_TSO4),
      tcp6: wanted(FEATURE.GUEST_TSO6),
    });
    return true;
  }
}

function parseMac(mac: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw new TypeError(`not a MAC address: ${mac}`);
  return Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16));
}

export const net = defineVirtioDevice<NetOptions, NetHandle>({
  kind: 'virtio-net',
  virtioId: 1,
  classCode: 0x020000,
  create(host, options) {
    const model = new NetModel(host, options);
    return { model, handle: model };
  },
});
