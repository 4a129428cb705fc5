/** What a network's uplink or a network card can be connected with, besides a network: UML's transports. */
import { z } from 'zod';
import { AppError } from '../errors.ts';

const PATH_BYTES_MAX = 107;
const SocketPath = z
  .string()
  .min(1)
  .refine((path) => !path.includes('\0') && new TextEncoder().encode(path).length <= PATH_BYTES_MAX, {
    message: `use a path of at most ${PATH_BYTES_MAX} bytes`,
  });
const InterfaceName = z
  .string()
  .regex(/^[A-Za-z0-9_.-]{1,15}$/, 'use the name of a network interface, of at most 15 characters');
const UdpPort = z.int().min(1).max(65535);
export const MCAST_DEFAULT = { group: '239.192.168.1', port: 1102, ttl: 1 } as const;
const MulticastGroup = z
  .ipv4()
  .refine((group) => /^2(2[4-9]|3\d)\./.test(group), 'use a group from 224.0.0.0 to 239.255.255.255');

/** What a tunnel's frames have that tell them from those of others. */
const Word = z.int().min(0).max(0xffff_ffff);
const Cookie = z
  .string()
  .regex(/^(?:[0-9a-f]{8}){1,2}$/, 'use 8 or 16 hexadecimal digits')
  .meta({ description: '4 or 8 bytes in hexadecimal' });
const Counter = z
  .enum(['none', 'counts', 'zero'])
  .default('none')
  .meta({ description: 'A number in each frame; what comes in is not checked' });
const Address = z.union([z.ipv4(), z.ipv6()]);
interface Ends {
  readonly local: string;
  readonly remote: string;
}
const isOneFamily = ({ local, remote }: Ends): boolean => local.includes(':') === remote.includes(':');
const ONE_FAMILY = { message: 'use two addresses of IPv4, or two of IPv6', path: ['remote'] };
const areBoth = (one: unknown, other: unknown): boolean => (one === undefined) === (other === undefined);

const SCHEMAS = {
  nat: z
    .strictObject({ kind: z.literal('nat') })
    .meta({ description: "The host's own connections: user-mode NAT, without privileges" }),
  daemon: z
    .strictObject({ kind: z.literal('daemon'), socket: SocketPath })
    .meta({ description: 'A port of a running uml_switch, by its control socket' }),
  vde: z
    .strictObject({
      kind: z.literal('vde'),
      folder: SocketPath,
      port: z.int().min(0).max(0xff_ffff).default(0).meta({ description: '0: any' }),
      description: z
        .string()
        .max(80)
        .regex(/^[\x20-\x7e]*$/)
        .default('umlaut'),
    })
    .meta({ description: 'A port of a running vde_switch, by its folder' }),
  mcast: z
    .strictObject({
      kind: z.literal('mcast'),
      group: MulticastGroup.default(MCAST_DEFAULT.group),
      port: UdpPort.default(MCAST_DEFAULT.port),
      ttl: z.int().min(0).max(255).default(MCAST_DEFAULT.ttl),
    })
    .meta({ description: 'All who have joined a multicast group' }),
  ucast: z
    .strictObject({
      kind: z.literal('ucast'),
      remote: z.ipv4(),
      local_port: UdpPort.default(MCAST_DEFAULT.port),
      remote_port: UdpPort.default(MCAST_DEFAULT.port),
    })
    .meta({ description: 'One peer, by UDP' }),
  tuntap: z
    .strictObject({ kind: z.literal('tuntap'), device: InterfaceName })
    .meta({ description: 'A TAP device of the host' }),
  pcap: z
    .strictObject({
      kind: z.literal('pcap'),
      interface: InterfaceName,
      filter: z.string().max(1000).default('').meta({ description: 'An expression as tcpdump takes it' }),
      promiscuous: z.boolean().default(true),
    })
    .meta({ description: 'A network interface of the host: its frames, and ours onto it' }),
  slip: z
    .strictObject({ kind: z.literal('slip') })
    .meta({ description: 'IP packets on a pseudo-terminal, in SLIP (RFC 1055)' }),
  gre: z
    .strictObject({
      kind: z.literal('gre'),
      local: Address,
      remote: Address,
      receive_key: Word.optional(),
      send_key: Word.optional(),
      sequence: Counter,
    })
    .refine(isOneFamily, ONE_FAMILY)
    .refine((gre) => areBoth(gre.receive_key, gre.send_key), {
      message: 'give both keys, or none',
      path: ['send_key'],
    })
    .meta({ description: 'One peer, by GRE with Ethernet frames in it (RFC 2784, 2890)' }),
  l2tpv3: z
    .strictObject({
      kind: z.literal('l2tpv3'),
      local: Address,
      remote: Address,
      local_port: UdpPort.optional().meta({ description: 'Absent: by IP itself' }),
      remote_port: UdpPort.optional(),
      receive_session: Word,
      send_session: Word,
      receive_cookie: Cookie.optional(),
      send_cookie: Cookie.optional(),
      counter: Counter,
    })
    .refine(isOneFamily, ONE_FAMILY)
    .refine((l2tp) => areBoth(l2tp.local_port, l2tp.remote_port), {
      message: 'give both ports, or none',
      path: ['remote_port'],
    })
    .refine((l2tp) => l2tp.receive_cookie?.length === l2tp.send_cookie?.length, {
      message: 'give both cookies, of one length, or none',
      path: ['send_cookie'],
    })
    .meta({ description: 'One peer, by a static L2TPv3 tunnel (RFC 3931), with UDP or without' }),
  bess: z.strictObject({ kind: z.literal('bess'), socket: SocketPath, local: SocketPath.optional() }).meta({
    description: 'A program that takes frames at a Unix socket of packets, as the BESS switch does',
  }),
} as const;

export const Transport = z.discriminatedUnion('kind', [
  SCHEMAS.nat,
  SCHEMAS.daemon,
  SCHEMAS.vde,
  SCHEMAS.mcast,
  SCHEMAS.ucast,
  SCHEMAS.tuntap,
  SCHEMAS.pcap,
  SCHEMAS.slip,
  SCHEMAS.gre,
  SCHEMAS.l2tpv3,
  SCHEMAS.bess,
]);
export type Transport = z.infer<typeof Transport>;
export type TransportInput = z.input<typeof Transport>;

/** Of a network's uplink or of a network card. */
export const TransportState = z.object({
  up: z.boolean(),
  detail: z.string().nullable().meta({ description: 'Why it is down' }),
  path: z.string().nullable().meta({ description: 'Of the pseudo-terminal of `slip`' }),
});
export type TransportState = z.infer<typeof TransportState>;

const FORMS =
  'nat, daemon:SOCKET, vde:FOLDER, mcast[:GROUP[:PORT[:TTL]]], ucast:ADDRESS:LOCAL-PORT:REMOTE-PORT, tuntap:DEVICE, pcap:INTERFACE[:FILTER], slip, gre:FIELD=VALUE,…, l2tpv3:FIELD=VALUE,… or bess:SOCKET';

/** A transport by what was written, as the schema checks it. Throws AppError `invalid_input` with `field`. */
export function checkTransport(input: unknown, field: string): Transport {
  const checked = Transport.safeParse(input);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  const where = issue?.path.join('.') ?? '';
  throw new AppError('invalid_input', `the transport's ${where || 'kind'}: ${issue?.message}`, {
    field,
    remedy: `write ${FORMS}`,
  });
}

/** `KIND[:ARGUMENT…]`, as the command line has it. Throws AppError `invalid_input` with `field`. */
export function parseTransport(text: string, field: string): Transport {
  const colon = text.indexOf(':');
  const kind = colon < 0 ? text : text.slice(0, colon);
  const rest = colon < 0 ? '' : text.slice(colon + 1);
  return checkTransport(fieldsOf(kind, rest), field);
}

function fieldsOf(kind: string, rest: string): unknown {
  const number = (value: string | undefined): number | undefined => (value ? Number(value) : undefined);
  const [first = '', second, third] = rest.split(':');
  switch (kind) {
    case 'daemon':
      return { kind, socket: rest };
    case 'vde':
      return { kind, folder: rest };
    case 'mcast':
      return { kind, group: first || undefined, port: number(second), ttl: number(third) };
    case 'ucast':
      return { kind, remote: first, local_port: number(second), remote_port: number(third) };
    case 'tuntap':
      return { kind, device: rest };
    case 'pcap':
      return { kind, interface: first, filter: rest.slice(first.length + 1) };
    case 'bess':
      return { kind, socket: rest };
    case 'gre':
    case 'l2tpv3':
      return { kind, ...Object.fromEntries(rest.split(',').map(fieldOf)) };
    default:
      return { kind };
  }
}

/** `FIELD=VALUE`, of a tunnel. */
function fieldOf(text: string): [string, unknown] {
  const equals = text.indexOf('=');
  const [name, value] = equals < 0 ? [text, ''] : [text.slice(0, equals), text.slice(equals + 1)];
  const isNumber = /_(?:port|session|key)$/.test(name) && value !== '';
  return [name, isNumber ? Number(value) : value];
}

/** The reverse of `parseTransport`, as far as its text goes. */
export function formatTransport(transport: Transport): string {
  switch (transport.kind) {
    case 'daemon':
      return `daemon:${transport.socket}`;
    case 'vde':
      return `vde:${transport.folder}`;
    case 'mcast':
      return `mcast:${transport.group}:${transport.port}:${transport.ttl}`;
    case 'ucast':
      return `ucast:${transport.remote}:${transport.local_port}:${transport.remote_port}`;
    case 'tuntap':
      return `tuntap:${transport.device}`;
    case 'pcap':
      return `pcap:${transport.interface}${transport.filter === '' ? '' : `:${transport.filter}`}`;
    case 'bess':
      return `bess:${transport.socket}`;
    case 'gre':
    case 'l2tpv3': {
      const fields = Object.entries(transport).filter(([name]) => name !== 'kind');
      return `${transport.kind}:${fields.map(([name, value]) => `${name}=${value}`).join(',')}`;
    }
    default:
      return transport.kind;
  }
}
