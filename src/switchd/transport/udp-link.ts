/** UML's transports over UDP, a frame per datagram: `mcast`, to all of a group, and `ucast`, to one peer. */
import { BATCH, DATAGRAM_BYTES_MAX, endOf, type FrameSlots, type FrameTransfer } from '../uml/frame-slots.ts';
import { check, lastErrno, libc } from '../uml/libc.ts';
import { INET_BYTES, inetAddress } from './inet-address.ts';
import { type Link, type LinkOpener, receiveEnd } from './link.ts';
import {
  AF_INET,
  CLOEXEC,
  MSG_DONTWAIT,
  more,
  NONBLOCK,
  opened,
  SOCK_DGRAM,
  setOption,
  uint32Option,
} from './sockets.ts';

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IP = 0;
const IP_MULTICAST_TTL = 33;
const IP_MULTICAST_LOOP = 34;
const IP_ADD_MEMBERSHIP = 35;

/**
 * Everybody in the group gets every datagram, also its sender, so what comes from our own address and port is left out: frames
 * are sent from a port of their own, which no other program on the host has.
 */
export function mcastLink(group: string, port: number, ttl: number): LinkOpener {
  return (transfer) => {
    const to = inetAddress(group, port);
    const fd = openUdp((socket) => {
      setOption(socket, SOL_SOCKET, SO_REUSEADDR, uint32Option(1));
      check(`${group}:${port}`, libc().bind(socket, to, to.length));
      setOption(socket, IPPROTO_IP, IP_ADD_MEMBERSHIP, Buffer.concat([to.subarray(4, 8), Buffer.alloc(4)]));
    });
    let sender: number | undefined;
    try {
      sender = openUdp((socket) => {
        setOption(socket, IPPROTO_IP, IP_MULTICAST_TTL, uint32Option(ttl));
        setOption(socket, IPPROTO_IP, IP_MULTICAST_LOOP, uint32Option(1));
        check(`${group}:${port}`, libc().connect(socket, to, to.length));
      });
      return new UdpLink(transfer, fd, sender, to, nameOf(sender));
    } catch (error) {
      libc().close(fd);
      if (sender !== undefined) libc().close(sender);
      throw error;
    }
  };
}

export function ucastLink(remote: string, localPort: number, remotePort: number): LinkOpener {
  return (transfer) => {
    const own = inetAddress('0.0.0.0', localPort);
    const fd = openUdp((socket) => void check(`port ${localPort}`, libc().bind(socket, own, own.length)));
    return new UdpLink(transfer, fd, fd, inetAddress(remote, remotePort), undefined);
  };
}

function openUdp(prepare: (fd: number) => void): number {
  const fd = check('socket', libc().socket(AF_INET, SOCK_DGRAM | NONBLOCK | CLOEXEC, 0));
  return opened(fd, () => prepare(fd));
}

function nameOf(fd: number): Buffer {
  const address = Buffer.alloc(INET_BYTES);
  check('getsockname', more().getsockname(fd, address, Int32Array.of(INET_BYTES)));
  return address;
}

class UdpLink implements Link {
  readonly fd: number;
  readonly #transfer: FrameTransfer;
  readonly #sender: number;
  readonly #to: Uint8Array;
  /** Our own address and port, whose datagrams are not for us. */
  readonly #own: Buffer | undefined;
  readonly #from = Buffer.alloc(INET_BYTES);
  readonly #size = Int32Array.of(INET_BYTES);

  constructor(transfer: FrameTransfer, fd: number, sender: number, to: Uint8Array, own: Buffer | undefined) {
    this.#transfer = transfer;
    this.fd = fd;
    this.#sender = sender;
    this.#to = to;
    this.#own = own;
  }

  receive(): number | undefined {
    const { arena } = this.#transfer;
    let count = 0;
    for (let turns = 0; turns < BATCH && count < BATCH; turns++) {
      this.#size[0] = INET_BYTES;
      const { fd } = this;
      const into = arena.address(count);
      const length = more().recvfrom(fd, into, DATAGRAM_BYTES_MAX, MSG_DONTWAIT, this.#from, this.#size);
      if (length < 0) return count > 0 ? count : receiveEnd(length, lastErrno());
      if (this.#isOwn()) continue;
      arena.lengths[count++] = length;
    }
    return count;
  }

  send(from: FrameSlots, slots: Int32Array, count: number): ReturnType<Link['send']> {
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      const length = from.lengths[slot]!;
      const result =
        this.#own === undefined
          ? more().sendto(this.#sender, from.address(slot), length, MSG_DONTWAIT, this.#to, INET_BYTES)
          : libc().write(this.#sender, from.address(slot), length);
      if (result >= 0) continue;
      const errno = lastErrno();
      // A peer that is not there, or a network that is down, may be back: the frame is lost, the link is not.
      if (endOf(errno) === 'full') return { sent: i, end: 'full' };
    }
    return { sent: count, end: 'done' };
  }

  close(): void {
    libc().close(this.fd);
    if (this.#sender !== this.fd) libc().close(this.#sender);
  }

  #isOwn(): boolean {
    return this.#own !== undefined && this.#own.compare(this.#from, 2, 8, 2, 8) === 0;
  }
}
