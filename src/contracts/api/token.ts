import { z } from 'zod';
import { ListQuery, Name, pageOf, Timestamp } from './common.ts';

/** admin: everything. user: its tenant's VMs, disks and backups. viewer: the same, reading only. */
export const TokenRole = z.enum(['admin', 'user', 'viewer']);
export type TokenRole = z.infer<typeof TokenRole>;

export const Token = z.object({
  id: z.string(),
  name: Name,
  role: TokenRole,
  tenant: z.string(),
  created_at: Timestamp,
});
export type Token = z.infer<typeof Token>;
export const TokenPage = pageOf(Token);
export type TokenPage = z.infer<typeof TokenPage>;

export const TokenCreate = z.strictObject({ name: Name, role: TokenRole, tenant: Name.default('default') });
export type TokenCreate = z.infer<typeof TokenCreate>;

/** The only answer that has the secret: the daemon keeps its hash. */
export const TokenSecret = Token.extend({ secret: z.string() });
export type TokenSecret = z.infer<typeof TokenSecret>;
export const TokenListQuery = ListQuery;
