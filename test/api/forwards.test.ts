import { describe, expect, it } from 'vitest';
import { type Harness, startHarness } from './support/harness.ts';

async function withNat(): Promise<Harness> {
  const api = await startHarness();
  const body = { name: 'lab', subnet: '10.9.0.0/24', uplink: { kind: 'nat' } };
  const made = (await api.post('/v1/networks', body).expect(201)).body;
  expect(made.uplink).toEqual({ kind: 'nat' });
  return api;
}

describe('the way out of a network', () => {
  it('is kept, and anyone’s network may have NAT; what is the host’s is the operator’s', async () => {
    const api = await withNat();
    const [network] = [...api.fabric.networks.values()].filter(({ options }) => options.name === 'lab');
    expect(network!.options).toMatchObject({
      uplink: { kind: 'nat' },
      nat: { allow: [], hostLoopback: false },
    });
    const tap = { kind: 'tuntap', device: 'tap0' };
    const body = { name: 'lan', subnet: '10.7.0.0/24', uplink: tap, services: false };
    const lan = (await api.post('/v1/networks', body).expect(201)).body;
    expect(lan).toMatchObject({ uplink: tap, services: false, uplink_state: { up: false, detail: 'no' } });
    expect(api.fabric.networks.get(lan.id)?.options).toMatchObject({ uplinkRequired: true, services: false });
    // Its addresses come from elsewhere; the MAC address is still the card's own.
    await api.runVm('there', { nics: [{ network: 'lan' }, { network: 'lan', protection: { ipv4: true } }] });
    const ports = [...api.fabric.networks.get(lan.id)!.ports.values()].map(({ protection }) => protection);
    expect(ports[0]).toEqual({ arp: false, ipv4: false, ipv6: false });
    expect(ports[1]).toMatchObject({ ipv4: true });
    const tenant = await api.tokenOf('user', 'a');
    const make = (name: string, uplink: object) =>
      api.as(tenant).post('/v1/networks').send({ name, subnet: '10.8.0.0/24', uplink });
    await make('mine', { kind: 'nat' }).expect(201);
    const refused = await make('theirs', { kind: 'tuntap', device: 'tap0' }).expect(403);
    expect(refused.body.field).toBe('uplink');
    expect((await make('odd', { kind: 'tuntap' }).expect(400)).body.field).toContain('uplink');
    expect((await make('odd', { kind: 'ethertap' }).expect(400)).body.field).toContain('uplink');
  });
});

describe('forwarded ports', () => {
  it('lead to a VM or an address, are listed and deleted', async () => {
    const api = await withNat();
    const vm = await api.runVm('web', { nics: [{ network: 'lab' }] });
    const address = vm.nics[0]!.addresses[0]!;
    const forward = (
      await api.post('/v1/networks/lab/forwards', { host_port: 8080, vm: 'web', port: 80 }).expect(201)
    ).body;
    const expected = { protocol: 'tcp', host_address: '127.0.0.1', host_port: 8080, port: 80 };
    expect(forward).toMatchObject(expected);
    expect(
      (await api.get('/v1/networks/lab/addresses')).body.items.map(
        (item: { address: string }) => item.address,
      ),
    ).toContain(forward.address);
    expect(address).toBeDefined();
    const udp = { protocol: 'udp', host_address: '0.0.0.0', host_port: 8080, address: '10.9.0.77', port: 53 };
    await api.post('/v1/networks/lab/forwards', udp).expect(201);
    const { items } = (await api.get('/v1/networks/lab/forwards').expect(200)).body;
    expect(items).toHaveLength(2);
    const [network] = [...api.fabric.networks.values()].filter(({ options }) => options.name === 'lab');
    expect([...network!.forwards.values()]).toMatchObject([
      { hostPort: 8080, port: 80 },
      { hostPort: 8080, port: 53 },
    ]);
    await api.delete(`/v1/networks/lab/forwards/${forward.id}`).expect(204);
    await api.delete(`/v1/networks/lab/forwards/${forward.id}`).expect(404);
    expect(network!.forwards.size).toBe(1);
  });

  it('end with their VM: nobody gets them along with its address', async () => {
    const api = await withNat();
    await api.runVm('web', { nics: [{ network: 'lab' }] });
    await api.post('/v1/networks/lab/forwards', { host_port: 8082, vm: 'web', port: 80 }).expect(201);
    await api.delete('/v1/vms/web?force=true').expect(204);
    expect((await api.get('/v1/networks/lab/forwards')).body.items).toEqual([]);
    const [network] = [...api.fabric.networks.values()].filter(({ options }) => options.name === 'lab');
    expect(network!.forwards.size).toBe(0);
  });

  it('tell of a port that is taken, by a forward or by another program', async () => {
    const api = await withNat();
    const body = { host_port: 8081, address: '10.9.0.20', port: 80 };
    const first = (await api.post('/v1/networks/lab/forwards', body).expect(201)).body;
    const second = (await api.post('/v1/networks/lab/forwards', body).expect(409)).body;
    expect(second).toMatchObject({
      code: 'in_use',
      field: 'host_port',
      remedy: expect.stringContaining(first.id),
    });
    const foreign = await api.post('/v1/networks/lab/forwards', { ...body, host_port: 7 }).expect(409);
    expect(foreign.body).toMatchObject({ code: 'in_use', field: 'host_port' });
    expect((await api.get('/v1/networks/lab/forwards')).body.items).toHaveLength(1);
  });

  it.each([
    ['no target', { host_port: 1024, port: 80 }],
    ['two targets', { host_port: 1024, port: 80, vm: 'web', address: '10.9.0.9' }],
    ['no port', { host_port: 1024, address: '10.9.0.9' }],
    ['a port out of range', { host_port: 70_000, address: '10.9.0.9', port: 80 }],
  ])('%s is refused', async (_name, body) => {
    const api = await withNat();
    await api.post('/v1/networks/lab/forwards', body).expect(400);
  });

  it('are the operator’s; a VM that is not there is told', async () => {
    const api = await withNat();
    const missing = await api
      .post('/v1/networks/lab/forwards', { host_port: 1024, vm: 'x', port: 80 })
      .expect(404);
    expect(missing.body.field).toBe('vm');
    const tenant = await api.tokenOf('user', 'a');
    await api
      .as(tenant)
      .post('/v1/networks')
      .send({ name: 'own', subnet: '10.8.0.0/24', uplink: { kind: 'nat' } });
    const body = { host_port: 1024, address: '10.8.0.9', port: 80 };
    await api.as(tenant).post('/v1/networks/own/forwards').send(body).expect(403);
  });
});
