import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MemoryObjects } from '../testing/memory-objects.ts';
import { hasEnded, type LeaseHolder, ownProcess } from './lease-holder.ts';
import { holdRemoteStore, StoreLease } from './store-lease.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const options = { onLost: () => undefined };
const takeOver = { ...options, takeOver: true };
const inUse = { code: 'in_use' };
const interrupted = { code: 'interrupted' };

afterEach(() => void vi.useRealTimers());

const names = async (objects: MemoryObjects) => (await objects.list('leases')).map(({ name }) => name);

function putLease(objects: MemoryObjects, name: string, lease: Partial<LeaseHolder> = {}, ageMs = 0) {
  const whole = { host: 'there', pid: 1, ...lease, token: 'theirs', renewedAt: Date.now() - ageMs };
  return objects.put(`leases/${name}`, Buffer.from(JSON.stringify(whole)));
}

/** This process, as another one that has ended. */
async function endedProcess(): Promise<LeaseHolder> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return { ...ownProcess(), pid: child.pid! };
}

describe('a remote', () => {
  it('is held by one at a time, and by its holder again after a kill', async () => {
    const objects = new MemoryObjects();
    const one = await holdRemoteStore(objects, 'one', options);
    await expect(holdRemoteStore(objects, 'two', options)).rejects.toMatchObject(inUse);
    // The one that was killed comes back. What it had before has no say any more.
    const again = await holdRemoteStore(objects, 'one', options);
    await expect(new StoreLease(objects, one.claim).confirm()).rejects.toMatchObject(interrupted);
    await one.release();
    expect(await names(objects)).toEqual(['one.json']);
    await again.release();
    const two = await holdRemoteStore(objects, 'two', options);
    expect(await names(objects)).toEqual(['two.json']);
    await two.release();
    expect(await names(objects)).toEqual([]);
  });

  it.each([false, true])('that two want at once is not had by both (taken over: %s)', async (force) => {
    const objects = new MemoryObjects();
    const wish = { ...options, takeOver: force };
    const both = await Promise.allSettled(['one', 'two'].map((name) => holdRemoteStore(objects, name, wish)));
    expect(both.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1);
  });

  it('is of nobody when its lease has not been renewed for long, and of somebody when that cannot be read', async () => {
    const objects = new MemoryObjects();
    await putLease(objects, 'old.json', {}, HOUR_MS);
    await (await holdRemoteStore(objects, 'one', options)).release();
    expect(await names(objects)).toEqual([]);
    for (const text of ['{', '{}', 'null', '{"host":1}', '{"host":"a","pid":-1,"renewedAt":0}']) {
      await objects.put('leases/odd.json', Buffer.from(text));
      await expect(holdRemoteStore(objects, 'one', options)).rejects.toMatchObject(inUse);
    }
    expect(await names(objects)).toEqual(['odd.json']);
  });

  it('is refused until its daemon is taken to be gone, and that is told', async () => {
    const objects = new MemoryObjects();
    const renewedAt = Date.parse('2030-05-06T07:08:09Z');
    vi.useFakeTimers({ now: renewedAt, toFake: ['Date'] });
    await putLease(objects, 'other.json', { host: 'attic', pid: 77 });
    await expect(holdRemoteStore(objects, 'one', options)).rejects.toMatchObject({
      ...inUse,
      field: 'destination',
      message: expect.stringContaining('the daemon with pid 77 on attic'),
      remedy: expect.stringMatching(/2030-05-06T07:38:09.*--take-over.*destroys/),
    });
    vi.setSystemTime(renewedAt + 31 * MINUTE_MS);
    await holdRemoteStore(objects, 'one', options);
    expect(await names(objects)).toEqual(['one.json']);
  });

  it('is free at once when its daemon was a process of this machine that has ended', async () => {
    const objects = new MemoryObjects();
    await putLease(objects, 'other.json', ownProcess());
    await expect(holdRemoteStore(objects, 'one', options)).rejects.toMatchObject(inUse);
    await putLease(objects, 'other.json', await endedProcess());
    await holdRemoteStore(objects, 'one', options);
    expect(await names(objects)).toEqual(['one.json']);
  });

  it('is taken over on request, and whoever had it finds out', async () => {
    const objects = new MemoryObjects();
    await objects.put('leases/odd.json', Buffer.from('{'));
    const one = await holdRemoteStore(objects, 'one', takeOver);
    await holdRemoteStore(objects, 'two', takeOver);
    expect(await names(objects)).toEqual(['two.json']);
    const lease = new StoreLease(objects, one.claim);
    await expect(lease.confirm()).rejects.toMatchObject(interrupted);
    await expect(lease.renew()).rejects.toMatchObject(interrupted);
    expect(await names(objects)).toEqual(['two.json']);
  });
});

describe('a process', () => {
  it('is known to have ended only where it could be seen', async () => {
    const own = ownProcess();
    expect(own.boot).not.toBe('');
    expect(hasEnded(own)).toBe(false);
    const gone = await endedProcess();
    expect(hasEnded(gone)).toBe(true);
    // A pid that is used again.
    expect(hasEnded({ ...own, started: '1' })).toBe(true);
    for (const elsewhere of [{ boot: 'another' }, { namespaces: 'another' }, { boot: '' }]) {
      expect(hasEnded({ ...gone, ...elsewhere })).toBe(false);
    }
    // A system that tells nothing.
    const blind = { boot: '', namespaces: '', started: '' };
    expect(hasEnded({ ...gone, ...blind }, { ...own, ...blind })).toBe(false);
  });
});

describe('the holder of a lease', () => {
  it('has it no more when it could not be renewed for long', async () => {
    vi.useFakeTimers();
    const objects = new MemoryObjects();
    const onLost = vi.fn();
    const { claim, release } = await holdRemoteStore(objects, 'one', { onLost });
    const lease = new StoreLease(objects, claim);
    let reachable = false;
    objects.before = () => {
      if (!reachable) throw new Error('no network');
    };
    await vi.advanceTimersByTimeAsync(10 * MINUTE_MS);
    expect(onLost).not.toHaveBeenCalled();
    await lease.confirm();
    await vi.advanceTimersByTimeAsync(20 * MINUTE_MS);
    expect(onLost).toHaveBeenCalled();
    // It is back: somebody may have had it meanwhile and given it back.
    reachable = true;
    await expect(lease.confirm()).rejects.toMatchObject(interrupted);
    await release();
    expect(await names(objects)).toEqual([]);
  });

  it('believes what it has seen for a minute, and renews it all the time', async () => {
    vi.useFakeTimers();
    const objects = new MemoryObjects();
    const onLost = vi.fn();
    const { claim, release } = await holdRemoteStore(objects, 'one', { onLost });
    const lease = new StoreLease(objects, claim);
    await vi.advanceTimersByTimeAsync(3 * HOUR_MS);
    await lease.confirmLately();
    await objects.remove('leases/one.json');
    await lease.confirmLately();
    await vi.advanceTimersByTimeAsync(MINUTE_MS + 1);
    await expect(lease.confirmLately()).rejects.toMatchObject(interrupted);
    await vi.advanceTimersByTimeAsync(5 * MINUTE_MS);
    expect(onLost).toHaveBeenCalledOnce();
    // Not written anew: somebody has taken it away.
    expect(await names(objects)).toEqual([]);
    await release();
  });
});
