/**
 * Which pair of queues a conversation is served by, with several of them (virtio 1.2, 5.1.6.5.5, "automatic receive steering"): what
 * arrives goes to the pair that the driver has last sent something of the same conversation by.
 */
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const IPV4 = { AT: 14, FRAGMENT: 20, PROTOCOL: 23, SOURCE: 26, END: 34 } as const;
const IPV6 = { PROTOCOL: 20, SOURCE: 22, END: 54 } as const;
const PORTS_BYTES = 4;
/** TCP and UDP. */
const WITH_PORTS: readonly number[] = [6, 17];
const ENTRIES = 256;
const NONE = -1;

export class Steering {
  readonly #pairOf = new Uint8Array(ENTRIES);
  /** Pairs that the driver uses. */
  #pairs = 1;

  get pairs(): number {
    return this.#pairs;
  }

  /** Others may be in use from now on. */
  use(pairs: number): void {
    this.#pairs = pairs;
    this.#pairOf.fill(0);
  }

  /** A frame that the driver has sent by a pair, the first bytes of it. */
  sent(head: Uint8Array, pair: number): void {
    if (this.#pairs === 1) return;
    const entry = entryOf(head);
    if (entry !== NONE) this.#pairOf[entry] = pair;
  }

  /** The pair that a frame is received by. */
  pairFor(frame: Uint8Array): number {
    if (this.#pairs === 1) return 0;
    const entry = entryOf(frame);
    return entry === NONE ? 0 : this.#pairOf[entry];
  }
}

/** The same for both directions of a conversation: the sum of its addresses and ports. */
function entryOf(frame: Uint8Array): number {
  if (frame.length < IPV4.END) return NONE;
  const type = (frame[12] << 8) | frame[13];
  if (type === ETHERTYPE_IPV4 && (frame[IPV4.AT] & 0x0f) === 5) {
    const isFragment = (frame[IPV4.FRAGMENT] & 0x3f) !== 0 || frame[IPV4.FRAGMENT + 1] !== 0;
    return hash(frame, IPV4.SOURCE, IPV4.END, !isFragment && WITH_PORTS.includes(frame[IPV4.PROTOCOL]));
  }
  if (type !== ETHERTYPE_IPV6 || frame.length < IPV6.END) return NONE;
  return hash(frame, IPV6.SOURCE, IPV6.END, WITH_PORTS.includes(frame[IPV6.PROTOCOL]));
}

function hash(frame: Uint8Array, from: number, end: number, hasPorts: boolean): number {
  const stop = hasPorts && frame.length >= end + PORTS_BYTES ? end + PORTS_BYTES : end;
  let sum = 0;
  for (let at = from; at < stop; at += 2) sum += (frame[at] << 8) | frame[at + 1];
  return (Math.imul(sum, 0x9e37_79b1) >>> 24) & (ENTRIES - 1);
}
