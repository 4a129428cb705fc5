/** Folders of other hosts, by SSH and by rclone, in a guest with a stock Debian kernel. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { RemoteFolders } from '../../src/vmm/remote-folders.ts';
import { debianKernel, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';
import { requireTool, skipTest } from '../support/tools.ts';

const TIMEOUT_MS = 300_000;
const OPTIONS = 'trans=virtio,version=9p2000.L';

const SCRIPT = `
for tag in ssh rclone; do
  mkdir /$tag && mount -t 9p -o ${OPTIONS} $tag /$tag || echo FAILED mount $tag
  [ "$(cat /$tag/hello)" = "from $tag" ] || echo FAILED read $tag
  dd if=/dev/urandom of=/tmp/big bs=1M count=3 2>/dev/null
  cp /tmp/big /$tag/big && cmp /tmp/big /$tag/big || echo FAILED copy $tag
  echo answer > /$tag/new && mv /$tag/new /$tag/answer || echo FAILED rename $tag
  [ "$(ls /$tag | grep -c .)" = 3 ] || echo FAILED list $tag
  ls /$tag/.. | grep -q outside && echo FAILED left $tag
  umount /$tag || echo FAILED umount $tag
done
echo FINISHED
`;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A server of SSH of this user, with a key of its own; what a client needs is in `config`. */
async function startSshd(folder: string): Promise<{ port: number; config: string }> {
  const sshd = requireTool('sshd', 'openssh-server');
  for (const key of ['host', 'user']) {
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key)]);
  }
  const port = await freePort();
  const server = join(folder, 'sshd_config');
  fs.writeFileSync(
    server,
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${join(folder, 'host')}`,
      `AuthorizedKeysFile ${join(folder, 'user.pub')}`,
      'StrictModes no',
      'PasswordAuthentication no',
      `PidFile ${join(folder, 'pid')}`,
      'Subsystem sftp internal-sftp',
      '',
    ].join('\n'),
  );
  const config = join(folder, 'ssh_config');
  const known = join(folder, 'known_hosts');
  fs.writeFileSync(known, `[127.0.0.1]:${port} ${fs.readFileSync(join(folder, 'host.pub'), 'utf8')}`);
  fs.writeFileSync(config, `IdentityFile ${join(folder, 'user')}\nUserKnownHostsFile ${known}\n`);
  // Where root's sshd goes while it talks to somebody who has not proved anything.
  if (process.getuid?.() === 0) fs.mkdirSync('/run/sshd', { recursive: true });
  const child = spawn(sshd, ['-D', '-e', '-f', server], { stdio: ['ignore', 'ignore', 'pipe'] });
  onTestFinished(() => void child.kill());
  await new Promise<void>((resolve, reject) => {
    let said = '';
    child.stderr.on('data', (bytes: Buffer) => {
      said += bytes.toString();
      if (said.includes('Server listening')) resolve();
    });
    child.once('exit', () => reject(new Error(`sshd: ${said}`)));
  });
  return { port, config };
}

test(
  'are read and written; they go when they are unmounted',
  async () => {
    requireTool('sshfs', 'sshfs');
    requireTool('rclone', 'rclone');
    requireTool('fusermount3', 'fuse3');
    if (!fs.existsSync('/dev/fuse')) skipTest('there is no /dev/fuse');
    const debian = await debianKernel('bookworm');
    const folder = scratchFolder();
    const at = (...parts: string[]): string => join(folder, ...parts);
    for (const tag of ['ssh', 'rclone']) {
      fs.mkdirSync(at(tag));
      fs.writeFileSync(at(tag, 'hello'), `from ${tag}\n`);
    }
    fs.writeFileSync(at('outside'), '');
    fs.mkdirSync(at('sshd'));
    const { port, config } = await startSshd(at('sshd'));
    const before = { ssh: process.env.UMLAUT_SSH_CONFIG, rclone: process.env.RCLONE_CONFIG };
    process.env.UMLAUT_SSH_CONFIG = config;
    process.env.RCLONE_CONFIG = at('rclone.conf');
    fs.writeFileSync(at('rclone.conf'), `[there]\ntype = alias\nremote = ${folder}\n`);
    onTestFinished(() => {
      if (before.ssh === undefined) delete process.env.UMLAUT_SSH_CONFIG;
      else process.env.UMLAUT_SSH_CONFIG = before.ssh;
      if (before.rclone === undefined) delete process.env.RCLONE_CONFIG;
      else process.env.RCLONE_CONFIG = before.rclone;
    });

    const remotes = new RemoteFolders({ file: (...parts) => at('home', ...parts) });
    const user = process.getuid?.() === 0 ? 'root@' : '';
    const paths = { ssh: `ssh://${user}127.0.0.1:${port}${at('ssh')}`, rclone: 'rclone:there:rclone' };
    onTestFinished(() => remotes.unmount('vm'));
    const mount = async (tag: 'ssh' | 'rclone') => ({
      tag,
      folder: await remotes.mount('vm', tag, paths[tag], false),
      readOnly: false,
    });
    const shares = [await mount('ssh'), await mount('rclone')];

    const initrd = at('initrd');
    fs.writeFileSync(initrd, initrdWith(debian, SCRIPT));
    const append = 'console=ttyS0 quiet panic=-1';
    const machine = { name: 'guest', memoryBytes: 256 << 20, kernel: debian.kernel, initrd, append };
    let output = '';
    const host = new MachineHost(
      { config: { ...machine, disks: [], nics: [], shares }, nicRings: [] },
      fs.readFileSync,
      (message) => {
        if (message.type !== 'console-output') return;
        host.outputTaken(message.console, message.bytes.length);
        output += Buffer.from(message.bytes).toString('latin1');
      },
    );
    await host.run();
    await host.close();
    expect(output).toContain('FINISHED');
    expect(output).not.toContain('FAILED');
    await remotes.unmount('vm');
    for (const { tag, folder: mounted } of shares) {
      expect(fs.existsSync(mounted), mounted).toBe(false);
      expect(fs.readFileSync(at(tag, 'answer'), 'utf8')).toBe('answer\n');
      expect(fs.statSync(at(tag, 'big')).size).toBe(3 << 20);
    }

    // What cannot be mounted is told, and leaves nothing behind.
    const refused = (path: string) => remotes.mount('vm', 'x', path, true);
    await expect(refused(`ssh://${user}127.0.0.1:${port}/nothing/there`)).rejects.toMatchObject({
      code: 'unreachable',
    });
    await expect(refused('ssh://no folder')).rejects.toMatchObject({
      code: 'invalid_input',
      field: 'shares.x.path',
    });
    const { PATH } = process.env;
    process.env.PATH = '/nowhere';
    await expect(
      refused('rclone:there:rclone').finally(() => (process.env.PATH = PATH)),
    ).rejects.toMatchObject({
      code: 'tool_missing',
      remedy: 'install the Debian package rclone',
    });
    expect(fs.readdirSync(at('home', 'mounts'))).toEqual([]);
  },
  TIMEOUT_MS,
);
