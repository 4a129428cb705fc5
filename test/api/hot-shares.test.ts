import { describe, expect, it } from 'vitest';
import { scratchFolder } from '../support/storage.ts';
import { startHarness } from './support/harness.ts';

describe('shares of a VM that runs', () => {
  it('come and go, by the API and by mconsole', async () => {
    const folder = scratchFolder();
    const api = await startHarness({ allowPaths: [folder] });
    await api.runVm('web');
    const machine = api.farm.of('web');
    await api.post('/v1/vms/web/shares', { tag: 'src', path: folder }).expect(200);
    expect(machine.requests.at(-1)).toMatchObject({ type: 'attach-share', share: { tag: 'src', folder } });
    expect((await api.vm('web')).shares.map(({ tag }) => tag)).toEqual(['src']);
    await api.post('/v1/vms/web/shares', { tag: 'src', path: folder }).expect(409);
    await api.delete('/v1/vms/web/shares/src').expect(200);
    expect(machine.requests.at(-1)).toEqual({ type: 'detach', device: 'share:src' });
    expect((await api.vm('web')).shares).toEqual([]);
    await api.delete('/v1/vms/web/shares/src').expect(404);

    const say = async (command: string) =>
      (await api.post('/v1/vms/web/mconsole', { command }).expect(200)).body as unknown;
    expect(await say(`config hostfs=${folder}`)).toMatchObject({ ok: true });
    expect((await api.vm('web')).shares).toMatchObject([{ tag: 'hostfs', path: folder }]);
    expect(await say(`config hostfs=${folder}`)).toMatchObject({ ok: false });
    expect(await say('config hostfs=/etc')).toMatchObject({ ok: false, err: -13 });
    expect(await say(`config hostfs=${folder},append`)).toMatchObject({ ok: false });
    expect(await say('remove hostfs')).toMatchObject({ ok: true });
    expect(await say('remove hostfs')).toMatchObject({ ok: false, err: -19 });
  });

  it('stay when the guest does not let go of them', async () => {
    const folder = scratchFolder();
    const api = await startHarness({ allowPaths: [folder] });
    await api.runVm('web', { shares: [{ tag: 'src', path: folder }] });
    api.farm.holdDevices = true;
    const answer = await api.delete('/v1/vms/web/shares/src');
    expect((answer.body as { code: string }).code).toBe('guest_not_responding');
    expect((await api.vm('web')).shares).toHaveLength(1);
  });
});

describe('folders of other hosts', () => {
  it('are an operator’s to share, and are written as they should be', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web' });
    const add = (path: string) => api.post('/v1/vms/web/shares', { tag: 'far', path });
    for (const path of [
      'ssh://host',
      'ssh:host:/x',
      'ssh://-oProxyCommand/y',
      'ssh://-o@host/y',
      'rclone:',
      'rclone:--config=x',
    ]) {
      expect((await add(path).expect(400)).body, path).toMatchObject({
        code: 'invalid_input',
        field: 'path',
      });
    }
    await add('ssh://me@host.example:2222/srv/far').expect(200);
    expect((await api.vm('web')).shares).toMatchObject([{ path: 'ssh://me@host.example:2222/srv/far' }]);
  });
});

describe('network cards of a VM that runs', () => {
  it("are joined with UML's transports by mconsole, and with networks", async () => {
    const api = await startHarness();
    await api.runVm('web');
    const say = async (command: string) =>
      (await api.post('/v1/vms/web/mconsole', { command }).expect(200)).body as unknown;
    expect(await say('config eth1=slirp,02:00:00:00:00:21')).toMatchObject({ ok: true });
    expect(await say('config eth2=mcast,,239.192.168.9,1109')).toMatchObject({ ok: true });
    expect(await say('config eth3=default')).toMatchObject({ ok: true });
    const { nics } = await api.vm('web');
    expect(nics[1]).toMatchObject({ mac: '02:00:00:00:00:21', network: null, transport: { kind: 'nat' } });
    expect(nics[2]).toMatchObject({ transport: { kind: 'mcast', group: '239.192.168.9', port: 1109 } });
    expect(nics[3]).toMatchObject({ network: 'default' });
    expect(await say('config eth4=tuntap')).toMatchObject({ ok: false, err: -22 });
    expect(await say('config eth4=nosuchnet')).toMatchObject({ ok: false });
    // A switch that is not there may come: the card is there.
    expect(await say('config vec4:transport=vde,vnl=/nowhere,mac=02:00:00:00:00:24')).toMatchObject({
      ok: true,
    });
    const now = (await api.vm('web')).nics[4];
    expect(now).toMatchObject({
      device: 'eth4',
      mac: '02:00:00:00:00:24',
      transport: { kind: 'vde', folder: '/nowhere' },
    });
    expect(await say('config vec5:transport=gre,src=a')).toMatchObject({ ok: false, err: -22 });
    expect(await say('config vec8=x')).toEqual({
      ok: false,
      err: -22,
      text: "Expected ':' after device number",
    });
    expect(await say('config vec4:transport=vde,vnl=/nowhere')).toMatchObject({
      err: -22,
      text: 'Device already configured',
    });
    expect(await say('remove eth1')).toMatchObject({ ok: true });
  });
});
