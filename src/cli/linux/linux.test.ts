import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { umlMconsole, until } from '../../../test/support/mconsole-client.ts';
import { DatagramSocket } from '../../mconsole/socket/datagram-socket.ts';
import { DIRECTION, OPERATION, ttyName, ttyRecords } from '../../uml/tty-log.ts';
import { parseCommandLine } from '../../uml/command-line.ts';
import { linesOf, machineConfig } from './plan.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

/** A multiboot kernel: prints ">", then echoes what comes on the first serial port; "q" powers off. */
const ECHO = Buffer.concat([
  Buffer.from(
    Uint32Array.of(0x1bad_b002, 0x1_0000, -(0x1bad_b002 + 0x1_0000), 0x20_0000, 0x20_0000, 0, 0, 0x20_0020)
      .buffer,
  ),
  Buffer.from(
    '66baf803b03eee' + // mov dx,3f8; mov al,'>'; out dx,al
      '66bafd03eca80174f7' + // poll: mov dx,3fd; in al,dx; test al,1; jz poll
      '66baf803ec3c717403' + // mov dx,3f8; in al,dx; 'q' → off
      'eeebeb' + // out dx,al; jmp poll
      '66ba040666b8002066eff4ebfd', // off: mov dx,604; mov ax,2000; out dx,ax; hlt
    'hex',
  ),
  Buffer.alloc(64),
]);

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(tmpdir(), 'umlaut-linux-'));
  fs.writeFileSync(path.join(folder, 'kernel'), ECHO);
  fs.writeFileSync(path.join(folder, 'root_fs'), Buffer.alloc(1 << 20, 0x5a));
  const made = folder;
  onTestFinished(() => fs.rmSync(made, { recursive: true }));
});

interface Run {
  readonly child: ChildProcess;
  stdout: string;
  stderr: string;
  readonly ended: Promise<number | null>;
}

/** `umlaut linux` in the folder, with its serial console on standard input and output; `log` is its descriptor 3. */
function start(words: string, log?: number): Run {
  const args = ['linux', '--kernel', 'kernel', 'mem=8M', 'con0=null', 'ssl0=fd:0,fd:1', ...words.split(' ')];
  const child = spawn(process.execPath, [MAIN, ...args.filter((word) => word !== '')], {
    cwd: folder,
    env: { ...process.env, UMLAUT_UML_DIR: path.join(folder, '.uml') },
    stdio: ['pipe', 'pipe', 'pipe', log],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => void child.once('close', resolve));
  const run: Run = { child, stdout: '', stderr: '', ended };
  child.stdout!.on('data', (bytes: Buffer) => (run.stdout += bytes.toString()));
  child.stderr!.on('data', (bytes: Buffer) => (run.stderr += bytes.toString()));
  return run;
}

const prompt = (run: Run) => until(() => (run.stdout.includes('>') ? true : undefined), 'prompt');

test('runs on standard input and output until it powers off; its folder goes', async () => {
  const run = start('umid=debian ubd0=root_cow,root_fs');
  await prompt(run);
  expect(fs.readFileSync(path.join(folder, '.uml/debian/pid'), 'utf8')).toBe(`${run.child.pid}\n`);
  expect(fs.existsSync(path.join(folder, 'root_cow'))).toBe(true);
  run.child.stdin!.write('abcq');
  expect({ status: await run.ended, stdout: run.stdout }).toEqual({ status: 0, stdout: '>abc' });
  expect(fs.readdirSync(path.join(folder, '.uml'))).toEqual([]);
});

test('logs what is shown and typed to a descriptor, in records of UML', async () => {
  const log = fs.openSync(path.join(folder, 'log'), 'w');
  const run = start('tty_log_fd=3 con9=null,fd:2', log);
  fs.closeSync(log);
  await prompt(run);
  run.child.stdin!.write('abcq');
  expect(await run.ended).toBe(0);
  const records = [...ttyRecords(fs.readFileSync(path.join(folder, 'log')))];
  const text = (to: number): string =>
    Buffer.concat(records.filter(({ direction }) => direction === to).map(({ data }) => data)).toString();
  expect(records.map(({ tty }) => ttyName(tty)).every((name) => name === 'ttyS0')).toBe(true);
  expect([records[0]?.operation, records.at(-1)?.operation]).toEqual([OPERATION.OPEN, OPERATION.CLOSE]);
  expect([text(DIRECTION.WRITE), text(DIRECTION.READ)]).toEqual(['>abc', 'abcq']);
  expect(run.stderr).toContain('con9 is no terminal in Linux, but /dev/virtio-ports/con9');
});

test('answers uml_mconsole, and halts by it', async () => {
  fs.writeFileSync(path.join(folder, 'other'), Buffer.alloc(1 << 20));
  const notify = new DatagramSocket(path.join(folder, 'notify'));
  onTestFinished(() => notify.close());
  const run = start('umid=debian ubd0=root_cow,root_fs mconsole=notify:notify');
  await prompt(run);
  const say = async (command: string) => {
    const { status, stdout } = await umlMconsole('debian', command, { home: folder });
    return [status, stdout];
  };
  const up = await until(() => notify.receive(), 'notification');
  expect(Buffer.from(up.bytes).toString('utf8', 16)).toBe(`${path.join(folder, '.uml/debian/mconsole')}\0`);
  expect(await say('version')).toEqual([0, 'OK Linux debian unknown x86_64\n']);
  expect(await say('config ubd0')).toEqual([0, 'OK root_cow,root_fs\n']);
  expect(await say('config ssl0')).toEqual([0, 'OK fd:0,fd:1\n']);
  expect(await say('config con3')).toEqual([0, 'OK none\n']);
  expect(await say('config mem')).toEqual([0, `OK ${8 << 20}\n`]);
  expect(await say('config ubd1=x')).toEqual([254, "ERR Couldn't determine size of device's file\n"]);
  expect(await say(`config ubd1=${folder}/other`)).toEqual([0, 'OK \n']);
  expect(await say('config ubd1')).toEqual([0, `OK ${folder}/other\n`]);
  expect(await say('config con3=pts')).toEqual([0, 'OK \n']);
  expect(await say('config con3')).toEqual([0, expect.stringMatching(/^OK pts:\/dev\/pts\/\d+\n$/)]);
  expect(await say('remove con3')).toEqual([0, 'OK \n']);
  expect(await say('config con3')).toEqual([0, 'OK none\n']);
  expect(await say('stop')).toEqual([0, 'OK stopped\n']);
  expect(await say('stop')).toEqual([1, 'ERR Already stopped\n']);
  expect(await say('go')).toEqual([0, 'OK \n']);
  expect(await say('go')).toEqual([1, 'ERR Not stopped\n']);
  expect(await say('reboot')).toEqual([0, 'OK \n']);
  await until(() => (run.stdout.split('>').length === 3 ? true : undefined), 'second boot');
  expect(await say('halt')).toEqual([0, 'OK \n']);
  expect(await run.ended).toBe(0);
  expect(fs.readdirSync(path.join(folder, '.uml'))).toEqual([]);
});

test('int of uml_mconsole breaks it off, as it does UML; its folder goes', async () => {
  const run = start('umid=debian ubd0=root_cow,root_fs');
  await prompt(run);
  expect((await umlMconsole('debian', 'int', { home: folder })).status).toBe(0);
  expect(await run.ended).toBe(1);
  expect(fs.readdirSync(path.join(folder, '.uml'))).toEqual([]);
});

test('takes another umid where one is in use, and ends at a reboot with noreboot', async () => {
  fs.mkdirSync(path.join(folder, 'run/debian'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'run/debian/pid'), `${process.pid}\n`);
  const run = start('umid=debian uml_dir=run noreboot');
  await prompt(run);
  expect(run.stderr).toContain('umid "debian" is already in use');
  const other = fs.readdirSync(path.join(folder, 'run')).find((name) => name !== 'debian');
  expect(other).toMatch(/^[A-Za-z0-9]{6}$/);
  const socket = path.join(folder, 'run', other!, 'mconsole');
  expect((await umlMconsole(socket, 'reboot')).stdout).toBe('OK \n');
  expect(await run.ended).toBe(0);
});

test('refuses what it cannot do', async () => {
  for (const [words, message] of [
    ['eth0=tuntap,nosuchtap0', /no device nosuchtap0/],
    ['eth0=ethertap,tap0', /tuntap/],
    ['ubd0=missing', /missing/],
    ['hostfs=/nonexistent', /nonexistent/],
    ['ssl5=fd:1', /no ssl5/],
    ['tty_log_fd=77', /77 is not open/],
    ['con1=tty:/nonexistent', /no \/nonexistent/],
    ['ssl1=fd:0', /two lines would read descriptor 0/],
    ['ssl1=fd:99', /99 is not open/],
  ] as const) {
    const run = start(words);
    expect(await run.ended).toBe(2);
    expect(run.stderr).toMatch(message);
  }
});

test('a machine has the disks by their order, a COW file with the backing file that it names, and a console', () => {
  const line = parseCommandLine(['ubd2=a,b', 'ubd0r=c', 'root=/dev/ubdc', 'rw']);
  fs.writeFileSync(path.join(folder, 'c'), 'x');
  const file = path.join(folder, 'c');
  const plain = parseCommandLine([`ubd0d=${file}`, 'console=ttyS0', 'mem=1G']);
  expect(() => machineConfig(line, { kernel: 'k' }, 'u')).toThrow(/c/);
  expect(machineConfig(plain, { kernel: 'k', initrd: 'i' }, 'u')).toMatchObject({
    name: 'u',
    memoryBytes: 1 << 30,
    initrd: 'i',
    append: 'console=ttyS0 root=/dev/vda',
    disks: [{ device: 'ubd0', file, readOnly: false }],
  });
  expect(machineConfig(parseCommandLine(['ubd2=a,b', 'root=/dev/ubdc']), { kernel: 'k' }, 'u')).toMatchObject(
    {
      append: 'console=ttyS0 console=hvc0 root=/dev/vda',
      disks: [{ device: 'ubd2', file: 'b', cow: 'a' }],
    },
  );
  expect(linesOf(line).map(({ name }) => name)).toEqual([{ driver: 'con', number: 0 }]);
});
