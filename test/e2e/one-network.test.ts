/** A guest of ours, real User-mode Linux, QEMU and vde_plug on one network: all talk to each other. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startSwitch } from '../../src/switchd/index.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { UML_BOOT_MS, UmlGuests } from '../support/linux-uml.ts';
import { scratchFolder } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';

const TIMEOUT_MS = 5 * UML_BOOT_MS;
const MAC = '02:00:00:00:00:10';
const QEMU_MAC = '52:54:00:12:34:56';
const [OURS, UML] = ['10.77.0.50', '10.77.0.60'];
/** From the VM's own boot to what it has said of the others. */
const SCRIPT = `ifconfig eth0 ${OURS} netmask 255.255.255.0 up
dd if=/dev/urandom of=/tmp/data bs=1k count=400 2>/dev/null
echo "SENDS $(md5sum < /tmp/data)"
httpd -h /tmp
echo SERVES
until ping -c 3 -s 1400 ${UML} > /tmp/ping; do sleep 1; done
echo "PINGED $(grep received /tmp/ping)"
while :; do sleep 60; done
`;

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

test('all are on one network', { timeout: TIMEOUT_MS }, async () => {
  const plug = requireTool('vde_plug', 'vdeplug');
  const qemu = requireTool('qemu-system-x86_64', 'qemu-system-x86');
  const debian = await debianKernel('bookworm');
  const folder = scratchFolder();
  const umls = new UmlGuests(folder);
  onTestFinished(() => umls.end());
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  const umlSocket = join(folder, 'ctl');
  await handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.77.0.0/24', umlSocket });
  const { ring } = await handle.attach({
    ...{ networkId: 'net', portId: 'ours', name: 'ours', mac: MAC, addresses: [OURS], protection: {} },
  });
  // What vde_plug hears of all the broadcasts.
  let heard = '';
  start(plug, [`vde://${folder}`]).stdout!.on('data', (bytes: Buffer) => {
    heard += bytes.toString('hex');
  });
  const card = ['-netdev', `vde,id=n,sock=${folder}`, '-device', `virtio-net-pci,netdev=n,mac=${QEMU_MAC}`];
  start(qemu, ['-accel', 'tcg', '-m', '64', '-display', 'none', '-monitor', 'none', ...card]);
  let output = '';
  const initrd = join(folder, 'ours.initrd');
  fs.writeFileSync(initrd, initrdWith(debian, SCRIPT));
  const config = {
    ...guestConfig(debian, initrd),
    name: 'ours',
    nics: [{ device: 'eth0', mac: MAC, network: 'net' }],
  };
  const host = new MachineHost({ config, nicRings: [ring] }, fs.readFileSync, (message) => {
    if (message.type === 'console-output') output += Buffer.from(message.bytes).toString('latin1');
  });
  onTestFinished(async () => host.close());
  void host.run();
  await vi.waitFor(() => expect(output).toContain('SERVES'), { timeout: UML_BOOT_MS, interval: 100 });
  const words = [`ip=${UML}`, `fetch=${OURS}/data`, `ping=${OURS}`];
  const said = await umls.boot('uml', 'GUEST-DONE', words, `eth0=daemon,,unix,${umlSocket}`);
  const digest = /SENDS ([0-9a-f]{32})/.exec(output)![1];
  expect(said).toContain(`FETCHED ${digest}`);
  expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  await vi.waitFor(() => expect(output).toMatch(/PINGED .* 3 packets received/), {
    timeout: UML_BOOT_MS,
    interval: 100,
  });
  const leases = await vi.waitFor(
    async () => {
      const found = await handle.leases('net');
      expect(found.map(({ mac }) => mac)).toContain(QEMU_MAC);
      return found;
    },
    { timeout: UML_BOOT_MS, interval: 200 },
  );
  expect(leases.find(({ mac }) => mac === QEMU_MAC)).toMatchObject({ portId: 'uml' });
  // Who asks for our guest's address: User-mode Linux; and QEMU's DHCP.
  const request = Buffer.from(OURS.split('.').map(Number)).toString('hex');
  expect(heard).toMatch(new RegExp(`ffffffffffff[0-9a-f]{12}0806.{48}${request}`));
  expect(heard).toContain(`ffffffffffff${QEMU_MAC.replaceAll(':', '')}0800`);
});
