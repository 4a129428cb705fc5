/** A network interface of the host, by a packet socket (packet(7)): its frames, and ours onto it. Needs CAP_NET_RAW. */
import { spawnSync } from 'node:child_process';
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
import { type Link, type LinkOpener, receiveEnd } from './link.ts';
import {
  AF_PACKET,
  CLOEXEC,
  MSG_DONTWAIT,
  MSG_TRUNC,
  more,
  NONBLOCK,
  opened,
  SOCK_RAW,
  setOption,
  uint32Option,
} from './sockets.ts';

const ETH_P_ALL = 3;
const ADDRESS_BYTES = 20;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_IGNORE_OUTGOING = 23;
const PACKET_MR_PROMISC = 1;
const INSTRUCTION_BYTES = 8;
const COMPILE_MS = 10_000;

export interface PacketOptions {
  readonly interface: string;
  readonly filter: string;
  readonly promiscuous: boolean;
}

export function packetLink(options: PacketOptions): LinkOpener {
  return (transfer) => {
    const index = more().if_nametoindex(options.interface);
    if (index === 0) {
      throw new AppError('not_found', `the host has no interface ${options.interface}`, {
        field: 'uplink.interface',
      });
    }
    const program = options.filter === '' ? undefined : compileFilter(options.filter);
    // Of no protocol, so that nothing comes before the filter is there.
    const fd = libc().socket(AF_PACKET, SOCK_RAW | NONBLOCK | CLOEXEC, 0);
    if (fd < 0) throw notPermitted(lastErrno());
    opened(fd, () => prepare(fd, index, program, options.promiscuous));
    return new PacketLink(transfer, fd);
  };
}

function prepare(fd: number, index: number, program: Uint8Array | undefined, promiscuous: boolean): void {
  if (program !== undefined) attach(fd, program);
  if (promiscuous) {
    const membership = Buffer.alloc(16);
    membership.writeUInt32LE(index, 0);
    membership.writeUInt16LE(PACKET_MR_PROMISC, 4);
    setOption(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership);
  }
  // The host's own frames come too: it is a station on the same network. Ours do not, as the kernel has it.
  setOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, uint32Option(0));
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(ETH_P_ALL, 2);
  address.writeUInt32LE(index, 4);
  check('bind', libc().bind(fd, address, address.length));
}

/** struct sock_fprog: a count and a pointer to instructions, which the kernel copies. */
function attach(fd: number, program: Uint8Array): void {
  const memory = koffi.alloc('uint8_t', program.length);
  try {
    new Uint8Array(koffi.view(memory, program.length)).set(program);
    const header = Buffer.alloc(16);
    header.writeUInt16LE(program.length / INSTRUCTION_BYTES, 0);
    header.writeBigUInt64LE(memory, 8);
    setOption(fd, SOL_SOCKET, SO_ATTACH_FILTER, header);
  } finally {
    koffi.free(memory);
  }
}

/** libpcap's compiler, by tcpdump: a line with the count, then one per instruction. */
export function compileFilter(filter: string): Uint8Array {
  const { error, status, stdout, stderr } = spawnSync('tcpdump', ['-ddd', '-y', 'EN10MB', '--', filter], {
    encoding: 'utf8',
    timeout: COMPILE_MS,
  });
  const field = 'uplink.filter';
  if (error !== undefined) {
    throw new AppError('invalid_input', 'filters are compiled by tcpdump, which is not there', {
      field,
      remedy: 'install the Debian package tcpdump, or leave the filter out',
    });
  }
  if (status !== 0) {
    const why = stderr.trim().split('\n').at(-1) ?? '';
    throw new AppError('invalid_input', `the filter "${filter}" is wrong: ${why}`, {
      field,
      remedy: 'write it as for tcpdump (pcap-filter(7))',
    });
  }
  const lines = stdout.trim().split('\n').slice(1);
  const bytes = Buffer.alloc(lines.length * INSTRUCTION_BYTES);
  for (const [index, line] of lines.entries()) {
    const [code = 0, jumpTrue = 0, jumpFalse = 0, operand = 0] = line.split(' ').map(Number);
    const at = index * INSTRUCTION_BYTES;
    bytes.writeUInt16LE(code, at);
    bytes.writeUInt8(jumpTrue, at + 2);
    bytes.writeUInt8(jumpFalse, at + 3);
    bytes.writeUInt32LE(operand >>> 0, at + 4);
  }
  return bytes;
}

function notPermitted(errno: string): AppError {
  return new AppError('forbidden', `a packet socket cannot be had: ${errno}`, {
    field: 'uplink',
    remedy: 'give the daemon CAP_NET_RAW, or use tuntap',
  });
}

class PacketLink implements Link {
  readonly fd: number;
  readonly #transfer: FrameTransfer;
  readonly #from = Buffer.alloc(ADDRESS_BYTES);
  readonly #size = Int32Array.of(ADDRESS_BYTES);

  constructor(transfer: FrameTransfer, fd: number) {
    this.#transfer = transfer;
    this.fd = fd;
  }

  receive(): number | undefined {
    const { arena } = this.#transfer;
    let count = 0;
    for (let turns = 0; turns < BATCH && count < BATCH; turns++) {
      this.#size[0] = ADDRESS_BYTES;
      const flags = MSG_DONTWAIT | MSG_TRUNC;
      const into = arena.address(count);
      const length = more().recvfrom(this.fd, into, SLOT_FRAME_BYTES_MAX, flags, this.#from, this.#size);
      if (length < 0) return count > 0 ? count : receiveEnd(length, lastErrno());
      // A large segment that the host's card has put together: no frame of a network.
      if (length <= SLOT_FRAME_BYTES_MAX) arena.lengths[count++] = length;
    }
    return count;
  }

  send(from: FrameSlots, slots: Int32Array, count: number): ReturnType<Link['send']> {
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      if (libc().write(this.fd, from.address(slot), from.lengths[slot]!) >= 0) continue;
      if (endOf(lastErrno()) === 'full') return { sent: i, end: 'full' };
    }
    return { sent: count, end: 'done' };
  }

  close(): void {
    libc().close(this.fd);
  }
}
