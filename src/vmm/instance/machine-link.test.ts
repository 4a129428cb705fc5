/** When the thread of a machine is ended. */
import { EventEmitter } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { FromMachine } from '../../contracts/ports.ts';
import type { MachineWorker } from '../ports.ts';
import { type MachineEvents, MachineLink } from './machine-link.ts';

const IGNORED = new Proxy({} as MachineEvents, { get: () => () => undefined });

/** A thread that does nothing but end when it is told to. */
class IdleWorker extends EventEmitter {
  terminated = 0;

  postMessage(): void {}

  terminate(): Promise<number> {
    this.terminated++;
    this.emit('exit', 1);
    return Promise.resolve(1);
  }

  say(message: FromMachine): void {
    this.emit('message', message);
  }
}

function start(): { worker: IdleWorker; link: MachineLink } {
  const worker = new IdleWorker();
  return { worker, link: new MachineLink(worker as unknown as MachineWorker, IGNORED) };
}

test('a thread that is killed while it comes up is ended when it has come up', async () => {
  const { worker, link } = start();
  const killed = link.kill('the operator said so');
  await setImmediate();
  expect(link.hasEnded).toBe(true);
  expect(worker.terminated).toBe(0);
  worker.say({ type: 'started' });
  await killed;
  expect(worker.terminated).toBe(1);
  await expect(link.ended).resolves.toMatchObject({ detail: 'the operator said so' });
});

test('one that is up is ended at once', async () => {
  const { worker, link } = start();
  worker.say({ type: 'started' });
  await link.kill('the operator said so');
  expect(worker.terminated).toBe(1);
});

test('one that ends by itself while it comes up is not waited for', async () => {
  const { worker, link } = start();
  worker.emit('exit', 3);
  await expect(link.ended).resolves.toMatchObject({ detail: 'its thread ended with status 3' });
});
