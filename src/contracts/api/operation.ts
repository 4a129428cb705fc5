import { z } from 'zod';
import { ErrorBody, ListQuery, pageOf, Ref, Timestamp, WaitTimeout } from './common.ts';

export const OperationKind = z.enum([
  'vm.start',
  'vm.halt',
  'vm.reboot',
  'vm.shutdown',
  'disk.shrink',
  'disk.export',
  'disk.import',
  'image.build',
  'image.import',
  'image.verify',
  'backup.create',
  'backup.restore',
  'snapshot.delete',
  'snapshot.rollback',
  'layer.merge',
  'backup.verify',
  'backup.test',
  'backup.collect',
  'backup.rebuild',
  'disk.rebase',
]);
export type OperationKind = z.infer<typeof OperationKind>;

export const OperationStatus = z.enum(['pending', 'running', 'succeeded', 'failed', 'canceled']);
export type OperationStatus = z.infer<typeof OperationStatus>;

export const ResourceType = z.enum([
  'vm',
  'image',
  'disk',
  'network',
  'firewall',
  'backup',
  'snapshot',
  'layer',
  'backup-destination',
  'backup-schedule',
  'operation',
  'token',
]);
export type ResourceType = z.infer<typeof ResourceType>;
export const ResourceRef = z.object({ type: ResourceType, id: z.string() });
export type ResourceRef = z.infer<typeof ResourceRef>;

export const OperationProgress = z.object({
  done: z.number(),
  total: z.number(),
  unit: z.enum(['bytes', 'steps', 'percent']),
  message: z.string().nullable(),
});
export type OperationProgress = z.infer<typeof OperationProgress>;

/** Work that outlives its request: a 202 answer names it in `Location`. */
export const Operation = z.object({
  id: z.string(),
  kind: OperationKind,
  status: OperationStatus,
  progress: OperationProgress.nullable(),
  resources: z.array(ResourceRef).meta({ description: 'What it works on and what it has made' }),
  may_cancel: z.boolean(),
  error: ErrorBody.nullable(),
  created_at: Timestamp,
  updated_at: Timestamp,
  ended_at: Timestamp.nullable(),
});
export type Operation = z.infer<typeof Operation>;
export const OperationPage = pageOf(Operation);
export type OperationPage = z.infer<typeof OperationPage>;

export const OperationListQuery = ListQuery.extend({
  status: OperationStatus.optional(),
  resource: Ref.optional().meta({ description: 'Id of a resource it works on' }),
});
export const OperationWaitQuery = z.strictObject({ timeout: WaitTimeout });
