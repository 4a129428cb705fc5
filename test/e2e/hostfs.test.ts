/** A stock Debian kernel mounts folders of the host, works in them, and does not get out. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { debianKernel, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 300_000;

/** Boots the guest to its end; gives what it printed. */
async function boot(kernel: string, initrd: string, args: readonly string[]): Promise<string> {
  const append = 'console=ttyS0 quiet panic=-1 mitigations=off';
  const command = ['boot', '--kernel', kernel, '--initrd', initrd, '--append', append, ...args];
  const child = spawn(process.execPath, [join(ROOT, 'bin/umlaut.mjs'), ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    output += text;
  });
  const [status] = await once(child, 'close');
  expect(status, output).toBe(0);
  return output.replaceAll('\r\n', '\n');
}

const SCRIPT = `
fail() { echo "FAILED $*"; }
options=trans=virtio,version=9p2000.L,cache=mmap
mount -t 9p -o $options src /mnt || fail mount
mkdir /ro && mount -t 9p -o $options fixed /ro || fail mount fixed
cd /mnt
cat hello > copy && cmp hello copy || fail copy
dd if=/dev/urandom of=big bs=1M count=8 2>/dev/null
cp big big2 && cmp big big2 || fail big
mkdir -p a/b/c && echo deep > a/b/c/f && mv a z && [ "$(cat z/b/c/f)" = deep ] || fail rename
i=0; while [ $i -lt 300 ]; do echo $i > z/n$i; i=$((i+1)); done
[ $(ls z | wc -l) = 301 ] || fail count
ln z/n1 hard && [ $(stat -c %h hard) = 2 ] || fail hard link
ln -s /etc/shadow outside; [ "$(readlink outside)" = /etc/shadow ] || fail readlink
# a link leads where it leads in the guest, which has no such file
cat outside 2>/dev/null && fail followed
chmod 640 hello && [ $(stat -c %a hello) = 640 ] || fail chmod
touch -d '2001-02-03 04:05:06' hello && [ "$(stat -c %y hello | cut -c1-19)" = '2001-02-03 04:05:06' ] || fail touch
printf 0123456789 > cut && truncate -s 4 cut && [ "$(cat cut)" = 0123 ] || fail truncate
exec 7<>held && rm held && echo still >&7 && [ "$(stat -L -c %s /proc/self/fd/7)" = 6 ] || fail unlinked
exec 7>&-
tar -cf all.tar z && mkdir out && tar -xf all.tar -C out && diff -r z out/z || fail tar
cd /mnt && cat ../hello 2>/dev/null && fail above
[ "$(ls /mnt/.. | grep -c secret)" = 0 ] || fail parent
mknod /mnt/disk b 8 0 2>/dev/null && fail device node
(echo x > /ro/hello) 2>/dev/null && fail read-only
(rm /ro/hello) 2>/dev/null && fail read-only rm
[ "$(cat /ro/hello)" = 'hello from the host' ] || fail read-only read
cd / && umount /mnt && umount /ro || fail umount
echo FINISHED
`;

test(
  'a guest works in a folder of the host as in its own, and does not leave it',
  async () => {
    const debian = await debianKernel('bookworm');
    const top = scratchFolder();
    const share = join(top, 'share');
    fs.mkdirSync(share);
    fs.writeFileSync(join(top, 'secret'), 'secret');
    fs.writeFileSync(join(share, 'hello'), 'hello from the host');
    const initrd = join(top, 'initrd');
    fs.writeFileSync(initrd, initrdWith(debian, SCRIPT));
    const shares = ['--share', `src=${share}`, '--share', `fixed=${share},readonly`];
    const output = await boot(debian.kernel, initrd, shares);
    expect(output).toContain('FINISHED');
    expect(output).not.toContain('FAILED');
    // As the host sees it.
    expect(fs.readFileSync(join(share, 'big')).equals(fs.readFileSync(join(share, 'big2')))).toBe(true);
    expect(fs.readdirSync(join(share, 'out/z'))).toHaveLength(301);
    expect(fs.statSync(join(share, 'hello')).mode & 0o777).toBe(0o640);
    expect(fs.readlinkSync(join(share, 'outside'))).toBe('/etc/shadow');
    expect(fs.readdirSync(top).sort()).toEqual(['initrd', 'secret', 'share']);
  },
  TIMEOUT_MS,
);
