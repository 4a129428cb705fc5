import { expect, test } from 'vitest';
import { BURST_MAX, NOTIFICATION_BYTES_MAX, NotifyPort, PER_SECOND_MAX } from './notify-port.ts';

function port() {
  const state = { now: 0 };
  const got: { text: string; dropped: number }[] = [];
  const notify = new NotifyPort(
    (bytes, dropped) => got.push({ text: new TextDecoder().decode(bytes), dropped }),
    () => state.now,
  );
  const write = (text: string): void => notify.output(new TextEncoder().encode(text));
  return { state, got, write, notify };
}

test('each write is a notification, cut to the length of UML', () => {
  const { got, write, notify } = port();
  write('login reached\n');
  write('');
  write('x'.repeat(NOTIFICATION_BYTES_MAX + 1));
  expect(got).toEqual([
    { text: 'login reached\n', dropped: 0 },
    { text: 'x'.repeat(NOTIFICATION_BYTES_MAX), dropped: 0 },
  ]);
  expect(notify.input()).toHaveLength(0);
});

test('too many are dropped and counted', () => {
  const { got, write, state } = port();
  for (let count = 0; count < BURST_MAX + 7; count++) write('x');
  expect(got).toHaveLength(BURST_MAX);
  state.now = 1000;
  for (let count = 0; count < BURST_MAX; count++) write('y');
  expect(got).toHaveLength(BURST_MAX + PER_SECOND_MAX);
  expect(got[BURST_MAX]).toEqual({ text: 'y', dropped: 7 });
  expect(got.at(-1)).toEqual({ text: 'y', dropped: 0 });
});
