/** Every spoof that a protected port knows, sent by a real guest's kernel through its network card; none gets out, each is counted. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { DropCause } from '../../src/switchd/index.ts';
import { startSwitch } from '../../src/switchd/index.ts';
import { plugIn } from '../../src/switchd/testing/fake-guest.ts';
import { mac, OTHER, OWN, OWN_6, SPOOFS, VICTIM_6 } from '../../src/switchd/testing/spoofs.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { staticProgram } from '../support/static-program.ts';
import { scratchFolder } from '../support/storage.ts';

const TIMEOUT_MS = 300_000;

/** Sends each frame of a file, a line of hexadecimal each, as it is. */
const SENDER = `
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1]), .sll_halen = 6 };
	int fd = socket(AF_PACKET, SOCK_RAW, 0), sent = 0;
	char line[4096];
	FILE *frames = fopen(argv[2], "r");

	while (fgets(line, sizeof(line), frames)) {
		unsigned char frame[2048];
		unsigned length = 0, byte;
		while (sscanf(line + 2 * length, "%2x", &byte) == 1) frame[length++] = byte;
		if (sendto(fd, frame, length, 0, (struct sockaddr *)&to, sizeof(to)) == (int)length) sent++;
		else perror("send");
	}
	printf("SENT %d\\n", sent);
	return 0;
}
`;

test('a guest sends every spoof, and nothing of it gets out', { timeout: TIMEOUT_MS }, async () => {
  const debian = await debianKernel('bookworm');
  const folder = scratchFolder();
  const programs = {
    'bin/sender': staticProgram(folder, 'sender', SENDER),
    frames: Buffer.from(SPOOFS.map(([, , frame]) => `${Buffer.from(frame).toString('hex')}\n`).join('')),
  };
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  const ipv6 = { prefix: 'fd00:77::/64', addressing: 'slaac' } as const;
  await handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.77.0.0/24', ipv6 });
  const victim = await plugIn(handle, 2, 'net', { protection: {}, addresses: [OTHER, VICTIM_6] });
  const { ring } = await handle.attach({
    ...{ networkId: 'net', portId: 'guest', name: 'guest', mac, addresses: [OWN, OWN_6], protection: {} },
  });
  const initrd = join(folder, 'initrd');
  // Without IPv6 of its own the kernel says nothing but what it is told to.
  const script = `echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6 2>/dev/null
ifconfig eth0 up; sender eth0 /frames; ifconfig eth0 ${OWN} netmask 255.255.255.0
ping -c 1 -W 20 10.77.0.1 > /dev/null && echo PING-OK`;
  fs.writeFileSync(initrd, initrdWith(debian, script, programs));
  let output = '';
  const config = {
    ...guestConfig(debian, initrd),
    nics: [{ device: 'eth0', mac, network: 'net' }],
  };
  const host = new MachineHost({ config, nicRings: [ring] }, fs.readFileSync, (message) => {
    if (message.type === 'console-output') output += Buffer.from(message.bytes).toString('latin1');
  });
  onTestFinished(async () => host.close());
  await host.run();
  expect(output).toContain(`SENT ${SPOOFS.length}`);
  // It is no worse off for it.
  expect(output).toContain('PING-OK');
  const causes = Map.groupBy(SPOOFS, ([, cause]) => cause);
  const { drops } = (await handle.ports('net')).find(({ id }) => id === 'guest')!;
  const counted = Object.entries(drops).filter(([, count]) => count > 0);
  const expected = [...causes].map(([cause, rows]): [DropCause, number] => [cause, rows.length]);
  expect(Object.fromEntries(counted)).toEqual(Object.fromEntries(expected));
  const frames = new Set(SPOOFS.map(([, , frame]) => Buffer.from(frame).toString('hex')));
  const heard = victim.inbox.map((frame) => Buffer.from(frame).toString('hex'));
  expect(heard.filter((hex) => frames.has(hex))).toEqual([]);
});
