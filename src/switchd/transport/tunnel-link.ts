/** Tunnels to one peer, a frame per packet: UML's `gre`, and `l2tpv3` with UDP or by IP itself. */
import koffi from 'koffi';
import { AppError } from '../../contracts/errors.ts';
import {
  BATCH,
  endOf,
  type FrameSlots,
  type FrameTransfer,
  SLOT_FRAME_BYTES_MAX,
} from '../uml/frame-slots.ts';
import { check, lastErrno, libc } from '../uml/libc.ts';
import { inetAddress } from './inet-address.ts';
import { type Link, type LinkOpener, receiveEnd } from './link.ts';
import {
  AF_INET,
  AF_INET6,
  CLOEXEC,
  MSG_DONTWAIT,
  MSG_TRUNC,
  more,
  NONBLOCK,
  opened,
  SOCK_DGRAM,
  SOCK_RAW,
} from './sockets.ts';
import {
  greHeader,
  type GreTransport,
  l2tpv3Header,
  type L2tpv3Transport,
  type TunnelHeader,
} from './tunnel-header.ts';

const IPPROTO_GRE = 47;
const IPPROTO_L2TP = 115;
/** The longest header of IPv4, then that of a tunnel, then a frame. */
const PACKET_BYTES_MAX = 60 + 24 + SLOT_FRAME_BYTES_MAX;

interface Socket {
  readonly local: string;
  readonly remote: string;
  readonly type: number;
  readonly protocol: number;
  readonly ports: readonly [local: number, remote: number];
}

export function greLink(tunnel: GreTransport): LinkOpener {
  const { local, remote } = tunnel;
  const socket = { local, remote, type: SOCK_RAW, protocol: IPPROTO_GRE, ports: [0, 0] as const };
  return (transfer) => openTunnel(transfer, socket, greHeader(tunnel));
}

export function l2tpv3Link(tunnel: L2tpv3Transport): LinkOpener {
  const { local, remote, local_port, remote_port } = tunnel;
  const socket =
    local_port === undefined || remote_port === undefined
      ? { local, remote, type: SOCK_RAW, protocol: IPPROTO_L2TP, ports: [0, 0] as const }
      : { local, remote, type: SOCK_DGRAM, protocol: 0, ports: [local_port, remote_port] as const };
  return (transfer) => openTunnel(transfer, socket, l2tpv3Header(tunnel));
}

function openTunnel(transfer: FrameTransfer, socket: Socket, header: TunnelHeader): Link {
  const { local, remote, type, protocol, ports } = socket;
  const isV6 = local.includes(':');
  const fd = libc().socket(isV6 ? AF_INET6 : AF_INET, type | NONBLOCK | CLOEXEC, protocol);
  if (fd < 0) throw cannotOpen(type, lastErrno());
  const own = inetAddress(local, ports[0]);
  opened(fd, () => void check(local, libc().bind(fd, own, own.length)));
  // A raw socket of IPv4 alone has the packets' own header before what they carry.
  const hasIpHeader = type === SOCK_RAW && !isV6;
  return new TunnelLink(transfer, fd, inetAddress(remote, ports[1]), header, hasIpHeader);
}

function cannotOpen(type: number, errno: string): Error {
  if (type === SOCK_RAW && (errno === 'EPERM' || errno === 'EACCES')) {
    return new AppError('forbidden', `a raw socket cannot be had: ${errno}`, {
      field: 'uplink',
      remedy: 'give the program CAP_NET_RAW, or use l2tpv3 with UDP ports',
    });
  }
  return Object.assign(new Error(`socket: ${errno}`), { code: errno });
}

class TunnelLink implements Link {
  readonly fd: number;
  readonly #transfer: FrameTransfer;
  readonly #to: Buffer;
  readonly #header: TunnelHeader;
  readonly #hasIpHeader: boolean;
  /** Native memory for a packet. */
  readonly #packet: bigint;
  readonly #bytes: Buffer;
  readonly #from: Buffer;
  readonly #size: Int32Array;

  constructor(transfer: FrameTransfer, fd: number, to: Buffer, header: TunnelHeader, hasIpHeader: boolean) {
    this.#transfer = transfer;
    this.fd = fd;
    this.#to = to;
    this.#header = header;
    this.#hasIpHeader = hasIpHeader;
    this.#packet = koffi.alloc('uint8_t', PACKET_BYTES_MAX);
    this.#bytes = Buffer.from(koffi.view(this.#packet, PACKET_BYTES_MAX));
    this.#from = Buffer.alloc(to.length);
    this.#size = Int32Array.of(to.length);
  }

  receive(): number | undefined {
    let count = 0;
    for (let turns = 0; turns < BATCH && count < BATCH; turns++) {
      this.#size[0] = this.#from.length;
      const flags = MSG_DONTWAIT | MSG_TRUNC;
      const length = more().recvfrom(this.fd, this.#packet, PACKET_BYTES_MAX, flags, this.#from, this.#size);
      if (length >= 0) count += this.#take(length, count) ? 1 : 0;
      else if (count > 0) return count;
      // What is told here is of a packet that was sent before, to a peer that is not there.
      else if (lastErrno() !== 'ECONNREFUSED') return receiveEnd(length, lastErrno());
    }
    return count;
  }

  /** Puts a packet's frame into a slot. False: it has none for us. */
  #take(length: number, slot: number): boolean {
    if (length > PACKET_BYTES_MAX) return false;
    const start = this.#hasIpHeader ? (this.#bytes[0]! & 15) * 4 : 0;
    const frame = this.#header.frameStart(this.#bytes, start, length);
    if (frame < 0 || length - frame > SLOT_FRAME_BYTES_MAX) return false;
    const { arena } = this.#transfer;
    arena.bytes.set(this.#bytes.subarray(frame, length), arena.select(slot).offset);
    arena.lengths[slot] = length - frame;
    return true;
  }

  send(from: FrameSlots, slots: Int32Array, count: number): ReturnType<Link['send']> {
    for (let i = 0; i < count; i++) {
      const { bytes, offset, length } = from.select(slots[i]!);
      const header = this.#header.next();
      this.#bytes.set(header);
      this.#bytes.set(bytes.subarray(offset, offset + length), header.length);
      const size = header.length + length;
      if (more().sendto(this.fd, this.#packet, size, MSG_DONTWAIT, this.#to, this.#to.length) >= 0) continue;
      // A peer that is not there, or a network that is down, may be back: the frame is lost, the link is not.
      if (endOf(lastErrno()) === 'full') return { sent: i, end: 'full' };
    }
    return { sent: count, end: 'done' };
  }

  close(): void {
    libc().close(this.fd);
    koffi.free(this.#packet);
  }
}
