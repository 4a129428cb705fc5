/** A stock kernel uses several pairs of queues of its network card when it is asked to, as `ethtool -L` does. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { labSwitch } from '../../src/switchd/testing/fake-guest.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { staticProgram } from '../support/static-program.ts';
import { scratchFolder } from '../support/storage.ts';

const MAC = '02:00:00:00:00:10';
const CHANNELS = `
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct ethtool_channels channels = { .cmd = ETHTOOL_GCHANNELS };
	struct ifreq request = { .ifr_data = (void *)&channels };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(request.ifr_name, "eth0");
	if (ioctl(fd, SIOCETHTOOL, &request) < 0) perror("get");
	channels.cmd = ETHTOOL_SCHANNELS;
	channels.combined_count = atoi(argv[1]);
	if (ioctl(fd, SIOCETHTOOL, &request) < 0) perror("set");
	channels.cmd = ETHTOOL_GCHANNELS;
	if (ioctl(fd, SIOCETHTOOL, &request) < 0) perror("get");
	printf("CHANNELS %u of %u\\n", channels.combined_count, channels.max_combined);
	return 0;
}
`;
/** Each question has a port of its own, so that the kernel spreads them. */
const SCRIPT = `ifconfig eth0 10.77.0.50 netmask 255.255.255.0 up
echo nameserver 10.77.0.1 > /etc/resolv.conf
ask() { n=0; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do nslookup gateway.lab.internal 2>/dev/null | grep -q '10.77.0.1$' && n=$((n+1)); done; echo "ANSWERS $1 $n"; }
ask one
channels 4
ask four
echo "QUEUES $(ls /sys/class/net/eth0/queues | tr '\\n' ' ')"
grep -E 'virtio[0-9]+-(in|out)put' /proc/interrupts | tr -s ' ' | cut -d ' ' -f 3,6-
channels 9
channels 1
ask one-again
`;

test('all four pairs carry frames', { timeout: 300_000 }, async () => {
  const debian = await debianKernel('bookworm');
  const folder = scratchFolder();
  const handle = await labSwitch();
  onTestFinished(() => handle.close());
  const { ring } = await handle.attach({
    ...{ networkId: 'net', portId: 'web', name: 'web', mac: MAC, addresses: ['10.77.0.50'] },
  });
  const initrd = join(folder, 'initrd');
  const programs = { 'bin/channels': staticProgram(folder, 'channels', CHANNELS) };
  fs.writeFileSync(initrd, initrdWith(debian, `mkdir -p /etc\n${SCRIPT}`, programs));
  let output = '';
  const config = {
    ...guestConfig(debian, initrd),
    name: 'web',
    nics: [{ device: 'eth0', mac: MAC, network: 'net' }],
  };
  const host = new MachineHost({ config, nicRings: [ring] }, fs.readFileSync, (message) => {
    if (message.type === 'console-output')
      output += Buffer.from(message.bytes).toString('latin1').replaceAll('\r', '');
  });
  onTestFinished(async () => host.close());
  await host.run();
  expect(output).toContain('CHANNELS 4 of 4');
  expect(output.match(/^ANSWERS .*$/gm)).toEqual([
    'ANSWERS one 12',
    'ANSWERS four 12',
    'ANSWERS one-again 12',
  ]);
  expect(output).toContain('QUEUES rx-0 rx-1 rx-2 rx-3 tx-0 tx-1 tx-2 tx-3');
  // Of those of receive queues, more than one has had interrupts.
  const received = [...output.matchAll(/^(\d+) .*virtio\d+-input\.(\d)$/gm)];
  expect(received.map(([, , queue]) => queue)).toEqual(['0', '1', '2', '3']);
  expect(received.filter(([, count]) => Number(count) > 0).length).toBeGreaterThan(1);
  expect(output.match(/^CHANNELS .*$/gm)).toEqual(['CHANNELS 4 of 4', 'CHANNELS 4 of 4', 'CHANNELS 1 of 4']);
});
