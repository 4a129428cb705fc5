import { z } from 'zod';
import { Ref } from './common.ts';

const Port = z.int().min(1).max(65535);
const Protocol = z.enum(['tcp', 'udp']);

/** A port of the host that leads to an address of a network whose uplink is `nat`. */
export const Forward = z.object({
  id: z.string(),
  protocol: Protocol,
  host_address: z.string(),
  host_port: Port,
  address: z.string().meta({ description: 'In the network' }),
  port: Port,
});
export type Forward = z.infer<typeof Forward>;
export const Forwards = z.object({ items: z.array(Forward) });
export type Forwards = z.infer<typeof Forwards>;

export const ForwardCreate = z
  .strictObject({
    protocol: Protocol.default('tcp'),
    host_address: z.union([z.ipv4(), z.ipv6()]).default('127.0.0.1'),
    host_port: Port,
    vm: Ref.optional().meta({ description: 'A VM with a network card on the network: its IPv4 address' }),
    address: z.union([z.ipv4(), z.ipv6()]).optional().meta({ description: 'In place of a VM' }),
    port: Port,
  })
  .refine(({ vm, address }) => (vm === undefined) !== (address === undefined), {
    message: 'name a VM or an address, and not both',
    path: ['vm'],
  });
export type ForwardCreate = z.infer<typeof ForwardCreate>;
export type ForwardCreateInput = z.input<typeof ForwardCreate>;
