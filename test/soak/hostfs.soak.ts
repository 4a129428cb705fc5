/** git, tar, dpkg and a C build of Debian, all of their files in a folder of the host that a stock kernel has mounted. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { debianKernel, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';
import { requireTool, skipTest } from '../support/tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TREE = join(ROOT, 'build/test-debian');
const MIRROR = 'http://deb.debian.org/debian';
const TIMEOUT_MS = 60 * 60_000;

/** A Debian with the programs, made once. */
function debianTree(): string {
  if (process.getuid?.() !== 0) skipTest('only root can lay out a Debian');
  if (fs.existsSync(TREE)) return TREE;
  const debootstrap = requireTool('debootstrap', 'debootstrap');
  const draft = `${TREE}.${process.pid}`;
  const args = ['--variant=minbase', '--include=git,gcc,libc6-dev,make', 'bookworm', draft, MIRROR];
  const made = spawnSync(debootstrap, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const fetched = spawnSync('chroot', [draft, 'apt-get', 'download', 'hello'], { stdio: 'ignore' });
  if (made.status !== 0 || fetched.status !== 0) {
    fs.rmSync(draft, { recursive: true, force: true });
    skipTest('debootstrap cannot get the packages');
  }
  fs.renameSync(draft, TREE);
  return TREE;
}

const WORK = `set -e
export HOME=/root GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b DEBIAN_FRONTEND=noninteractive
cd /root
git init -q repo && cd repo
cp -r /usr/share/perl5/Git* /etc/apt . && git add . && git commit -qm one
git mv apt tpa && git commit -qm two && git gc -q && git fsck --full
cd .. && git clone -q --no-hardlinks repo copy && diff -r --exclude=.git repo copy && git -C copy log --oneline | wc -l
echo GIT WORKS
tar -C /usr/lib/git-core -cf /root/core.tar . && mkdir core && tar -C core -xpf core.tar && diff -r /usr/lib/git-core core
echo TAR WORKS
dpkg -i /hello_*.deb && hello && dpkg -V hello && dpkg -r hello && ! command -v hello
echo DPKG WORKS
mkdir build && cd build
i=0; while [ $i -lt 20 ]; do echo "#include <stdio.h>
int f$i(int x) { char b[32]; return snprintf(b, sizeof b, \\"%d\\", x + $i); }" > f$i.c; i=$((i+1)); done
{ i=0; while [ $i -lt 20 ]; do echo "int f$i(int);"; i=$((i+1)); done
echo "#include <stdio.h>"; echo "int main(void) { int s = 0;"
i=0; while [ $i -lt 20 ]; do echo "s += f$i($i * 100);"; i=$((i+1)); done
echo 'printf("sum %d\\\\n", s); return 0; }'; } > main.c
printf 'prog: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\tcc -o $@ $^\\n' > Makefile
make -s && ./prog && touch f3.c && make | grep -c f3.o
echo BUILD WORKS
`;

test(
  'git, tar, dpkg and a C build work on it',
  async () => {
    const debian = await debianKernel('bookworm');
    const top = scratchFolder();
    const tree = join(top, 'debian');
    expect(spawnSync('cp', ['-a', debianTree(), tree]).status).toBe(0);
    fs.writeFileSync(join(tree, 'work.sh'), WORK);
    const initrd = join(top, 'initrd');
    const script = `
mount -t 9p -o trans=virtio,version=9p2000.L,cache=mmap debian /mnt
mount -t proc proc /mnt/proc && mount -t devtmpfs dev /mnt/dev && mount -t tmpfs tmp /mnt/tmp
chroot /mnt /bin/bash /work.sh 2>&1 && echo ALL WORKS
`;
    fs.writeFileSync(initrd, initrdWith(debian, script));
    const everybody = '0:0:65536';
    const share = `debian=${tree},setid,uids=${everybody},gids=${everybody}`;
    const append = 'console=ttyS0 quiet panic=-1 mitigations=off';
    const args = [
      'boot',
      '--memory',
      '512M',
      '--kernel',
      debian.kernel,
      '--initrd',
      initrd,
      '--append',
      append,
    ];
    const child = spawn(process.execPath, [join(ROOT, 'bin/umlaut.mjs'), ...args, '--share', share], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let output = '';
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      output += text;
    });
    await once(child, 'close');
    expect(output).toContain('ALL WORKS');
    expect(output).toMatch(/sum \d+/);
    expect(fs.existsSync(join(tree, 'root/copy/.git/HEAD'))).toBe(true);
  },
  TIMEOUT_MS,
);
