/** TCP segments (RFC 9293 §3.1): what is read of a guest's, and how ours are written. */
import { checksumWord, fold, GSO, segmentationWord, sumOf } from '../offload/offload.ts';
import { type FrameWriter, ipHeaderBytes, MTU, type Peer, pseudoHeaderSum } from './frame-writer.ts';
import { sendUnreachable } from './icmp.ts';
import { type Packet, PROTOCOL } from './packet.ts';

export const TCP_FLAG = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16 } as const;
const HEADER_BYTES = 20;
const CHECKSUM_AT = 16;
const IPV6_HEADER_BYTES = 40;
const QUOTED_TTL = 64;
const OPTION = { END: 0, NOP: 1, MSS: 2, WINDOW_SCALE: 3 } as const;
/** RFC 9293 §3.7.1, for a peer that does not tell. */
const MSS_DEFAULT = { ipv4: 536, ipv6: 1220 } as const;
const MSS_MIN = 88;
/** RFC 7323 §2.3 */
const SHIFT_MAX = 14;
/** Of ours: windows of up to 8 MiB. */
export const OUR_SHIFT = 7;

/** `a` before `b`, in sequence numbers of 32 bits. */
export function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

export interface SynOptions {
  readonly mss: number;
  /** Undefined: it does not scale, and neither may we. */
  readonly shift: number | undefined;
}

/** A guest's segment; valid until the next `read`. */
export class TcpSegment {
  packet: Packet | undefined;
  sequence = 0;
  acknowledgment = 0;
  flags = 0;
  /** As it stands in the header. */
  window = 0;
  /** Payload, from the start of the packet's. */
  dataAt = 0;
  dataBytes = 0;

  /** False when its header does not fit in. */
  read(packet: Packet): boolean {
    const { header, at } = packet;
    if (packet.length < HEADER_BYTES || packet.headerBytes < at + HEADER_BYTES) return false;
    const headerBytes = (header[at + 12]! >> 4) * 4;
    if (headerBytes < HEADER_BYTES || headerBytes > packet.length) return false;
    this.packet = packet;
    this.sequence = header.readInt32BE(at + 4);
    this.acknowledgment = header.readInt32BE(at + 8);
    this.flags = header[at + 13]!;
    this.window = header.readUInt16BE(at + 14);
    this.dataAt = headerBytes;
    this.dataBytes = packet.length - headerBytes;
    return true;
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** Sequence numbers that it takes. */
  get span(): number {
    return this.dataBytes + (this.has(TCP_FLAG.SYN) ? 1 : 0) + (this.has(TCP_FLAG.FIN) ? 1 : 0);
  }

  synOptions(): SynOptions {
    const packet = this.packet!;
    const { header, at } = packet;
    const most = MTU - ipHeaderBytes(packet.source) - HEADER_BYTES;
    let mss: number = packet.isIpv6 ? MSS_DEFAULT.ipv6 : MSS_DEFAULT.ipv4;
    let shift: number | undefined;
    const end = Math.min(at + this.dataAt, packet.headerBytes);
    for (let i = at + HEADER_BYTES; i < end; ) {
      const kind = header[i]!;
      if (kind === OPTION.END) break;
      if (kind === OPTION.NOP) {
        i++;
        continue;
      }
      const length = header[i + 1] ?? 0;
      if (length < 2 || i + length > end) break;
      if (kind === OPTION.MSS && length === 4) mss = header.readUInt16BE(i + 2);
      if (kind === OPTION.WINDOW_SCALE && length === 3) shift = Math.min(SHIFT_MAX, header[i + 2]!);
      i += length;
    }
    return { mss: Math.min(most, Math.max(MSS_MIN, mss)), shift };
  }
}

export interface OutSegment {
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  readonly dataBytes: number;
}

/** Writes the segments of one connection: its addresses and ports, and what its checksums always begin with. */
export class SegmentWriter {
  readonly #writer: FrameWriter;
  readonly #from: Uint8Array;
  readonly #to: Peer;
  readonly #ports: number;
  readonly #sum: number;
  readonly #tcpAt: number;

  constructor(writer: FrameWriter, from: Uint8Array, to: Peer, fromPort: number, toPort: number) {
    this.#writer = writer;
    this.#from = from;
    this.#to = to;
    this.#ports = ((fromPort << 16) | toPort) >>> 0;
    this.#sum = pseudoHeaderSum(from, to.address, PROTOCOL.TCP);
    this.#tcpAt = 14 + ipHeaderBytes(from);
  }

  get mss(): number {
    return MTU - ipHeaderBytes(this.#from) - HEADER_BYTES;
  }

  /** `fill` writes the payload at the offset given, into the frame's bytes. Payload over `mss` is for the guest to cut. */
  send(segment: OutSegment, mss: number, fill?: (bytes: Uint8Array, at: number) => void): void {
    const at = this.#begin(segment, 0);
    fill?.(this.#writer.frame.bytes, at + HEADER_BYTES);
    const kind = this.#from.length === 4 ? GSO.TCP4 : GSO.TCP6;
    const cut = segment.dataBytes > mss ? segmentationWord(kind, mss) : 0;
    this.#writer.end(checksumWord(this.#tcpAt, CHECKSUM_AT), cut);
  }

  /** A SYN, with our window's scale if the other side may have it. */
  sendSyn(segment: OutSegment, scaled: boolean): void {
    const options = scaled ? 8 : 4;
    const at = this.#begin(segment, options);
    const { view } = this.#writer;
    view.setUint32(at + HEADER_BYTES, ((OPTION.MSS << 24) | (4 << 16) | this.mss) >>> 0);
    if (scaled) {
      view.setUint32(
        at + HEADER_BYTES + 4,
        (OPTION.NOP << 24) | (OPTION.WINDOW_SCALE << 16) | (3 << 8) | OUR_SHIFT,
      );
    }
    this.#writer.end(checksumWord(this.#tcpAt, CHECKSUM_AT));
  }

  /** Tells the guest that its SYN, of this number, led nowhere: the host has no way there. */
  sendUnreachable(sequence: number): void {
    const ip = Buffer.alloc(ipHeaderBytes(this.#from));
    if (ip.length === IPV6_HEADER_BYTES) {
      ip.writeUInt32BE(0x6000_0000, 0);
      ip.writeUInt16BE(HEADER_BYTES, 4);
      ip.writeUInt16BE((PROTOCOL.TCP << 8) | QUOTED_TTL, 6);
      ip.set(this.#to.address, 8);
      ip.set(this.#from, 24);
    } else {
      ip.writeUInt16BE(0x4500, 0);
      ip.writeUInt16BE(ip.length + HEADER_BYTES, 2);
      ip.writeUInt16BE((QUOTED_TTL << 8) | PROTOCOL.TCP, 8);
      ip.set(this.#to.address, 12);
      ip.set(this.#from, 16);
      ip.writeUInt16BE(~fold(sumOf(ip, 0, ip.length)) & 0xffff, 10);
    }
    const tcp = Buffer.alloc(8);
    tcp.writeUInt16BE(this.#ports & 0xffff, 0);
    tcp.writeUInt16BE(this.#ports >>> 16, 2);
    tcp.writeInt32BE(sequence, 4);
    sendUnreachable(this.#writer, this.#from, this.#to, 'host', Buffer.concat([ip, tcp]));
  }

  #begin(segment: OutSegment, optionBytes: number): number {
    const length = HEADER_BYTES + optionBytes + segment.dataBytes;
    const at = this.#writer.begin(this.#from, this.#to, PROTOCOL.TCP, length);
    const { view } = this.#writer;
    view.setUint32(at, this.#ports);
    view.setInt32(at + 4, segment.sequence);
    view.setInt32(at + 8, segment.acknowledgment);
    view.setUint16(at + 12, ((HEADER_BYTES + optionBytes) << 10) | segment.flags);
    view.setUint16(at + 14, segment.window);
    view.setUint16(at + CHECKSUM_AT, fold(this.#sum + length));
    view.setUint16(at + 18, 0);
    return at;
  }
}

/** The answer to a segment that belongs to no connection (RFC 9293 §3.10.7.1). */
export function refuse(writer: SegmentWriter, segment: TcpSegment): void {
  if (segment.has(TCP_FLAG.RST)) return;
  const isAck = segment.has(TCP_FLAG.ACK);
  writer.send(
    {
      sequence: isAck ? segment.acknowledgment : 0,
      acknowledgment: isAck ? 0 : (segment.sequence + segment.span) | 0,
      flags: isAck ? TCP_FLAG.RST : TCP_FLAG.RST | TCP_FLAG.ACK,
      window: 0,
      dataBytes: 0,
    },
    writer.mss,
  );
}
