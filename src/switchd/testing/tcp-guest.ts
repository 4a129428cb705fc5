/** A guest's end of TCP connections for tests: segments written by hand, and read one by one. */
import { fold, sumOf } from '../offload/offload.ts';
import { parseIp } from '../wire/address.ts';
import { buildEthernet, ETHERTYPE_IPV4, parseEthernet } from '../wire/ethernet.ts';
import { buildIpv4, parseIpv4, PROTOCOL_TCP } from '../wire/ipv4.ts';
import { bytesOf, type FakeGuest } from './fake-guest.ts';

export const [FIN, SYN, RST, PSH, ACK] = [1, 2, 4, 8, 16] as const;

export interface Sent {
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledgment?: number;
  readonly window?: number;
  readonly data?: Uint8Array;
  readonly options?: readonly number[];
}

export interface Got {
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly window: number;
  readonly data: Buffer;
  readonly options: Buffer;
}

export interface Ends {
  readonly gatewayMac: string;
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
}

/** One connection's segments, both ways. */
export class TcpGuest {
  readonly guest: FakeGuest;
  readonly ends: Ends;

  constructor(guest: FakeGuest, ends: Ends) {
    this.guest = guest;
    this.ends = ends;
  }

  send({ flags, sequence, acknowledgment = 0, window = 65_535, data, options = [] }: Sent): void {
    const { gatewayMac, from, to, fromPort, toPort } = this.ends;
    const payload = data ?? new Uint8Array(0);
    const header = 20 + options.length;
    const segment = Buffer.alloc(header + payload.length);
    segment.writeUInt16BE(fromPort, 0);
    segment.writeUInt16BE(toPort, 2);
    segment.writeUInt32BE(sequence >>> 0, 4);
    segment.writeUInt32BE(acknowledgment >>> 0, 8);
    segment.writeUInt16BE((header << 10) | flags, 12);
    segment.writeUInt16BE(window, 14);
    segment.set(options, 20);
    segment.set(payload, header);
    const [source, destination] = [parseIp(from)!, parseIp(to)!];
    const packet = buildIpv4({ source, destination, protocol: PROTOCOL_TCP, payload: segment });
    const sum = fold(
      sumOf(packet, 12, 8) + PROTOCOL_TCP + segment.length + sumOf(packet, 20, segment.length),
    );
    packet[36] = (~sum >> 8) & 255;
    packet[37] = ~sum & 255;
    const mac = bytesOf(this.guest.mac);
    const frame = { destination: bytesOf(gatewayMac), source: mac, type: ETHERTYPE_IPV4, payload: packet };
    this.guest.nic.send([buildEthernet(frame)]);
  }

  /** The next segment of the other side that `matches`. */
  async take(matches: (segment: Got) => boolean = () => true): Promise<Got> {
    let found: Got | undefined;
    await this.guest.take((frame) => {
      const segment = this.#read(frame);
      if (segment === undefined || !matches(segment)) return false;
      found = segment;
      return true;
    });
    return found!;
  }

  #read(frame: Uint8Array): Got | undefined {
    const ethernet = parseEthernet(frame);
    const packet = ethernet?.type === ETHERTYPE_IPV4 ? parseIpv4(ethernet.payload) : undefined;
    if (packet?.protocol !== PROTOCOL_TCP) return undefined;
    const bytes = Buffer.from(packet.payload);
    if (bytes.readUInt16BE(0) !== this.ends.toPort || bytes.readUInt16BE(2) !== this.ends.fromPort)
      return undefined;
    const header = (bytes[12]! >> 4) * 4;
    return {
      flags: bytes[13]!,
      sequence: bytes.readUInt32BE(4),
      acknowledgment: bytes.readUInt32BE(8),
      window: bytes.readUInt16BE(14),
      data: bytes.subarray(header),
      options: bytes.subarray(20, header),
    };
  }
}
