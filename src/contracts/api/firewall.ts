import { z } from 'zod';
import { ListQuery, Name, pageOf, Ref, Timestamp } from './common.ts';

export const FIREWALL_RULES_MAX = 128;
export const NIC_FIREWALLS_MAX = 8;

const Port = z.int().min(0).max(65_535);

/** The first rule of a direction that matches decides. */
export const FirewallRule = z
  .strictObject({
    direction: z.enum(['ingress', 'egress']).meta({ description: 'ingress: to the VM; egress: from it' }),
    action: z.enum(['allow', 'deny']).default('allow'),
    protocol: z.enum(['any', 'tcp', 'udp', 'icmp']).default('any'),
    ports: z
      .tuple([Port, Port])
      .optional()
      .meta({ description: 'Of the receiver, first and last; all when missing' }),
    cidrs: z
      .array(z.union([z.cidrv4(), z.cidrv6()]))
      .min(1)
      .max(64)
      .optional()
      .meta({ description: 'The other side is in one of these networks; anywhere when missing' }),
    members: z.array(Ref).min(1).max(NIC_FIREWALLS_MAX).optional().meta({
      description:
        'Or the other side is a network card on the same network that has one of these firewalls, by its addresses',
    }),
  })
  .refine(({ ports }) => ports === undefined || ports[0] <= ports[1], {
    path: ['ports'],
    message: 'give the lower port first',
  })
  .refine(({ protocol, ports }) => ports === undefined || protocol === 'tcp' || protocol === 'udp', {
    path: ['ports'],
    message: 'only tcp and udp have ports',
  });
export type FirewallRule = z.infer<typeof FirewallRule>;

export const FirewallRules = z.array(FirewallRule).max(FIREWALL_RULES_MAX).meta({
  description:
    'In order. With rules in a direction, what none allows is dropped; without, everything passes. Answers always pass',
});

export const Firewall = z.object({
  id: z.string(),
  name: Name,
  tenant: z.string(),
  rules: FirewallRules,
  nics: z.int().meta({ description: 'Network cards that have it' }),
  created_at: Timestamp,
});
export type Firewall = z.infer<typeof Firewall>;
export const FirewallPage = pageOf(Firewall);
export type FirewallPage = z.infer<typeof FirewallPage>;

export const FirewallCreate = z.strictObject({ name: Name, rules: FirewallRules.default([]) });
export type FirewallCreate = z.infer<typeof FirewallCreate>;
export type FirewallCreateInput = z.input<typeof FirewallCreate>;

/** Takes effect at once on all network cards that have it. */
export const FirewallUpdate = z.strictObject({ name: Name.optional(), rules: FirewallRules.optional() });
export type FirewallUpdate = z.infer<typeof FirewallUpdate>;
export type FirewallUpdateInput = z.input<typeof FirewallUpdate>;
export const FirewallListQuery = ListQuery;
