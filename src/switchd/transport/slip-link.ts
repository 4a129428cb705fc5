/**
 * IP packets on a pseudo-terminal, in SLIP: whoever attaches the other end (`slattach -p slip`, a modem program) is the peer. A
 * guest's card is Ethernet, so the peer seems to be one station that has all addresses.
 */
import { noteOpened } from '../uml/descriptors.ts';
import { BATCH, type FrameSlots, type FrameTransfer } from '../uml/frame-slots.ts';
import { check, lastErrno, libc } from '../uml/libc.ts';
import { ARP_REPLY, ARP_REQUEST, buildArp, parseArp } from '../wire/arp.ts';
import {
  buildEthernet,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  parseEthernet,
} from '../wire/ethernet.ts';
import { type Link, type LinkOpener, receiveEnd } from './link.ts';
import { encodeSlip, SlipDecoder } from './slip-codec.ts';
import { CLOEXEC, more, NONBLOCK, opened } from './sockets.ts';

const MTU = 1500;
const O_RDWR = 2;
const O_NOCTTY = 0o400;
const TERMIOS_BYTES = 60;
const PATH_BYTES = 64;
const READ_BYTES = 4096;
const PEER_MAC = Uint8Array.of(0x02, 0x55, 0x4d, 0x53, 0x4c, 0x50);
const BROADCAST = new Uint8Array(6).fill(255);

export function slipLink(): LinkOpener {
  return (transfer) => {
    const flags = O_RDWR | O_NOCTTY | NONBLOCK | CLOEXEC;
    const fd = check('/dev/ptmx', noteOpened(more().posix_openpt(flags)));
    let path = '';
    let other = -1;
    opened(fd, () => {
      check('grantpt', more().grantpt(fd));
      check('unlockpt', more().unlockpt(fd));
      const name = Buffer.alloc(PATH_BYTES);
      if (more().ptsname_r(fd, name, name.length) !== 0) throw new Error('ptsname_r');
      path = name.toString('latin1', 0, name.indexOf(0));
      // Kept open: without it, our end would have an error whenever nobody else has the other one.
      other = check(path, libc().open(path, flags));
      const settings = Buffer.alloc(TERMIOS_BYTES);
      check('tcgetattr', more().tcgetattr(other, settings));
      more().cfmakeraw(settings);
      check('tcsetattr', more().tcsetattr(other, 0, settings));
    });
    return new SlipLink(transfer, fd, other, path);
  };
}

class SlipLink implements Link {
  readonly fd: number;
  readonly path: string;
  readonly #other: number;
  readonly #transfer: FrameTransfer;
  readonly #decoder = new SlipDecoder(MTU);
  readonly #bytes = Buffer.alloc(READ_BYTES);
  readonly #inbox: Uint8Array[] = [];
  /** Of a packet whose beginning has been written. */
  #rest: Uint8Array = new Uint8Array(0);
  #guestMac: Uint8Array = BROADCAST;

  constructor(transfer: FrameTransfer, fd: number, other: number, path: string) {
    this.#transfer = transfer;
    this.fd = fd;
    this.#other = other;
    this.path = path;
  }

  get hasFrames(): boolean {
    return this.#inbox.length > 0;
  }

  receive(): number | undefined {
    if (this.#inbox.length === 0) {
      const length = more().read(this.fd, this.#bytes, READ_BYTES);
      if (length <= 0) return receiveEnd(-1, length === 0 ? 'EAGAIN' : lastErrno());
      for (const packet of this.#decoder.decode(this.#bytes.subarray(0, length))) this.#received(packet);
    }
    const { arena } = this.#transfer;
    const frames = this.#inbox.splice(0, BATCH);
    for (const [slot, frame] of frames.entries()) {
      arena.bytes.set(frame, arena.select(slot).offset);
      arena.lengths[slot] = frame.length;
    }
    return frames.length;
  }

  send(from: FrameSlots, slots: Int32Array, count: number): ReturnType<Link['send']> {
    for (let i = 0; i < count; i++) {
      if (!this.#flush()) return { sent: i, end: 'full' };
      const { bytes, offset, length } = from.select(slots[i]!);
      this.#take(bytes.subarray(offset, offset + length));
    }
    this.#flush();
    return { sent: count, end: 'done' };
  }

  close(): void {
    libc().close(this.fd);
    libc().close(this.#other);
  }

  #received(packet: Uint8Array): void {
    const type = packet[0]! >> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
    this.#inbox.push(buildEthernet({ destination: this.#guestMac, source: PEER_MAC, type, payload: packet }));
  }

  #take(bytes: Uint8Array): void {
    const frame = parseEthernet(bytes);
    if (frame === undefined) return;
    this.#guestMac = Uint8Array.from(frame.source);
    if (frame.type === ETHERTYPE_ARP) this.#answer(frame.payload);
    else if (frame.type === ETHERTYPE_IPV4 || frame.type === ETHERTYPE_IPV6)
      this.#rest = encodeSlip(frame.payload);
  }

  /** All addresses are the peer's, but the guest's own, which it may ask for to see whether it is free. */
  #answer(payload: Uint8Array): void {
    const request = parseArp(payload);
    if (request?.operation !== ARP_REQUEST || request.senderIp === 0 || request.senderIp === request.targetIp)
      return;
    const reply = buildArp({
      operation: ARP_REPLY,
      senderMac: PEER_MAC,
      senderIp: request.targetIp,
      targetMac: request.senderMac,
      targetIp: request.senderIp,
    });
    this.#inbox.push(
      buildEthernet({
        destination: request.senderMac,
        source: PEER_MAC,
        type: ETHERTYPE_ARP,
        payload: reply,
      }),
    );
  }

  /** False: the terminal takes no more now. */
  #flush(): boolean {
    while (this.#rest.length > 0) {
      const written = more().write(this.fd, this.#rest, this.#rest.length);
      if (written < 0) return false;
      this.#rest = this.#rest.subarray(written);
    }
    return true;
  }
}
