/**
 * What is before a frame in a tunnel to one peer, as UML's vector transports have it (arch/um/drivers/vector_transports.c): GRE (RFC 2784,
 * 2890) and L2TPv3 (RFC 3931, 4.1.1 and 4.1.2). All numbers are big-endian.
 */
import type { Transport } from '../../contracts/api/transport.ts';

export type GreTransport = Extract<Transport, { kind: 'gre' }>;
export type L2tpv3Transport = Extract<Transport, { kind: 'l2tpv3' }>;
type Counter = GreTransport['sequence'];

const GRE = { KEY: 0x2000, SEQUENCE: 0x1000, ETHERNET: 0x6558 } as const;
/** Of data messages over UDP: no control bit, and version 3. */
const L2TPV3_DATA = 0x0003_0000;

export class TunnelHeader {
  /** Of frames that go out; the counter within is not set. */
  readonly #sent: Buffer;
  /** What frames that come in begin with, but for a counter. */
  readonly #expected: Buffer;
  readonly #counter: Counter;
  #count = 0;

  constructor(sent: readonly Buffer[], expected: readonly Buffer[], counter: Counter) {
    this.#sent = Buffer.concat([...sent, ...(counter === 'none' ? [] : [u32(0)])]);
    this.#expected = Buffer.concat(expected);
    this.#counter = counter;
  }

  /** The header of the next frame: until it is asked again. */
  next(): Buffer {
    if (this.#counter === 'counts') {
      this.#count = (this.#count + 1) >>> 0;
      this.#sent.writeUInt32BE(this.#count, this.#sent.length - 4);
    }
    return this.#sent;
  }

  /** Where the frame begins in a packet; -1 for a packet that is none of this tunnel's. What counters say is not looked at. */
  frameStart(packet: Buffer, start: number, end: number): number {
    const counterBytes = this.#counter === 'none' ? 0 : 4;
    const behind = start + this.#expected.length;
    if (behind + counterBytes > end) return -1;
    const isOurs = this.#expected.compare(packet, start, behind) === 0;
    return isOurs ? behind + counterBytes : -1;
  }
}

export function greHeader({ receive_key, send_key, sequence }: GreTransport): TunnelHeader {
  const flags = (send_key === undefined ? 0 : GRE.KEY) | (sequence === 'none' ? 0 : GRE.SEQUENCE);
  const first = u32(flags * 0x1_0000 + GRE.ETHERNET);
  const key = (value: number | undefined): Buffer[] => (value === undefined ? [] : [u32(value)]);
  return new TunnelHeader([first, ...key(send_key)], [first, ...key(receive_key)], sequence);
}

export function l2tpv3Header(tunnel: L2tpv3Transport): TunnelHeader {
  const first = tunnel.local_port === undefined ? [] : [u32(L2TPV3_DATA)];
  const cookie = (digits: string | undefined): Buffer => Buffer.from(digits ?? '', 'hex');
  return new TunnelHeader(
    [...first, u32(tunnel.send_session), cookie(tunnel.send_cookie)],
    [...first, u32(tunnel.receive_session), cookie(tunnel.receive_cookie)],
    tunnel.counter,
  );
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
