/** A stock Debian kernel on a network: address, names, metadata and seed; what it spoofs is dropped; real UML talks to it. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type SwitchHandle, startSwitch } from '../../src/switchd/index.ts';
import { plugIn, type FakeGuest } from '../../src/switchd/testing/fake-guest.ts';
import { documentsOf, seedOf } from '../../src/vmm/cloud-init/documents.ts';
import { isoVolume } from '../../src/vmm/cloud-init/iso9660.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';

const TIMEOUT_MS = 300_000;
const MAC = '02:00:00:00:00:10';
const ADDRESS = '10.77.0.50';
const NETWORK = 'net';

const SCRIPT = `
cat > /tmp/dhcp <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig eth0 $ip netmask $subnet
route add default gw $router
echo "nameserver $dns" > /etc/resolv.conf
echo "DHCP $ip $router $hostname"
END
chmod +x /tmp/dhcp; mkdir -p /etc; ifconfig lo up; ifconfig eth0 up
udhcpc -q -n -t 20 -T 1 -i eth0 -s /tmp/dhcp 2>/dev/null
echo "ID $(wget -q -O - http://169.254.169.254/latest/meta-data/instance-id)"
echo "USER $(wget -q -O - http://169.254.169.254/openstack/latest/user_data)"
mount -t iso9660 -o ro /dev/vda /mnt
echo "SEED $(ls /mnt | tr '\\n' ' ')"
echo "SEED-USER $(cat /mnt/user-data)"
echo "NAME $(nslookup peer.lab.internal 2>/dev/null | grep -c 10.77.0.60)"
for try in 1 2 3 4 5 6 7 8 9 10; do ifconfig eth0 | grep -q fd00:77: && break; sleep 0.5; done
echo "IPV6 $(ifconfig eth0 | grep -o 'fd00:77:[0-9a-f:]*')"
ping -c 1 -W 5 10.77.0.1 > /dev/null && echo PING-OK
ping6 -c 1 -W 5 fd00:77::1 > /dev/null && echo PING6-OK
echo MARK-SPOOF
ifconfig eth0:1 10.77.0.61 netmask 255.255.255.0
ping -c 1 -W 1 -I 10.77.0.61 10.77.0.60 > /dev/null
ifconfig eth0:1 down
ifconfig eth0 add 2001:db8::5/64
for try in 1 2 3 4; do ping6 -c 1 -W 1 2001:db8::6 > /dev/null 2>&1; done
ifconfig eth0 del 2001:db8::5/64
ifconfig eth0 down; ifconfig eth0 hw ether 02:00:00:00:00:99; ifconfig eth0 ${ADDRESS} netmask 255.255.255.0 up
ping -c 1 -W 1 10.77.0.60 > /dev/null
ifconfig eth0 down; ifconfig eth0 hw ether ${MAC}; ifconfig eth0 ${ADDRESS} netmask 255.255.255.0 up
ping -c 1 -W 5 10.77.0.1 > /dev/null && echo BACK-OK
echo END
`;

async function lab(): Promise<{ handle: SwitchHandle; peer: FakeGuest }> {
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  const ipv6 = { prefix: 'fd00:77::/64', addressing: 'slaac' } as const;
  await handle.createNetwork({ id: NETWORK, name: 'lab', subnet: '10.77.0.0/24', ipv6 });
  await handle.attach({
    networkId: NETWORK,
    portId: 'peer',
    name: 'peer',
    mac: '02:00:00:00:00:60',
    addresses: ['10.77.0.60'],
  });
  return { handle, peer: await plugIn(handle, 2, NETWORK) };
}

test(
  'a guest configures itself on a protected port, and what it says in the name of others does not get out',
  async () => {
    const debian = await debianKernel('bookworm');
    const folder = scratchFolder();
    const { handle, peer } = await lab();
    const settings = { user_data: '#cloud-config of a test', seed_disk: true };
    const cards = [{ device: 'eth0', mac: MAC, addresses: [ADDRESS], prefixLength: 24 }];
    const instance = { id: 'vm-7', name: 'web', cards };
    const files = Object.entries(seedOf(instance, settings)).map(([name, text]) => ({
      name,
      content: Buffer.from(text),
    }));
    const seed = join(folder, 'seed.iso');
    fs.writeFileSync(seed, isoVolume('cidata', files));
    const { ring } = await handle.attach({
      ...{ networkId: NETWORK, portId: 'web', name: 'web', mac: MAC, addresses: [ADDRESS], protection: {} },
      metadata: documentsOf(instance, settings),
    });
    const initrd = join(folder, 'initrd');
    fs.writeFileSync(initrd, initrdWith(debian, SCRIPT));
    let output = '';
    const config = {
      ...guestConfig(debian, initrd),
      name: 'web',
      disks: [{ device: 'cidata', file: seed, readOnly: true }],
      nics: [{ device: 'eth0', mac: MAC, network: NETWORK }],
    };
    const host = new MachineHost({ config, nicRings: [ring] }, fs.readFileSync, (message) => {
      if (message.type !== 'console-output') return;
      output += Buffer.from(message.bytes).toString('latin1').replaceAll('\r', '');
      if (output.includes('MARK-SPOOF')) peer.inbox.length = 0;
    });
    onTestFinished(async () => host.close());
    await host.run();
    const line = (key: string): string | undefined =>
      new RegExp(`^${key} (.*)$`, 'm').exec(output)?.[1]?.trim();
    expect(output).toContain('END');
    expect(line('DHCP')).toBe(`${ADDRESS} 10.77.0.1 web`);
    expect(line('ID')).toBe('vm-7');
    expect(line('USER')).toBe(settings.user_data);
    expect(line('SEED')?.split(' ').sort()).toEqual([
      'meta-data',
      'network-config',
      'user-data',
      'vendor-data',
    ]);
    expect(line('SEED-USER')).toBe(settings.user_data);
    expect(line('NAME')).toBe('1');
    expect(line('IPV6')).toBe('fd00:77::ff:fe00:10');
    for (const word of ['PING-OK', 'PING6-OK', 'BACK-OK']) expect(output).toContain(word);
    const port = (await handle.ports(NETWORK)).find(({ id }) => id === 'web')!;
    const { macSpoof, arpSpoof, ipv4Spoof, ipv6Spoof } = port.drops;
    expect(macSpoof).toBeGreaterThan(0);
    expect(arpSpoof + ipv4Spoof).toBeGreaterThan(0);
    expect(ipv6Spoof).toBeGreaterThan(0);
    const heard = peer.inbox.map((frame) => Buffer.from(frame).toString('hex'));
    expect(heard.filter((hex) => hex.includes('020000000099') || hex.includes('0a4d003d'))).toEqual([]);
  },
  TIMEOUT_MS,
);
