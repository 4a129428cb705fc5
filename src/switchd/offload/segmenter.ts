/** Does for a receiver that cannot what a sender has left to it: plain frames come out, of at most the sender's MTU. */
import { FrameBuffer } from '../ring/frame-buffer.ts';
import type { FrameSource } from '../ring/producer.ts';
import { checksumOf, finishChecksum, fold, GSO, segmentationOf, sumOf } from './offload.ts';

const ETHERNET_BYTES = 14;
const VLAN_BYTES = 4;
const ETHERTYPE = { IPV4: 0x0800, IPV6: 0x86dd, VLAN: 0x8100, SERVICE_VLAN: 0x88a8 } as const;
const TCP = 6;
const TCP_HEADER_BYTES = 20;
const TCP_FLAGS = { FIN: 1, PSH: 8, CWR: 0x80 } as const;
const IPV6_HEADER_BYTES = 40;
/** Less is no segment size that a stack chooses, and would make one frame into many. */
const SEGMENT_BYTES_MIN = 88;

/** Where the parts of a TCP segment are, from the start of the frame. */
interface Headers {
  readonly isIpv6: boolean;
  readonly ip: number;
  readonly tcp: number;
  readonly payload: number;
}

/**
 * Takes one frame at a time: `begin`, then `next` until it says false. `frame` is what `next` has made, valid until it is
 * called again. For one thread.
 */
export class Segmenter {
  readonly frame = new FrameBuffer();
  /** The whole frame: a copy, since other threads may write to what it came from. */
  readonly #whole = new FrameBuffer();
  #headers: Headers | undefined;
  #segmentBytes = 0;
  /** Of the whole frame's payload. */
  #done = 0;
  #total = 0;
  #left = false;

  /** False for a frame whose offloads do not fit it: it is to be dropped. */
  begin(source: FrameSource): boolean {
    const checksum = checksumOf(source);
    const segmentation = segmentationOf(source);
    const whole = this.#whole;
    whole.set(source.bytes.subarray(source.offset, source.offset + source.length));
    this.#headers = undefined;
    this.#left = false;
    if (segmentation === 0) {
      this.#left = finishChecksum(whole.bytes, whole.offset, whole.length, checksum);
      return this.#left;
    }
    const headers = readHeaders(
      whole.bytes.subarray(whole.offset, whole.offset + whole.length),
      segmentation >>> 16,
    );
    this.#segmentBytes = segmentation & 0xffff;
    if (headers === undefined || this.#segmentBytes < SEGMENT_BYTES_MIN) return false;
    this.#headers = headers;
    this.#done = 0;
    this.#total = whole.length - headers.payload;
    this.#left = true;
    return true;
  }

  next(): boolean {
    if (!this.#left) return false;
    const headers = this.#headers;
    if (headers === undefined) {
      const { bytes, offset, length } = this.#whole;
      this.frame.set(bytes.subarray(offset, offset + length));
      this.#left = false;
    } else {
      this.#segment(headers);
    }
    return true;
  }

  #segment(headers: Headers): void {
    const { bytes, offset } = this.#whole;
    const first = this.#done;
    const count = Math.min(this.#segmentBytes, this.#total - first);
    const isLast = first + count >= this.#total;
    const { frame } = this;
    frame.length = headers.payload + count;
    frame.setOffload(0, 0);
    frame.bytes.set(bytes.subarray(offset, offset + headers.payload), frame.offset);
    const from = offset + headers.payload + first;
    frame.bytes.set(bytes.subarray(from, from + count), frame.offset + headers.payload);
    const view = new DataView(frame.bytes.buffer, frame.offset, frame.length);
    patchIp(view, headers, Math.floor(first / this.#segmentBytes));
    patchTcp(view, headers, first, isLast);
    const ipBytes = frame.length - headers.tcp;
    const sum = fold(
      pseudoHeader(frame.bytes, frame.offset, headers, ipBytes) +
        sumOf(frame.bytes, frame.offset + headers.tcp, ipBytes),
    );
    view.setUint16(headers.tcp + 16, ~sum & 0xffff);
    this.#done = first + count;
    this.#left = !isLast;
  }
}

function readHeaders(frame: Uint8Array, kind: number): Headers | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  let ip = ETHERNET_BYTES;
  if (frame.length < ip + VLAN_BYTES) return undefined;
  let type = view.getUint16(12);
  if (type === ETHERTYPE.VLAN || type === ETHERTYPE.SERVICE_VLAN) {
    type = view.getUint16(16);
    ip += VLAN_BYTES;
  }
  const isIpv6 = (kind & ~GSO.ECN) === GSO.TCP6;
  if (!isIpv6 && (kind & ~GSO.ECN) !== GSO.TCP4) return undefined;
  if (type !== (isIpv6 ? ETHERTYPE.IPV6 : ETHERTYPE.IPV4)) return undefined;
  if (frame.length < ip + IPV6_HEADER_BYTES) return undefined;
  const version = frame[ip]! >> 4;
  if (version !== (isIpv6 ? 6 : 4) || frame[ip + (isIpv6 ? 6 : 9)] !== TCP) return undefined;
  const ipBytes = isIpv6 ? IPV6_HEADER_BYTES : (frame[ip]! & 15) * 4;
  const tcp = ip + ipBytes;
  if (ipBytes < 20 || frame.length < tcp + TCP_HEADER_BYTES) return undefined;
  const tcpBytes = (frame[tcp + 12]! >> 4) * 4;
  const payload = tcp + tcpBytes;
  if (tcpBytes < TCP_HEADER_BYTES || frame.length <= payload) return undefined;
  return { isIpv6, ip, tcp, payload };
}

/** Lengths, and for IPv4 the identification and the header's checksum. */
function patchIp(view: DataView, { isIpv6, ip, tcp }: Headers, index: number): void {
  if (isIpv6) {
    view.setUint16(ip + 4, view.byteLength - tcp);
    return;
  }
  view.setUint16(ip + 2, view.byteLength - ip);
  view.setUint16(ip + 4, (view.getUint16(ip + 4) + index) & 0xffff);
  view.setUint16(ip + 10, 0);
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  view.setUint16(ip + 10, ~fold(sumOf(bytes, ip, tcp - ip)) & 0xffff);
}

/** Sequence number and flags: FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2). */
function patchTcp(view: DataView, { tcp }: Headers, first: number, isLast: boolean): void {
  view.setUint32(tcp + 4, (view.getUint32(tcp + 4) + first) >>> 0);
  let flags = view.getUint8(tcp + 13);
  if (!isLast) flags &= ~(TCP_FLAGS.FIN | TCP_FLAGS.PSH);
  if (first > 0) flags &= ~TCP_FLAGS.CWR;
  view.setUint8(tcp + 13, flags);
  view.setUint16(tcp + 16, 0);
}

function pseudoHeader(bytes: Uint8Array, at: number, { isIpv6, ip }: Headers, tcpBytes: number): number {
  const addresses = isIpv6 ? sumOf(bytes, at + ip + 8, 32) : sumOf(bytes, at + ip + 12, 8);
  return addresses + TCP + tcpBytes;
}
