import { z } from 'zod';
import { LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, Timestamp } from './common.ts';
import { ResourceRef } from './operation.ts';

export const EventType = z.enum([
  'vm.created',
  'vm.updated',
  'vm.deleted',
  'vm.state',
  'vm.rebooted',
  'vm.console',
  'vm.log',
  'vm.panicked',
  'vm.hung',
  'vm.traced',
  'vm.login_prompt',
  'vm.notification',
  'disk.created',
  'disk.attached',
  'disk.detached',
  'disk.deleted',
  'disk.rebased',
  'disk.updated',
  'disk.error',
  'image.created',
  'image.deleted',
  'network.created',
  'network.updated',
  'network.deleted',
  'firewall.created',
  'firewall.updated',
  'firewall.deleted',
  'network.forward-created',
  'network.forward-deleted',
  'backup.created',
  'backup.deleted',
  'backup.restored',
  'snapshot.created',
  'snapshot.deleted',
  'snapshot.rolled_back',
  'layer.merged',
  'backup.verified',
  'backup.tested',
  'backup.missed',
  'backup-destination.created',
  'backup-destination.deleted',
  'backup-schedule.created',
  'backup-schedule.updated',
  'backup-schedule.deleted',
  'operation.created',
  'operation.progress',
  'operation.ended',
  'token.created',
  'token.deleted',
  'daemon.started',
  'daemon.stopping',
]);
export type EventType = z.infer<typeof EventType>;

/** `seq` only grows and never repeats, also across restarts of the daemon. */
export const Event = z.object({
  seq: z.int(),
  time: Timestamp,
  type: EventType,
  resource: ResourceRef.nullable(),
  data: z.record(z.string(), z.unknown()),
});
export type Event = z.infer<typeof Event>;

/** Events after `after`; `last_seq` is what to ask with next. */
export const EventPage = z.object({ items: z.array(Event), last_seq: z.int() });
export type EventPage = z.infer<typeof EventPage>;

export const EventListQuery = z.strictObject({
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(LIST_LIMIT_MAX).default(LIST_LIMIT_DEFAULT),
  type: z
    .string()
    .max(400)
    .optional()
    .meta({ description: 'Comma-separated; `vm.*` takes all of a resource' }),
});
/** WebSocket: every event after `after` (only new ones when missing), one JSON text message each. */
export const EventStreamQuery = z.strictObject({
  after: z.coerce.number().int().min(0).optional(),
  type: z.string().max(400).optional(),
  ticket: z.string().max(200).optional(),
});
export const EventTicket = z.object({ ticket: z.string(), path: z.string(), expires_at: Timestamp });
export type EventTicket = z.infer<typeof EventTicket>;
