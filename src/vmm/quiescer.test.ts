import { expect, onTestFinished, test, vi } from 'vitest';
import { GuestAgent } from './guest-agent.ts';
import { Quiescer } from './quiescer.ts';

/** An agent in a guest: answers each line that it is sent, as the scripts say. */
class FakeGuest {
  readonly agent = new GuestAgent();
  readonly asked: string[] = [];
  frozen = false;

  constructor(answer: (request: { execute: string; arguments?: { id: number } }) => string | undefined) {
    let line = '';
    this.agent.onReadable(() => {
      queueMicrotask(() => {
        for (let bytes = this.agent.input(4096); bytes.length > 0; bytes = this.agent.input(4096)) {
          line += Buffer.from(bytes).toString('latin1').replaceAll('\xff', '');
        }
        const lines = line.split('\n');
        line = lines.pop() ?? '';
        for (const text of lines) {
          const request = JSON.parse(text) as { execute: string; arguments?: { id: number } };
          this.asked.push(request.execute);
          if (request.execute === 'guest-fsfreeze-freeze') this.frozen = true;
          if (request.execute === 'guest-fsfreeze-thaw') this.frozen = false;
          const said = answer(request);
          if (said !== undefined) this.agent.output(Buffer.from(said, 'latin1'));
        }
      });
    });
    this.agent.opened(true);
  }
}

/** With what the real agent says of the sentinel in the request. */
const sync = (id: number | undefined): string =>
  `left over from before\n{"return": 7}\n{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n\xff{"return": ${id}}\n`;

function quiescer(agent: GuestAgent, sysRq: (letter: string) => void = () => undefined): Quiescer {
  return new Quiescer({ agent, hasSerialConsole: true, isStopped: () => false, sysRq });
}

test('file systems are frozen for the moment alone', async () => {
  const guest: FakeGuest = new FakeGuest(({ execute, arguments: args }) =>
    execute === 'guest-sync-delimited' ? sync(args?.id) : '{"return": 2}\n',
  );
  const held = await quiescer(guest.agent).hold(true, (consistency) => ({
    consistency,
    frozen: guest.frozen,
  }));
  expect(held).toEqual({ consistency: 'guest-agent', frozen: true });
  expect(guest.frozen).toBe(false);
  expect(guest.asked).toEqual(['guest-sync-delimited', 'guest-fsfreeze-freeze', 'guest-fsfreeze-thaw']);
});

test('they thaw when the moment fails', async () => {
  const guest = new FakeGuest(({ execute, arguments: args }) =>
    execute === 'guest-sync-delimited' ? sync(args?.id) : '{"return": 1}\n',
  );
  const failed = quiescer(guest.agent).hold(true, () => {
    throw new Error('no');
  });
  await expect(failed).rejects.toThrow('no');
  expect(guest.frozen).toBe(false);
});

test('an agent that cannot freeze is let go on, and the kernel is asked to sync', async () => {
  const guest = new FakeGuest(({ execute, arguments: args }) =>
    execute === 'guest-sync-delimited'
      ? sync(args?.id)
      : execute === 'guest-fsfreeze-freeze'
        ? '{"error": {"class": "GenericError", "desc": "no"}}\n'
        : '{"return": 0}\n',
  );
  const kernel = quiescer(guest.agent, (letter) => {
    expect(letter).toBe('s');
    queueMicrotask(() => {
      kernel.printed(Buffer.from('[   12.3] sysrq: Emergency'));
      kernel.printed(Buffer.from(' Sync\r\n'));
      queueMicrotask(() => kernel.printed(Buffer.from('[   12.4] Emergency Sync complete\r\n')));
    });
  });
  expect(await kernel.hold(true, (consistency) => consistency)).toBe('synced');
  expect(guest.asked).toContain('guest-fsfreeze-thaw');
});

test('an agent that hangs once it has frozen leaves nothing frozen: the kernel is told to let go', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const guest: FakeGuest = new FakeGuest(({ execute, arguments: args }) => {
    if (execute === 'guest-sync-delimited' && !guest.frozen) return sync(args?.id);
    return execute === 'guest-fsfreeze-freeze' ? '{"return": 1}\n' : undefined;
  });
  const keys: string[] = [];
  const held = quiescer(guest.agent, (letter) => keys.push(letter)).hold(true, (consistency) => consistency);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(await held).toBe('guest-agent');
  expect(keys).toEqual(['j']);
});

test('an agent that hangs when it is to freeze is given up, and what it has frozen is let go', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const guest: FakeGuest = new FakeGuest(({ execute, arguments: args }) =>
    execute === 'guest-sync-delimited' && !guest.frozen ? sync(args?.id) : undefined,
  );
  const keys: string[] = [];
  const held = quiescer(guest.agent, (letter) => keys.push(letter)).hold(true, (consistency) => consistency);
  await vi.advanceTimersByTimeAsync(120_000);
  expect(await held).toBe('crash');
  expect(keys).toEqual(['j', 's']);
});

test('a guest that does not let its kernel sync is taken as it is', async () => {
  const agent = new GuestAgent();
  const kernel = quiescer(agent, () => {
    queueMicrotask(() => kernel.printed(Buffer.from('sysrq: This sysrq operation is disabled.\r\n')));
  });
  expect(await kernel.hold(true, (consistency) => consistency)).toBe('crash');
  const asked: string[] = [];
  const left = quiescer(agent, (letter) => asked.push(letter));
  expect(await left.hold(false, (consistency) => consistency)).toBe('crash');
  expect(asked).toEqual([]);
});
