import { expect, test } from 'vitest';
import { keptBackups } from './retention.ts';

const at = (...times: string[]) => times.map((time) => ({ id: time, takenAt: Date.parse(time) }));

test('the newest of each period is kept, and one backup may be kept for several reasons', () => {
  const backups = at(
    '2026-03-03T10:00:00Z',
    '2026-03-03T09:30:00Z',
    '2026-03-03T09:10:00Z',
    '2026-03-02T23:00:00Z',
    '2026-03-01T12:00:00Z',
    '2026-02-28T12:00:00Z',
    '2025-12-31T12:00:00Z',
    '2025-12-29T12:00:00Z',
    '2024-06-01T12:00:00Z',
  );
  const kept = keptBackups(backups.toReversed(), {
    last: 1,
    hourly: 2,
    daily: 2,
    weekly: 2,
    monthly: 2,
    yearly: 9,
  });
  expect(Object.fromEntries(kept)).toEqual({
    '2026-03-03T10:00:00Z': [
      'last 1',
      'hourly 2026-03-03T10+00:00',
      'daily 2026-03-03',
      'weekly 2026-W10',
      'monthly 2026-03',
      'yearly 2026',
    ],
    '2026-03-03T09:30:00Z': ['hourly 2026-03-03T09+00:00'],
    '2026-03-02T23:00:00Z': ['daily 2026-03-02'],
    '2026-03-01T12:00:00Z': ['weekly 2026-W09'],
    '2026-02-28T12:00:00Z': ['monthly 2026-02'],
    '2025-12-31T12:00:00Z': ['yearly 2025'],
    '2024-06-01T12:00:00Z': ['yearly 2024'],
  });
});

test('days begin where the time zone says, and the repeated hour is two hours', () => {
  const evening = at('2026-03-02T23:30:00Z', '2026-03-02T22:30:00Z');
  expect([...keptBackups(evening, { daily: 5 }).keys()]).toHaveLength(1);
  expect([...keptBackups(evening, { daily: 5 }, 'Europe/Vienna').keys()]).toHaveLength(2);
  const autumn = at('2026-10-25T00:30:00Z', '2026-10-25T01:30:00Z');
  expect([...keptBackups(autumn, { hourly: 5 }, 'Europe/Vienna').keys()]).toHaveLength(2);
  expect(() => keptBackups([], { last: 1 }, 'Mars/Olympus')).toThrow(
    expect.objectContaining({ code: 'invalid_input' }),
  );
});

test('the last week of a year may be the first of the next', () => {
  const weeks = at('2024-12-30T12:00:00Z', '2021-01-03T12:00:00Z');
  expect([...keptBackups(weeks, { weekly: 5 }).values()]).toEqual([['weekly 2025-W01'], ['weekly 2020-W53']]);
});
