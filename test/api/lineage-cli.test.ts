/** The command line's questions about layers and what it does with them, against a daemon. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DiskTree, VmSnapshot } from '../../src/contracts/api/index.ts';
import { runCli } from '../../src/cli/program.ts';
import { type Harness, startHarness } from './support/harness.ts';

const BLOCK = 4096;

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly error: string;
}

type Cli = (...args: string[]) => Promise<Outcome>;

/** web with a snapshot "one" and a clone of that, "copy"; both have written since. */
async function family(): Promise<{ readonly api: Harness; readonly cli: Cli; readonly disk: string }> {
  const api = await startHarness();
  const cli: Cli = async (...args) => {
    let [out, error] = ['', ''];
    const io = {
      stdout: { write: (text: string | Uint8Array) => (out += String(text)) },
      stderr: { write: (text: string | Uint8Array) => (error += String(text)) },
      env: { UMLAUT_HOME: api.home, UMLAUT_URL: api.daemon.url },
      exitCode: 0,
    };
    const status = await runCli(args, io);
    return { status, out, error };
  };
  const vm = await api.runVm('web');
  const write = (block: number) =>
    api.farm
      .of('web')
      .disk('ubd0')
      .write(block * BLOCK, [new Uint8Array(BLOCK).fill(block + 1)]);
  await write(0);
  expect(await cli('snapshot', 'create', 'web', 'one')).toMatchObject({ status: 0, out: 'one\n' });
  await write(1);
  expect(await cli('snapshot', 'clone', 'web', 'one', '--name', 'copy')).toMatchObject({ status: 0 });
  return { api, cli, disk: vm.disks[0]!.id };
}

describe('the command line', () => {
  it('shows layers, who shares them, and what depends on an image', async () => {
    const { cli, disk } = await family();
    const tree = await cli('disk', 'tree', disk);
    expect(tree.out).toMatch(
      /^image layer-\S+ +\S+\n {2}cow layer-\S+ .* {2}snapshot one\n( {4}cow .*\n){2}$/,
    );
    expect(tree.out).toMatch(/^ {4}cow .* disk \S+ {2}\*$/m);
    const { layers } = JSON.parse((await cli('disk', 'tree', disk, '--json')).out) as DiskTree;
    expect(layers).toHaveLength(4);
    const usage = (await cli('disk', 'usage', disk)).out;
    expect(usage).toMatch(/^LAYER +KIND +ON HOST +UNIQUE +SHARED +HIDDEN\n/);
    // The newest layer has a block that only this disk sees, the snapshot's one that all see.
    expect(usage.split('\n').find((line) => line.startsWith(layers[1]!.id))).toMatch(/cow +\S+ +0 +4K +0$/);
    expect((await cli('disk', 'sharers', disk, '0')).out).toMatch(/^0 is in cow \S+: .*snapshot one.*\n$/);
    expect((await cli('disk', 'sharers', disk, '4K')).out).toMatch(/^4096 is in cow \S+: disk \S+\n$/);
    const dependents = (await cli('image', 'dependents', 'default')).out;
    for (const line of [/^vm +web /m, /^vm +copy /m, /^snapshot +one /m]) expect(dependents).toMatch(line);
    expect(await cli('disk', 'sharers', disk, '1T')).toMatchObject({ status: 2 });
    expect((await cli('disk', 'tree', 'nothing')).status).not.toBe(0);
  });

  it('takes, shows, goes back to and deletes snapshots', async () => {
    const { api, cli } = await family();
    expect((await cli('snapshot', 'list', 'web')).out).toMatch(/^NAME.*\none /);
    const shown = JSON.parse((await cli('snapshot', 'show', 'web', 'one', '--json')).out) as VmSnapshot;
    expect(shown).toMatchObject({ name: 'one', running: true, consistency: 'crash' });
    expect((await cli('snapshot', 'show', 'web', 'one')).out).toMatch(/^consistency +crash$/m);
    const refused = await cli('snapshot', 'rollback', 'web', 'one');
    expect(refused).toMatchObject({ out: '', error: expect.stringContaining('force') });
    expect(refused.status).not.toBe(0);
    expect(await cli('snapshot', 'rollback', 'web', 'one', '--force')).toMatchObject({ status: 0 });
    const seen = new Uint8Array(2 * BLOCK);
    await api.farm.of('web').disk('ubd0').read(0, [seen]);
    expect([seen[0], seen[BLOCK]]).toEqual([1, 0]);
    expect(await cli('snapshot', 'create', 'web', 'two', '--quiesce')).toMatchObject({ status: 0 });
    expect(await cli('snapshot', 'create', 'web', 'two')).toMatchObject({ out: '' });
    expect(await cli('snapshot', 'delete', 'web', 'two', '--rate', '50M')).toMatchObject({
      status: 0,
      out: 'two deleted\n',
    });
    expect((await cli('snapshot', 'list', 'web')).out).not.toContain('two');
  });

  it('puts disks over other images, makes them independent, and accepts changed times', async () => {
    const { api, cli, disk } = await family();
    await api.operate('/v1/images/build', { name: 'fresh' });
    expect((await cli('disk', 'rebase', disk, 'fresh')).error).toContain('runs');
    await cli('vm', 'halt', 'web');
    expect(await cli('disk', 'rebase', disk, 'fresh')).toMatchObject({
      status: 0,
      out: `${disk} is over fresh\n`,
    });
    expect((await cli('disk', 'repair', disk)).out).toBe('nothing to repair\n');
    const copy = (await api.vm('copy')).disks[0]!.id;
    const { layers } = JSON.parse((await cli('disk', 'tree', copy, '--json')).out) as DiskTree;
    const below = layers.find(({ kind, frozen }) => kind === 'cow' && frozen)!;
    const file = [`layers/${below.id}`, `vms/${(await api.vm('web')).id}/ubd0.cow`]
      .map((name) => path.join(api.home, name))
      .find((name) => fs.existsSync(name))!;
    fs.utimesSync(file, 1000, 1000);
    expect((await cli('vm', 'start', 'copy')).error).toContain('repair');
    expect((await cli('disk', 'repair', copy)).out).toMatch(new RegExp(`^${below.id}: .* again\\n$`));
    expect(await cli('vm', 'start', 'copy')).toMatchObject({ status: 0 });
    await cli('vm', 'halt', 'copy');
    expect(await cli('disk', 'flatten', copy)).toMatchObject({ status: 0, out: `${copy} is independent\n` });
    expect((await cli('disk', 'tree', copy)).out).toMatch(/^raw layer-\S+ .*\n$/);
    const pending = await cli('disk', 'flatten', disk, '--no-wait');
    expect(pending.out).toMatch(/^operation op-\S+\n$/);
    await api.ended(`/v1/operations/${pending.out.trim().slice('operation '.length)}`);
  });
});

it('makes a disk larger, and tells how where it cannot', async () => {
  const { cli, disk } = await family();
  await cli('disk', 'create', 'data', '--size', '1M');
  expect(await cli('disk', 'resize', 'data', '4M')).toMatchObject({
    status: 0,
    out: expect.stringMatching(/size +4M$/m),
  });
  expect(await cli('disk', 'resize', 'data', '2M')).toMatchObject({ status: 2 });
  const refused = await cli('disk', 'resize', disk, '1T');
  expect(refused.status).not.toBe(0);
  expect(refused.error).toContain('umlaut disk flatten');
  // Not flattened for what would be refused.
  expect(await cli('disk', 'resize', disk, '512', '--flatten')).not.toMatchObject({ status: 0 });
  expect((await cli('disk', 'tree', disk)).out).toContain('cow');
  expect((await cli('disk', 'resize', disk, '1G', '--flatten')).error).toContain('halt');
  await cli('vm', 'halt', 'web');
  const grown = await cli('disk', 'resize', disk, '1G', '--flatten');
  expect(grown).toMatchObject({ status: 0, out: expect.stringMatching(/size +1G$/m) });
  expect((await cli('disk', 'tree', disk)).out).toMatch(/^raw layer-\S+ .*\n$/);
  expect(await cli('disk', 'resize', disk, '2G', '--flatten')).toMatchObject({ status: 0 });
});

it('gives disks limits, and takes them back', async () => {
  const { cli } = await family();
  await cli('disk', 'create', 'data', '--size', '1M');
  const set = async (...options: string[]): Promise<string | undefined> => {
    const { status, out, error } = await cli('disk', 'set', 'data', ...options);
    expect({ status, error }).toEqual({ status: 0, error: '' });
    return /^limits +(.+)$/m.exec(out)?.[1];
  };
  const iops = ['--iops', '100', '--iops-burst', '500'];
  expect(await set(...iops, '--bandwidth', '2M', '--bandwidth-burst', '8M')).toBe(
    '100 requests/s, 500 at once; 2M/s, 8M at once',
  );
  expect(await set('--iops-burst', 'none')).toBe('100 requests/s; 2M/s, 8M at once');
  expect(await set('--iops', 'none')).toBe('2M/s, 8M at once');
  expect(await set('--bandwidth', 'none')).toBe('none');
  expect(await cli('disk', 'set', 'data', '--iops', '0')).toMatchObject({ status: 2 });
});
