import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Vm } from "../../src/contracts/api/index.ts";
import { startHarness } from './support/harness.ts';

const MIB = 1024 * 1024;

describe('VMs', () => {
  it('are made from an image with a copy-on-write disk, not a copy', async () => {
    const api = await startHarness();
    const answer = await api
      .post('/v1/vms', { name: 'web-1', memory_bytes: 128 * MIB, labels: { tier: 'a' } })
      .expect(201);
    const vm = answer.body as Vm;
    expect(vm).toMatchObject({
      name: 'web-1',
      state: 'created',
      image_name: 'default',
      cause: null,
      version: 1,
    });
    expect(answer.headers.location).toBe(`/v1/vms/${vm.id}`);
    expect(vm.disks).toMatchObject([{ device: 'ubd0', format: 'cow', owned_by_vm: true }]);
    expect(vm.nics).toMatchObject([{ device: 'eth0', network: 'default', addresses: [] }]);
    expect(vm.nics[0]!.mac).toMatch(/^02:/);
    expect(
      fs
        .readFileSync(path.join(api.home, 'vms', vm.id, 'ubd0.cow'))
        .subarray(0, 4)
        .toString(),
    ).toBe('OOOM');
    expect((await api.get('/v1/vms/web-1').expect(200)).body).toEqual(vm);
  });

  it('start, run and halt, and the machine gets what it needs', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web-1', { append: 'debug' });
    expect(vm).toMatchObject({ state: 'running' });
    expect(vm.nics[0]!.addresses).toEqual(['10.0.77.10']);
    const { config, nicRings } = api.farm.of('web-1').data;
    expect(config).toMatchObject({ name: 'web-1', append: 'console=ttyS0 debug umlaut.name=web-1' });
    expect(config.disks).toEqual([
      {
        device: 'ubd0',
        readOnly: false,
        file: expect.stringContaining('.disk'),
        cow: expect.stringContaining('ubd0.cow'),
      },
    ]);
    expect(nicRings).toHaveLength(1);
    const halted = await api.operate('/v1/vms/web-1/halt');
    expect(halted).toMatchObject({
      status: 'succeeded',
      kind: 'vm.halt',
      resources: [{ type: 'vm', id: vm.id }],
    });
    expect(await api.vm('web-1')).toMatchObject({ state: 'halted', cause: null });
    expect([...api.fabric.networks.values()][0]!.ports.size).toBe(0);
  });
});
