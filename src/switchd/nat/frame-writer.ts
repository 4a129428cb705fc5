/** Builds the frames that the NAT sends to guests, in one buffer: headers up to IP here, the rest by the caller. */
import { fold, sumOf } from '../offload/offload.ts';
import { FrameBuffer } from '../ring/frame-buffer.ts';

export const ETHERNET_BYTES = 14;
export const MTU = 1500;
const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const TTL = 64;
const DONT_FRAGMENT = 0x4000;

/** A guest, as a destination. */
export interface Peer {
  readonly mac: Uint8Array;
  /** 4 or 16 bytes. */
  readonly address: Uint8Array;
}

export function ipHeaderBytes(address: Uint8Array): number {
  return address.length === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
}

/** Of the pseudo-header without the length. */
export function pseudoHeaderSum(a: Uint8Array, b: Uint8Array, protocol: number): number {
  return sumOf(a, 0, a.length) + sumOf(b, 0, b.length) + protocol;
}

export class FrameWriter {
  readonly frame = new FrameBuffer();
  readonly view: DataView;
  readonly #mac: Uint8Array;
  readonly #emit: (frame: FrameBuffer) => void;
  #identification = 0;

  /** `mac`: the sender's. `emit` has to copy the frame. */
  constructor(mac: Uint8Array, emit: (frame: FrameBuffer) => void) {
    this.#mac = mac;
    this.#emit = emit;
    const { buffer, byteOffset, byteLength } = this.frame.bytes;
    this.view = new DataView(buffer, byteOffset, byteLength);
  }

  /** Writes the headers of a packet that carries `length` bytes; gives where in `frame.bytes` those go. */
  begin(from: Uint8Array, to: Peer, protocol: number, length: number): number {
    const at = this.#ethernet(to, from.length === 4 ? 0x0800 : 0x86dd);
    const payload = at + ipHeaderBytes(from);
    this.frame.length = payload + length - this.frame.offset;
    this.frame.setOffload(0, 0);
    if (from.length === 4)
      this.#ipv4(at, from, to.address, { protocol, length, id: 0, fragment: DONT_FRAGMENT });
    else this.#ipv6(at, from, to.address, protocol, length);
    return payload;
  }

  /** Sends what `begin` has begun. */
  end(checksum = 0, segmentation = 0): void {
    this.frame.setOffload(checksum, segmentation);
    this.#emit(this.frame);
  }

  /** Sends a packet with this payload, over IPv4 in fragments if it has to be. One that cannot be sent is dropped. */
  send(from: Uint8Array, to: Peer, protocol: number, payload: Uint8Array): void {
    const room = MTU - ipHeaderBytes(from);
    if (payload.length <= room) {
      this.frame.bytes.set(payload, this.begin(from, to, protocol, payload.length));
      this.end();
    } else if (from.length === 4) {
      this.#fragments(from, to, protocol, payload);
    }
  }

  #fragments(from: Uint8Array, to: Peer, protocol: number, payload: Uint8Array): void {
    const room = (MTU - IPV4_HEADER_BYTES) & ~7;
    this.#identification = (this.#identification + 1) & 0xffff;
    for (let done = 0; done < payload.length; done += room) {
      const piece = payload.subarray(done, done + room);
      const isLast = done + room >= payload.length;
      const at = this.#ethernet(to, 0x0800);
      const fragment = (done / 8) | (isLast ? 0 : 0x2000);
      const fields = { protocol, length: piece.length, id: this.#identification, fragment };
      this.#ipv4(at, from, to.address, fields);
      this.frame.bytes.set(piece, at + IPV4_HEADER_BYTES);
      this.frame.length = at + IPV4_HEADER_BYTES + piece.length - this.frame.offset;
      this.end();
    }
  }

  #ethernet(to: Peer, type: number): number {
    const { bytes, offset } = this.frame;
    bytes.set(to.mac, offset);
    bytes.set(this.#mac, offset + 6);
    this.view.setUint16(offset + 12, type);
    return offset + ETHERNET_BYTES;
  }

  #ipv4(
    at: number,
    from: Uint8Array,
    to: Uint8Array,
    fields: {
      readonly protocol: number;
      readonly length: number;
      readonly id: number;
      readonly fragment: number;
    },
  ): void {
    const { view } = this;
    view.setUint16(at, 0x4500);
    view.setUint16(at + 2, IPV4_HEADER_BYTES + fields.length);
    view.setUint16(at + 4, fields.id);
    view.setUint16(at + 6, fields.fragment);
    view.setUint16(at + 8, (TTL << 8) | fields.protocol);
    view.setUint16(at + 10, 0);
    this.frame.bytes.set(from, at + 12);
    this.frame.bytes.set(to, at + 16);
    view.setUint16(at + 10, ~fold(sumOf(this.frame.bytes, at, IPV4_HEADER_BYTES)) & 0xffff);
  }

  #ipv6(at: number, from: Uint8Array, to: Uint8Array, protocol: number, length: number): void {
    const { view } = this;
    view.setUint32(at, 0x6000_0000);
    view.setUint16(at + 4, length);
    view.setUint16(at + 6, (protocol << 8) | TTL);
    this.frame.bytes.set(from, at + 8);
    this.frame.bytes.set(to, at + 24);
  }
}
