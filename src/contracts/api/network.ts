import { z } from 'zod';
import { ListQuery, Name, pageOf, Timestamp } from './common.ts';
import { Transport, TransportState } from './transport.ts';

const Cidr = z.cidrv4('write it as 10.0.77.0/24');

export const Lease = z.object({
  mac: z.string(),
  address: z.string(),
  host_name: z.string().nullable(),
});
export type Lease = z.infer<typeof Lease>;

/** What a network is made with, beside its name and subnet. */
export const NetworkSettings = z.strictObject({
  gateway: z
    .ipv4()
    .optional()
    .meta({ description: "The network's own address; the first of the subnet when missing" }),
  domain: z
    .string()
    .max(253)
    .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'write it as lab.internal')
    .optional()
    .meta({ description: 'Of the names of its VMs; NAME.internal when missing' }),
  pool: z
    .strictObject({ first: z.ipv4(), last: z.ipv4() })
    .optional()
    .meta({ description: 'Addresses that are given out; all but the first nine when missing' }),
  lease_seconds: z.int().min(60).max(2_592_000).optional(),
  uplink: Transport.optional().meta({ description: 'The way out of the network; none when missing' }),
  services: z.boolean().optional().meta({
    description: 'DHCP, DNS and the gateway; true when missing. False for a network whose uplink has its own',
  }),
  dns_servers: z
    .array(
      z
        .string()
        .max(60)
        .refine(
          (text) => text === 'host' || z.union([z.ipv4(), z.ipv6()]).safeParse(text).success,
          'write an IP address, or "host" for those that the host asks',
        ),
    )
    .max(4)
    .optional()
    .meta({
      description:
        'Asked for names that are not of the network; "host" when missing with the uplink nat, else none',
    }),
  ipv6: z
    .strictObject({
      prefix: z.cidrv6('write it as fd00:77::/64').meta({ examples: ['fd00:77::/64'] }),
      addressing: z.enum(['slaac', 'dhcp']).default('slaac').meta({
        description: 'slaac: stations make their addresses; dhcp: they get them by DHCPv6',
      }),
    })
    .optional()
    .meta({ description: 'Router advertisements and DHCPv6; none when missing' }),
  hub: z.boolean().optional().meta({ description: 'Every frame goes to every port' }),
  uml_socket: z.boolean().optional().meta({
    description: "A control socket for User-mode Linux and others that speak uml_switch's protocol",
  }),
});
export type NetworkSettings = z.infer<typeof NetworkSettings>;

export const Network = z.object({
  id: z.string(),
  name: Name,
  tenant: z.string(),
  shared: z.boolean().meta({ description: 'Other tenants may plug their VMs in' }),
  subnet: z.string().meta({ examples: ['10.0.77.0/24'] }),
  ...NetworkSettings.omit({ uml_socket: true }).shape,
  uml_socket: z.string().nullable().meta({ description: 'Path of the control socket' }),
  uplink_state: TransportState.nullable().meta({ description: 'Null without an uplink, and for tenants' }),
  ports: z.int().meta({ description: 'NICs plugged in now' }),
  leases: z.array(Lease),
  created_at: Timestamp,
});
export type Network = z.infer<typeof Network>;
export const NetworkPage = pageOf(Network);
export type NetworkPage = z.infer<typeof NetworkPage>;

export const NetworkCreate = NetworkSettings.extend({
  name: Name,
  subnet: Cidr,
  shared: z.boolean().default(false),
});
export type NetworkCreate = z.infer<typeof NetworkCreate>;
export type NetworkCreateInput = z.input<typeof NetworkCreate>;
/** Takes effect at once. What is missing stays; null is the default again. The subnet and the gateway's address stay. */
export const NetworkUpdate = z.strictObject({
  name: Name.optional(),
  shared: z.boolean().optional(),
  domain: NetworkSettings.shape.domain.nullable(),
  pool: NetworkSettings.shape.pool.nullable(),
  lease_seconds: NetworkSettings.shape.lease_seconds.nullable(),
  uplink: NetworkSettings.shape.uplink.nullable(),
  services: NetworkSettings.shape.services.nullable(),
  dns_servers: NetworkSettings.shape.dns_servers.nullable(),
  ipv6: NetworkSettings.shape.ipv6.nullable(),
  hub: NetworkSettings.shape.hub.nullable(),
  uml_socket: NetworkSettings.shape.uml_socket.nullable(),
});
export type NetworkUpdate = z.infer<typeof NetworkUpdate>;
export type NetworkUpdateInput = z.input<typeof NetworkUpdate>;
export const NetworkListQuery = ListQuery;

const Counter = z.number().meta({ description: 'Since the port was plugged in' });

/** Directions are those of what is plugged in: tx has left it, rx was brought to it. */
export const NetworkPort = z.object({
  id: z.string().meta({ examples: ['vm-1f0c2a9be8d34c57/eth0'] }),
  name: z.string().nullable().meta({ description: 'Host name of the VM; null for the network’s own ports' }),
  mac: z.string().meta({ description: 'Empty for a port with stations of any address behind it' }),
  addresses: z.array(z.string()),
  tx_frames: Counter,
  tx_bytes: Counter,
  rx_frames: Counter,
  rx_bytes: Counter,
  drops: z.record(z.string(), z.number()).meta({ description: 'Frames dropped, by cause' }),
});
export type NetworkPort = z.infer<typeof NetworkPort>;
export const NetworkPorts = z.object({ items: z.array(NetworkPort) });
export type NetworkPorts = z.infer<typeof NetworkPorts>;

export const NetworkStation = z.object({
  mac: z.string(),
  vlan: z.int(),
  port: z.string(),
  age_seconds: z.number(),
  fixed: z
    .boolean()
    .meta({ description: 'Nobody else can be there: a protected port’s or the network’s own' }),
});
export type NetworkStation = z.infer<typeof NetworkStation>;
export const NetworkStations = z.object({ items: z.array(NetworkStation) });
export type NetworkStations = z.infer<typeof NetworkStations>;

/** An address of a network and whose it is. Without a VM it is a reservation. */
export const NetworkAddress = z.object({
  address: z.string(),
  mac: z.string(),
  vm_id: z.string().nullable(),
  device: z.string().nullable(),
});
export type NetworkAddress = z.infer<typeof NetworkAddress>;
export const NetworkAddresses = z.object({ items: z.array(NetworkAddress) });
export type NetworkAddresses = z.infer<typeof NetworkAddresses>;

/** Keeps an address for a station that is no VM of ours. */
export const ReservationCreate = z.strictObject({
  address: z.ipv4(),
  mac: z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i, 'write it as 02:00:00:00:00:01'),
});
export type ReservationCreate = z.infer<typeof ReservationCreate>;

/** Limits of a capture; it ends at the first that is reached. */
export const CaptureQuery = z.strictObject({
  filter: z
    .string()
    .max(1000)
    .default('')
    .meta({
      description: 'As for tcpdump: tcp port 80 and not host 10.0.77.1',
      examples: ['arp or udp port 67'],
    }),
  snap_length: z.coerce
    .number()
    .int()
    .min(14)
    .max(61_440)
    .default(61_440)
    .meta({ description: 'Bytes of each frame' }),
  max_seconds: z.coerce.number().min(1).max(3600).default(60),
  max_bytes: z.coerce.number().int().min(1024).max(1_073_741_824).default(16_777_216),
});
export type CaptureQuery = z.infer<typeof CaptureQuery>;
export type CaptureQueryInput = z.input<typeof CaptureQuery>;
export const NetworkCaptureQuery = CaptureQuery.extend({
  port: z.string().max(80).optional().meta({ description: 'Of this port alone, both directions' }),
});
export const CAPTURE_TYPE = 'application/x-pcapng';
