/** Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in this host's byte order, as the format has it. */
const BLOCK = { section: 0x0a0d_0d0a, interface: 1, statistics: 5, packet: 6 } as const;
const BYTE_ORDER = 0x1a2b_3c4d;
const LINK_ETHERNET = 1;
const OPTION = { end: 0, name: 2, resolution: 9, flags: 2, received: 4, dropped: 5, application: 4 } as const;
/** 10^-9 seconds. */
const NANOSECONDS = 9;
const PACKET_HEADER_BYTES = 28;
/** Option flags with its header, end of options, and the block's length again. */
const PACKET_TAIL_BYTES = 8 + 4 + 4;

export const INBOUND = 1;
export const OUTBOUND = 2;

export function sectionHeader(): Uint8Array {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER, 0);
  body.writeUInt16LE(1, 4);
  body.writeBigInt64LE(-1n, 8);
  return block(BLOCK.section, [body, option(OPTION.application, Buffer.from('Umlaut')), END]);
}

export function interfaceDescription(name: string, snapLength: number): Uint8Array {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(LINK_ETHERNET, 0);
  body.writeUInt32LE(snapLength, 4);
  const resolution = option(OPTION.resolution, Buffer.of(NANOSECONDS));
  return block(BLOCK.interface, [body, option(OPTION.name, Buffer.from(name)), resolution, END]);
}

export interface Statistics {
  readonly interfaceId: number;
  readonly time: bigint;
  readonly received: bigint;
  readonly dropped: bigint;
}

export function interfaceStatistics({ interfaceId, time, received, dropped }: Statistics): Uint8Array {
  const body = Buffer.alloc(12);
  body.writeUInt32LE(interfaceId, 0);
  writeTime(body, 4, time);
  return block(BLOCK.statistics, [
    body,
    counter(OPTION.received, received),
    counter(OPTION.dropped, dropped),
    END,
  ]);
}

export function packetBytes(captured: number): number {
  return PACKET_HEADER_BYTES + ((captured + 3) & ~3) + PACKET_TAIL_BYTES;
}

export interface Packet {
  readonly interfaceId: number;
  /** Nanoseconds since 1970. */
  readonly time: bigint;
  readonly length: number;
  readonly direction: typeof INBOUND | typeof OUTBOUND;
}

/** Writes a packet's block, of `packetBytes`, and gives where the packet's bytes are in it. */
export function writePacket(into: Buffer, at: number, data: Uint8Array, packet: Packet): number {
  const total = packetBytes(data.length);
  into.writeUInt32LE(BLOCK.packet, at);
  into.writeUInt32LE(total, at + 4);
  into.writeUInt32LE(packet.interfaceId, at + 8);
  writeTime(into, at + 12, packet.time);
  into.writeUInt32LE(data.length, at + 20);
  into.writeUInt32LE(packet.length, at + 24);
  const dataAt = at + PACKET_HEADER_BYTES;
  into.set(data, dataAt);
  const tail = at + total - PACKET_TAIL_BYTES;
  into.fill(0, dataAt + data.length, tail);
  into.writeUInt16LE(OPTION.flags, tail);
  into.writeUInt16LE(4, tail + 2);
  into.writeUInt32LE(packet.direction, tail + 4);
  into.writeUInt32LE(OPTION.end, tail + 8);
  into.writeUInt32LE(total, tail + 12);
  return dataAt;
}

const END = Buffer.alloc(4);

function option(code: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(4 + ((value.length + 3) & ~3));
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt16LE(value.length, 2);
  bytes.set(value, 4);
  return bytes;
}

function counter(code: number, value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return option(code, bytes);
}

function block(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(parts);
  const bytes = Buffer.alloc(body.length + 12);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(bytes.length, 4);
  bytes.set(body, 8);
  bytes.writeUInt32LE(bytes.length, bytes.length - 4);
  return bytes;
}

/** Upper half first. */
function writeTime(into: Buffer, at: number, time: bigint): void {
  into.writeUInt32LE(Number(time >> 32n), at);
  into.writeUInt32LE(Number(time & 0xffff_ffffn), at + 4);
}
