/** The management console's socket against uml_mconsole of User Mode Linux (Debian package uml-utilities). */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DatagramSocket, pathAddress } from '../../src/mconsole/socket/datagram-socket.ts';
import { type Harness, startHarness } from '../api/support/harness.ts';
import { RawClient, requestBytes, umlMconsole, until } from '../support/mconsole-client.ts';
import { skipTest } from '../support/tools.ts';

const UNAME = 'Linux web 6.1.0-32-cloud-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.129-1 (2025-03-06) x86_64';
const NOBODY = 65534;

interface Setup {
  readonly api: Harness;
  /** $HOME of the client: the UML folder is .uml in it. */
  readonly home: string;
  readonly umlDir: string;
  readonly socket: string;
}

/** A daemon with a running VM, `web`, whose socket is up. */
async function setup(): Promise<Setup> {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-mc-'));
  onTestFinished(() => fs.rmSync(home, { recursive: true, force: true }));
  const umlDir = path.join(home, '.uml');
  const api = await startHarness({ umlDir });
  await api.runVm('web');
  const socket = path.join(umlDir, 'web/mconsole');
  await isUp(socket);
  return { api, home, umlDir, socket };
}

/** The socket is bound and has its mode. */
async function isUp(socket: string): Promise<void> {
  const mode = (): number | undefined => fs.statSync(socket, { throwIfNoEntry: false })?.mode;
  await until(() => (mode() === undefined || (mode()! & 0o777) !== 0o600 ? undefined : true), 'socket');
}

describe('uml_mconsole', () => {
  it('finds the VM by its name and prints what UML would', async () => {
    const { api, home, umlDir } = await setup();
    const say = async (command: string) => {
      const { status, stdout } = await umlMconsole('web', command, { home });
      return [status, stdout];
    };
    expect(fs.readFileSync(path.join(umlDir, 'web/pid'), 'utf8')).toBe(`${process.pid}\n`);
    expect(await say('version')).toEqual([0, `OK ${UNAME}\n`]);
    expect(await say('stop')).toEqual([0, 'OK stopped\n']);
    expect(await say('stop')).toEqual([1, 'ERR Already stopped\n']);
    expect(await say('version')).toEqual([0, `OK ${UNAME}\n`]);
    expect(await say('go')).toEqual([0, 'OK \n']);
    expect(await say('go')).toEqual([1, 'ERR Not stopped\n']);
    expect(await say('cad')).toEqual([0, 'OK \n']);
    expect(api.farm.of('web').requests.map(({ type }) => type)).toEqual(['stop', 'go', 'cad']);
    expect(await say('sysrq m')).toEqual([0, 'OK sysrq: HELP : key m\n\n']);
    expect(await say('config mem')).toEqual([0, `OK ${256 << 20}\n`]);
    expect(await say('config ubd0')).toEqual([0, expect.stringMatching(/^OK .+,default\n$/)]);
    expect(await say('config con99')).toEqual([1, 'ERR device number out of range\n']);
    expect(await say('config con99=null')).toEqual([234, 'ERR Device number out of range\n']);
    expect(await say('config zzz')).toEqual([1, 'ERR Bad configuration option\n']);
    expect(await say('remove ubd5')).toEqual([237, "ERR Device doesn't exist\n"]);
    expect(await say('remove mem')).toEqual([240, "ERR Memory doesn't support the remove operation\n"]);
    expect(await say('nonsense')).toEqual([1, 'ERR Unknown command\n']);
    expect(await say('proc uptime')).toEqual([0, 'OK \n17.65 16.31\n\n']);
    expect(await say('proc nothing')).toEqual([1, 'ERR Failed to open file\n']);
    expect(await say('proc stat')).toEqual([1, 'ERR Read of file failed: unsupported\n']);
    expect(await say('stack 1')).toEqual([0, 'OK Stack:\nCall Trace:\n\n\n']);
    expect(await say('stack 77')).toEqual([1, "ERR Couldn't find that pid\n"]);
    expect(await say('stack')).toEqual([1, 'ERR Please specify a pid\n']);
    expect(await say('reboot')).toEqual([0, 'OK \n']);
    expect(await say('version')).toEqual([0, `OK ${UNAME}\n`]);
  });

  it('prints the help, which takes more than one datagram', async () => {
    const { home, api } = await setup();
    const { status, stdout } = await umlMconsole('web', 'help', { home });
    const help = (await api.post('/v1/vms/web/mconsole/help').expect(200)).body.text as string;
    expect(help.length).toBeGreaterThan(511);
    expect(status).toBe(0);
    expect(stdout.startsWith(`OK ${help}`)).toBe(true);
  });

  it('logs to the events and the console', async () => {
    const { home, api } = await setup();
    expect((await umlMconsole('web', 'log hello there', { home })).status).toBe(0);
    const { items } = (await api.get('/v1/events?type=vm.log').expect(200)).body as {
      items: { data: object }[];
    };
    expect(items.map(({ data }) => data)).toEqual([{ text: 'hello there' }, { text: '\n' }]);
  });

  it('halts: it is answered, and the folder goes', async () => {
    const { home, umlDir, api } = await setup();
    expect(await umlMconsole('web', 'halt', { home })).toMatchObject({ status: 0, stdout: 'OK \n' });
    expect(await api.vm('web')).toMatchObject({ state: 'halted' });
    expect(fs.readdirSync(umlDir)).toEqual([]);
    await api.operate('/v1/vms/web/start');
    await isUp(path.join(umlDir, 'web/mconsole'));
    expect((await umlMconsole('web', 'version', { home })).stdout).toBe(`OK ${UNAME}\n`);
  });

  it('of another user is refused, by the modes and by its credentials', async () => {
    if (process.getuid?.() !== 0) skipTest('only root can be another user');
    const { home, umlDir, socket, api } = await setup();
    const stranger = () => umlMconsole(socket, 'halt', { uid: NOBODY });
    expect(await stranger()).toMatchObject({ status: 1, stdout: '' });
    for (const folder of [home, umlDir, path.dirname(socket)]) fs.chmodSync(folder, 0o755);
    expect(await stranger()).toMatchObject({ status: 1, stdout: '' });
    fs.chmodSync(socket, 0o777);
    expect(await stranger()).toMatchObject({ status: 255, stdout: 'ERR Permission denied\n' });
    expect(await api.vm('web')).toMatchObject({ state: 'running' });
  });
});

describe('the socket', () => {
  it('answers wrong requests with the bytes of UML', async () => {
    const { home, socket } = await setup();
    const client = new RawClient(home, 'raw', socket);
    const ask = async (bytes: Uint8Array): Promise<Buffer> => {
      await client.send(bytes);
      return client.receive();
    };
    const reply = (header: string, text: string): Buffer =>
      Buffer.concat([Buffer.from(header.replaceAll(' ', ''), 'hex'), Buffer.from(`${text}\0`)]);
    const unknown = reply('01000000 00000000 10000000', 'Unknown command');
    const bare = Buffer.from('ERR Version 0 mconsole clients are not supported by this driver');
    const version = reply('01000000 00000000 2c000000', 'This driver only supports version 2 clients');
    expect(await ask(requestBytes('nonsense'))).toEqual(unknown);
    expect(await ask(requestBytes(''))).toEqual(unknown);
    expect(await ask(requestBytes(' version'))).toEqual(unknown);
    expect(await ask(requestBytes('x', { magic: 0xdead_beef }))).toEqual(bare);
    expect(await ask(Buffer.from('help'))).toEqual(bare);
    expect(await ask(Buffer.from('he'))).toEqual(bare);
    expect(await ask(requestBytes('x', { length: 512 }))).toEqual(
      reply('01000000 00000000 12000000', 'Request too large'),
    );
    expect(await ask(requestBytes('go', { version: 1 }))).toEqual(version);
    expect(await client.receive()).toEqual(reply('01000000 00000000 0c000000', 'Not stopped'));
    expect(await ask(requestBytes('cad').subarray(0, 15))).toEqual(reply('00000000 00000000 01000000', ''));
  });

  it('carries out what comes from a sender that cannot be answered', async () => {
    const { socket, api } = await setup();
    const sender = new DatagramSocket();
    onTestFinished(() => sender.close());
    expect(sender.send(requestBytes('stop'), pathAddress(socket))).toBe('sent');
    await until(() => api.farm.of('web').requests.find(({ type }) => type === 'stop'), 'stop');
  });

  it('answers a thousand requests at once, each of them', async () => {
    const { home, socket } = await setup();
    const clients = Array.from({ length: 40 }, (_, index) => new RawClient(home, `c${index}`, socket));
    const answers = await Promise.all(
      clients.map(async (client, index) => {
        const replies: Buffer[] = [];
        const receiving = (async () => {
          while (replies.length < 25) replies.push(await client.receive());
        })();
        const text = index % 2 === 0 ? 'version' : 'nonsense';
        for (let count = 0; count < 25; count++) await client.send(requestBytes(text));
        await receiving;
        return replies;
      }),
    );
    for (const [index, replies] of answers.entries()) {
      const expected = index % 2 === 0 ? UNAME : 'Unknown command';
      for (const reply of replies) expect(reply.toString('utf8', 12, reply.length - 1)).toBe(expected);
    }
    expect(answers.flat()).toHaveLength(1000);
  });

  it('gives up a client that does not read, and serves the others', async () => {
    const { home, socket } = await setup();
    const deaf = new RawClient(home, 'deaf', socket);
    for (let count = 0; count < 60; count++) await deaf.send(requestBytes('help'));
    expect((await umlMconsole('web', 'version', { home })).stdout).toBe(`OK ${UNAME}\n`);
  });

  it('has the id of the VM where its name is in use', async () => {
    const { umlDir, api } = await setup();
    fs.mkdirSync(path.join(umlDir, 'db'));
    fs.writeFileSync(path.join(umlDir, 'db/pid'), '1\n');
    const { id } = await api.runVm('db');
    await isUp(path.join(umlDir, id, 'mconsole'));
    expect(fs.readFileSync(path.join(umlDir, 'db/pid'), 'utf8')).toBe('1\n');
  });

  it('sends notifications: itself, a panic with its message, and what the guest says', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-mc-'));
    onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
    const umlNotify = path.join(folder, 'notify');
    const listener = new DatagramSocket(umlNotify);
    onTestFinished(() => listener.close());
    const umlDir = path.join(folder, 'uml');
    const api = await startHarness({ umlDir, umlNotify });
    await api.runVm('web');
    const next = async () => {
      const { bytes, from } = await until(() => listener.receive(), 'notification');
      const notification = Buffer.from(bytes);
      const sender = Buffer.from(from ?? [])
        .toString('utf8', 2)
        .replaceAll('\0', '');
      return { header: notification.toString('hex', 0, 16), data: notification.toString('utf8', 16), sender };
    };
    const sender = path.join(umlDir, 'web/mconsole');
    const length = (sender.length + 1).toString(16).padStart(2, '0');
    expect(await next()).toEqual({
      header: `bebafeca0200000000000000${length}000000`,
      data: `${sender}\0`,
      sender,
    });
    const machine = api.farm.of('web');
    machine.print('ttyS0', '[  1.0] Kernel panic - not syncing: sysrq triggered crash\r\n[ 1.1] CPU: 0\r\n');
    machine.say({ type: 'panicked' });
    expect(await next()).toMatchObject({
      header: 'bebafeca020000000100000016000000',
      data: 'sysrq triggered crash\0',
    });
    machine.say({ type: 'notification', bytes: Buffer.from('hello-user\n'), dropped: 3 });
    expect(await next()).toEqual({
      header: 'bebafeca02000000030000000b000000',
      data: 'hello-user\n',
      sender,
    });
    machine.say({ type: 'notification', bytes: Uint8Array.of(0xff, 0, 0x80), dropped: 0 });
    const { bytes } = await until(() => listener.receive(), 'notification');
    expect([...bytes.subarray(16)]).toEqual([0xff, 0, 0x80]);
    const types = 'vm.panicked,vm.notification';
    const { items } = (await api.get(`/v1/events?type=${types}`).expect(200)).body as {
      items: { type: string; data: object }[];
    };
    expect(items.map(({ type, data }) => ({ type, data }))).toEqual([
      { type: 'vm.panicked', data: { message: 'sysrq triggered crash' } },
      { type: 'vm.notification', data: { text: 'hello-user\n', dropped: 3 } },
      { type: 'vm.notification', data: { text: '\ufffd\0\ufffd', base64: '/wCA', dropped: 0 } },
    ]);
  });

  it('that cannot be made does not keep the VM from running', async () => {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-mc-'));
    onTestFinished(() => fs.rmSync(home, { recursive: true, force: true }));
    const api = await startHarness({ umlDir: path.join(home, 'x'.repeat(100)) });
    expect(await api.runVm('web')).toMatchObject({ state: 'running' });
    await api.operate('/v1/vms/web/halt');
    expect(await api.vm('web')).toMatchObject({ state: 'halted' });
  });

  it('goes with the daemon', async () => {
    const { umlDir, api } = await setup();
    await api.daemon.close();
    expect(fs.readdirSync(umlDir)).toEqual([]);
  });
});
