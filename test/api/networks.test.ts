import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { NetworkAddress, Vm } from '../../src/contracts/api/index.ts';
import { openDatabase } from '../../src/db/index.ts';
import { type Harness, startHarness, tempDir } from './support/harness.ts';

const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

describe('networks', () => {
  it('are made, listed with their leases, and deleted when nobody is on them', async () => {
    const api = await startHarness();
    const made = await api.post('/v1/networks', { name: 'lab', subnet: '10.9.0.0/24' }).expect(201);
    expect(made.body).toMatchObject({ name: 'lab', ports: 0, leases: [] });
    await api.runVm('web-1', { nics: [{ network: 'lab' }] });
    const network = (await api.get('/v1/networks/lab').expect(200)).body;
    expect(network).toMatchObject({ ports: 1, leases: [{ address: '10.0.77.10', host_name: 'web-1' }] });
    expect((await api.delete('/v1/networks/lab').expect(409)).body.code).toBe('in_use');
    await api.delete('/v1/vms/web-1?force=true').expect(204);
    await api.delete('/v1/networks/lab').expect(204);
    expect((await api.delete('/v1/networks/default').expect(403)).body.code).toBe('protected');
    expect((await api.get('/v1/networks')).body.items).toHaveLength(1);
    await api.post('/v1/networks', { name: 'x', subnet: 'here' }).expect(400);
    await api.post('/v1/networks', { name: 'default', subnet: '10.9.0.0/24' }).expect(409);
  });

  it('belong to tenants: each has a default of its own, and does not see those of others', async () => {
    const api = await startHarness();
    const [a, b] = [await api.tokenOf('user', 'a'), await api.tokenOf('user', 'b')];
    const make = (token: string, body: object) => api.as(token).post('/v1/networks').send(body);
    await make(a, { name: 'lab', subnet: '10.9.0.0/24' }).expect(201);
    await make(b, { name: 'lab', subnet: '10.9.0.0/24' }).expect(201);
    const vm = (await api.as(a).post('/v1/vms').send({ name: 'web' }).expect(201)).body as Vm;
    expect(vm.nics[0]!.network).toBe('default');
    const listed = (await api.as(a).get('/v1/networks')).body.items;
    expect(listed.map(({ name, tenant }: { name: string; tenant: string }) => [name, tenant])).toEqual([
      ['lab', 'a'],
      ['default', 'a'],
    ]);
    const others = (await api.as(b).get('/v1/networks')).body.items;
    expect(others).toHaveLength(1);
    await api.as(a).get(`/v1/networks/${others[0].id}`).expect(404);
    await api.as(a).delete(`/v1/networks/${others[0].id}`).expect(404);
    await api.as(a).get(`/v1/networks/${others[0].id}/ports`).expect(404);
    const answer = await api
      .as(a)
      .post('/v1/vms')
      .send({ nics: [{ network: others[0].id }] })
      .expect(404);
    expect(answer.body.field).toBe('nics[0].network');
    await make(a, { name: 'x', subnet: '10.9.0.0/24', shared: true }).expect(403);
    await make(a, { name: 'x', subnet: '10.9.0.0/24', uml_socket: true }).expect(403);
    expect((await api.get('/v1/networks/lab').expect(409)).body.code).toBe('conflict');
  });

  it('can be shared: other tenants plug in, and see nothing of each other', async () => {
    const api = await startHarness();
    const body = { name: 'public', subnet: '10.9.0.0/24', shared: true, uml_socket: true };
    const made = (await api.post('/v1/networks', body).expect(201)).body;
    expect(made.uml_socket).toBe(`${api.home}/networks/${made.id}/ctl`);
    expect(api.fabric.networks.get(made.id)!.options.umlSocket).toBe(made.uml_socket);
    const a = await api.tokenOf('user', 'a');
    const nics = [{ network: 'public' }];
    await api.as(a).post('/v1/vms').send({ name: 'web', nics }).expect(201);
    const seen = (await api.as(a).get('/v1/networks/public').expect(200)).body;
    expect(seen).toMatchObject({ shared: true, ports: 0, leases: [], uml_socket: null });
    await api.as(a).get('/v1/networks/public/addresses').expect(403);
    const vlan = { mode: 'access', id: 7 };
    const refused = await api
      .as(a)
      .post('/v1/vms')
      .send({ nics: [{ network: 'public', vlan }] })
      .expect(403);
    expect(refused.body.field).toBe('nics[0].vlan');
  });

  it('give each card an address that stays, or those that are asked for', async () => {
    const home = tempDir();
    const api = await startHarness({ home });
    await api.post('/v1/networks', { name: 'lab', subnet: '10.9.0.0/29', gateway: '10.9.0.6' }).expect(201);
    const nics = [{ network: 'lab', addresses: ['10.9.0.4', '10.9.0.3'] }];
    const one = await api.createVm({ name: 'one', nics });
    expect(one.nics[0]!.addresses).toEqual(['10.9.0.4', '10.9.0.3']);
    const two = await api.createVm({ name: 'two', nics: [{ network: 'lab' }] });
    expect(['10.9.0.2', '10.9.0.5']).toContain(two.nics[0]!.addresses[0]);
    const taken = await api
      .post('/v1/vms', { nics: [{ network: 'lab', addresses: ['10.9.0.3'] }] })
      .expect(409);
    expect(taken.body).toMatchObject({ code: 'already_exists', field: 'addresses' });
    for (const address of ['10.8.0.1', '10.9.0.6', '10.9.0.7']) {
      await api.post('/v1/vms', { nics: [{ network: 'lab', addresses: [address] }] }).expect(400);
    }
    await api.createVm({ name: 'three', nics: [{ network: 'lab' }] });
    const full = await api.post('/v1/vms', { nics: [{ network: 'lab' }] }).expect(422);
    expect(full.body.code).toBe('quota_exceeded');
    expect(api.farm.machines).toEqual([]);
    const reserved = (): [string, string][] => [...networkOf(api, '10.9.0.0/29').reserved];
    expect(reserved()).toHaveLength(3);
    expect(reserved()).toContainEqual(['10.9.0.4', one.nics[0]!.mac]);
    await api.delete('/v1/vms/one').expect(204);
    expect(reserved()).toHaveLength(2);
    await api.createVm({ name: 'four', nics });
    await api.daemon.close();
    const again = await startHarness({ home });
    expect((await again.vm('two')).nics).toEqual(two.nics);
    expect([...networkOf(again, '10.9.0.0/29').reserved].length).toBe(3);
  });

  it('keep addresses for stations that are no VMs', async () => {
    const api = await startHarness();
    const mac = '02:00:00:00:00:99';
    const made = await api.post('/v1/networks/default/addresses', { address: '10.0.77.20', mac }).expect(201);
    expect(made.body).toEqual({ address: '10.0.77.20', mac, vm_id: null, device: null });
    await api.post('/v1/networks/default/addresses', { address: '10.0.77.20', mac }).expect(409);
    await api.post('/v1/vms', { nics: [{ addresses: ['10.0.77.20'] }] }).expect(409);
    const vm = await api.createVm({ nics: [{ addresses: ['10.0.77.21'] }] });
    const items = (await api.get('/v1/networks/default/addresses').expect(200)).body
      .items as NetworkAddress[];
    expect(items.map(({ address, vm_id }) => [address, vm_id])).toEqual([
      ['10.0.77.20', null],
      ['10.0.77.21', vm.id],
    ]);
    expect((await api.delete('/v1/networks/default/addresses/10.0.77.21').expect(409)).body.code).toBe(
      'in_use',
    );
    await api.delete('/v1/networks/default/addresses/10.0.77.20').expect(204);
    await api.delete('/v1/networks/default/addresses/10.0.77.20').expect(404);
    expect([...networkOf(api, '10.0.77.0/24').reserved.keys()]).toEqual(['10.0.77.21']);
  });

  it('are changed while VMs are on them, as far as may be', async () => {
    const home = tempDir();
    const api = await startHarness({ home });
    await api.post('/v1/networks', { name: 'lab', subnet: '10.9.0.0/24', lease_seconds: 600 }).expect(201);
    const vm = await api.runVm('web', { nics: [{ network: 'lab' }] });
    const ipv6 = { prefix: 'fd00:9::/64' };
    const change = { name: 'office', uplink: { kind: 'nat' }, ipv6, services: false, lease_seconds: null };
    const { body } = await api.patch('/v1/networks/lab', change).expect(200);
    expect(body).toMatchObject({ name: 'office', subnet: '10.9.0.0/24', uplink: { kind: 'nat' }, ports: 1 });
    expect(body.ipv6).toEqual({ ...ipv6, addressing: 'slaac' });
    expect(body).not.toHaveProperty('lease_seconds');
    const { options, ports } = networkOf(api, '10.9.0.0/24');
    expect(options).toMatchObject({ name: 'office', uplink: { kind: 'nat' }, uplinkRequired: true });
    expect(ports.get(`${vm.id}/eth0`)?.protection).toEqual({ arp: false, ipv4: false, ipv6: false });
    const forward = { host_port: 8080, vm: 'web', port: 80 };
    const made = (await api.post('/v1/networks/office/forwards', forward).expect(201)).body;
    const inUse = await api.patch('/v1/networks/office', { uplink: null }).expect(409);
    expect(inUse.body).toMatchObject({ code: 'in_use', field: 'uplink' });
    await api.delete(`/v1/networks/office/forwards/${made.id}`).expect(204);
    await api.patch('/v1/networks/office', { uplink: null, services: null }).expect(200);
    expect((await api.patch('/v1/networks/office', { name: 'default' }).expect(409)).body.field).toBe('name');
    expect((await api.patch('/v1/networks/default', { name: 'x' }).expect(403)).body.code).toBe('protected');
    await api.patch('/v1/networks/office', { subnet: '10.8.0.0/24' }).expect(400);
    const user = api.as(await api.tokenOf('user', 'default'));
    for (const reach of [{ uml_socket: true }, { shared: true }, { uplink: { kind: 'slip' } }])
      await user.patch('/v1/networks/office').send(reach).expect(403);
    const other = api.as(await api.tokenOf('user', 'a'));
    await other.patch('/v1/networks/office').send({ hub: true }).expect(404);
    const kept = (await api.get('/v1/networks/office')).body;
    await api.daemon.close();
    const again = await startHarness({ home });
    expect((await again.get('/v1/networks/office').expect(200)).body).toMatchObject({
      id: kept.id,
      ipv6: kept.ipv6,
    });
    expect(networkOf(again, '10.9.0.0/24').options.uplink).toBeUndefined();
  });

  it('show what is plugged in, with counters, and which station is where', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web-1');
    const [port] = (await api.get('/v1/networks/default/ports').expect(200)).body.items;
    expect(port).toMatchObject({
      id: `${vm.id}/eth0`,
      name: 'web-1',
      mac: vm.nics[0]!.mac,
      addresses: vm.nics[0]!.addresses,
      tx_frames: 10,
      rx_bytes: 2000,
      drops: { macSpoof: 2, beforeSwitch: 1, queueFull: 0 },
    });
    expect((await api.get('/v1/networks/default/mac-table').expect(200)).body.items).toEqual([
      { mac: vm.nics[0]!.mac, vlan: 1, port: `${vm.id}/eth0`, age_seconds: 0, fixed: true },
    ]);
  });
});

describe('captures', () => {
  it('are streams of a network or a card, with limits, and of a tenant’s own alone', async () => {
    const api = await startHarness();
    await api.post('/v1/networks', { name: 'public', subnet: '10.9.0.0/24', shared: true }).expect(201);
    const user = await api.tokenOf('user', 'a');
    const body = { name: 'web', nics: [{ network: 'public' }] };
    const vm = (await api.as(user).post('/v1/vms').send(body).expect(201)).body as Vm;
    const query = 'filter=tcp%20port%2080&snap_length=100&max_seconds=5&max_bytes=2000';
    const answer = await api.as(user).get(`/v1/vms/web/nics/eth0/capture?${query}`).buffer().expect(200);
    expect(answer.headers['content-type']).toBe('application/x-pcapng');
    expect(JSON.parse(answer.text)).toMatchObject({
      portId: `${vm.id}/eth0`,
      filter: 'tcp port 80',
      snapBytes: 100,
      maxSeconds: 5,
      maxBytes: 2000,
    });
    await api.as(user).get('/v1/networks/public/capture').expect(403);
    await api.as(user).get('/v1/vms/web/nics/eth1/capture').expect(404);
    await api
      .as(await api.tokenOf('user', 'b'))
      .get('/v1/vms/web/nics/eth0/capture')
      .expect(404);
    await api.get('/v1/networks/public/capture?max_seconds=99999').expect(400);
    await api.get('/v1/networks/public/capture?port=x').expect(200);
  });
});

describe('network cards', () => {
  it('are told to the switch with all that they may do, and changed while the VM runs', async () => {
    const api = await startHarness();
    const vlan = { mode: 'trunk', allowed: [[10, 19]], native: 1 };
    const limits = { tx: { bits_per_second: 1e6 }, rx: { packets_per_second: 100, burst_packets: 7 } };
    const vm = await api.runVm('web-1', { nics: [{ vlan, limits, protection: { mac: false } }] });
    const port = () => networkOf(api, '10.0.77.0/24').ports.get(`${vm.id}/eth0`);
    expect(vm.nics[0]).toMatchObject({ vlan, limits, protection: { mac: false, arp: true } });
    expect(port()).toMatchObject({
      vlan,
      protection: { mac: false, arp: true, dhcpServer: true },
      limits: { fromPort: { bitsPerSecond: 1e6 }, toPort: { packetsPerSecond: 100, burstPackets: 7 } },
    });
    const change = { vlan: null, limits: null, addresses: ['10.0.77.30'] };
    const now = (await api.patch('/v1/vms/web-1/nics/eth0', change).expect(200)).body as Vm;
    expect(now.nics[0]).toEqual({
      ...{ device: 'eth0', mac: vm.nics[0]!.mac, network: 'default', addresses: ['10.0.77.30'] },
      protection: vm.nics[0]!.protection,
    });
    expect(now.version).toBe(vm.version + 1);
    expect(port()).toMatchObject({ addresses: ['10.0.77.30'], vlan: undefined, limits: undefined });
    await api.patch('/v1/vms/web-1/nics/eth1', change).expect(404);
    await api.patch('/v1/vms/web-1/nics/eth0', { vlan: { mode: 'access', id: 4095 } }).expect(400);
  });

  it('cannot be freed of their protection and limits by a tenant', async () => {
    const api = await startHarness();
    const user = await api.tokenOf('user', 'a');
    const create = (nic: object) =>
      api
        .as(user)
        .post('/v1/vms')
        .send({ name: 'web', nics: [nic] });
    expect((await create({ protection: { ipv4: false } }).expect(403)).body.field).toBe('nics[0].protection');
    expect((await create({ limits: { tx: { bits_per_second: 1e9 } } }).expect(403)).body.field).toBe(
      'nics[0].limits',
    );
    await create({ vlan: { mode: 'access', id: 5 }, protection: {} }).expect(201);
    const change = (body: object) => api.as(user).patch('/v1/vms/web/nics/eth0').send(body);
    expect((await change({ limits: null }).expect(403)).body.code).toBe('forbidden');
    await change({ vlan: null }).expect(200);
  });
});

describe('firewalls', () => {
  const ssh = { direction: 'ingress', protocol: 'tcp', ports: [22, 22] };
  const full = { action: 'allow', ...ssh };

  it('are made, given to cards, changed for all that have them, and deleted when none has', async () => {
    const api = await startHarness();
    const made = await api.post('/v1/firewalls', { name: 'web', rules: [ssh] }).expect(201);
    expect(made.body).toMatchObject({ name: 'web', rules: [full], nics: 0 });
    await api.post('/v1/firewalls', { name: 'web' }).expect(409);
    const own = { direction: 'egress', action: 'deny', cidrs: ['10.0.0.0/8'] };
    const vm = await api.runVm('web-1', { nics: [{ firewalls: ['web'], rules: [own] }] });
    await api.createVm({ name: 'web-2', nics: [{ firewalls: [made.body.id] }] });
    expect(vm.nics[0]).toMatchObject({ firewalls: ['web'], rules: [{ ...own, protocol: 'any' }] });
    const port = () => networkOf(api, '10.0.77.0/24').ports.get(`${vm.id}/eth0`)!;
    expect(port().firewall).toMatchObject([own, full]);
    const http = { ...ssh, ports: [80, 80] };
    await api.patch('/v1/firewalls/web', { rules: [http], name: 'http' }).expect(200);
    expect(port().firewall).toMatchObject([own, http]);
    expect((await api.vm('web-2')).nics[0]!.firewalls).toEqual(['http']);
    expect((await api.get('/v1/firewalls/http').expect(200)).body.nics).toBe(2);
    expect((await api.delete('/v1/firewalls/http').expect(409)).body.code).toBe('in_use');
    for (const name of ['web-1', 'web-2']) {
      await api.patch(`/v1/vms/${name}/nics/eth0`, { firewalls: null, rules: null }).expect(200);
    }
    expect(port().firewall).toEqual([]);
    await api.delete('/v1/firewalls/http').expect(204);
    const events = (await api.get('/v1/events?type=firewall.*')).body.items;
    expect(events.map(({ type }: { type: string }) => type.slice(9))).toEqual([
      'created',
      'updated',
      'deleted',
    ]);
  });

  it('know the members of others, whoever comes and goes', async () => {
    const api = await startHarness();
    await api.post('/v1/networks', { name: 'six', subnet: '10.9.0.0/24', ipv6: { prefix: 'fd00:9::/64' } });
    await api.post('/v1/firewalls', { name: 'web' }).expect(201);
    const sql = { direction: 'ingress', protocol: 'tcp', ports: [5432, 5432], members: ['web', 'db'] };
    const made = await api.post('/v1/firewalls', { name: 'db', rules: [sql] }).expect(201);
    expect(made.body.rules[0].members).toEqual(['web', 'db']);
    const none = await api
      .post('/v1/firewalls', { name: 'x', rules: [{ ...sql, members: ['y'] }] })
      .expect(404);
    expect(none.body.field).toBe('rules[0].members');
    const card = (mac: string, firewalls: string[], address: string) => ({
      ...{ network: 'six', firewalls, mac, addresses: [address] },
    });
    const db = await api.runVm('db', { nics: [card('02:00:00:00:00:01', ['db'], '10.9.0.20')] });
    const own = ['10.9.0.20/32', 'fd00:9::ff:fe00:1/128'];
    const allowed = () => networkOf(api, '10.9.0.0/24').ports.get(`${db.id}/eth0`)!.firewall![0]!.cidrs;
    expect(allowed()).toEqual(own);
    await api.createVm({ name: 'web', nics: [card('02:00:00:00:00:02', ['web'], '10.9.0.21')] });
    const web = ['10.9.0.21/32', 'fd00:9::ff:fe00:2/128'];
    await expect.poll(allowed).toEqual([...web, ...own]);
    // Of another network, it is no member here.
    await api.createVm({ name: 'far', nics: [{ firewalls: ['web'] }] });
    await api.patch('/v1/vms/web/nics/eth0', { addresses: ['10.9.0.22', 'fd00:9::22'] }).expect(200);
    await expect.poll(allowed).toEqual(['10.9.0.22/32', 'fd00:9::22/128', ...own]);
    await api.patch('/v1/vms/web/nics/eth0', { firewalls: null }).expect(200);
    await expect.poll(allowed).toEqual(own);
    expect((await api.delete('/v1/vms/far').expect(204)).status).toBe(204);
    const inUse = await api.delete('/v1/firewalls/web').expect(409);
    expect(inUse.body.detail).toContain('members');
    await api.patch('/v1/firewalls/db', { rules: [{ ...sql, members: ['db'] }] }).expect(200);
    await api.delete('/v1/firewalls/web').expect(204);
    await api
      .patch('/v1/vms/db/nics/eth0', { firewalls: [], rules: [{ ...sql, members: ['db'] }] })
      .expect(200);
    expect((await api.vm('db')).nics[0]!.rules![0]!.members).toEqual(['db']);
    expect(allowed()).toEqual([]);
  });

  it('stay with a VM that is restored from a backup', async () => {
    const api = await startHarness();
    await api.post('/v1/firewalls', { name: 'web', rules: [ssh] }).expect(201);
    const limits = { tx: { bits_per_second: 1e6 } };
    await api.runVm('web-1', { nics: [{ firewalls: ['web'], limits }] });
    await api.operate('/v1/vms/web-1/backups', { name: 'b' });
    await api.operate('/v1/backups/b/restore', { name: 'web-2' });
    const [was, now] = [(await api.vm('web-1')).nics[0]!, (await api.vm('web-2')).nics[0]!];
    expect(now).toMatchObject({ network: 'default', firewalls: ['web'], limits });
    expect(now.mac).not.toBe(was.mac);
    expect(now.addresses).not.toEqual(was.addresses);
  });

  it('are of their tenant, and their rules are checked', async () => {
    const api = await startHarness();
    const [a, b] = [await api.tokenOf('user', 'a'), await api.tokenOf('user', 'b')];
    await api
      .as(a)
      .post('/v1/firewalls')
      .send({ name: 'web', rules: [ssh] })
      .expect(201);
    await api.as(b).get('/v1/firewalls/web').expect(404);
    const refused = await api
      .as(b)
      .post('/v1/vms')
      .send({ nics: [{ firewalls: ['web'] }] })
      .expect(404);
    expect(refused.body.field).toBe('nics[0].firewalls');
    for (const rule of [
      {},
      { ...ssh, ports: [9, 1] },
      { ...ssh, protocol: 'icmp' },
      { ...ssh, cidrs: ['x'] },
    ]) {
      await api
        .as(a)
        .post('/v1/firewalls')
        .send({ name: 'x', rules: [rule] })
        .expect(400);
    }
  });
});

function networkOf(api: Harness, subnet: string) {
  const network = [...api.fabric.networks.values()].find(({ options }) => options.subnet === subnet);
  if (network === undefined) throw new Error(`no network ${subnet}`);
  return network;
}

it('a state folder of the version before keeps its networks and cards, which get addresses', async () => {
  const home = tempDir();
  const old = path.join(home, 'old-migrations');
  fs.mkdirSync(old);
  for (const name of ['0001-core.sql', '0002-jobs.sql'])
    fs.copyFileSync(path.join(MIGRATIONS, name), path.join(old, name));
  const db = openDatabase(path.join(home, 'db.sqlite'), old);
  db.exec(`INSERT INTO images VALUES (1, 'img', 'default', '{}', '', NULL, NULL, 0);
    INSERT INTO networks VALUES (7, 'net-1', 'lab', '10.9.0.0/24', 5), (8, 'net-2', 'default', '10.0.77.0/24', 6);
    INSERT INTO vms (id, tenant, name, state, image_id, memory_bytes, append, autostart, labels, created_at, updated_at)
      VALUES ('vm-1', 'a', 'web', 'halted', 'img', 268435456, '', 'never', '{}', 1, 1);
    INSERT INTO nics VALUES ('vm-1', 'eth0', '02:00:00:00:00:05', 'net-1');`);
  db.close();
  const api = await startHarness({ home });
  const { nics } = await api.vm('web');
  expect(nics).toEqual([
    {
      device: 'eth0',
      mac: '02:00:00:00:00:05',
      network: 'lab',
      addresses: [expect.stringMatching(/^10\.9\.0\.\d+$/)],
    },
  ]);
  const networks = (await api.get('/v1/networks')).body.items;
  expect(networks.map(({ id, shared }: { id: string; shared: boolean }) => [id, shared])).toEqual([
    ['net-1', true],
    ['net-2', true],
  ]);
  await api.delete('/v1/networks/lab').expect(409);
});
