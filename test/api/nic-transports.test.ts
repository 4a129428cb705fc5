/** Network cards of VMs with transports of their own: what the API keeps of them, and frames that go through the real ones. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import type { Nic, TransportInput, Vm } from '../../src/contracts/api/index.ts';
import { FakeGuest } from '../../src/switchd/testing/fake-guest.ts';
import { requireTool } from '../support/tools.ts';
import { type Harness, startHarness, tempDir } from './support/harness.ts';

const WAIT_MS = 20_000;
const TIMEOUT = { timeout: 60_000 };

/** The guest's end of a card of a VM that runs. */
function guestOf(api: Harness, vm: Vm, device = 'eth0'): FakeGuest {
  const { config, nicRings } = api.farm.machines.findLast(({ data }) => data.config.name === vm.name)!.data;
  const index = config.nics.findIndex((nic) => nic.device === device);
  return new FakeGuest(config.nics[index]!.mac, { ring: nicRings[index]!, detach: async () => {} });
}

async function cardOf(api: Harness, name: string, isThere: (nic: Nic) => boolean): Promise<Nic> {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const nic = (await api.vm(name)).nics[0]!;
    if (isThere(nic)) return nic;
    if (Date.now() > end) throw new Error(`${name} has ${JSON.stringify(nic)}`);
    await delay(20);
  }
}

/** Says it until the other has heard it: what is sent before both are joined is lost. */
async function reaches(from: FakeGuest, to: FakeGuest, text: string): Promise<void> {
  const again = setInterval(() => from.say(to.mac, text), 50);
  await to.hear(text).finally(() => clearInterval(again));
}

async function program(command: string, args: readonly string[], socket: string): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'ignore'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const end = Date.now() + WAIT_MS;
  while (!fs.existsSync(socket)) {
    if (Date.now() > end || child.exitCode !== null) throw new Error(`${command} does not serve ${socket}`);
    await delay(20);
  }
  return child;
}

test('a card has a network or a transport, which is shown, kept, and an administrator’s to give', async () => {
  const home = tempDir();
  const api = await startHarness({ home });
  const mcast = { kind: 'mcast', group: '239.192.168.9', port: 1102, ttl: 1 } as const;
  const vm = await api.createVm({
    name: 'web',
    nics: [{ transport: { kind: 'mcast', group: mcast.group } }, { transport: { kind: 'nat' } }, {}],
  });
  expect(vm.nics).toMatchObject([
    { device: 'eth0', network: null, transport: mcast, transport_state: null, addresses: [] },
    { device: 'eth1', network: null, transport: { kind: 'nat' }, addresses: ['10.0.2.15'] },
    { device: 'eth2', network: 'default' },
  ]);
  expect(vm.nics[2]).not.toHaveProperty('transport');
  const refused = async (nic: object, field: string): Promise<void> => {
    const { body } = await api.post('/v1/vms', { nics: [nic] }).expect(400);
    expect(body).toMatchObject({ code: 'invalid_input', field });
  };
  await refused({ network: 'default', transport: mcast }, 'nics[0].transport');
  await refused({ transport: mcast, addresses: ['10.0.0.1'] }, 'nics[0].addresses');
  await refused({ transport: { kind: 'ethertap', device: 'tap0' } }, 'nics[0].transport.kind');
  const tenant = api.as(await api.tokenOf('user', 'a'));
  const denied = await tenant
    .post('/v1/vms')
    .send({ nics: [{ transport: mcast }] })
    .expect(403);
  expect(denied.body.field).toBe('nics[0].transport');
  const own = await tenant
    .post('/v1/vms')
    .send({ nics: [{ transport: { kind: 'nat' } }] })
    .expect(201);
  expect(own.body.nics[0]).not.toHaveProperty('transport_state');
  await api.patch('/v1/vms/web/nics/eth0', { addresses: ['10.0.0.1'] }).expect(400);
  await api.daemon.close();
  const again = await startHarness({ home });
  expect((await again.vm('web')).nics).toEqual(vm.nics);
});

test('the switch gets a network for the card while the VM runs, with its rules, and loses it with it', async () => {
  const api = await startHarness();
  const limits = { tx: { packets_per_second: 10 } };
  const transport = { kind: 'daemon', socket: '/nowhere/ctl' } as const;
  const vm = await api.runVm('web', { nics: [{ transport, limits }] });
  const id = `${vm.id}/eth0`;
  const made = api.fabric.networks.get(id)!;
  expect(made.options).toMatchObject({ uplink: transport, uplinkRequired: false, services: false });
  expect(made.ports.get(id)).toMatchObject({
    mac: vm.nics[0]!.mac,
    protection: { arp: false, ipv4: false, ipv6: false },
    limits: { fromPort: { packetsPerSecond: 10 } },
  });
  expect(vm.nics[0]!.transport_state).toEqual({ up: false, detail: 'no', path: null });
  await api.patch('/v1/vms/web/nics/eth0', { limits: null, protection: { mac: false } }).expect(200);
  const changed = made.ports.get(id)!;
  expect(changed.limits).toBeUndefined();
  expect(changed.protection).toMatchObject({ mac: false });
  const capture = await api.get('/v1/vms/web/nics/eth0/capture').responseType('blob').expect(200);
  expect(JSON.parse(String(capture.body))).toMatchObject({ networkId: id, portId: id });
  expect((await api.get('/v1/networks')).body.items).toHaveLength(1);
  await api.operate('/v1/vms/web/halt');
  await expect.poll(() => api.fabric.networks.has(id)).toBe(false);
  const attached = await api.post('/v1/vms/web/nics', { transport: { kind: 'nat' } }).expect(200);
  expect(attached.body.nics[1]).toMatchObject({ device: 'eth1', transport: { kind: 'nat' } });
  await api.delete('/v1/vms/web/nics/eth0').expect(200);
  expect((await api.vm('web')).nics).toEqual([attached.body.nics[1]]);
});

test('a VM made after another one has its transports, and a MAC address of its own', async () => {
  const api = await startHarness();
  const transport = { kind: 'mcast', group: '239.192.168.9', port: 1102, ttl: 1 } as const;
  const limits = { tx: { packets_per_second: 10 } };
  const was = (await api.runVm('web', { nics: [{ transport, limits }, {}] })).nics;
  await api.operate('/v1/vms/web/backups', { name: 'b' });
  await api.operate('/v1/backups/b/restore', { name: 'again' });
  const now = (await api.vm('again')).nics;
  expect(now[0]).toMatchObject({ device: 'eth0', network: null, transport, limits, addresses: [] });
  expect(now[1]).toMatchObject({ device: 'eth1', network: 'default' });
  expect(now[0]!.mac).not.toBe(was[0]!.mac);
});

test('VMs talk through a real uml_switch, which may come late and come back', TIMEOUT, async () => {
  const command = requireTool('uml_switch', 'uml-utilities');
  const socket = path.join(tempDir(), 'ctl');
  const api = await startHarness({ realSwitch: true });
  const nics = [{ transport: { kind: 'daemon', socket } }];
  const a = guestOf(api, await api.runVm('a', { nics }));
  const b = guestOf(api, await api.runVm('b', { nics }));
  const down = await cardOf(api, 'a', (nic) => nic.transport_state?.up === false);
  expect(down.transport_state?.detail).toBeTypeOf('string');
  const first = await program(command, ['-unix', socket], socket);
  await cardOf(api, 'a', (nic) => nic.transport_state?.up === true);
  await cardOf(api, 'b', (nic) => nic.transport_state?.up === true);
  await reaches(a, b, 'hello');
  await reaches(b, a, 'hello back');
  first.kill('SIGKILL');
  await once(first, 'exit');
  fs.rmSync(socket, { force: true });
  await cardOf(api, 'a', (nic) => nic.transport_state?.up === false);
  // A machine that starts again is there again, at once.
  await api.operate('/v1/vms/b/halt');
  await api.operate('/v1/vms/b/start');
  await program(command, ['-unix', socket], socket);
  await cardOf(api, 'a', (nic) => nic.transport_state?.up === true);
  await cardOf(api, 'b', (nic) => nic.transport_state?.up === true);
  await reaches(a, guestOf(api, await api.vm('b')), 'here again');
});

test('VMs talk through a real vde_switch, a multicast group, and UDP', TIMEOUT, async () => {
  const folder = path.join(tempDir(), 'vde');
  const command = requireTool('vde_switch', 'vde2');
  await program(command, ['-s', folder], path.join(folder, 'ctl'));
  const api = await startHarness({ realSwitch: true });
  const port = 20_000 + (process.pid % 20_000);
  const ucast = { kind: 'ucast', remote: '127.0.0.1' } as const;
  const pairs: [TransportInput, TransportInput][] = [
    [
      { kind: 'vde', folder },
      { kind: 'vde', folder, port: 7 },
    ],
    [
      { kind: 'mcast', group: '239.192.168.78', port, ttl: 0 },
      { kind: 'mcast', group: '239.192.168.78', port, ttl: 0 },
    ],
    [
      { ...ucast, local_port: port + 1, remote_port: port + 2 },
      { ...ucast, local_port: port + 2, remote_port: port + 1 },
    ],
  ];
  for (const [one, other] of pairs) {
    const a = guestOf(api, await api.runVm(`a-${one.kind}`, { nics: [{ transport: one }] }));
    const b = guestOf(api, await api.runVm(`b-${one.kind}`, { nics: [{ transport: other }] }));
    await reaches(a, b, `hello by ${one.kind}`);
    await reaches(b, a, 'hello back');
  }
});

test('behind NAT the gateway answers, and SLIP tells where its terminal is', TIMEOUT, async () => {
  const api = await startHarness({ realSwitch: true });
  const vm = await api.runVm('web', { nics: [{ transport: { kind: 'nat' } }] });
  const guest = guestOf(api, vm);
  const mac = guest.mac.replaceAll(':', '');
  const ask = `ffffffffffff${mac}08060001080006040001${mac}0a00020f0000000000000a000202`;
  guest.nic.send([Buffer.from(ask, 'hex')]);
  const answer = Buffer.from(await guest.take((frame) => frame[12] === 8 && frame[13] === 6));
  expect(answer.subarray(28, 32)).toEqual(Buffer.from([10, 0, 2, 2]));
  await api.runVm('serial', { nics: [{ transport: { kind: 'slip' } }] });
  const { transport_state: state } = await cardOf(api, 'serial', (nic) => nic.transport_state?.up === true);
  expect(state?.path).toMatch(/^\/dev\/pts\/\d+$/);
  const refused = await api
    .post('/v1/vms/serial/nics', { transport: { kind: 'tuntap', device: 'nosuchtap0' } })
    .expect(404);
  expect(refused.body.remedy).toContain('umlaut tap create');
  expect((await api.vm('serial')).nics).toHaveLength(1);
});
