import { expect, it, vi } from 'vitest';
import { MemoryObjects } from '../testing/memory-objects.ts';
import { holdRemoteStore } from './store-lease.ts';

const HOUR_MS = 3_600_000;
const options = { onLost: () => undefined };
const inUse = { code: 'in_use' };

it('a remote is held by one at a time, and by its holder again after a kill', async () => {
  const objects = new MemoryObjects();
  const release = await holdRemoteStore(objects, 'one', options);
  await expect(holdRemoteStore(objects, 'two', options)).rejects.toMatchObject(inUse);
  // The one that was killed comes back.
  const again = await holdRemoteStore(objects, 'one', options);
  await release();
  await again();
  const two = await holdRemoteStore(objects, 'two', options);
  expect((await objects.list('leases')).map(({ name }) => name)).toEqual(['two.json']);
  await two();
  expect(await objects.list('leases')).toEqual([]);
});

it('of two that come at once not both get it', async () => {
  const objects = new MemoryObjects();
  const both = await Promise.allSettled(
    ['one', 'two'].map((name) => holdRemoteStore(objects, name, options)),
  );
  expect(both.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1);
});

it('what has not been renewed for long is of nobody; what cannot be read is of somebody', async () => {
  const objects = new MemoryObjects();
  const lease = { host: 'gone', pid: 1, renewedAt: Date.now() - HOUR_MS };
  await objects.put('leases/old.json', Buffer.from(JSON.stringify(lease)));
  await (await holdRemoteStore(objects, 'one', options))();
  expect(await objects.list('leases')).toEqual([]);
  for (const text of ['{', '{}', 'null', '{"host":1}']) {
    await objects.put('leases/odd.json', Buffer.from(text));
    await expect(holdRemoteStore(objects, 'one', options)).rejects.toMatchObject(inUse);
  }
});

it('its holder is told when it could not be renewed for long', async () => {
  vi.useFakeTimers();
  try {
    const objects = new MemoryObjects();
    const onLost = vi.fn();
    const release = await holdRemoteStore(objects, 'one', { onLost });
    const { put } = objects;
    objects.put = () => Promise.reject(new Error('no network'));
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(onLost).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(20 * 60_000);
    expect(onLost).toHaveBeenCalled();
    objects.put = put;
    await release();
  } finally {
    vi.useRealTimers();
  }
});
