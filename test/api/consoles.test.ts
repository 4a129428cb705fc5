import { describe, expect, it } from 'vitest';
import type { Event } from '../../src/contracts/api/index.ts';
import { startHarness } from './support/harness.ts';

async function consoleApi() {
  const api = await startHarness();
  await api.runVm('web-1');
  const mint = async (body: object = {}, token = api.token) => {
    const answer = await api.as(token).post('/v1/vms/web-1/consoles/ttyS0/ticket').send(body).expect(201);
    return answer.body as { ticket: string; path: string };
  };
  return { api, mint };
}

describe('consoles', () => {
  it('send the scrollback first, then raw bytes both ways, to every viewer', async () => {
    const { api, mint } = await consoleApi();
    const first = api.socket((await mint()).path);
    const second = api.socket((await mint()).path);
    await first.received('booting web-1\r\n');
    await second.received('booting web-1\r\n');
    const list = (await api.get('/v1/vms/web-1/consoles').expect(200)).body.items;
    expect(list[0]).toEqual({ name: 'ttyS0', viewers: 2, scrollback_bytes: 15, channel: null });
    first.socket.send(Buffer.from('ls\n'));
    await second.received('ls\n');
    await first.received('ls\n');
    expect(api.farm.of('web-1').typed).toEqual(['ls\n']);
  });

  it('outlive a reboot and a halt of the guest', async () => {
    const { api, mint } = await consoleApi();
    const viewer = api.socket((await mint()).path);
    await viewer.opened();
    await api.operate('/v1/vms/web-1/reboot');
    await api.operate('/v1/vms/web-1/halt');
    await api.operate('/v1/vms/web-1/start');
    api.farm.of('web-1').print('ttyS0', 'second life');
    await viewer.received('second life');
    await api.delete('/v1/vms/web-1?force=true').expect(204);
    expect(await viewer.closed()).toBe(1001);
  });

  it('are opened once per ticket, for that console alone', async () => {
    const { api, mint } = await consoleApi();
    const { path, ticket } = await mint();
    await api.socket(path).opened();
    expect(await api.socket(path).refused()).toBe(401);
    const { id } = await api.vm('web-1');
    const other = (await mint()).ticket;
    expect(await api.socket(`/v1/vms/${id}/consoles/hvc0?ticket=${other}`).refused()).toBe(401);
    expect(await api.socket(`/v1/vms/${id}/consoles/ttyS0`).refused()).toBe(401);
    expect(await api.socket(`/v1/vms/${id}/consoles/ttyS0?ticket=${ticket}x`).refused()).toBe(401);
    await api.post('/v1/vms/web-1/consoles/ttyS9/ticket').expect(404);
    await api.get('/v1/vms/web-1/consoles/ttyS0').expect(400);
  });

  it('take a bearer token from clients that can send one', async () => {
    const { api } = await consoleApi();
    const authorization = `Bearer ${api.token}`;
    await api.socket('/v1/vms/web-1/consoles/ttyS0', { authorization }).received('booting');
    expect(await api.socket('/v1/vms/none/consoles/ttyS0', { authorization }).refused()).toBe(404);
    expect(await api.socket('/v1/vms/web-1/consoles/x', { authorization }).refused()).toBe(404);
  });

  it('take nothing from a viewer that only reads', async () => {
    const { api, mint } = await consoleApi();
    const reader = api.socket((await mint({ read_only: true })).path);
    const writer = api.socket((await mint()).path);
    await reader.opened();
    await writer.opened();
    reader.socket.send(Buffer.from('no'));
    // Answered after the message before it has been handled.
    await new Promise((resolve) => reader.socket.ping(undefined, undefined, resolve));
    await new Promise((resolve) => reader.socket.once('pong', resolve));
    writer.socket.send(Buffer.from('yes'));
    await reader.received('yes');
    expect(api.farm.of('web-1').typed).toEqual(['yes']);
  });

  it('keep the last 256 KiB, and drop a viewer that does not read', async () => {
    const { api, mint } = await consoleApi();
    const slow = api.socket((await mint()).path);
    await slow.opened();
    slow.socket.pause();
    const machine = api.farm.of('web-1');
    const line = 'x'.repeat(64 * 1024);
    const viewers = async () => (await api.get('/v1/vms/web-1/consoles')).body.items[0].viewers as number;
    // What the kernel's socket buffers take comes on top of the daemon's own.
    for (let sent = 0; sent < 4000 && (await viewers()) === 1; sent += 20) {
      for (let index = 0; index < 20; index++) machine.print('ttyS0', line);
    }
    expect(await viewers()).toBe(0);
    machine.print('ttyS0', 'the end');
    slow.socket.resume();
    expect(await slow.closed()).toBe(4008);
    const later = api.socket((await mint()).path);
    expect((await later.received('the end')).length).toBe(256 * 1024);
  });
});

describe('channels of consoles', () => {
  it('are kept in the configuration, joined while the VM runs, and told', async () => {
    const { api } = await consoleApi();
    const patch = (console: string, channel: string) =>
      api.patch(`/v1/vms/web-1/consoles/${console}`, { channel });
    expect((await patch('con2', 'pts').expect(200)).body).toMatchObject({
      name: 'hvc2',
      channel: expect.stringMatching(/^pts:\/dev\/pts\/\d+$/),
    });
    const machine = api.farm.of('web-1');
    expect(machine.requests.at(-1)).toEqual({ type: 'consoles', count: 3 });
    const names = async () =>
      (await api.get('/v1/vms/web-1/consoles')).body.items.map(({ name }: { name: string }) => name);
    expect(await names()).toEqual(['ttyS0', 'ttyS1', 'ttyS2', 'ttyS3', 'hvc0', 'hvc1', 'hvc2']);
    expect((await patch('ttyS1', 'port:0').expect(200)).body.channel).toMatch(/^port:\d+$/);
    await api.operate('/v1/vms/web-1/halt');
    expect((await api.get('/v1/vms/web-1/consoles')).body.items[1].channel).toBe('port:0');
    await api.operate('/v1/vms/web-1/start');
    expect(api.farm.of('web-1').data.config.consoleCount).toBe(3);
    const events = (await api.get('/v1/events?type=vm.console').expect(200)).body.items as Event[];
    expect(events[0]!.data).toMatchObject({ line: 'con2', device: expect.stringContaining('/dev/pts/') });
    await patch('hvc2', 'none').expect(200);
    await patch('ssl1', 'none').expect(200);
    expect(await names()).toHaveLength(5);
  });

  it('are an operator’s, and only to what it allows', async () => {
    const { api } = await consoleApi();
    const patch = (console: string, channel: string) =>
      api.patch(`/v1/vms/web-1/consoles/${console}`, { channel });
    expect((await patch('con1', 'tty:/dev/tty').expect(403)).body).toMatchObject({ field: 'channel' });
    expect((await patch('con1', 'fd:0').expect(400)).body.code).toBe('invalid_input');
    expect((await patch('con1', 'bogus').expect(400)).body.remedy).toContain('pts');
    await patch('con16', 'null').expect(404);
    await patch('ssl4', 'null').expect(404);
    await patch('con1', 'port:1:1').expect(400);
    expect((await api.get('/v1/vms/web-1/consoles')).body.items).toHaveLength(5);
    const user = await api.tokenOf('user', 'a');
    await api.as(user).post('/v1/vms').send({ name: 'own' }).expect(201);
    const denied = await api.as(user).patch('/v1/vms/own/consoles/con1').send({ channel: 'pts' }).expect(403);
    expect(denied.body.remedy).toContain('by the API');
    await api.as(user).patch('/v1/vms/own/consoles/con1').send({ channel: 'null' }).expect(200);
  });

  it('pass on the size of a viewer’s terminal', async () => {
    const { api, mint } = await consoleApi();
    const reader = api.socket((await mint({ read_only: true })).path);
    const viewer = api.socket((await mint()).path);
    await Promise.all([reader.opened(), viewer.opened()]);
    reader.socket.send(JSON.stringify({ columns: 1, rows: 1 }));
    viewer.socket.send(JSON.stringify({ columns: 132, rows: 43 }));
    viewer.socket.send('{"columns":');
    await viewer.received('{"columns":');
    const sizes = api.farm.of('web-1').told.filter(({ type }) => type === 'console-size');
    expect(sizes).toEqual([{ type: 'console-size', console: 'ttyS0', columns: 132, rows: 43 }]);
  });
});

describe('events', () => {
  it('are a list that goes on where one left off', async () => {
    const api = await startHarness();
    const start = (await api.get('/v1/events').expect(200)).body.last_seq as number;
    await api.runVm('web-1');
    const page = (await api.get(`/v1/events?after=${start}&type=vm.*`).expect(200)).body as {
      items: Event[];
    };
    expect(page.items.map(({ type, data }) => [type, data.state])).toEqual([
      ['vm.created', undefined],
      ['vm.state', 'starting'],
      ['vm.state', 'running'],
    ]);
    const one = (await api.get(`/v1/events?after=${start}&type=vm.state&limit=1`)).body;
    expect(one.items).toHaveLength(1);
    const next = (await api.get(`/v1/events?after=${one.last_seq}&type=vm.state`)).body;
    expect(next.items.map((event: Event) => event.data.state)).toEqual(['running']);
  });

  it('are a stream that resumes without loss or repetition', async () => {
    const api = await startHarness();
    const connect = async (query: string) => {
      const { path } = (await api.post('/v1/events/ticket').expect(201)).body as { path: string };
      return api.socket(`${path}${query}`);
    };
    const first = await connect('&type=vm.*');
    await first.opened();
    await api.createVm({ name: 'one' });
    const [seen] = (await first.count(1)).map((text) => JSON.parse(text) as Event);
    expect(seen).toMatchObject({ type: 'vm.created', data: { name: 'one' } });
    first.socket.terminate();
    await api.createVm({ name: 'two' });
    await api.createVm({ name: 'three' });
    const second = await connect(`&type=vm.*&after=${seen!.seq}`);
    await second.count(2);
    await api.createVm({ name: 'four' });
    const events = (await second.count(3)).map((text) => JSON.parse(text) as Event);
    expect(events.map(({ data }) => data.name)).toEqual(['two', 'three', 'four']);
    expect(await api.socket('/v1/events?ticket=none').refused()).toBe(401);
    await api.anonymous().get('/v1/events?ticket=none').expect(401);
  });

  it('of another tenant are not seen', async () => {
    const api = await startHarness();
    const authorization = `Bearer ${await api.tokenOf('user', 'a')}`;
    const stream = api.socket('/v1/events?after=0', { authorization });
    await stream.opened();
    await api.createVm({ name: 'foreign' });
    await api.as(authorization.slice(7)).post('/v1/vms').send({ name: 'own' }).expect(201);
    await stream.received('own');
    expect(stream.text).not.toContain('foreign');
  });
});
