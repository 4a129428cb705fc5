/** DHCPv4 messages (RFC 2131 §2) and options (RFC 2132). */
import { viewOf } from './view.ts';

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;

export const DHCP_TYPE = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const;

export const DHCP_OPTION = {
  subnetMask: 1,
  router: 3,
  dns: 6,
  hostName: 12,
  domainName: 15,
  broadcast: 28,
  requestedAddress: 50,
  leaseSeconds: 51,
  messageType: 53,
  serverId: 54,
  renewalSeconds: 58,
  rebindingSeconds: 59,
  clientId: 61,
} as const;

const BOOT_REQUEST = 1;
const BOOT_REPLY = 2;
const MAGIC_COOKIE = 0x6382_5363;
const OPTIONS_AT = 240;
const PAD = 0;
const END = 255;
const FLAG_BROADCAST = 0x8000;
/** Some clients drop replies shorter than BOOTP's fixed size (RFC 1542 §2.1). */
const REPLY_BYTES_MIN = 300;

export type DhcpOptions = ReadonlyMap<number, Uint8Array>;

export interface DhcpRequest {
  readonly type: number;
  readonly xid: number;
  readonly secs: number;
  /** The client cannot receive unicast before it is configured. */
  readonly broadcast: boolean;
  readonly clientIp: number;
  readonly relayIp: number;
  readonly clientMac: Uint8Array;
  readonly options: DhcpOptions;
}

/** A client's message; undefined when malformed, not from Ethernet, or without a message type. */
export function parseDhcpRequest(bytes: Uint8Array): DhcpRequest | undefined {
  if (bytes.length < OPTIONS_AT) return undefined;
  const view = viewOf(bytes);
  if (bytes[0] !== BOOT_REQUEST || bytes[1] !== 1 || bytes[2] !== 6) return undefined;
  if (view.getUint32(236) !== MAGIC_COOKIE) return undefined;
  const options = parseOptions(bytes.subarray(OPTIONS_AT));
  const type = options?.get(DHCP_OPTION.messageType);
  if (options === undefined || type === undefined || type.length !== 1) return undefined;
  return {
    type: type[0]!,
    xid: view.getUint32(4),
    secs: view.getUint16(8),
    broadcast: (view.getUint16(10) & FLAG_BROADCAST) !== 0,
    clientIp: view.getUint32(12),
    relayIp: view.getUint32(24),
    clientMac: bytes.subarray(28, 34),
    options,
  };
}

function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> | undefined {
  const options = new Map<number, Uint8Array>();
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at++]!;
    if (code === END) break;
    if (code === PAD) continue;
    const length = bytes[at++];
    if (length === undefined || at + length > bytes.length) return undefined;
    options.set(code, bytes.subarray(at, at + length));
    at += length;
  }
  return options;
}

/** An IPv4 address option, or undefined when missing or of the wrong size. */
export function addressOption(options: DhcpOptions, code: number): number | undefined {
  const value = options.get(code);
  return value?.length === 4 ? viewOf(value).getUint32(0) : undefined;
}

export interface DhcpReply {
  readonly type: number;
  readonly request: DhcpRequest;
  /** The client's address ('yiaddr'), 0 for none. */
  readonly yourIp: number;
  readonly serverIp: number;
  /** In order, after message type and server identifier. Values are at most 255 bytes. */
  readonly options: readonly (readonly [code: number, value: Uint8Array])[];
}

/** 'ciaddr' is the client's in an ACK only, as RFC 2131 table 3 has it. */
export function buildDhcpReply(reply: DhcpReply): Uint8Array {
  const { request } = reply;
  const options: (readonly [number, Uint8Array])[] = [
    [DHCP_OPTION.messageType, Uint8Array.of(reply.type)],
    [DHCP_OPTION.serverId, uint32(reply.serverIp)],
    ...reply.options,
  ];
  const size = options.reduce((sum, [, value]) => sum + 2 + value.length, OPTIONS_AT + 1);
  const bytes = new Uint8Array(Math.max(size, REPLY_BYTES_MIN));
  const view = viewOf(bytes);
  bytes[0] = BOOT_REPLY;
  bytes[1] = 1;
  bytes[2] = 6;
  view.setUint32(4, request.xid);
  view.setUint16(10, request.broadcast ? FLAG_BROADCAST : 0);
  view.setUint32(12, reply.type === DHCP_TYPE.ack ? request.clientIp : 0);
  view.setUint32(16, reply.yourIp);
  view.setUint32(24, request.relayIp);
  bytes.set(request.clientMac, 28);
  view.setUint32(236, MAGIC_COOKIE);
  let at = OPTIONS_AT;
  for (const [code, value] of options) {
    bytes[at] = code;
    bytes[at + 1] = value.length;
    bytes.set(value, at + 2);
    at += 2 + value.length;
  }
  bytes[at] = END;
  return bytes;
}

export function uint32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}
