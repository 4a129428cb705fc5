/** Disks, network cards, shares, consoles and memory come and go while Debian's generic kernels run: their drivers are modules. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createPortRings } from '../../src/switchd/port-rings.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';

const TIMEOUT_MS = 300_000;
const MAC = '02:00:00:00:00:17';

/** A shell on the second serial port: what a command prints, and the status that it ends with. */
const SCRIPT = `
exec 3< /dev/ttyS1
echo "END boot 0"
while read -r number command <&3; do
  sh -c "$command" < /dev/null 2>&1
  echo "END $number $?"
done
`;

async function boot(suite: 'bookworm' | 'trixie', folder: string) {
  const debian = await debianKernel(suite);
  const initrd = join(folder, 'initrd');
  fs.writeFileSync(initrd, initrdWith(debian, SCRIPT));
  const config = {
    ...guestConfig(debian, initrd),
  };
  let output = '';
  let changed = Promise.withResolvers<void>();
  const consoles = new Map<string, string>();
  const host = new MachineHost({ config, nicRings: [] }, fs.readFileSync, (message) => {
    if (message.type !== 'console-output') return;
    host.outputTaken(message.console, message.bytes.length);
    const text = Buffer.from(message.bytes).toString('latin1').replaceAll('\r', '');
    consoles.set(message.console, (consoles.get(message.console) ?? '') + text);
    if (message.console === 'ttyS0') output += text;
    changed.resolve();
    changed = Promise.withResolvers();
  });
  onTestFinished(async () => host.close());
  const died = host.run().then(() => Promise.reject(new Error(`the guest died:\n${output}`)));
  died.catch(() => undefined);
  async function until<T>(look: () => T | undefined): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      await Promise.race([changed.promise, died]);
    }
  }
  async function ended(number: string): Promise<string> {
    const end = new RegExp(`^([^]*?)END ${number} (\\d+)\n`);
    const [all, printed = '', status] = await until(() => end.exec(output) ?? undefined);
    output = output.slice(all.length);
    expect(status, `${number}: ${printed}`).toBe('0');
    return printed.trim();
  }
  await ended('boot');
  let commands = 0;
  const run = (command: string): Promise<string> => {
    commands++;
    host.input('ttyS1', Buffer.from(`${commands} ${command}\n`));
    return ended(String(commands));
  };
  return { host, run, until, consoles };
}

const appears = (file: string): string => `until [ -e ${file} ]; do usleep 50000; done`;
const goes = (file: string): string => `while [ -e ${file} ]; do usleep 50000; done`;

describe.each(['bookworm', 'trixie'] as const)('the generic kernel of %s', (suite) => {
  test(
    'finds what is plugged in, and lets it go',
    async () => {
      const folder = scratchFolder();
      const { host, run, until, consoles } = await boot(suite, folder);

      const file = join(folder, 'disk');
      fs.writeFileSync(file, Buffer.alloc(8 << 20));
      const disk = { device: 'ubd1', file, readOnly: false };
      host.request({ type: 'attach-disk', disk });
      await run(appears('/dev/vda'));
      await run(
        'mke2fs -q /dev/vda || mkfs.ext2 /dev/vda; echo kept | dd of=/dev/vda bs=1M seek=4 conv=sync',
      );
      await run('exec 9< /dev/vda; touch /tmp/open; until [ -e /tmp/go ]; do usleep 50000; done &');
      await expect(host.request({ type: 'detach', device: 'ubd1' })).rejects.toMatchObject({
        code: 'in_use',
      });
      await run('touch /tmp/go; sync');
      await host.request({ type: 'detach', device: 'ubd1' });
      await run(goes('/dev/vda'));
      expect(fs.readFileSync(file).indexOf('kept')).toBe(4 << 20);
      host.request({ type: 'attach-disk', disk });
      await run(appears('/dev/vda'));
      expect(await run('dd if=/dev/vda bs=1M skip=4 count=1 2>/dev/null | head -c 4')).toBe('kept');
      await host.request({ type: 'detach', device: 'ubd1' });

      const nic = { device: 'eth1', mac: MAC, network: 'none' };
      host.request({ type: 'attach-nic', nic, ring: createPortRings() });
      const card = `/sys/class/net/$(cd /sys/class/net && ls -d e* | head -n 1)`;
      await run('until ls -d /sys/class/net/e* >/dev/null 2>&1; do usleep 50000; done');
      expect(await run(`cat ${card}/address`)).toBe(MAC);
      await host.request({ type: 'detach', device: 'eth1' });
      await run('while ls -d /sys/class/net/e* >/dev/null 2>&1; do usleep 50000; done');

      fs.mkdirSync(join(folder, 'shared'));
      fs.writeFileSync(join(folder, 'shared/hello'), 'from the host\n');
      const share = { tag: 'src', folder: join(folder, 'shared'), readOnly: false };
      await host.request({ type: 'attach-share', share });
      const options = 'trans=virtio,version=9p2000.L';
      await run(`until mount -t 9p -o ${options} src /mnt 2>/dev/null; do usleep 50000; done`);
      expect(await run('cat /mnt/hello; echo from the guest > /mnt/answer')).toBe('from the host');
      expect(fs.readFileSync(join(folder, 'shared/answer'), 'utf8')).toBe('from the guest\n');
      await expect(host.request({ type: 'attach-share', share })).rejects.toMatchObject({ code: 'conflict' });
      // Linux waits for the mount to go before it lets go of the share.
      const detached = host.request({ type: 'detach', device: 'share:src' });
      await run('umount /mnt');
      await detached;
      await run(`mount -t 9p -o ${options} src /mnt 2>/dev/null && exit 1; exit 0`);

      host.request({ type: 'consoles', count: 3 });
      await run(`until stty -F /dev/hvc2 raw 2>/dev/null; do usleep 50000; done`);
      await run('echo on the third > /dev/hvc2');
      await until(() => (consoles.get('hvc2')?.includes('on the third') === true ? true : undefined));
      host.request({ type: 'consoles', count: 1 });
      await run('while stty -F /dev/hvc2 2>/dev/null; do usleep 50000; done');

      const total = "awk '/MemTotal/ { print $2 }' /proc/meminfo";
      const before = Number(await run(total));
      host.request({ type: 'memory', bytes: 192 << 20 });
      await run(`until [ $(${total}) -le ${before - 65536} ]; do usleep 50000; done`);
      host.request({ type: 'memory', bytes: 256 << 20 });
      await run(`until [ $(${total}) -ge ${before} ]; do usleep 50000; done`);
    },
    TIMEOUT_MS,
  );
});
