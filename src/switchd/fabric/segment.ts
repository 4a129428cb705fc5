/**
 * One isolated broadcast domain: ports and a MAC table (transparent bridging, IEEE 802.1D §7), with VLANs where wanted.
 * Frames go in one by one; `flush` ends a batch and publishes it to the ports it touched.
 */
import { FrameBuffer } from '../ring/frame-buffer.ts';
import { FRAME_BYTES_MIN } from '../ring/layout.ts';
import type { FrameSource } from '../ring/producer.ts';
import type { DropCause } from './drop-cause.ts';
import { FORGED, MacTable, TOO_MANY, UNKNOWN } from './mac-table.ts';
import { OPEN_RULES, type Outlet, type Passage, Port, type PortRules } from './port.ts';
import { ETHERTYPE_PROVIDER_VLAN, ETHERTYPE_VLAN, tagOf, withoutTag, withTag } from './vlan.ts';

/** Most ports on one segment. */
export const PORTS_MAX = 4096;

export interface SegmentOptions {
  /** Every frame goes to every other port, as in a hub. */
  readonly hub: boolean;
  /** Ports are in VLANs. Without, tags are not looked at. */
  readonly vlans?: boolean | undefined;
}

/** Sees frames as they come in, before any rule, and as they go out. `out`: the switch sends it to the port. */
export type FrameWatcher = (port: Port, frame: FrameSource, out: boolean) => void;

export class Segment {
  readonly macTable = new MacTable();
  hub: boolean;
  /** Called for every frame while it is set. */
  watcher: FrameWatcher | undefined;
  readonly #vlans: boolean;
  /** Indexed by slot. */
  readonly #ports: (Port | undefined)[] = [];
  readonly #dirty: Port[] = [];
  readonly #passage = {
    frame: undefined as FrameSource | undefined,
    etherType: 0,
    payloadAt: 0,
    nowSeconds: 0,
  };
  /** Of the frame that is being forwarded. */
  #vlan = 0;
  #isTagged = false;
  #other: FrameBuffer | undefined;
  #otherIsMade = false;

  constructor(options: SegmentOptions) {
    this.hub = options.hub;
    this.#vlans = options.vlans ?? false;
  }

  ports(): Port[] {
    return this.#ports.filter((port) => port !== undefined);
  }

  port(slot: number): Port | undefined {
    return this.#ports[slot];
  }

  /** Undefined when the segment is full. */
  add(id: string, outlet: Outlet, rules: PortRules = OPEN_RULES): Port | undefined {
    const free = this.#ports.indexOf(undefined);
    const slot = free >= 0 ? free : this.#ports.length;
    if (slot >= PORTS_MAX) return undefined;
    const port = new Port(id, slot, outlet, rules);
    this.#ports[slot] = port;
    this.macTable.setLimit(slot, rules.stationsMax);
    return port;
  }

  remove(port: Port): void {
    if (this.#ports[port.slot] !== port) return;
    this.flush();
    this.#ports[port.slot] = undefined;
    this.macTable.forget(port.slot);
  }

  /** Gives a port other rules; what was learned on it is forgotten, for it may be in another VLAN. */
  setRules(port: Port, rules: PortRules): void {
    port.rules = rules;
    this.macTable.forget(port.slot);
    this.macTable.setLimit(port.slot, rules.stationsMax);
  }

  /** Sets the clock of the frames that follow, in seconds of any monotonic clock. */
  setTime(nowSeconds: number): void {
    this.#passage.nowSeconds = nowSeconds;
  }

  /** Handles a frame received from a port. */
  forward(from: Port, frame: FrameSource): void {
    const { counters } = from;
    counters.receivedFrames++;
    counters.receivedBytes += frame.length;
    if (this.watcher !== undefined) this.watcher(from, frame, false);
    const cause = this.#forward(from, frame);
    if (cause !== undefined) counters.drops[cause]++;
  }

  /** Why it is dropped, if it is. */
  #forward(from: Port, frame: FrameSource): DropCause | undefined {
    if (frame.length < FRAME_BYTES_MIN) return 'runt';
    // Destination in bytes 0 to 5, source in 6 to 11, EtherType after that; words are little-endian.
    const { words } = frame;
    const word = frame.offset >> 2;
    const word0 = words[word]!;
    const word1 = words[word + 1]!;
    const word2 = words[word + 2]!;
    if ((word1 & 0x1_0000) !== 0) return 'groupSource';
    if (!this.#classify(from, frame, words[word + 3]!)) return 'vlan';
    const passage = this.#passage;
    const { received, flooded } = from.rules;
    for (let i = 0; i < received.length; i++) {
      // INVARIANT: #classify has set the frame.
      const cause = received[i]!(passage as Passage);
      if (cause !== undefined) return cause;
    }
    const now = passage.nowSeconds;
    const inVlan = this.#vlan << 16;
    const learned = this.macTable.learn(
      inVlan | (word2 >>> 16),
      (word1 >>> 16) | (word2 << 16),
      from.slot,
      now,
    );
    if (learned === FORGED) return 'forged';
    if (learned === TOO_MANY) return 'stationLimit';
    const isGroup = (word0 & 1) !== 0;
    const slot = isGroup ? UNKNOWN : this.macTable.lookup(inVlan | (word1 & 0xffff), word0, now);
    if (slot !== UNKNOWN && !this.hub) {
      if (slot === from.slot) return 'local';
      this.#send(this.#ports[slot]!, frame, from);
      return undefined;
    }
    const cause = slot === UNKNOWN ? flooded?.(passage as Passage) : undefined;
    if (cause === undefined) this.#flood(from, frame);
    return cause;
  }

  /** The port that alone gets a frame, which has been forwarded; undefined for those that are flooded. */
  receiverOf(frame: FrameSource): Port | undefined {
    const word = frame.offset >> 2;
    const word0 = frame.words[word]!;
    if (this.hub || frame.length < FRAME_BYTES_MIN || (word0 & 1) !== 0) return undefined;
    const high = (this.#vlan << 16) | (frame.words[word + 1]! & 0xffff);
    return this.#ports[this.macTable.lookup(high, word0, this.#passage.nowSeconds)];
  }

  /** Publishes everything forwarded since the last time. */
  flush(): void {
    const dirty = this.#dirty;
    for (let port = dirty.pop(); port !== undefined; port = dirty.pop()) {
      port.dirty = false;
      port.outlet.publish();
    }
  }

  /** Finds the frame's VLAN and what it carries. False: the port does not take it. */
  #classify(from: Port, frame: FrameSource, word3: number): boolean {
    const passage = this.#passage;
    passage.frame = frame;
    passage.etherType = ((word3 & 0xff) << 8) | ((word3 >>> 8) & 0xff);
    passage.payloadAt = FRAME_BYTES_MIN;
    if (!this.#vlans) return true;
    this.#otherIsMade = false;
    this.#isTagged = passage.etherType === ETHERTYPE_VLAN;
    const { vlan } = from.rules;
    if (!this.#isTagged) {
      this.#vlan = vlan.native;
      return vlan.native !== 0 && passage.etherType !== ETHERTYPE_PROVIDER_VLAN;
    }
    this.#vlan = tagOf(frame);
    passage.payloadAt += 4;
    const at = frame.offset + FRAME_BYTES_MIN + 2;
    passage.etherType = (frame.bytes[at]! << 8) | frame.bytes[at + 1]!;
    const isTaggedTwice =
      passage.etherType === ETHERTYPE_VLAN || passage.etherType === ETHERTYPE_PROVIDER_VLAN;
    return vlan.takesTag(this.#vlan) && !isTaggedTwice;
  }

  #flood(from: Port, frame: FrameSource): void {
    const ports = this.#ports;
    for (let slot = 0; slot < ports.length; slot++) {
      const port = ports[slot];
      if (port !== undefined && port !== from) this.#send(port, frame, from);
    }
  }

  #send(port: Port, received: FrameSource, from: Port): void {
    const form = this.#vlans ? port.rules.vlan.formOf(this.#vlan) : undefined;
    if (form === 'none') return;
    const isOther = form !== undefined && (form === 'tagged') !== this.#isTagged;
    const frame = isOther ? this.#inOtherForm(received) : received;
    const cause = frame === undefined ? 'queueFull' : this.#push(port, frame, from);
    if (cause !== undefined) port.drop(cause);
  }

  #push(port: Port, frame: FrameSource, from: Port): DropCause | undefined {
    const { sent } = port.rules;
    for (let i = 0; i < sent.length; i++) {
      const cause = sent[i]!(this.#passage as Passage);
      if (cause !== undefined) return cause;
    }
    if (!port.outlet.push(frame, from.slot)) return 'queueFull';
    port.counters.sentFrames++;
    port.counters.sentBytes += frame.length;
    if (this.watcher !== undefined) this.watcher(port, frame, true);
    if (!port.dirty) {
      port.dirty = true;
      this.#dirty.push(port);
    }
    return undefined;
  }

  /** With a tag where it has none, or without; made once for all ports that want it so. */
  #inOtherForm(frame: FrameSource): FrameBuffer | undefined {
    this.#other ??= new FrameBuffer();
    if (this.#otherIsMade) return this.#other;
    const made = this.#isTagged ? withoutTag(frame, this.#other) : withTag(frame, this.#vlan, this.#other);
    this.#otherIsMade = made !== undefined;
    return made;
  }
}
