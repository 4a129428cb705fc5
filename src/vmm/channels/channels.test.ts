/** Channels with the real programs at their other ends. The guest echoes what it gets, in capitals. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { connect } from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../../../test/support/mconsole-client.ts';
import { requireTool } from '../../../test/support/tools.ts';
import { parseLine } from '../../uml/channels.ts';
import { ConsoleHub } from '../instance/console-hub.ts';
import { Lines, parseLineName } from '../instance/lines.ts';
import { PATIENCE_MS } from './channel.ts';

function setUp() {
  const typed: string[] = [];
  const sizes: object[] = [];
  const problems: string[] = [];
  let taken = 0;
  const hub: ConsoleHub = new ConsoleHub({
    input: (console, bytes) => {
      const text = Buffer.from(bytes).toString('latin1');
      typed.push(text);
      hub.output(console, Buffer.from(text.toUpperCase(), 'latin1'));
    },
    taken: (_console, bytes) => {
      taken += bytes;
    },
    resize: (_console, size) => void sizes.push(size),
  });
  const lines = new Lines(
    hub,
    { descriptors: true },
    {
      vmName: () => 'web',
      opened: () => undefined,
      ended: (_name, why) => void problems.push(why),
    },
  );
  onTestFinished(() => lines.close());
  const ssl0 = parseLineName('ssl0');
  const join = async (channel: string): Promise<string> => {
    await lines.join(ssl0, parseLine(`ssl0=${channel}`, channel)!);
    return lines.text(ssl0)!;
  };
  const print = (text: string | Uint8Array): void => hub.output('ttyS0', Buffer.from(text));
  return { hub, lines, ssl0, join, print, typed, sizes, problems, taken: () => taken };
}

interface Program {
  readonly child: ChildProcess;
  output: string;
}

function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Program {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env });
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  const started: Program = { child, output: '' };
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => (started.output += bytes.toString('latin1')));
  return started;
}

const shows = (program: Program, text: string) =>
  until(() => (program.output.includes(text) ? true : undefined), text);
const happens = (what: () => boolean, name: string) => until(() => (what() ? true : undefined), name);
const deviceOf = (text: string): string => text.slice(text.indexOf(':') + 1);

test('pts: socat reads and types; readers come and go', async () => {
  const socat = requireTool('socat', 'socat');
  const { join, print, typed, hub } = setUp();
  const text = await join('pts');
  expect(text).toMatch(/^pts:\/dev\/pts\/\d+$/);
  print('before');
  for (const word of ['first', 'second']) {
    const program = run(socat, ['-', `${deviceOf(text)},rawer`]);
    print(`<${word}>`);
    await shows(program, `<${word}>`);
    program.child.stdin!.write(word);
    await shows(program, word.toUpperCase());
    program.child.kill();
    await once(program.child, 'exit');
  }
  // Nothing of what the guest printed has come back as if it were typed.
  expect(typed.join('')).toBe('firstsecond');
  expect(hub.list()[0]!.viewers).toBe(1);
});

test('pts: screen shows the console in a window', async () => {
  const screen = requireTool('screen', 'screen');
  const socat = requireTool('socat', 'socat');
  const { join, print, typed } = setUp();
  const device = deviceOf(await join('pts'));
  // screen wants a terminal, which socat gives it.
  const env = { ...process.env, TERM: 'vt100', SCREENDIR: fs.mkdtempSync(path.join(os.tmpdir(), 'screen-')) };
  fs.chmodSync(env.SCREENDIR, 0o700);
  onTestFinished(() => fs.rmSync(env.SCREENDIR, { recursive: true, force: true }));
  const program = run(socat, ['-', `EXEC:'${screen} ${device} 115200',pty,setsid,ctty,stderr`], env);
  await until(() => {
    print('login: ');
    return program.output.includes('login: ') ? true : undefined;
  }, 'login');
  program.child.stdin!.write('root\r');
  await shows(program, 'ROOT');
  expect(typed.join('')).toContain('root\r');
});

test('pts: the size of the terminal at the other end is told when something is typed', async () => {
  const socat = requireTool('socat', 'socat');
  const { join, sizes } = setUp();
  const device = deviceOf(await join('pts'));
  const stty = run('stty', ['-F', device, 'rows', '43', 'cols', '132']);
  await once(stty.child, 'exit');
  run(socat, ['-', `${device},rawer`]).child.stdin!.write('x');
  await happens(() => sizes.length > 0, 'size');
  expect(sizes).toEqual([{ columns: 132, rows: 43 }]);
});

test('tty: a device of the host, put back as it was', async () => {
  const socat = requireTool('socat', 'socat');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-tty-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  const link = path.join(folder, 'ttyUSB0');
  const cable = run(socat, ['-', `pty,link=${link},rawer`]);
  await happens(() => fs.existsSync(link), 'device');
  const { join, print, typed } = setUp();
  expect(await join(`tty:${link}`)).toBe(`tty:${link}`);
  print('over the cable');
  await shows(cable, 'over the cable');
  cable.child.stdin!.write('back');
  await shows(cable, 'BACK');
  expect(typed.join('')).toBe('back');
  await expect(join('tty:/nonexistent')).rejects.toMatchObject({ code: 'not_found' });
  await expect(join('tty:/dev/null')).rejects.toMatchObject({ code: 'invalid_input' });
});

test('port: telnet clients, each of which sees all', async () => {
  const telnet = requireTool('telnet', 'telnet');
  const { join, print, typed, hub } = setUp();
  print('scrollback ');
  const port = deviceOf(await join('port:0'));
  const first = run(telnet, ['127.0.0.1', port]);
  await shows(first, 'scrollback');
  const second = run(telnet, ['127.0.0.1', port]);
  await shows(second, 'scrollback');
  first.child.stdin!.write('hello\n');
  await shows(first, 'HELLO');
  await shows(second, 'HELLO');
  expect(typed.join('').trimEnd()).toBe('hello');
  expect(hub.list()[0]!.viewers).toBe(2);
  first.child.kill();
  await happens(() => hub.list()[0]!.viewers === 1, 'the client is gone');
  const other = setUp();
  await expect(other.join(`port:${port}`)).rejects.toMatchObject({ code: 'in_use' });
});

test('port: lines that share one: each client gets the next that is free', async () => {
  const telnet = requireTool('telnet', 'telnet');
  const { hub, lines, ssl0, join, typed } = setUp();
  const port = deviceOf(await join('port:0'));
  const others = ['ssl1', 'ssl2'].map(parseLineName);
  await Promise.all(others.map((name) => lines.join(name, parseLine('ssl1', `port:${port}`)!)));
  expect([ssl0, ...others].map((name) => lines.text(name))).toEqual(Array(3).fill(`port:${port}`));
  const consoles = ['ttyS0', 'ttyS1', 'ttyS2'];
  for (const console of consoles) hub.output(console, Buffer.from(`this is ${console} `));
  const clients: Program[] = [];
  const connectTo = async (console: string): Promise<Program> => {
    const client = run(telnet, ['127.0.0.1', port]);
    await shows(client, `this is ${console}`);
    return client;
  };
  for (const console of consoles) clients.push(await connectTo(console));
  clients[1]!.child.stdin!.write('hello\n');
  await shows(clients[1]!, 'HELLO');
  expect(typed.join('').trimEnd()).toBe('hello');
  expect([clients[0]!.output, clients[2]!.output].join('')).not.toContain('HELLO');
  // A line that has become free is the next; with none free, one is shared.
  clients[1]!.child.kill();
  await happens(() => hub.list().find(({ name }) => name === 'ttyS1')!.viewers === 0, 'the client is gone');
  await connectTo('ttyS1');
  await connectTo('ttyS0');
  // A line that leaves takes its clients along, and the port is there for the others.
  lines.leave(ssl0);
  await happens(() => clients[0]!.child.exitCode !== null, 'the client was hung up');
  expect(clients[2]!.child.exitCode).toBeNull();
  await connectTo('ttyS1');
  for (const name of others) lines.leave(name);
  expect(await setUp().join(`port:${port}`)).toBe(`port:${port}`);
});

test('port: a telnet on a terminal tells its size', async () => {
  const telnet = requireTool('telnet', 'telnet');
  const socat = requireTool('socat', 'socat');
  const { join, print, sizes } = setUp();
  const port = deviceOf(await join('port:0'));
  const script = `stty rows 43 cols 132; exec ${telnet} 127.0.0.1 ${port}`;
  const program = run(socat, ['-', `EXEC:"sh -c '${script}'",pty,setsid,ctty,stderr`]);
  print('hello');
  await shows(program, 'hello');
  await happens(() => sizes.length > 0, 'size');
  expect(sizes).toEqual([{ columns: 132, rows: 43 }]);
});

test('xterm: a window that types, closes, and is opened again', async () => {
  requireTool('xterm', 'xterm');
  const xvfb = requireTool('Xvfb', 'xvfb');
  const display = run(xvfb, ['-displayfd', '1', '-screen', '0', '800x600x24', '-nolisten', 'tcp']);
  await until(() => (/\d+\n/.test(display.output) ? true : undefined), 'display');
  const before = process.env.DISPLAY;
  process.env.DISPLAY = `:${/(\d+)\n/.exec(display.output)![1]}`;
  onTestFinished(() => {
    if (before === undefined) delete process.env.DISPLAY;
    else process.env.DISPLAY = before;
  });
  const { hub, join, print, sizes, typed, problems, lines, ssl0 } = setUp();
  expect(await join('xterm')).toBe('xterm');
  await happens(() => hub.list()[0]!.viewers === 1, 'the window');
  // A terminal answers when it is asked for its attributes: the bytes went through the window and back.
  await until(() => {
    print('\x1b[c');
    return typed.join('').includes('\x1b[?') ? true : undefined;
  }, 'answer of the terminal');
  await happens(() => sizes.length > 0, 'size');
  expect(sizes[0]).toEqual({ columns: 80, rows: 24 });
  lines.leave(ssl0);
  await happens(() => hub.list()[0]!.viewers === 0, 'the window is closed');
  expect(problems).toEqual([]);
});

test('fd, null, and different channels for input and output', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-fd-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'log');
  const fd = fs.openSync(file, 'w');
  onTestFinished(() => fs.closeSync(fd));
  const { join, print, typed, lines, ssl0 } = setUp();
  expect(await join(`null,fd:${fd}`)).toBe('null');
  print('into a file');
  await happens(() => fs.readFileSync(file, 'utf8') === 'into a file', 'file');
  const text = await join(`port:0,fd:${fd}`);
  expect(text).toMatch(new RegExp(`^port:\\d+,fd:${fd}$`));
  const client = connect(Number(/\d+/.exec(text)![0]), '127.0.0.1');
  await once(client, 'data');
  client.write('typed');
  await happens(() => fs.readFileSync(file, 'utf8').endsWith('TYPED'), 'echo in the file');
  expect(typed.join('')).toBe('typed');
  client.destroy();
  lines.leave(ssl0);
  expect(lines.text(ssl0)).toBeUndefined();
  await expect(join('fd:999')).rejects.toMatchObject({ code: 'invalid_input' });
});

test('fd of a character device that is no terminal', async () => {
  const fd = fs.openSync('/dev/null', 'r+');
  onTestFinished(() => fs.closeSync(fd));
  const { join, print, taken, lines, ssl0, problems } = setUp();
  expect(await join(`fd:${fd}`)).toBe(`fd:${fd}`);
  print('into nothing');
  await happens(() => taken() === 'into nothing'.length, 'output taken');
  lines.leave(ssl0);
  expect(problems).toEqual([]);
});

test('a reader that stops is waited for, then passed over, and gets what comes when it reads again', async () => {
  const { join, print, taken, hub } = setUp();
  const client = connect(Number(deviceOf(await join('port:0'))), '127.0.0.1');
  onTestFinished(() => void client.destroy());
  await once(client, 'data');
  client.pause();
  const line = 'x'.repeat(16 * 1024);
  let printed = 0;
  // The sockets' own buffers take some megabytes before anybody waits.
  while (printed - taken() < 512 * 1024 && printed < 64 << 20) {
    print(line);
    printed += line.length;
    await new Promise((resolve) => void setImmediate(resolve));
  }
  expect(printed - taken()).toBeGreaterThanOrEqual(512 * 1024);
  await until(() => (taken() >= printed - line.length ? true : undefined), `${PATIENCE_MS} ms`);
  client.resume();
  client.on('data', () => undefined);
  let seen = '';
  client.on('data', (bytes: Buffer) => (seen = (seen + bytes.toString('latin1')).slice(-1000)));
  await until(() => {
    print('the end');
    return seen.includes('the end') ? true : undefined;
  }, 'the end');
  expect(hub.list()[0]!.viewers).toBe(1);
});
