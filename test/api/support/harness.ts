/** A daemon for a test: the real app and database in a folder of its own, with stand-ins for machines and the like. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pino } from 'pino';
import request from 'supertest';
import { onTestFinished } from 'vitest';
import WebSocket from 'ws';
import type { Backup, Operation, Vm } from '../../../src/contracts/api/index.ts';
import { type Daemon, type DaemonOptions, startDaemon } from '../../../src/main.ts';
import { FakeLibrary, FakeSwitch, MachineFarm } from './fakes.ts';

const MIB = 1024 * 1024;

export class Harness {
  readonly home: string;
  readonly farm: MachineFarm;
  readonly library: FakeLibrary;
  readonly daemon: Daemon;
  readonly fabric: FakeSwitch;
  readonly token: string;

  constructor(home: string, farm: MachineFarm, library: FakeLibrary, fabric: FakeSwitch, daemon: Daemon) {
    this.home = home;
    this.farm = farm;
    this.library = library;
    this.fabric = fabric;
    this.daemon = daemon;
    this.token = fs.readFileSync(path.join(home, 'admin-token'), 'utf8').trim();
  }

  /** Requests with the admin's token, or another's. */
  as(token = this.token) {
    const agent = request.agent(this.daemon.url);
    return agent.set('authorization', `Bearer ${token}`);
  }
  get(address: string) {
    return this.as().get(address);
  }
  post(address: string, body: object = {}) {
    return this.as().post(address).send(body);
  }
  patch(address: string, body: object) {
    return this.as().patch(address).send(body);
  }
  delete(address: string) {
    return this.as().delete(address);
  }
  anonymous() {
    return request(this.daemon.url);
  }

  async createVm(body: object = {}): Promise<Vm> {
    const answer = await this.post('/v1/vms', body).expect(201);
    return answer.body as Vm;
  }

  /** Does a 202 request and waits for its operation's end. */
  async operate(address: string, body: object = {}): Promise<Operation> {
    const answer = await this.post(address, body).expect(202);
    return this.ended(answer.headers.location!);
  }

  async ended(location: string): Promise<Operation> {
    const answer = await this.get(`${location}/wait?timeout=20`).expect(200);
    return answer.body as Operation;
  }

  /** A VM that runs. */
  async runVm(name: string, body: object = {}): Promise<Vm> {
    await this.createVm({ name, ...body });
    const { status, error } = await this.operate(`/v1/vms/${name}/start`);
    if (status !== 'succeeded') throw new Error(`the VM ${name} did not start: ${JSON.stringify(error)}`);
    return this.vm(name);
  }

  async vm(ref: string): Promise<Vm> {
    return (await this.get(`/v1/vms/${ref}`).expect(200)).body as Vm;
  }

  async backup(ref: string): Promise<Backup> {
    return (await this.get(`/v1/backups/${ref}`).expect(200)).body as Backup;
  }

  async tokenOf(role: string, tenant: string): Promise<string> {
    const body = { name: `${role}-${tenant}`, role, tenant };
    return ((await this.post('/v1/tokens', body).expect(201)).body as { secret: string }).secret;
  }

  socket(address: string, headers: Record<string, string> = {}): SocketProbe {
    return new SocketProbe(new WebSocket(this.daemon.url.replace('http', 'ws') + address, { headers }));
  }
}

/** A WebSocket client that waits for what it is to receive. */
export class SocketProbe {
  readonly socket: WebSocket;
  readonly messages: string[] = [];
  readonly #waiting = new Set<() => void>();
  #closed: number | undefined;
  #refused: number | undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data) => {
      this.messages.push(String(data));
      this.#wake();
    });
    socket.on('close', (code) => {
      this.#closed = code;
      this.#wake();
    });
    socket.on('unexpected-response', (_request, response) => {
      this.#refused = response.statusCode;
      response.resume();
      socket.terminate();
      this.#wake();
    });
    // A refusal ends as an error too; `refused` and `closed` tell.
    socket.on('error', () => this.#wake());
    onTestFinished(() => socket.terminate());
  }

  get text(): string {
    return this.messages.join('');
  }
  opened(): Promise<void> {
    return this.#until(() => this.socket.readyState === WebSocket.OPEN || undefined, 'open').then(
      () => undefined,
    );
  }
  refused(): Promise<number> {
    return this.#until(() => this.#refused, 'refused');
  }
  closed(): Promise<number> {
    return this.#until(() => this.#closed, 'closed');
  }
  received(part: string): Promise<string> {
    return this.#until(() => (this.text.includes(part) ? this.text : undefined), part);
  }
  count(messages: number): Promise<string[]> {
    return this.#until(
      () => (this.messages.length >= messages ? this.messages : undefined),
      `${messages} messages`,
    );
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  #until<T>(look: () => T | undefined, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`not ${what} in time; received: ${this.text}`)),
        10_000,
      );
      const wake = (): void => {
        const value = look();
        if (value === undefined) return;
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve(value);
      };
      this.#waiting.add(wake);
      this.socket.once('open', wake);
      wake();
    });
  }
}

export interface HarnessOptions extends Partial<DaemonOptions> {
  readonly farm?: MachineFarm;
  /** With the real switch in place of `Harness.fabric`. */
  readonly realSwitch?: boolean;
}

export function tempDir(): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-api-'));
  onTestFinished(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Starts a daemon that ends with the test. The image `default` is there. */
export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const home = options.home ?? tempDir();
  const farm = options.farm ?? new MachineFarm();
  const library = new FakeLibrary(path.join(home, 'library'));
  if (library.list().length === 0) library.seed('default');
  const fabric = new FakeSwitch();
  const daemon = await startDaemon({
    port: 0,
    memoryLimitBytes: 1024 * 1024 * MIB,
    log: pino({ enabled: false }),
    ...options,
    home,
    parts: { createWorker: farm.factory, library, ...(options.realSwitch !== true && { fabric }) },
  });
  const harness = new Harness(home, farm, library, fabric, daemon);
  onTestFinished(() => daemon.close());
  return harness;
}
