import { describe, expect, it } from 'vitest';
import type { SendResult } from './datagram-socket.ts';
import { GIVE_UP_MS, Outbox, WAITING_BYTES_MAX } from './outbox.ts';

const A = Uint8Array.of(1, 0, 65);
const B = Uint8Array.of(1, 0, 66);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** An outbox to receivers whose state the test sets. */
function outbox() {
  const state = { result: 'sent' as SendResult, now: 0 };
  const sent: string[] = [];
  const box = new Outbox(
    (bytes, to) => {
      if (state.result === 'sent')
        sent.push(`${String.fromCharCode(to[2]!)}:${new TextDecoder().decode(bytes)}`);
      return state.result;
    },
    () => state.now,
  );
  return { box, state, sent };
}

describe('the outbox', () => {
  it('sends at once where there is room', () => {
    const { box, sent } = outbox();
    box.send([text('1'), text('2')], A);
    expect(sent).toEqual(['A:1', 'A:2']);
    expect(box.isEmpty).toBe(true);
  });

  it('keeps what finds no room, in order', () => {
    const { box, state, sent } = outbox();
    state.result = 'full';
    box.send([text('1')], A);
    box.send([text('x')], B);
    state.result = 'sent';
    box.send([text('2')], A);
    expect(sent).toEqual([]);
    box.flush();
    expect(sent).toEqual(['A:1', 'A:2', 'B:x']);
    expect(box.isEmpty).toBe(true);
  });

  it('gives up who takes nothing for long, and who has gone', () => {
    const { box, state, sent } = outbox();
    state.result = 'full';
    box.send([text('1')], A);
    state.now = GIVE_UP_MS - 1;
    box.flush();
    expect(box.isEmpty).toBe(false);
    state.now = GIVE_UP_MS;
    box.flush();
    expect(box.isEmpty).toBe(true);
    state.result = 'gone';
    box.send([text('1'), text('2')], B);
    expect(box.isEmpty).toBe(true);
    expect(sent).toEqual([]);
  });

  it('is bounded', () => {
    const { box, state } = outbox();
    state.result = 'full';
    box.send([new Uint8Array(WAITING_BYTES_MAX)], A);
    expect(box.isEmpty).toBe(false);
    box.send([text('1')], B);
    state.result = 'sent';
    box.flush();
    expect(box.isEmpty).toBe(true);
  });
});
