import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test, vi } from 'vitest';
import { BROADCAST, labSwitch, plugIn } from './testing/fake-guest.ts';
import { UmlClient } from './testing/uml-client.ts';

/** The next worker thread that this one starts. */
const nextWorker = (): Promise<Worker> => new Promise((resolve) => process.once('worker', resolve));

test('a switch that dies is replaced, and its VMs go on as if nothing had been', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-restart-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const restarts: Error[] = [];
  const started = nextWorker();
  const handle = await labSwitch({ onRestart: (cause) => restarts.push(cause) });
  onTestFinished(() => handle.close());
  const umlSocket = join(folder, 'ctl');
  await handle.createNetwork({ id: 'uml', name: 'uml', subnet: '10.9.0.0/24', umlSocket });
  const settings = { protection: {}, addresses: ['10.77.0.50'] };
  const [a, b] = [await plugIn(handle, 1, 'net', settings), await plugIn(handle, 2)];
  const gone = await plugIn(handle, 3);
  await gone.attachment.detach();
  await handle.configurePort('net', 'port-2', { vlan: { mode: 'access', id: 1 }, addresses: ['10.77.0.51'] });
  await handle.reserve('net', '10.77.0.99', '02:00:00:00:00:99');
  a.say(BROADCAST, 'before');
  await b.hear('before');
  let worker = await started;
  for (let round = 1; round <= 3; round++) {
    const next = nextWorker();
    const exited = once(worker, 'exit');
    const pending = handle.ports('net');
    void worker.terminate();
    await pending.catch((error: unknown) => expect(error).toMatchObject({ code: 'unreachable' }));
    await exited;
    worker = await next;
    a.say(BROADCAST, `after ${round}`);
    await b.hear(`after ${round}`);
    b.say(a.mac, `answer ${round}`);
    await a.hear(`answer ${round}`);
    expect(restarts).toHaveLength(round);
  }
  const ports = await handle.ports('net');
  expect(ports.map(({ id, addresses }) => [id, addresses])).toEqual([
    ['gateway', []],
    ['port-1', ['10.77.0.50']],
    ['port-2', ['10.77.0.51']],
  ]);
  a.say(BROADCAST, 'spoofed', '02:00:00:00:00:77');
  a.say(BROADCAST, 'end');
  expect(await b.hear('end')).toEqual([]);
  const client = await vi.waitFor(() => UmlClient.join(umlSocket), { timeout: 10_000 });
  await client.die();
});

test('a switch that dies again and again is given up, and every further call fails', {
  timeout: 60_000,
}, async () => {
  const died = Promise.withResolvers<Error>();
  const kill = (worker: Worker): void => {
    if (worker.threadName === 'switch') void worker.terminate();
  };
  const started = nextWorker();
  const handle = await labSwitch({ onError: died.resolve });
  process.on('worker', kill);
  onTestFinished(() => void process.off('worker', kill));
  void (await started).terminate();
  expect(await died.promise).toMatchObject({ code: 'unreachable' });
  await expect(handle.ports('net')).rejects.toMatchObject({ code: 'unreachable' });
  await handle.close();
});

test('closing is no error', async () => {
  let failure: Error | undefined;
  const handle = await labSwitch({
    onError: (error) => {
      failure = error;
    },
  });
  await handle.close();
  await expect(handle.leases('net')).rejects.toMatchObject({ code: 'unreachable' });
  expect(failure).toBeUndefined();
});
