/** Folders of other hosts, by SSH and by rclone, in a guest with a stock Debian kernel. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { ShareConfig } from '../../src/contracts/machine.ts';
import { HostPaths } from '../../src/vmm/host-paths.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { RemoteFolders } from '../../src/vmm/remote-folders.ts';
import { type DebianKernel, debianKernel, initrdWith } from '../support/debian-kernel.ts';
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

/** Sets a variable of the environment until the end of the test. */
function setEnvironment(name: string, value: string): void {
  const before = process.env[name];
  process.env[name] = value;
  onTestFinished(() => {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  });
}

/** Programs that mount, and the path of a folder by SSH. */
async function remoteSetup(folder: string): Promise<(path: string) => string> {
  requireTool('sshfs', 'sshfs');
  requireTool('rclone', 'rclone');
  requireTool('fusermount3', 'fuse3');
  if (!fs.existsSync('/dev/fuse')) skipTest('there is no /dev/fuse');
  fs.mkdirSync(join(folder, 'sshd'));
  const { port, config } = await startSshd(join(folder, 'sshd'));
  setEnvironment('UMLAUT_SSH_CONFIG', config);
  const user = process.getuid?.() === 0 ? 'root@' : '';
  return (path) => `ssh://${user}127.0.0.1:${port}${path}`;
}

/** A guest that runs the script. */
function guestOf(debian: DebianKernel, folder: string, script: string, shares: readonly ShareConfig[]) {
  const initrd = join(folder, 'initrd');
  fs.writeFileSync(initrd, initrdWith(debian, script));
  const append = 'console=ttyS0 quiet panic=-1';
  const machine = { name: 'guest', memoryBytes: 256 << 20, kernel: debian.kernel, initrd, append };
  let output = '';
  let heard = (): void => undefined;
  const host = new MachineHost(
    { config: { ...machine, disks: [], nics: [], shares }, nicRings: [] },
    fs.readFileSync,
    (message) => {
      if (message.type !== 'console-output') return;
      host.outputTaken(message.console, message.bytes.length);
      output += Buffer.from(message.bytes).toString('latin1');
      heard();
    },
  );
  const said = async (text: string): Promise<void> => {
    while (!output.includes(text)) {
      await new Promise<void>((resolve) => {
        heard = resolve;
      });
    }
  };
  return { host, said, output: () => output };
}

test(
  'are read and written; they go when they are unmounted',
  async () => {
    const debian = await debianKernel('bookworm');
    const folder = scratchFolder();
    const at = (...parts: string[]): string => join(folder, ...parts);
    for (const tag of ['ssh', 'rclone']) {
      fs.mkdirSync(at(tag));
      fs.writeFileSync(at(tag, 'hello'), `from ${tag}\n`);
    }
    fs.writeFileSync(at('outside'), '');
    const ssh = await remoteSetup(folder);
    setEnvironment('RCLONE_CONFIG', at('rclone.conf'));
    fs.writeFileSync(at('rclone.conf'), `[there]\ntype = alias\nremote = ${folder}\n`);
    const remotes = new RemoteFolders({ file: (...parts) => at('home', ...parts) });
    const paths = { ssh: ssh(at('ssh')), rclone: 'rclone:there:rclone' };
    onTestFinished(() => remotes.unmount('vm'));
    const mount = async (tag: 'ssh' | 'rclone') => ({
      tag,
      folder: await remotes.mount('vm', tag, paths[tag], false),
      readOnly: false,
    });
    const shares = [await mount('ssh'), await mount('rclone')];

    const { host, output } = guestOf(debian, folder, SCRIPT, shares);
    await host.run();
    await host.close();
    expect(output()).toContain('FINISHED');
    expect(output()).not.toContain('FAILED');
    await remotes.unmount('vm');
    for (const { tag, folder: mounted } of shares) {
      expect(fs.existsSync(mounted), mounted).toBe(false);
      expect(fs.readFileSync(at(tag, 'answer'), 'utf8')).toBe('answer\n');
      expect(fs.statSync(at(tag, 'big')).size).toBe(3 << 20);
    }

    // What cannot be mounted is told, and leaves nothing behind.
    const refused = (path: string) => remotes.mount('vm', 'x', path, true);
    await expect(refused(ssh('/nothing/there'))).rejects.toMatchObject({
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

/** Reads a line of ttyS1 before each step. */
const HANGING_SCRIPT = `
exec 3< /dev/ttyS1
mkdir /far && mount -t 9p -o ${OPTIONS} far /far && [ "$(cat /far/hello)" = here ] && echo MOUNTED
read line <&3
cat /far/late > /tmp/answer &
until grep -q ') D' /proc/$!/stat; do :; done
echo 'STILL ALIVE'
wait
cat /tmp/answer
read line <&3
cat /far/never &
until grep -q ') D' /proc/$!/stat; do :; done
echo 'ALIVE AGAIN'
wait
`;

/** The program that has mounted a folder. */
function mountProgram(folder: string): number {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const found = pids.find((pid) => {
    try {
      return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, 3).includes(folder);
    } catch {
      // It has ended.
      return false;
    }
  });
  return Number(found);
}

test(
  'a folder that does not answer holds up neither the guest nor its end, nor other VMs',
  async () => {
    const debian = await debianKernel('bookworm');
    const folder = scratchFolder();
    const at = (...parts: string[]): string => join(folder, ...parts);
    fs.mkdirSync(at('far'));
    for (const [name, text] of [
      ['hello', 'here'],
      ['late', 'BETTER LATE\n'],
      ['never', ''],
    ] as const) {
      fs.writeFileSync(at('far', name), text);
    }
    const ssh = await remoteSetup(folder);
    const remotes = new RemoteFolders({ file: (...parts) => at('home', ...parts) }, 500);
    const mounted = await remotes.mount('vm', 'far', ssh(at('far')), false);
    onTestFinished(() => remotes.unmount('vm'));
    const program = mountProgram(mounted);
    expect(program).toBeGreaterThan(1);
    const { host, said } = guestOf(debian, folder, HANGING_SCRIPT, [
      { tag: 'far', folder: mounted, readOnly: false },
    ]);
    const ended = host.run();
    await said('MOUNTED');
    process.kill(program, 'SIGSTOP');
    host.input('ttyS1', Buffer.from('go\n'));
    await said('STILL ALIVE');
    process.kill(program, 'SIGCONT');
    await said('BETTER LATE');
    process.kill(program, 'SIGSTOP');
    host.input('ttyS1', Buffer.from('go\n'));
    await said('ALIVE AGAIN');
    // Neither is the daemon held up by whoever would share it.
    const paths = new HostPaths([folder], 200);
    expect(await paths.check(at('far'), 'path')).toBe(fs.realpathSync(at('far')));
    const refused = { code: 'unreachable', field: 'path' };
    await expect(paths.check(join(mounted, 'never'), 'path')).rejects.toMatchObject(refused);
    host.halt();
    await ended;
    await host.close();
    const unmounting = remotes.unmount('vm');
    const other = await remotes.mount('other', 'far', ssh(at('far')), true);
    expect(fs.readFileSync(join(other, 'hello'), 'utf8')).toBe('here');
    await remotes.unmount('other');
    await unmounting;
    expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(mounted);
    expect(fs.existsSync(`/proc/${program}`)).toBe(false);
    expect(fs.readdirSync(at('home', 'mounts'))).toEqual([]);
  },
  TIMEOUT_MS,
);
