/** Which backups are kept: the newest, and the newest of each hour, day, week, month and year, so many of each. */
import type { KeepPolicy } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';

export interface Candidate {
  readonly id: string;
  /** Unix milliseconds. */
  readonly takenAt: number;
}

/** In the order that reasons are told in. */
const PERIODS = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
type Period = (typeof PERIODS)[number];

/** Why each backup that is kept is: its id to the rules that want it. Those that are missing go. */
export function keptBackups(
  candidates: readonly Candidate[],
  policy: KeepPolicy,
  timeZone = 'UTC',
): Map<string, string[]> {
  const newestFirst = candidates.toSorted((a, b) => b.takenAt - a.takenAt);
  const kept = new Map<string, string[]>();
  const keep = (id: string, reason: string): void => {
    kept.set(id, [...(kept.get(id) ?? []), reason]);
  };
  for (const [index, { id }] of newestFirst.slice(0, policy.last ?? 0).entries()) {
    keep(id, `last ${index + 1}`);
  }
  const nameOf = periodNames(timeZone);
  for (const period of PERIODS) {
    const seen = new Set<string>();
    for (const { id, takenAt } of newestFirst) {
      if (seen.size >= (policy[period] ?? 0)) break;
      const name = nameOf(period, takenAt);
      if (!seen.has(name)) keep(id, `${period} ${name}`);
      seen.add(name);
    }
  }
  return kept;
}

/** What the hour, day, … of a time is called in a time zone. `invalid_input` when there is no such zone. */
function periodNames(timeZone: string): (period: Period, time: number) => string {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-CA', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      timeZoneName: 'longOffset',
    });
  } catch (cause) {
    throw unknownTimeZone(timeZone, cause);
  }
  return (period, time) => {
    const parts = new Map(format.formatToParts(time).map(({ type, value }) => [type, value]));
    const [year, month, day] = [parts.get('year')!, parts.get('month')!, parts.get('day')!];
    switch (period) {
      case 'hourly':
        // With the offset: the hour that the end of summer time repeats is two.
        return `${year}-${month}-${day}T${parts.get('hour')}${parts.get('timeZoneName')!.replace('GMT', '')}`;
      case 'daily':
        return `${year}-${month}-${day}`;
      case 'weekly':
        return isoWeek(Date.UTC(Number(year), Number(month) - 1, Number(day)));
      case 'monthly':
        return `${year}-${month}`;
      case 'yearly':
        return year;
    }
  };
}

const DAY_MS = 86_400_000;

/** ISO 8601: weeks begin on Monday and belong to the year that their Thursday is in. */
function isoWeek(day: number): string {
  const thursday = day + (3 - ((new Date(day).getUTCDay() + 6) % 7)) * DAY_MS;
  const year = new Date(thursday).getUTCFullYear();
  const week = Math.floor((thursday - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}

export function unknownTimeZone(timeZone: string, cause: unknown): AppError {
  return new AppError('invalid_input', `there is no time zone ${JSON.stringify(timeZone)}`, {
    field: 'time_zone',
    remedy: 'name one of the IANA database, such as Europe/Vienna, or UTC',
    cause,
  });
}
