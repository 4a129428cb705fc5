import { z } from 'zod';
import { Ref } from './common.ts';
import { FirewallRules, NIC_FIREWALLS_MAX } from './firewall.ts';
import { Transport, TransportState } from './transport.ts';

export const NICS_MAX = 8;
export const NIC_ADDRESSES_MAX = 16;

const VlanId = z.int().min(1, 'use 1 to 4094').max(4094, 'use 1 to 4094');

/** IEEE 802.1Q. */
export const Vlan = z
  .discriminatedUnion('mode', [
    z.strictObject({ mode: z.literal('access'), id: VlanId }),
    z.strictObject({
      mode: z.literal('trunk'),
      allowed: z
        .array(z.tuple([VlanId, VlanId]))
        .min(1)
        .max(64)
        .meta({ description: 'Ranges of tagged VLANs, ends included: [[10, 19], [40, 40]]' }),
      native: VlanId.optional().meta({
        description: 'VLAN of untagged frames; they are dropped when missing',
      }),
    }),
  ])
  .meta({ description: 'Access port of one VLAN, untagged, or trunk port; access to VLAN 1 when missing' });
export type Vlan = z.infer<typeof Vlan>;

/** Each kind is on unless it is set to false, which an administrator may do. */
export const Protection = z
  .strictObject({
    mac: z.boolean().default(true).meta({ description: 'Frames from its own MAC address only' }),
    arp: z.boolean().default(true).meta({ description: 'ARP for its own addresses only' }),
    ipv4: z.boolean().default(true).meta({ description: 'IPv4 packets from its own addresses only' }),
    ipv6: z.boolean().default(true).meta({ description: 'IPv6 packets and neighbor discovery likewise' }),
    dhcp_server: z.boolean().default(true).meta({ description: 'No DHCP or DHCPv6 server' }),
    router_advertisement: z
      .boolean()
      .default(true)
      .meta({ description: 'No router advertisements or redirects' }),
  })
  .meta({ description: 'What the card may not send; all of it when missing' });
export type Protection = z.infer<typeof Protection>;

const Limit = z.number().positive().max(1e12);
export const RateLimit = z.strictObject({
  bits_per_second: Limit.optional(),
  burst_bytes: Limit.optional().meta({ description: 'At once; a tenth of a second’s when missing' }),
  packets_per_second: Limit.optional(),
  burst_packets: Limit.optional().meta({ description: 'At once; a tenth of a second’s when missing' }),
});
export type RateLimit = z.infer<typeof RateLimit>;

export const NicLimits = z
  .strictObject({ tx: RateLimit.optional(), rx: RateLimit.optional() })
  .meta({ description: 'tx: what the VM sends, rx: what it gets. Set by an administrator' });
export type NicLimits = z.infer<typeof NicLimits>;

/** What a network card may do. */
export const NicSettings = z.strictObject({
  vlan: Vlan.optional(),
  protection: Protection.optional(),
  limits: NicLimits.optional(),
  firewalls: z
    .array(Ref)
    .max(NIC_FIREWALLS_MAX)
    .optional()
    .meta({ description: 'Their rules follow its own, in this order' }),
  rules: FirewallRules.optional().meta({ description: 'Firewall rules of this card alone' }),
});
export type NicSettings = z.infer<typeof NicSettings>;

const Addresses = z
  .array(z.union([z.ipv4(), z.ipv6()]))
  .max(NIC_ADDRESSES_MAX)
  .meta({
    description:
      'IPv4 and IPv6 addresses; DHCP gives it the first of each. One is chosen when no IPv4 address is given',
  });

export const Nic = z.object({
  device: z.string().meta({ examples: ['eth0'] }),
  mac: z.string(),
  network: z.string().nullable().meta({ description: "The network's name; null with a transport" }),
  transport: Transport.optional(),
  transport_state: TransportState.nullable().optional().meta({
    description: 'For administrators, of a card with a transport; null while the VM does not run',
  }),
  addresses: z.array(z.string()).meta({ description: 'Its addresses, whether it uses them or not' }),
  ...NicSettings.shape,
});
export type Nic = z.infer<typeof Nic>;

export const NicCreate = NicSettings.extend({
  network: Ref.optional().meta({ description: '`default` when missing, unless it has a transport' }),
  transport: Transport.optional().meta({
    description:
      'Instead of a network: what its cable is joined with. A tenant may use `nat`; the guest is 10.0.2.15 there',
  }),
  mac: z
    .string()
    .regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i, 'write it as six hexadecimal bytes, 02:00:00:00:00:01')
    .optional(),
  addresses: Addresses.optional(),
});
export type NicCreate = z.infer<typeof NicCreate>;

/** Plugs a network card in; `device` is the first free one when missing. */
export const AttachNic = NicCreate.extend({
  device: z
    .string()
    .regex(/^eth\d$/, 'write it as eth0')
    .optional(),
});
export type AttachNic = z.infer<typeof AttachNic>;
export type AttachNicInput = z.input<typeof AttachNic>;

/** Takes effect at once. What is missing stays; null is the default again. */
export const NicUpdate = z.strictObject({
  addresses: Addresses.optional(),
  vlan: Vlan.nullable().optional(),
  protection: Protection.nullable().optional(),
  limits: NicLimits.nullable().optional(),
  firewalls: NicSettings.shape.firewalls.nullable(),
  rules: NicSettings.shape.rules.nullable(),
});
export type NicUpdate = z.infer<typeof NicUpdate>;
export type NicUpdateInput = z.input<typeof NicUpdate>;
