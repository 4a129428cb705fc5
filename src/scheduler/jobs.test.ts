/** One suite for both schedulers. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../contracts/errors.ts';
import type { JobEvent, JobHandler, JobInfo, JobKind, Jobs } from '../contracts/jobs.ts';
import { type OpenJobs, openJobs, type TestStore } from './testing/open-jobs.ts';
import { haveRedisServer, startRedis, type TestRedis } from './testing/redis-server.ts';

const payload = { operationId: 'op1', name: 'debian' };
const verify = { operationId: 'op2', imageId: 'i1' };

/** Resolves when `count` things have happened. */
function counter(count: number): { hit(): void; readonly done: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = count;
  return {
    hit() {
      left -= 1;
      if (left === 0) resolve();
    },
    done: promise,
  };
}

function ended(jobs: Jobs, id: string): Promise<JobInfo> {
  return new Promise((resolve) => {
    const unsubscribe = jobs.subscribe((event) => {
      if (event.type !== 'ended' || event.job.id !== id) return;
      unsubscribe();
      resolve(event.job);
    });
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

function suite(makeStore: () => TestStore): void {
  let store: TestStore;
  let opened: OpenJobs[] = [];
  let errors: unknown[] = [];

  function open(): Jobs {
    const one = openJobs(store, (error) => errors.push(error));
    opened.push(one);
    return one.jobs;
  }

  beforeEach(() => {
    store = makeStore();
    errors = [];
  });
  afterEach(async () => {
    for (const one of opened) await one.close();
    opened = [];
  });

  /** A process that takes up all jobs of `kinds`, killed as soon as each has started one. */
  async function killedProcess(kinds: readonly JobKind[]): Promise<void> {
    const script = fileURLToPath(new URL('testing/doomed-process.ts', import.meta.url));
    const child = spawn(process.execPath, [script, JSON.stringify(store), ...kinds], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exit = once(child, 'exit');
    let running = 0;
    for await (const line of createInterface(child.stdout)) {
      if (line.startsWith('running')) running += 1;
      if (running === kinds.length) break;
    }
    expect(running).toBe(kinds.length);
    child.kill('SIGKILL');
    await exit;
  }

  it('runs a job with its payload and keeps the result', async () => {
    const jobs = open();
    const seen: unknown[] = [];
    jobs.process('image.build', async (given, context) => {
      seen.push(given, context.id, context.attempt);
      return { imageId: 'i1' };
    });
    const queued = await jobs.enqueue('image.build', payload, { id: 'build-1' });
    expect(queued).toMatchObject({ id: 'build-1', kind: 'image.build', payload, state: 'queued' });
    expect(queued).toMatchObject({ attempts: 0, maxAttempts: 3, progress: null, error: null });
    const end = ended(jobs, 'build-1');
    await jobs.start();
    expect(await end).toMatchObject({ state: 'succeeded', attempts: 1, result: { imageId: 'i1' } });
    expect(seen).toEqual([payload, 'build-1', 1]);
    expect(await jobs.get('build-1')).toMatchObject({ state: 'succeeded', result: { imageId: 'i1' } });
    expect(await jobs.get('build-2')).toBeUndefined();
  });

  it('gives random ids, and takes ids with any character', async () => {
    const jobs = open();
    const first = await jobs.enqueue('image.build', payload);
    const second = await jobs.enqueue('image.build', payload);
    expect(first.id).not.toBe(second.id);
    const odd = 'vm:1/step 2 ü 17';
    expect((await jobs.enqueue('image.build', payload, { id: odd })).id).toBe(odd);
    expect((await jobs.get(odd))?.payload).toEqual(payload);
  });

  it('treats a second job with the id of an unfinished or succeeded one as the same', async () => {
    const jobs = open();
    let runs = 0;
    jobs.process('image.build', async () => {
      runs += 1;
    });
    await jobs.enqueue('image.build', payload, { id: 'a' });
    const same = await jobs.enqueue('image.build', { ...payload, name: 'other' }, { id: 'a' });
    expect(same.payload).toEqual(payload);
    const end = ended(jobs, 'a');
    await jobs.start();
    await end;
    expect((await jobs.enqueue('image.build', payload, { id: 'a' })).state).toBe('succeeded');
    const marker = ended(jobs, 'b');
    await jobs.enqueue('image.build', payload, { id: 'b' });
    await marker;
    expect(runs).toBe(2);
  });

  it('tries again after an error, with growing waits, and says what the last error was', async () => {
    const jobs = open();
    const starts: number[] = [];
    jobs.process('image.build', async (_payload, { attempt }) => {
      starts.push(performance.now());
      throw new Error(`attempt ${attempt} broke`);
    });
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.build', payload, { id: 'a', maxAttempts: 3, backoffMs: 50 });
    expect(await end).toMatchObject({
      state: 'failed',
      attempts: 3,
      error: { code: 'job_failed', detail: 'attempt 3 broke' },
    });
    expect(starts).toHaveLength(3);
    expect(starts[1]! - starts[0]!).toBeGreaterThanOrEqual(45);
    expect(starts[2]! - starts[1]!).toBeGreaterThanOrEqual(95);
  });

  it('succeeds after a retry and forgets the error', async () => {
    const jobs = open();
    jobs.process('image.build', async (_payload, { attempt }) => {
      if (attempt === 1) throw new AppError('disk_full', 'no space');
      return attempt;
    });
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.build', payload, { id: 'a', backoffMs: 1 });
    expect(await end).toMatchObject({ state: 'succeeded', attempts: 2, result: 2, error: null });
  });

  it('does not repeat what cannot help to repeat', async () => {
    const jobs = open();
    jobs.process('image.verify', async () => {
      throw new AppError('image_corrupt', 'disk.img differs', { field: 'image', remedy: 'Import it again.' });
    });
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.verify', verify, { id: 'a' });
    expect(await end).toMatchObject({
      state: 'failed',
      attempts: 1,
      error: {
        code: 'image_corrupt',
        detail: 'disk.img differs',
        field: 'image',
        remedy: 'Import it again.',
      },
    });
  });

  it('takes a failed or canceled id as a new job', async () => {
    const jobs = open();
    let broken = true;
    jobs.process('image.build', async () => {
      if (broken) throw new AppError('bad_image', 'broken');
      return 'fine';
    });
    await jobs.enqueue('image.build', payload, { id: 'canceled' });
    await jobs.cancel('canceled');
    await jobs.start();
    const failure = ended(jobs, 'failed');
    await jobs.enqueue('image.build', payload, { id: 'failed' });
    expect((await failure).state).toBe('failed');
    broken = false;
    for (const id of ['canceled', 'failed']) {
      const end = ended(jobs, id);
      await jobs.enqueue('image.build', payload, { id });
      expect(await end).toMatchObject({ state: 'succeeded', attempts: 1, result: 'fine', error: null });
    }
  });

  it('tells progress to listeners and to those who ask', async () => {
    const jobs = open();
    const events: JobEvent[] = [];
    jobs.subscribe((event) => events.push(event));
    const asked = Promise.withResolvers<void>();
    const told = counter(1);
    jobs.process('image.build', async (_payload, context) => {
      context.progress({ done: 1, total: 4, unit: 'steps', message: 'fetching' });
      context.progress({ done: 2, total: 4, unit: 'steps' });
      await asked.promise;
      context.progress({ done: 4, total: 4, unit: 'steps' });
    });
    jobs.subscribe((event) => {
      if (event.type === 'progress' && event.job.progress?.done === 2) told.hit();
    });
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.build', payload, { id: 'a' });
    await told.done;
    await expect
      .poll(async () => (await jobs.get('a'))?.progress)
      .toEqual({ done: 2, total: 4, unit: 'steps' });
    expect((await jobs.get('a'))?.state).toBe('running');
    asked.resolve();
    expect((await end).progress).toEqual({ done: 4, total: 4, unit: 'steps' });
    expect(events.map((event) => `${event.type} ${event.job.progress?.done}`)).toEqual([
      'progress 1',
      'progress 2',
      'progress 4',
      'ended 4',
    ]);
  });

  it('waits for the delay', async () => {
    const jobs = open();
    jobs.process('image.build', async () => performance.now());
    await jobs.start();
    const end = ended(jobs, 'late');
    const start = performance.now();
    await jobs.enqueue('image.build', payload, { id: 'late', delayMs: 120 });
    expect((await jobs.get('late'))?.state).toBe('queued');
    expect(Number((await end).result) - start).toBeGreaterThanOrEqual(115);
  });

  it('runs as many at once as the kind allows, and kinds side by side', async () => {
    const jobs = open();
    let running = 0;
    let most = 0;
    const two = counter(2);
    const release = Promise.withResolvers<void>();
    jobs.process(
      'image.build',
      async () => {
        running += 1;
        most = Math.max(most, running);
        two.hit();
        await release.promise;
        running -= 1;
      },
      { concurrency: 2 },
    );
    jobs.process('image.verify', async () => 'past');
    await jobs.start();
    const ids = ['a', 'b', 'c', 'd'];
    const ends = ids.map((id) => ended(jobs, id));
    for (const id of ids) await jobs.enqueue('image.build', payload, { id });
    await two.done;
    const other = ended(jobs, 'other');
    await jobs.enqueue('image.verify', verify, { id: 'other' });
    expect((await other).result).toBe('past');
    release.resolve();
    await Promise.all(ends);
    expect(most).toBe(2);
  });

  it('cancels a waiting job, which then never starts', async () => {
    const jobs = open();
    const started: string[] = [];
    jobs.process('image.build', async (_payload, { id }) => {
      started.push(id);
    });
    await jobs.enqueue('image.build', payload, { id: 'a' });
    await jobs.enqueue('image.build', payload, { id: 'delayed', delayMs: 60_000 });
    const end = ended(jobs, 'a');
    expect(await jobs.cancel('a')).toBe(true);
    expect(await jobs.cancel('delayed')).toBe(true);
    expect(await end).toMatchObject({ state: 'canceled', error: { code: 'canceled' } });
    expect(await jobs.get('delayed')).toMatchObject({ state: 'canceled', attempts: 0 });
    await jobs.start();
    const marker = ended(jobs, 'b');
    await jobs.enqueue('image.build', payload, { id: 'b' });
    await marker;
    expect(started).toEqual(['b']);
    expect(await jobs.cancel('a')).toBe(false);
    expect(await jobs.cancel('b')).toBe(false);
    expect(await jobs.cancel('nobody')).toBe(false);
  });

  it('aborts a running job, which does not run again', async () => {
    const jobs = open();
    const started = counter(1);
    let runs = 0;
    jobs.process('image.build', async (_payload, { signal }) => {
      runs += 1;
      started.hit();
      await aborted(signal);
    });
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.build', payload, { id: 'a', backoffMs: 1 });
    await started.done;
    expect(await jobs.cancel('a')).toBe(true);
    expect(await end).toMatchObject({ state: 'canceled', attempts: 1, error: { code: 'canceled' } });
    expect(await jobs.get('a')).toMatchObject({ state: 'canceled' });
    expect(runs).toBe(1);
  });

  it('calls a job that succeeds in spite of its abort succeeded', async () => {
    const jobs = open();
    const started = counter(1);
    const stubborn: JobHandler<'image.build'> = async (_payload, { signal }) => {
      started.hit();
      await aborted(signal).catch(() => undefined);
      return 'made it';
    };
    jobs.process('image.build', stubborn);
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.build', payload, { id: 'a' });
    await started.done;
    await jobs.cancel('a');
    expect(await end).toMatchObject({ state: 'succeeded', result: 'made it' });
  });

  it('interrupts running jobs when it closes; they run again after a restart, uncounted', async () => {
    const first = open();
    const started = counter(1);
    const reasons: unknown[] = [];
    first.process('image.build', async (_payload, { signal }) => {
      started.hit();
      await aborted(signal).catch((error) => {
        reasons.push(error);
        throw error;
      });
    });
    await first.start();
    await first.enqueue('image.build', payload, { id: 'a', maxAttempts: 1 });
    await started.done;
    await first.close();
    expect(reasons).toMatchObject([{ code: 'interrupted' }]);
    await expect(first.enqueue('image.build', payload)).rejects.toMatchObject({ code: 'shutting_down' });

    const second = open();
    expect(await second.get('a')).toMatchObject({ state: 'queued' });
    second.process('image.build', async (_payload, { attempt }) => attempt);
    const end = ended(second, 'a');
    await second.start();
    expect(await end).toMatchObject({ state: 'succeeded', attempts: 1, result: 1 });
  });

  it('finds queued jobs after a restart', async () => {
    const first = open();
    await first.enqueue('image.build', payload, { id: 'a' });
    await first.close();
    const second = open();
    second.process('image.build', async (given) => given.name);
    const end = ended(second, 'a');
    await second.start();
    expect((await end).result).toBe('debian');
  });

  it('runs again what a killed process was running, but not what deletes things', async () => {
    const jobs = open();
    await jobs.enqueue('image.build', payload, { id: 'build' });
    await jobs.enqueue('retention', {}, { id: 'retention' });
    await killedProcess(['image.build', 'retention']);
    expect((await jobs.get('build'))?.state).toBe('running');
    let deletions = 0;
    jobs.process('image.build', async () => 'built');
    jobs.process('retention', async () => {
      deletions += 1;
    });
    const ends = Promise.all([ended(jobs, 'build'), ended(jobs, 'retention')]);
    await jobs.start();
    expect(await ends).toMatchObject([
      { state: 'succeeded', result: 'built' },
      { state: 'failed', error: { code: 'interrupted' } },
    ]);
    expect(deletions).toBe(0);
  });

  it('repeats a job, and goes on doing so after a restart', async () => {
    const first = open();
    const three = counter(3);
    first.process('retention', async () => three.hit());
    await first.start();
    await first.repeat('nightly', 'retention', {}, 30);
    await three.done;
    await first.close();
    const second = open();
    const two = counter(2);
    second.process('retention', async () => two.hit());
    await second.start();
    await two.done;
  });

  it('replaces a repeat of the same name', async () => {
    const jobs = open();
    const verified = counter(2);
    let cleanings = 0;
    jobs.process('retention', async () => {
      cleanings += 1;
    });
    jobs.process('image.verify', async () => verified.hit());
    await jobs.repeat('nightly', 'retention', {}, 20);
    await jobs.repeat('nightly', 'image.verify', verify, 20);
    await jobs.start();
    await verified.done;
    // One may have been in the queue already.
    expect(cleanings).toBeLessThanOrEqual(1);
  });

  it('survives a listener that throws', async () => {
    const jobs = open();
    jobs.process('image.build', async () => 'fine');
    jobs.subscribe(() => {
      throw new Error('listener broke');
    });
    await jobs.start();
    const end = ended(jobs, 'a');
    await jobs.enqueue('image.build', payload, { id: 'a' });
    expect((await end).state).toBe('succeeded');
    expect(errors).toMatchObject([{ message: 'listener broke' }]);
  });

  it.each([
    ['id', { id: '' }],
    ['id', { id: 'x'.repeat(201) }],
    ['delayMs', { delayMs: -1 }],
    ['maxAttempts', { maxAttempts: 0 }],
    ['backoffMs', { backoffMs: Number.NaN }],
  ])('refuses a bad %s', async (field, options) => {
    const wrong = open().enqueue('image.build', payload, options);
    await expect(wrong).rejects.toMatchObject({ code: 'invalid_input', field });
  });

  it('refuses a payload that is too large', async () => {
    const wrong = open().enqueue('image.build', { ...payload, name: 'x'.repeat(70_000) });
    await expect(wrong).rejects.toMatchObject({ code: 'invalid_input', field: 'payload' });
  });
}

describe('embedded scheduler', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'umlaut-jobs-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  suite(() => ({ type: 'sqlite', file: join(folder, `${randomUUID()}.db`) }));
});

describe.skipIf(!haveRedisServer())('BullMQ scheduler (needs redis-server)', () => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());
  suite(() => ({ type: 'redis', url: redis.url, prefix: `umlaut-${randomUUID()}` }));

  it('says so when Redis does not answer, without its password', async () => {
    const { jobs } = openJobs({ type: 'redis', url: 'redis://user:secret@127.0.0.1:1', prefix: 'umlaut' });
    const failure = await jobs.start().catch((error) => error);
    expect(failure).toMatchObject({ code: 'unreachable', field: 'redis_url' });
    expect(String(failure)).not.toContain('secret');
    await jobs.close();
  });

  it('refuses an address that is not one of Redis', async () => {
    const { jobs } = openJobs({ type: 'redis', url: 'http://localhost', prefix: 'umlaut' });
    await expect(jobs.start()).rejects.toMatchObject({ code: 'invalid_input', field: 'redis_url' });
    await jobs.close();
  });
});
