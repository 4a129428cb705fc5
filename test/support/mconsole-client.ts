/** Clients of the management console's socket: the real one, and one that can send what it does not. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { DatagramSocket, pathAddress } from '../../src/mconsole/socket/datagram-socket.ts';
import { requireTool } from './tools.ts';

const WAIT_MS = 10_000;

export interface ClientRun {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ClientOptions {
  /** Its $HOME, where it looks for .uml/UMID. */
  readonly home?: string;
  readonly uid?: number;
}

/** uml_mconsole of Debian's uml-utilities. `vm`: a umid or a socket's path. */
export async function umlMconsole(
  vm: string,
  command: string,
  { home, uid }: ClientOptions = {},
): Promise<ClientRun> {
  const tool = requireTool('uml_mconsole', 'uml-utilities');
  const child = spawn(tool, [vm, ...command.split(' ')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: WAIT_MS,
    env: { HOME: home ?? '/nonexistent' },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}

/** The bytes of a request. */
export function requestBytes(
  text: string,
  { magic = 0xcafe_babe, version = 2, length = text.length } = {},
): Buffer {
  const bytes = Buffer.alloc(524);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt32LE(version, 4);
  bytes.writeUInt32LE(length, 8);
  bytes.write(text.slice(0, 511), 12, 'utf8');
  return bytes;
}

/** A bound socket that sends any bytes. */
export class RawClient {
  readonly #socket: DatagramSocket;
  readonly #to: Uint8Array;

  constructor(folder: string, name: string, to: string) {
    const file = path.join(folder, name);
    this.#socket = new DatagramSocket(file);
    this.#to = pathAddress(to);
    onTestFinished(() => {
      this.#socket.close();
      fs.rmSync(file, { force: true });
    });
  }

  async send(bytes: Uint8Array): Promise<void> {
    await until(() => {
      const result = this.#socket.send(bytes, this.#to);
      if (result === 'gone') throw new Error('nobody is at the socket');
      return result === 'sent' ? true : undefined;
    }, 'room in its queue');
  }

  /** The next datagram that comes. */
  async receive(): Promise<Buffer> {
    return Buffer.from(await until(() => this.#socket.receive()?.bytes, 'a reply'));
  }
}

/** Looks again and again until there is something. */
export async function until<T>(look: () => T | undefined, what: string): Promise<T> {
  for (const deadline = Date.now() + WAIT_MS; ; await delay(2)) {
    const value = look();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`there is no ${what} in time`);
  }
}
