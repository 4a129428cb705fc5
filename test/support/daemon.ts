/** The real daemon as a child process, on a free port and with a state folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client } from '../../src/cli/client.ts';
import { ConsoleList } from '../../src/contracts/api/index.ts';
import { ConsoleSession } from './console-session.ts';
import { TEST_IMAGE_FOLDER, testImage } from './test-image.ts';

const LAUNCHER = fileURLToPath(new URL('../../bin/umlaut.mjs', import.meta.url));
const START_MS = 30_000;
const POLL_MS = 50;
const OPERATION_SECONDS = 120;
const OUTPUT_TAIL = 8000;

export class Daemon {
  readonly home: string;
  readonly #options: readonly string[];
  #port = 0;
  #process: ChildProcess | undefined;
  #output = '';

  /** Of a daemon that does not run yet, with more options of the command. `home` is the caller's to remove. */
  constructor(home: string, options: readonly string[] = []) {
    this.home = home;
    this.#options = options;
  }

  /** A daemon that runs. */
  static async start(home: string, options: readonly string[] = []): Promise<Daemon> {
    const daemon = new Daemon(home, options);
    await daemon.start();
    return daemon;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get pid(): number {
    // INVARIANT: asked of a daemon that was started; spawn either sets a pid or emits an error, which `start` reports.
    return this.#process!.pid!;
  }

  /** What it printed, the end of it. */
  get output(): string {
    return this.#output;
  }

  get token(): string {
    return fs.readFileSync(path.join(this.home, 'admin-token'), 'utf8').trim();
  }

  get client(): Client {
    return new Client({ url: this.url, token: this.token });
  }

  /** A request as any HTTP client makes it: method, path and JSON; the status is not judged. */
  async request(method: string, route: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await fetch(new URL(route, this.url), {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  }

  /** Waits for an operation to end and fails unless it succeeded. Gives the id of the resource of `type`, if it has one. */
  async finish(operation: { readonly id: string }, type?: string): Promise<string> {
    const ended = await this.client.waitOperation(operation.id, OPERATION_SECONDS);
    if (ended.status !== 'succeeded') {
      throw new Error(`${ended.kind} is ${ended.status}: ${JSON.stringify(ended.error)}\n${this.#output}`);
    }
    return ended.resources.find((resource) => resource.type === type)?.id ?? '';
  }

  /** Gives it the default image that tests share, under the name `default`. */
  async importTestImage(): Promise<void> {
    const { kernel, initrd, disk, append } = await testImage();
    await this.finish(await this.client.importImage({ name: 'default', kernel, initrd, disk, append }));
  }

  async console(vm: string, name = 'ttyS0'): Promise<ConsoleSession> {
    return new ConsoleSession(`${vm} ${name}`, await this.client.openConsole(vm, name, false));
  }

  /** Starts a VM that does not run and logs in at its first console. */
  async boot(vm: string): Promise<ConsoleSession> {
    const session = await this.console(vm);
    const { items } = ConsoleList.parse((await this.request('GET', `/v1/vms/${vm}/consoles`)).body);
    // What earlier runs printed has login prompts too.
    await session.skip(items[0]?.scrollback_bytes ?? 0);
    await this.finish(await this.client.startVm(vm));
    await session.login();
    return session;
  }

  /** Asks it to end, and waits until it has. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** As a crash of the host's would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Starts it and waits until it answers; after `stop` or `kill`, on the state folder and port that it had. */
  async start(): Promise<void> {
    if (this.#port === 0) this.#port = await freePort();
    this.#process = this.#spawn();
    await this.#untilReady(this.#process);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  #spawn(): ChildProcess {
    fs.mkdirSync(TEST_IMAGE_FOLDER, { recursive: true });
    const args = [
      'daemon',
      '--port',
      String(this.#port),
      '--allow-path',
      TEST_IMAGE_FOLDER,
      ...this.#options,
    ];
    const child = spawn(process.execPath, [LAUNCHER, ...args], {
      env: { ...process.env, UMLAUT_HOME: this.home, UMLAUT_UML_DIR: path.join(this.home, 'uml') },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-OUTPUT_TAIL);
      });
    }
    return child;
  }

  async #untilReady(child: ChildProcess): Promise<void> {
    for (const deadline = Date.now() + START_MS; Date.now() < deadline; await delay(POLL_MS)) {
      if (child.exitCode !== null || child.signalCode !== null) break;
      const response = await fetch(new URL('/v1', this.url)).catch(() => undefined);
      if (response?.ok) return;
    }
    await this.kill();
    throw new Error(`the daemon did not start:\n${this.#output}`);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
