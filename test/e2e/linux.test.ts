/** `umlaut linux` on UML's command line, with the default image: from the boot to Ctrl-Alt-Del. */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import type WebSocket from 'ws';
import { ConsoleSession } from '../support/console-session.ts';
import { umlMconsole } from '../support/mconsole-client.ts';
import { requireTestImage } from '../support/test-image.ts';

const LAUNCHER = fileURLToPath(new URL('../../bin/umlaut.mjs', import.meta.url));
const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

/** The console of a process on its standard input and output, as a session takes it. */
class StandardConsole extends EventEmitter {
  readonly CLOSED = 3;
  readyState = 1;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    super();
    this.#child = child;
    child.stdout!.on('data', (bytes: Buffer) => this.emit('message', bytes));
    child.once('close', () => {
      this.readyState = this.CLOSED;
      this.emit('close');
    });
  }

  send(bytes: Buffer): void {
    this.#child.stdin!.write(bytes);
  }
  resume(): void {}
  close(): void {}
}

test(
  'boots from a COW file that it makes, with a network, and is changed while it runs',
  async () => {
    const image = await requireTestImage();
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-linux-e2e-'));
    onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
    const append = image.append.split(' ').filter((word) => !/^(root|console)=/.test(word));
    const words = [
      ...[
        `ubd0=root_cow,${image.disk},ROOT7`,
        'umid=debian',
        `uml_dir=${folder}/run`,
        'mem=160M',
        'noreboot',
      ],
      ...['eth0=slirp', 'con0=null', 'ssl0=fd:0,fd:1', `initrd=${image.initrd}`],
      ...['console=ttyS0', 'root=/dev/ubda', 'umlaut.name=uml', ...append],
    ];
    const child = spawn(process.execPath, [LAUNCHER, 'linux', '--kernel', image.kernel, ...words], {
      cwd: folder,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let problems = '';
    child.stderr.on('data', (bytes: Buffer) => (problems += bytes.toString()));
    const ended = once(child, 'close');
    const session = new ConsoleSession('debian', new StandardConsole(child) as unknown as WebSocket);
    await session.login();
    expect(problems).toBe('');
    expect(await session.check('hostname; cat /sys/block/vda/serial')).toBe('uml\nROOT7');

    await session.check('until ip -4 addr show dev eth0 | grep -q 10.0.2.15; do usleep 100000; done');
    await session.check('ping -c 1 -W 5 10.0.2.2');

    const say = async (command: string) => {
      const { status, stdout } = await umlMconsole(path.join(folder, 'run/debian/mconsole'), command);
      return [status, stdout];
    };
    fs.writeFileSync(path.join(folder, 'data'), Buffer.alloc(4 * MIB, 'kept '));
    expect(await say(`config ubd1=${folder}/data_cow,${folder}/data,DATA8`)).toEqual([0, 'OK \n']);
    await session.check('until [ -e /dev/vdb ]; do usleep 100000; done');
    expect(await session.check('cat /sys/block/vdb/serial')).toBe('DATA8');
    expect(await session.check('head -c 9 /dev/vdb; echo over | dd of=/dev/vdb conv=fsync 2>/dev/null')).toBe(
      'kept kept',
    );
    expect(await say('remove ubd1')).toEqual([0, 'OK \n']);
    await session.check('while [ -e /dev/vdb ]; do usleep 100000; done');
    expect(fs.readFileSync(path.join(folder, 'data'), 'latin1').slice(0, 9)).toBe('kept kept');
    expect(await say('config eth1=slirp')).toEqual([0, 'OK \n']);
    await session.check('until [ -e /sys/class/net/eth1 ]; do usleep 100000; done');
    expect(await say('remove eth1')).toEqual([0, 'OK \n']);
    await session.check('while [ -e /sys/class/net/eth1 ]; do usleep 100000; done');

    // The guest's init reboots, which ends a run with noreboot.
    expect(await say('cad')).toEqual([0, 'OK \n']);
    expect(await ended).toEqual([0, null]);
    expect(fs.readdirSync(path.join(folder, 'run'))).toEqual([]);
    expect(fs.existsSync(path.join(folder, 'root_cow'))).toBe(true);
  },
  5 * MINUTE_MS,
);
