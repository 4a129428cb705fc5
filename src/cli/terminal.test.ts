import { PassThrough } from 'node:stream';
import { afterEach, expect, it } from 'vitest';
import type { WebSocket } from 'ws';
import { attachTerminal } from './terminal.ts';
import { FakeDaemon } from './testing/fake-daemon.ts';
import { Transport } from './transport.ts';

let daemon: FakeDaemon;
afterEach(() => daemon.close());

interface Session {
  readonly done: Promise<void>;
  readonly stdin: PassThrough;
  readonly screen: () => string;
  readonly notes: () => string;
  readonly modes: boolean[];
}

async function attach(terminal: boolean, onSocket: (socket: WebSocket) => void): Promise<Session> {
  daemon = await FakeDaemon.start({}, onSocket);
  const socket = await new Transport({ url: daemon.url, token: 't' }).open('/console?ticket=t');
  const modes: boolean[] = [];
  const stdin = new PassThrough();
  const input = Object.assign(stdin, { isTTY: terminal, setRawMode: (mode: boolean) => modes.push(mode) });
  let screen = '';
  let notes = '';
  const io = {
    stdout: { write: () => true },
    stderr: { write: (text: string) => (notes += text) },
    env: {},
    exitCode: 0,
  };
  const done = attachTerminal(socket, input as unknown as NodeJS.ReadStream, io, {
    write: (bytes) => (screen += Buffer.from(bytes).toString('latin1')),
  });
  return { done, stdin, screen: () => screen, notes: () => notes, modes };
}

it('carries bytes both ways and restores the terminal at Ctrl-]', async () => {
  const typed: string[] = [];
  const echoed = Promise.withResolvers<void>();
  const session = await attach(true, (socket) => {
    socket.send(Buffer.from('scrollback\xff', 'latin1'));
    socket.on('message', (data: Buffer) => {
      typed.push(data.toString('latin1'));
      echoed.resolve();
    });
  });
  session.stdin.write('ls\r');
  await echoed.promise;
  session.stdin.write('\x1d');
  await session.done;
  expect(typed).toEqual(['ls\r']);
  expect(session.screen()).toBe('scrollback\xff');
  expect(session.modes).toEqual([true, false]);
  expect(session.notes()).toContain('Ctrl-] leaves');
});

it('passes every byte on when it is no terminal, and outlives the end of the input', async () => {
  const session = await attach(false, (socket) => {
    socket.on('message', (data: Buffer) => {
      socket.send(Buffer.concat([Buffer.from('got '), data]));
      socket.close(1000);
    });
  });
  session.stdin.end('a\x1db');
  await session.done;
  expect(session.screen()).toBe('got a\x1db');
  expect(session.modes).toEqual([]);
});

it('restores the terminal when the connection breaks, and says so', async () => {
  const session = await attach(true, (socket) => socket.close(1001, 'the daemon ends'));
  await expect(session.done).rejects.toMatchObject({
    code: 'unreachable',
    message: expect.stringContaining('1001 the daemon ends'),
  });
  expect(session.modes).toEqual([true, false]);
});
