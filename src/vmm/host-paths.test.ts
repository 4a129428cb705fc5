import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { scratchFolder } from '../../test/support/storage.ts';
import { type HostFiles, HostPaths } from './host-paths.ts';

/** A folder with `allowed/file`, and links in it that lead out and nowhere. */
function folders() {
  const folder = realpathSync(scratchFolder());
  const allowed = join(folder, 'allowed');
  mkdirSync(allowed);
  writeFileSync(join(allowed, 'file'), 'x'.repeat(10_000));
  writeFileSync(join(folder, 'secret'), '');
  symlinkSync(join(folder, 'secret'), join(allowed, 'out'));
  symlinkSync('file', join(allowed, 'in'));
  return { folder, allowed };
}

/** File systems of which some do not answer, until `answer` is called. */
function stuck(isStuck: (file: string) => boolean) {
  const gate = Promise.withResolvers<void>();
  let asked = 0;
  const wait = async (file: string): Promise<void> => {
    asked++;
    if (isStuck(file)) await gate.promise;
  };
  const files: HostFiles = {
    realpath: (file) => wait(file).then(() => fs.realpath(file)),
    stat: (file) => wait(file).then(() => fs.stat(file)),
  };
  return { files, answer: gate.resolve, asked: () => asked };
}

describe('paths of the host', () => {
  it('are real ones under allowed folders', async () => {
    const { folder, allowed } = folders();
    const paths = new HostPaths([allowed]);
    expect(await paths.check(join(allowed, 'in'), 'path')).toBe(join(allowed, 'file'));
    expect(await paths.check(allowed, 'path')).toBe(allowed);
    expect(await paths.allocatedBytes(join(allowed, 'file'))).toBeGreaterThanOrEqual(10_000);
    for (const file of [
      join(folder, 'secret'),
      join(allowed, 'out'),
      join(folder, 'nothing'),
      'file',
      `${allowed}2`,
    ]) {
      await expect(paths.check(file, 'path'), file).rejects.toMatchObject({
        code: 'forbidden',
        field: 'path',
      });
    }
    const missing = paths.check(join(allowed, 'nothing'), 'path');
    await expect(missing).rejects.toMatchObject({ code: 'not_found', field: 'path' });
  });

  it('of files that are to be made are in allowed folders', async () => {
    const { folder, allowed } = folders();
    const paths = new HostPaths([allowed]);
    expect(await paths.checkNew(join(allowed, 'in'), 'f')).toEqual({
      path: join(allowed, 'file'),
      isMissing: false,
    });
    expect(await paths.checkNew(join(allowed, 'new'), 'f')).toEqual({
      path: join(allowed, 'new'),
      isMissing: true,
    });
    for (const file of [join(folder, 'new'), join(allowed, '../new'), join(allowed, 'out')]) {
      await expect(paths.checkNew(file, 'f'), file).rejects.toMatchObject({ code: 'forbidden' });
    }
    await expect(paths.checkNew(join(allowed, 'none/new'), 'f')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('that do not answer are told so, while others are looked at', async () => {
    const { allowed } = folders();
    const { files, answer } = stuck((file) => file.includes('dead'));
    const paths = new HostPaths([allowed], 50, files);
    const refused = paths.check(join(allowed, 'dead'), 'path');
    expect(await paths.check(join(allowed, 'file'), 'path')).toBe(join(allowed, 'file'));
    await expect(refused).rejects.toMatchObject({ code: 'unreachable', field: 'path' });
    expect(await paths.allocatedBytes(join(allowed, 'dead'))).toBe(0);
    answer();
    await vi.waitFor(() =>
      expect(paths.check(join(allowed, 'dead'), 'path')).rejects.toMatchObject({ code: 'not_found' }),
    );
  });

  it('are asked a few at a time, and each once', async () => {
    const { allowed } = folders();
    const { files, answer, asked } = stuck((file) => file.includes('dead'));
    const paths = new HostPaths([allowed], 50, files);
    const dead = ['1', '2', '3', '4', '5', '1'].map((name) =>
      paths.check(join(allowed, `dead${name}`), 'path'),
    );
    const outcomes = await Promise.allSettled(dead);
    expect(outcomes.map(({ status }) => status)).toEqual(dead.map(() => 'rejected'));
    expect(asked()).toBe(4);
    // All that may wait do: a file system that is alive has to wait for one of them.
    await expect(paths.check(join(allowed, 'file'), 'path')).rejects.toMatchObject({ code: 'unreachable' });
    expect(asked()).toBe(4);
    answer();
    await vi.waitFor(async () =>
      expect(await paths.check(join(allowed, 'file'), 'path')).toBe(join(allowed, 'file')),
    );
  });

  it('are all looked at, however many at once', async () => {
    const { allowed } = folders();
    const paths = new HostPaths([allowed]);
    const names = Array.from({ length: 40 }, (_, n) => join(allowed, `f${n}`));
    for (const name of names) writeFileSync(name, '');
    expect(await Promise.all(names.map((name) => paths.check(name, 'path')))).toEqual(names);
  });
});
