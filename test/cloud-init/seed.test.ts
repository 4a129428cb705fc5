/** The seed disk, read by other programs: isoinfo (Debian package genisoimage) and blkid (util-linux). */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, it } from 'vitest';
import { isoVolume } from '../../src/vmm/cloud-init/iso9660.ts';
import { startHarness, tempDir } from '../api/support/harness.ts';
import { requireTool } from '../support/tools.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabcdefghijklmnop me@here';

function readFile(volume: string, name: string): string {
  const isoinfo = requireTool('isoinfo', 'genisoimage');
  const { stdout, stderr, status } = spawnSync(isoinfo, ['-R', '-i', volume, '-x', `/${name}`]);
  expect([status, stderr.toString()]).toEqual([0, '']);
  return stdout.toString();
}

it('a VM with cloud-init settings starts with a seed disk, which is made anew each time', async () => {
  const api = await startHarness();
  const userData = `#cloud-config\nruncmd:\n${'  - [echo, "ünïcode"]\n'.repeat(300)}`;
  const cloud_init = { user_data: userData, ssh_keys: [KEY], host_name: 'www' };
  const vm = await api.runVm('web', { cloud_init, nics: [{ addresses: ['10.0.77.20', '10.0.77.21'] }] });
  expect(vm.cloud_init).toEqual({ ...cloud_init, seed_disk: true });
  const disks = api.farm.of('web').data.config.disks;
  const seed = disks.at(-1)!;
  expect(disks.map(({ device }) => device)).toEqual(['ubd0', 'cidata']);
  expect(seed).toMatchObject({ readOnly: true, file: `${api.home}/vms/${vm.id}/seed.iso` });
  expect(fs.statSync(seed.file).mode & 0o777).toBe(0o600);
  expect(readFile(seed.file, 'user-data')).toBe(userData);
  expect(JSON.parse(readFile(seed.file, 'meta-data'))).toEqual({
    'instance-id': vm.id,
    'local-hostname': 'www',
    'public-keys': [KEY],
  });
  expect(JSON.parse(readFile(seed.file, 'network-config'))).toEqual({
    version: 2,
    ethernets: {
      eth0: { match: { macaddress: vm.nics[0]!.mac }, dhcp4: true, addresses: ['10.0.77.21/24'] },
    },
  });
  await api.operate('/v1/vms/web/halt');
  const change = { cloud_init: { network_config: 'version: 1\n' } };
  await api.patch('/v1/vms/web', change).expect(200);
  await api.operate('/v1/vms/web/start');
  expect(readFile(seed.file, 'network-config')).toBe('version: 1\n');
  expect(readFile(seed.file, 'user-data')).toBe('#cloud-config\n{}\n');
  await api.operate('/v1/vms/web/halt');
  await api.patch('/v1/vms/web', { cloud_init: null }).expect(200);
  await api.operate('/v1/vms/web/start');
  expect(api.farm.of('web').data.config.disks).toHaveLength(1);
  expect(fs.existsSync(seed.file)).toBe(false);
});

it('what the metadata service tells is the VM’s own, and changes while it runs', async () => {
  const api = await startHarness();
  const vm = await api.runVm('web', {
    cloud_init: { user_data: '#!/bin/sh\n', ssh_keys: [KEY], seed_disk: false },
  });
  const port = () => [...api.fabric.networks.values()][0]!.ports.get(`${vm.id}/eth0`)!;
  const { mac, addresses } = vm.nics[0]!;
  expect(port().metadata).toMatchObject({
    'latest/meta-data/instance-id': vm.id,
    'latest/meta-data/local-hostname': 'web',
    'latest/meta-data/local-ipv4': addresses[0],
    'latest/meta-data/mac': mac,
    [`latest/meta-data/network/interfaces/macs/${mac}/device-number`]: '0',
    'latest/meta-data/public-keys/': '0=key-0',
    'latest/meta-data/public-keys/0/openssh-key': KEY,
    'latest/user-data': '#!/bin/sh\n',
    'nocloud/user-data': '#!/bin/sh\n',
    'openstack/latest/user_data': '#!/bin/sh\n',
  });
  const openStack = JSON.parse(port().metadata!['openstack/latest/meta_data.json']!);
  expect(openStack).toMatchObject({ uuid: vm.id, hostname: 'web', public_keys: { 'key-0': KEY } });
  const { disks, append } = api.farm.of('web').data.config;
  expect(disks).toHaveLength(1);
  // So that a stock cloud-init looks there.
  expect(append).toContain(' ds=nocloud-net;s=http://169.254.169.254/nocloud/ ');
  const other = { append: 'ci.ds=Ec2', cloud_init: { seed_disk: false } };
  await api.runVm('told', other);
  expect(api.farm.of('told').data.config.append).not.toContain('nocloud');
  await api.patch('/v1/vms/web', { cloud_init: { user_data: 'changed' } }).expect(200);
  expect(port().metadata!['latest/user-data']).toBe('changed');
});

it('settings are checked', async () => {
  const api = await startHarness();
  for (const cloud_init of [{ ssh_keys: ['no key'] }, { host_name: 'not a name' }, { userdata: 'x' }]) {
    await api.post('/v1/vms', { cloud_init }).expect(400);
  }
});

it('a volume has its label, its files with whole names and contents, and no room for many', () => {
  const folder = tempDir();
  const file = path.join(folder, 'volume.iso');
  const contents = [0, 1, 2047, 2048, 2049, 100_000].map((length) => Buffer.alloc(length, 'x'));
  const files = contents.map((content, index) => ({ name: `A-file.${index}_of-Six`, content }));
  fs.writeFileSync(file, isoVolume('cidata', files));
  for (const { name, content } of files) expect(readFile(file, name)).toBe(content.toString());
  const listed = spawnSync(requireTool('isoinfo', 'genisoimage'), ['-R', '-f', '-i', file]).stdout.toString();
  expect(listed.split('\n').filter(Boolean).sort()).toEqual(files.map(({ name }) => `/${name}`).sort());
  const probe = spawnSync(requireTool('blkid', 'util-linux'), ['-p', '-o', 'export', file]).stdout.toString();
  expect(probe).toContain('LABEL=cidata\n');
  expect(probe).toContain('TYPE=iso9660\n');
  const many = Array.from({ length: 100 }, (_, index) => ({
    name: `file-${index}`,
    content: Buffer.alloc(1),
  }));
  expect(() => isoVolume('x', many)).toThrow(RangeError);
});
