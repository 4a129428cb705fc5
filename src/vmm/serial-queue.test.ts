import { describe, expect, it } from 'vitest';
import { SerialQueues } from './serial-queue.ts';

describe('queues by key', () => {
  it('run tasks of one key one after another, those of others beside them, and keep nothing', async () => {
    const queues = new SerialQueues();
    const done: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = queues.run('a', async () => {
      await gate.promise;
      done.push('a1');
    });
    const second = queues.run('a', () => done.push('a2'));
    await queues.run('b', () => done.push('b'));
    expect(done).toEqual(['b']);
    expect(queues.size).toBe(1);
    gate.resolve();
    await Promise.all([first, second]);
    expect(done).toEqual(['b', 'a1', 'a2']);
    expect(queues.size).toBe(0);
  });

  it('go on after a task that fails, and keep nothing of it', async () => {
    const queues = new SerialQueues();
    const failing = queues.run('a', () => Promise.reject(new Error('no')));
    const next = queues.run('a', () => 'next');
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('next');
    expect(queues.size).toBe(0);
  });

  it('are settled when all has been done that was begun', async () => {
    const queues = new SerialQueues();
    const gate = Promise.withResolvers<void>();
    let done = 0;
    const tasks = ['a', 'b', 'a'].map((key) => queues.run(key, () => gate.promise.then(() => void done++)));
    const settled = queues.settled().then(() => expect(done).toBe(3));
    gate.resolve();
    await Promise.all([...tasks, settled]);
    await queues.settled();
  });
});
