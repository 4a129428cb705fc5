/** Debian's own cloud-init in a stock Debian: it finds the seed disk, or the metadata service, and does all that it is told. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { cloudGuest } from '../support/cloud-guest.ts';
import { Daemon } from '../support/daemon.ts';

const BUILD_MS = 30 * 60_000;
const BOOT_MS = 20 * 60_000;
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabcdefghijklmnop me@here';
const APPEND = 'root=/dev/vda rw console=ttyS0 net.ifnames=0 no_timer_check tsc=reliable mitigations=off';
/** All that it has been told comes back, at the end of the boot. */
const USER_DATA = `#cloud-config
ssh_genkeytypes: [ed25519]
locale: false
write_files:
  - path: /etc/told
    content: by user data
runcmd:
  - [sh, -c, '(echo BEGIN-REPORT; echo "host $(hostname)"; echo "id $(cloud-id)"; echo "keys $(cat /home/debian/.ssh/authorized_keys)"; echo "file $(cat /etc/told)"; ip -4 -o address show dev eth0; cat /run/cloud-init/status.json; echo END-REPORT) > /dev/ttyS0']
`;

let home: string | undefined;
let daemon: Daemon | undefined;

// Where it cannot be built, the tests are skipped.
beforeEach(async () => {
  if (daemon !== undefined) return;
  const { folder, kernel, initrd, disk } = await cloudGuest();
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-soak-'));
  daemon = await Daemon.start(home, ['--allow-path', folder]);
  const image = { name: 'debian', kernel, initrd, disk, append: APPEND };
  await daemon.finish(await daemon.client.importImage(image));
}, BUILD_MS);

afterAll(async () => {
  await daemon?.stop();
  if (home !== undefined) fs.rmSync(home, { recursive: true, force: true });
}, 60_000);

async function report(name: string, seedDisk: boolean): Promise<string> {
  const { client } = daemon!;
  const addresses = seedDisk ? ['10.0.77.40', '10.0.77.41'] : ['10.0.77.42'];
  await client.createVm({
    ...{ name, image: 'debian', memory_bytes: 512 << 20, nics: [{ addresses }] },
    cloud_init: { user_data: USER_DATA, ssh_keys: [KEY], host_name: `${name}-host`, seed_disk: seedDisk },
  });
  const console = await daemon!.console(name);
  await daemon!.finish(await client.startVm(name));
  const [text] = await console.expect(/BEGIN-REPORT[\s\S]*END-REPORT/, BOOT_MS);
  console.close();
  await daemon!.finish(await client.haltVm(name));
  return text;
}

test.each([
  ['seed', true, ['10.0.77.40/24', '10.0.77.41/24']],
  ['metadata', false, ['10.0.77.42/24']],
] as const)(
  'by %s: user data, keys, host name and network',
  async (name, seedDisk, addresses) => {
    const said = await report(name, seedDisk);
    expect(said).toContain(`host ${name}-host`);
    expect(said).toContain('id nocloud');
    expect(said).toContain(`keys ${KEY}`);
    expect(said).toContain('file by user data');
    for (const address of addresses) expect(said).toContain(`inet ${address}`);
    expect(said).toContain('"errors": []');
    expect(said).not.toMatch(/"errors": \[[^\]]/);
    expect(said).toMatch(seedDisk ? /"DataSourceNoCloud \[/ : /"DataSourceNoCloudNet \[/);
  },
  BOOT_MS,
);
