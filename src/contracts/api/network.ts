import { z } from 'zod';
import { ListQuery, Name, pageOf, Timestamp } from './common.ts';

const Cidr = z.cidrv4('write it as 10.0.77.0/24');

export const Lease = z.object({ mac: z.string(), address: z.string(), host_name: z.string().nullable() });
export type Lease = z.infer<typeof Lease>;

export const Network = z.object({
  id: z.string(),
  name: Name,
  subnet: z.string().meta({ examples: ['10.0.77.0/24'] }),
  ports: z.int().meta({ description: 'NICs plugged in now' }),
  leases: z.array(Lease),
  created_at: Timestamp,
});
export type Network = z.infer<typeof Network>;
export const NetworkPage = pageOf(Network);
export type NetworkPage = z.infer<typeof NetworkPage>;

export const NetworkCreate = z.strictObject({ name: Name, subnet: Cidr });
export type NetworkCreate = z.infer<typeof NetworkCreate>;
export const NetworkListQuery = ListQuery;
