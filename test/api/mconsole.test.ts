import { describe, expect, it } from 'vitest';
import { MCONSOLE_VERBS } from '../../src/contracts/api/index.ts';
import { startHarness } from './support/harness.ts';

describe('mconsole', () => {
  it('answers every verb as UML does, as text and by its own route', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    const command = async (text: string) =>
      (await api.post('/v1/vms/web-1/mconsole', { command: text }).expect(200)).body;
    const verb = async (name: string, body: object = {}) =>
      (await api.post(`/v1/vms/web-1/mconsole/${name}`, body).expect(200)).body;
    const uname =
      'Linux web-1 6.1.0-32-cloud-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.129-1 (2025-03-06) x86_64';
    expect(await command('version')).toEqual({ ok: true, err: 0, text: uname });
    expect(await verb('version')).toEqual({ ok: true, err: 0, text: uname });
    const help = (await verb('help')).text as string;
    expect(help.startsWith('Commands: \n')).toBe(true);
    for (const name of MCONSOLE_VERBS) expect(help).toContain(`    ${name}`);
    expect(await command('stop')).toEqual({ ok: true, err: 0, text: 'stopped' });
    expect(await command('stop')).toEqual({ ok: false, err: 1, text: 'Already stopped' });
    expect(await verb('go')).toEqual({ ok: true, err: 0, text: '' });
    expect(await verb('go')).toEqual({ ok: false, err: 1, text: 'Not stopped' });
    expect(await verb('cad')).toEqual({ ok: true, err: 0, text: '' });
    expect(await verb('config', { device: 'mem' })).toMatchObject({
      ok: true,
      text: String(256 * 1024 * 1024),
    });
    expect(await verb('remove', { device: 'ubd5' })).toMatchObject({ ok: false, err: -19 });
    expect(await verb('reboot')).toEqual({ ok: true, err: 0, text: '' });
    expect(await verb('halt')).toEqual({ ok: true, err: 0, text: '' });
    expect(await api.vm('web-1')).toMatchObject({ state: 'halted' });
  });

  it('finds a verb by its beginning, as UML, and knows no others', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const command = async (text: string) =>
      (await api.post('/v1/vms/web-1/mconsole', { command: text }).expect(200)).body;
    expect((await command('versionXYZ')).ok).toBe(true);
    for (const text of ['nonsense', '', ' version', 'VERSION']) {
      expect(await command(text)).toEqual({ ok: false, err: 1, text: 'Unknown command' });
    }
    await api.post('/v1/vms/web-1/mconsole', { command: 'x'.repeat(512) }).expect(400);
    await api.post('/v1/vms/web-1/mconsole', {}).expect(400);
  });

  it('sends sysrq to the guest and answers with what its console printed', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    const answer = await api.post('/v1/vms/web-1/mconsole', { command: 'sysrq h' }).expect(200);
    expect(answer.body).toEqual({ ok: true, err: 0, text: 'sysrq: HELP : key h\n' });
    expect((await api.post('/v1/vms/web-1/mconsole', { command: 'sysrq' })).body.text).toContain('key h');
    expect((await api.post('/v1/vms/web-1/mconsole/sysrq', { letter: 'm' }).expect(200)).body.text).toContain(
      'key m',
    );
  });

  it('refuses an unknown sysrq letter and tells which there are', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    const text = await api.post('/v1/vms/web-1/mconsole', { command: 'sysrq !' }).expect(200);
    expect(text.body).toMatchObject({ ok: false, err: -22 });
    expect(text.body.text).toContain('"!" is no SysRq key');
    const typed = await api.post('/v1/vms/web-1/mconsole/sysrq', { letter: 'help' }).expect(400);
    expect(typed.body).toMatchObject({ code: 'invalid_input', field: 'letter' });
    expect(typed.body.remedy).toContain('0123456789bcdef');
    await api.post('/v1/vms/web-1/sysrq', { letter: '!' }).expect(400);
    expect(api.farm.of('web-1').requests).toEqual([]);
  });

  it('has nobody to ask while the VM does not run', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    for (const command of ['halt', 'reboot', 'cad', 'stop', 'go', 'sysrq h']) {
      const { body } = await api.post('/v1/vms/web-1/mconsole', { command }).expect(409);
      expect(body).toMatchObject({ code: 'conflict', remedy: 'start it first' });
    }
    await api.post('/v1/vms/none/mconsole', { command: 'version' }).expect(404);
  });
});
