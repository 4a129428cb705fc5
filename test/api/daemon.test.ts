import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openDatabase } from '../../src/db/index.ts';
import { haveRedisServer, startRedis } from '../../src/scheduler/testing/redis-server.ts';
import { startHarness, tempDir } from './support/harness.ts';

const MIGRATIONS = path.resolve(import.meta.dirname, '../../migrations');

describe('a daemon that is started again', () => {
  it('finds everything, and boots what was running', async () => {
    const first = await startHarness();
    const { home } = first;
    await first.runVm('running');
    await first.runVm('halted');
    await first.operate('/v1/vms/halted/halt');
    await first.runVm('never', { autostart: 'never' });
    await first.createVm({ name: 'always', autostart: 'always' });
    await first.operate('/v1/vms/halted/backups', { name: 'monday' });
    const before = await first.vm('running');
    const { last_seq: seq } = (await first.get('/v1/events?limit=1000')).body;
    const flushed = first.farm.of('running');
    await first.daemon.close();
    expect(flushed.requests.at(-1)).toEqual({ type: 'halt' });
    expect(flushed.terminated).toBe(true);

    const second = await startHarness({ home });
    expect(second.token).toBe(first.token);
    const states = async (name: string, state: string) =>
      (await second.get(`/v1/vms/${name}/wait?state=${state}&timeout=10`)).body.state;
    expect(await states('running', 'running')).toBe('running');
    expect(await states('always', 'running')).toBe('running');
    expect(await states('halted', 'halted')).toBe('halted');
    expect(await states('never', 'halted')).toBe('halted');
    const after = await second.vm('running');
    expect(after).toMatchObject({ id: before.id, disks: before.disks, version: before.version });
    expect(after.nics[0]!.mac).toBe(before.nics[0]!.mac);
    await second.get('/v1/backups/monday').expect(200);
    const events = (await second.get(`/v1/events?after=${seq}&limit=1000`)).body.items as {
      seq: number;
      type: string;
    }[];
    expect(events.map(({ type }) => type)).toContain('daemon.stopping');
    expect(events[0]!.seq).toBeGreaterThan(seq);
  });

  it('after a kill too: nothing is lost, and what was half done is told', async () => {
    const first = await startHarness();
    const { home } = first;
    await first.runVm('web-1');
    first.farm.holdBackups = true;
    const backup = (await first.post('/v1/vms/web-1/backups').expect(202)).body as { id: string };
    await first.createVm({ name: 'web-2' });
    first.farm.onStart = 'hang';
    const start = (await first.post('/v1/vms/web-2/start').expect(202)).body as { id: string };
    await first.get('/v1/vms/web-2/wait?state=starting&timeout=10');

    // What is on the disk at this moment is what a killed process leaves; sockets cannot be copied.
    const left = tempDir();
    fs.cpSync(home, left, { recursive: true, filter: (file) => !/\/(lock|pid|uml)$/.test(file) });
    const second = await startHarness({ home: left });
    await second.get('/v1/vms/web-1/wait?state=running&timeout=10');
    expect(await second.vm('web-1')).toMatchObject({ state: 'running' });
    expect((await second.get(`/v1/operations/${start.id}`)).body).toMatchObject({
      status: 'failed',
      error: { code: 'interrupted' },
    });
    expect(await second.ended(`/v1/operations/${backup.id}`)).toMatchObject({ status: 'failed' });
    expect((await second.get('/v1/backups')).body.items).toEqual([]);
    const kept = fs.readdirSync(path.join(left, 'backups'), { recursive: true, encoding: 'utf8' });
    expect(kept.filter((name) => /manifests\/./.test(name))).toEqual([]);
    first.farm.of('web-2').end({ reason: 'halt' });
  });
});

describe.skipIf(!haveRedisServer())('daemons that share a Redis', () => {
  it('have keys of their own there, and find them again', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const [one, other] = [
      await startHarness({ redisUrl: redis.url }),
      await startHarness({ redisUrl: redis.url }),
    ];
    const prefix = (home: string): string => fs.readFileSync(path.join(home, 'redis-prefix'), 'utf8');
    const before = prefix(one.home);
    expect(prefix(other.home)).not.toBe(before);
    for (const harness of [one, other]) {
      await harness.runVm('web-1');
      await harness.operate('/v1/vms/web-1/backups', { name: 'monday' });
    }
    expect((await one.get('/v1/backups')).body.items).toHaveLength(1);
    await one.daemon.close();
    const again = await startHarness({ home: one.home, redisUrl: redis.url });
    expect(prefix(again.home)).toBe(before);
    await again.daemon.close();
    await other.daemon.close();
  });
});

describe('a state folder', () => {
  it('has one daemon at a time, told by its pid', async () => {
    const { home } = await startHarness();
    await expect(startHarness({ home })).rejects.toMatchObject({
      code: 'home_in_use',
      message: expect.stringContaining(`pid ${process.pid}`),
      remedy: expect.stringContaining(`kill ${process.pid}`),
    });
  });

  it('is taken over from a daemon that was killed', async () => {
    const home = tempDir();
    const script = `
      import { Home } from ${JSON.stringify(path.resolve(import.meta.dirname, '../../src/vmm/index.ts'))};
      new Home(${JSON.stringify(home)});
      console.log('held');
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void holder.kill('SIGKILL'));
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    await expect(startHarness({ home })).rejects.toMatchObject({
      code: 'home_in_use',
      message: expect.stringContaining(`pid ${holder.pid}`),
    });
    const gone = new Promise((resolve) => holder.once('exit', resolve));
    holder.kill('SIGKILL');
    await gone;
    const api = await startHarness({ home });
    await api.get('/v1/host').expect(200);
    expect(fs.readFileSync(path.join(home, 'pid'), 'utf8')).toBe(`${process.pid}\n`);
  });

  it('that is a file is refused with its path', async () => {
    const file = path.join(tempDir(), 'file');
    fs.writeFileSync(file, '');
    await expect(
      import('../../src/main.ts').then(({ startDaemon }) => startDaemon({ home: file })),
    ).rejects.toMatchObject({
      code: 'home_unusable',
      message: expect.stringContaining(file),
    });
  });
});

describe('a port in use', () => {
  it('is told, and the folder is free again', async () => {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as net.AddressInfo;
    const home = tempDir();
    await expect(startHarness({ home, port })).rejects.toMatchObject({
      code: 'port_in_use',
      message: expect.stringContaining(`port ${port}`),
      field: 'UMLAUT_PORT',
    });
    const api = await startHarness({ home });
    await api.get('/v1/host').expect(200);
  });
});

describe('a database', () => {
  function migrationsOf(files: Record<string, string>): string {
    const dir = tempDir();
    for (const [name, sql] of Object.entries(files)) fs.writeFileSync(path.join(dir, name), sql);
    return dir;
  }

  it('gets the migrations that it does not have, in order and once', () => {
    const file = path.join(tempDir(), 'db.sqlite');
    const one = { '0001-a.sql': 'CREATE TABLE a (x INTEGER) STRICT;' };
    const two = { ...one, '0002-b.sql': 'ALTER TABLE a ADD COLUMN y TEXT;' };
    openDatabase(file, migrationsOf(one)).close();
    openDatabase(file, migrationsOf(two)).close();
    const db = openDatabase(file, migrationsOf(two));
    expect(db.prepare('SELECT number FROM migrations').all()).toEqual([{ number: 1 }, { number: 2 }]);
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    db.close();
  });

  it('is not left with half a migration', () => {
    const file = path.join(tempDir(), 'db.sqlite');
    const broken = { '0001-a.sql': 'CREATE TABLE a (x INTEGER) STRICT; CREATE TABLE a (x INTEGER) STRICT;' };
    expect(() => openDatabase(file, migrationsOf(broken))).toThrow('already exists');
    const db = openDatabase(file, migrationsOf({}));
    expect(db.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'a'").get()).toEqual({ n: 0 });
    db.close();
  });

  it('of a newer version, changed, or damaged, is refused', () => {
    const file = path.join(tempDir(), 'db.sqlite');
    const sql = 'CREATE TABLE a (x INTEGER) STRICT;';
    openDatabase(
      file,
      migrationsOf({ '0001-a.sql': sql, '0002-b.sql': 'CREATE TABLE b (x INTEGER) STRICT;' }),
    ).close();
    expect(() => openDatabase(file, migrationsOf({ '0001-a.sql': sql }))).toThrow(
      expect.objectContaining({ code: 'database_newer' }),
    );
    const other = { '0001-a.sql': `${sql} `, '0002-b.sql': sql };
    expect(() => openDatabase(file, migrationsOf(other))).toThrow(
      expect.objectContaining({ code: 'database_corrupt' }),
    );
    const junk = path.join(tempDir(), 'db.sqlite');
    fs.writeFileSync(junk, 'this is no database, but long enough to look at. '.repeat(100));
    expect(() => openDatabase(junk, MIGRATIONS)).toThrow(
      expect.objectContaining({ code: 'database_corrupt' }),
    );
  });
});
