import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { scratchFolder } from '../support/storage.ts';
import { startHarness } from './support/harness.ts';

const HIDDEN = { kind: 'hidden' } as const;
const TEXT = { kind: 'text', text: 'said\n' } as const;

describe("files of a guest's /proc", () => {
  it('are replaced and hidden from the start, and while it runs', async () => {
    const api = await startHarness();
    await api.runVm('web', { proc_files: [{ path: '/proc/modules', source: HIDDEN }] });
    expect((await api.vm('web')).proc_files).toEqual([{ path: 'modules', source: HIDDEN }]);
    const machine = api.farm.of('web');
    expect(machine.data.config.procFiles).toEqual([{ path: 'modules', source: HIDDEN }]);
    const files = [{ path: 'self/status', source: TEXT }];
    await api.patch('/v1/vms/web', { proc_files: files }).expect(200);
    const now = [{ path: 'pid/status', source: TEXT }];
    expect(machine.requests.at(-1)).toEqual({ type: 'proc-files', files: now });
    expect((await api.vm('web')).proc_files).toEqual(now);
    // What was not changed stays.
    await api.patch('/v1/vms/web', { labels: { a: 'b' } }).expect(200);
    expect((await api.vm('web')).proc_files).toEqual(now);
    expect(machine.requests).toHaveLength(1);
  });

  it('are refused by their fields', async () => {
    const api = await startHarness();
    await api.runVm('web');
    for (const path of ['', '..', 'a/../b', 'self', '/proc/', 'a//b']) {
      const files = [{ path, source: HIDDEN }];
      const { body } = await api.patch('/v1/vms/web', { proc_files: files }).expect(400);
      expect(body.field, path).toBe('proc_files[0].path');
    }
    const twice = [
      { path: 'stat', source: HIDDEN },
      { path: '/proc/stat', source: TEXT },
    ];
    expect((await api.patch('/v1/vms/web', { proc_files: twice }).expect(400)).body.field).toBe('proc_files');
  });

  it('are of the host only where the operator allows it', async () => {
    const folder = scratchFolder();
    mkdirSync(join(folder, 'proc/uptime'), { recursive: true });
    writeFileSync(join(folder, 'proc/cpuinfo'), 'cpu\n');
    writeFileSync(join(folder, 'proc/uptime/remove'), '');
    const api = await startHarness({ allowPaths: [folder] });
    await api.runVm('web');
    const put = (source: object) => api.patch('/v1/vms/web', { proc_files: [{ path: 'stat', source }] });
    await put({ kind: 'file', path: join(folder, 'proc/cpuinfo') }).expect(200);
    const filter = { kind: 'command', command: [join(folder, 'proc/cpuinfo'), '-v'], filter: true };
    await put(filter).expect(200);
    expect((await api.vm('web')).proc_files).toEqual([{ path: 'stat', source: filter }]);
    await put({ kind: 'file', path: join(folder, 'proc/cpuinfo'), filter: true }).expect(400);
    for (const source of [
      { kind: 'file', path: '/etc/passwd' },
      { kind: 'socket', path: '/run/x' },
      { kind: 'command', command: ['/bin/sh', '-c', 'id'] },
    ]) {
      expect((await put(source).expect(403)).body.field).toMatch(/^proc_files\[0\]\.source\./);
    }
    expect((await put({ kind: 'file', path: join(folder, 'none') }).expect(404)).body.code).toBe('not_found');

    const say = (command: string) => api.post('/v1/vms/web/mconsole', { command }).expect(200);
    expect((await say(`config hppfs=${folder}`)).body).toMatchObject({ ok: true });
    const loaded = [
      { path: 'cpuinfo', source: { kind: 'file', path: join(folder, 'proc/cpuinfo') } },
      { path: 'uptime', source: HIDDEN },
    ];
    expect(api.farm.of('web').requests.at(-1)).toEqual({ type: 'proc-files', files: loaded });
    expect((await say('config hppfs=/etc')).body).toMatchObject({ ok: false, err: -13 });
    expect((await say('remove hppfs')).body).toMatchObject({ ok: true });
    expect((await api.vm('web')).proc_files).toEqual([]);
  });
});
