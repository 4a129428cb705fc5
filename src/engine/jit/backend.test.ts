import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { expect, it, onTestFinished } from 'vitest';
import { memoryMap } from '../layout.ts';
import { type RemoteAnswer, RemoteBackend } from './backend.ts';
import type { CompileRequest } from './translator.ts';

it('is busy while many requests have no answer, and takes more as they are answered', () => {
  const { port1, port2 } = new MessageChannel();
  onTestFinished(() => port1.close());
  const options = { map: memoryMap(1 << 20, 1 << 20), tlbEntries: 16, threshold: 1 };
  const backend = new RemoteBackend(port1, new SharedArrayBuffer(0), new Map(), options);
  expect(receiveMessageOnPort(port2)?.message).toMatchObject({ options });
  const request = { record: 64 } as CompileRequest;
  let asked = 0;
  for (; !backend.isBusy; asked++) backend.request(request);
  expect(asked).toBeGreaterThan(1);
  const answer = (answered: number): void => {
    port2.postMessage({ answered, compiled: undefined, deferred: [], refused: [] } satisfies RemoteAnswer);
  };
  backend.collect();
  expect(backend.isBusy).toBe(true);
  answer(1);
  backend.collect();
  expect(backend.isBusy).toBe(false);
  backend.request(request);
  expect(backend.isBusy).toBe(true);
  answer(asked);
  expect(backend.collect()).toEqual({ modules: [], deferred: [], refused: [] });
  expect(backend.isBusy).toBe(false);
});
