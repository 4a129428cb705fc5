/** Limits and error policy of disks, between the API, the database and the machine. */
import type { DiskLimits as ApiLimits, DiskLimitsChange, DiskSettings } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { DiskErrorPolicy, DiskLimits } from '../../contracts/machine.ts';
import type { DiskRow } from '../../db/index.ts';

type Stored = Pick<DiskRow, 'limits' | 'on_error'>;

const NONE: Stored = { limits: '{}', on_error: 'report' };

export function limitsOf(row: Pick<DiskRow, 'limits'>): DiskLimits {
  // INVARIANT: `changedSettings` wrote it.
  return JSON.parse(row.limits) as DiskLimits;
}

export function limitsView(row: Pick<DiskRow, 'limits'>): ApiLimits {
  const { iops, iopsBurst, bytesPerSecond, bytesBurst } = limitsOf(row);
  return {
    iops: iops ?? null,
    iops_burst: iopsBurst ?? null,
    bytes_per_second: bytesPerSecond ?? null,
    bytes_burst: bytesBurst ?? null,
  };
}

/** `before` with what `change` names. `invalid_input` for a burst without its limit. */
export function changedSettings({ limits, on_error }: DiskSettings, before: Stored = NONE): Stored {
  const now = withChange(limitsView(before), limits ?? {});
  requireRate(now.iops, now.iops_burst, 'iops');
  requireRate(now.bytes_per_second, now.bytes_burst, 'bytes');
  const kept: DiskLimits = {
    iops: now.iops ?? undefined,
    iopsBurst: now.iops === null ? undefined : (now.iops_burst ?? undefined),
    bytesPerSecond: now.bytes_per_second ?? undefined,
    bytesBurst: now.bytes_per_second === null ? undefined : (now.bytes_burst ?? undefined),
  };
  return { limits: JSON.stringify(kept), on_error: on_error ?? before.on_error };
}

function withChange(before: ApiLimits, change: DiskLimitsChange): ApiLimits {
  const pick = (key: keyof ApiLimits): number | null => {
    const { [key]: value } = change;
    return value === undefined ? before[key] : value;
  };
  return {
    iops: pick('iops'),
    iops_burst: pick('iops_burst'),
    bytes_per_second: pick('bytes_per_second'),
    bytes_burst: pick('bytes_burst'),
  };
}

function requireRate(rate: number | null, burst: number | null, what: 'iops' | 'bytes'): void {
  if (rate !== null || burst === null) return;
  throw new AppError('invalid_input', `a burst of ${what} is given without its limit`, {
    field: `limits.${what}_burst`,
    remedy: `give limits.${what === 'iops' ? 'iops' : 'bytes_per_second'} too`,
  });
}

export function settingsOf(row: Stored): { readonly limits: DiskLimits; readonly onError: DiskErrorPolicy } {
  return { limits: limitsOf(row), onError: row.on_error };
}
