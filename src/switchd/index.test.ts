import type { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { labSwitch } from './testing/fake-guest.ts';

test('reports that its thread has died, and fails every further call', async () => {
  const started = new Promise<Worker>((resolve) => process.once('worker', resolve));
  const died = Promise.withResolvers<Error>();
  const handle = await labSwitch({ onError: died.resolve });
  const worker = await started;
  const pending = handle.ports('net');
  void worker.terminate();
  expect(await died.promise).toMatchObject({ code: 'unreachable' });
  await pending.catch((error: unknown) => expect(error).toMatchObject({ code: 'unreachable' }));
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
