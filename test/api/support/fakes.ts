/** Stand-ins for the parts that the API is not about: machines, the switch and the image files. */
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Readable } from 'node:stream';
import { AppError, type PlainError, toAppError } from '../../../src/contracts/errors.ts';
import type {
  FromMachine,
  LayerRequest,
  MachineEnd,
  MachineRequest,
  MachineWorkerData,
  ToMachine,
} from '../../../src/contracts/ports.ts';
import { type GuestDisk, openDisk, prepareBackup } from '../../../src/storage/index.ts';
import {
  type CaptureOptions,
  DROP_CAUSES,
  type DropCause,
  type NetworkOptions,
  type PortForward,
  type PortSettings,
} from '../../../src/switchd/index.ts';
import type {
  ImageLibrary,
  MachineFactory,
  MachineWorker,
  NetworkSwitch,
  StoredImage,
} from '../../../src/vmm/index.ts';
import { changeLayers } from '../../../src/vmm/machine-layers.ts';

type BackupRequest = Extract<MachineRequest, { type: 'backup' }>;

/** A machine without a guest: it answers as a machine's thread does and echoes its console. */
export class FakeMachine extends EventEmitter implements MachineWorker {
  readonly data: MachineWorkerData;
  readonly requests: MachineRequest[] = [];
  readonly typed: string[] = [];
  /** Messages without an answer, but what was typed. */
  readonly told: ToMachine[] = [];
  readonly #farm: MachineFarm;
  #ended = false;
  #frozen = false;
  readonly #disks = new Map<string, GuestDisk>();
  terminated = false;
  /** Called when it is let go on, before the answer. */
  onGo: (() => void) | undefined;
  /** Of the backup that goes on. */
  backup: BackupRequest | undefined;

  constructor(data: MachineWorkerData, farm: MachineFarm) {
    super();
    this.data = data;
    this.#farm = farm;
    if (farm.onStart === 'run') {
      queueMicrotask(() => {
        this.say({ type: 'started' });
        this.print('ttyS0', `booting ${data.config.name}\r\n`);
      });
    } else if (farm.onStart !== 'hang') {
      const end = farm.onStart;
      queueMicrotask(() => this.end(end));
    }
  }

  say(message: FromMachine): void {
    this.emit('message', message);
  }

  print(console: string, text: string): void {
    this.say({ type: 'console-output', console, bytes: new TextEncoder().encode(text) });
  }

  end(end: MachineEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    const tell = (): void => {
      this.say({ type: 'ended', end });
      queueMicrotask(() => this.emit('exit', 0));
    };
    if (this.#disks.size === 0) tell();
    else void this.#closeDisks().then(tell);
  }

  /** A disk as this machine has it, for a test to be the guest; opened when it is first asked for. */
  disk(device: string): GuestDisk {
    const known = this.#disks.get(device);
    if (known !== undefined) return known;
    const config = this.data.config.disks.find((disk) => disk.device === device);
    if (config === undefined) throw new AppError('not_found', `the machine has no ${device}`);
    const disk = openDisk(config);
    this.#disks.set(device, disk);
    return disk;
  }

  async #closeDisks(): Promise<void> {
    for (const disk of this.#disks.values()) await disk.close();
    this.#disks.clear();
  }

  /** A request of a disk has failed and is held. */
  pauseItself(error: Extract<FromMachine, { type: 'disk-error' }>): void {
    this.#frozen = true;
    this.say(error);
  }

  #nicCounters(): object[] {
    const frames = { rxFrames: 1, rxBytes: 60, txFrames: 2, txBytes: 120 };
    return this.data.config.nics.map(({ device }) => ({ device, ...frames }));
  }

  /** As a bug in the machine's thread. */
  crash(message: string): void {
    this.#ended = true;
    this.emit('error', new Error(message));
    void this.#closeDisks().then(() => this.emit('exit', 1));
  }

  postMessage(message: ToMachine): void {
    if (message.type === 'console-input') {
      const text = new TextDecoder().decode(message.bytes);
      this.typed.push(text);
      queueMicrotask(() => this.print(message.console, text));
      return;
    }
    if (message.type !== 'request') {
      this.told.push(message);
      return;
    }
    this.requests.push(message.request);
    queueMicrotask(() => this.#answer(message.id, message.request));
  }

  async terminate(): Promise<number> {
    this.terminated = true;
    this.#ended = true;
    await this.#closeDisks();
    return 1;
  }

  #answer(id: number, request: MachineRequest): void {
    if (this.#ended) return;
    const reply = (result: unknown = null): void => this.say({ type: 'reply', id, result });
    const fail = (code: string): void => this.say({ type: 'reply-error', id, code, message: code });
    switch (request.type) {
      case 'stop':
        if (this.#frozen) fail('already-stopped');
        else reply();
        this.#frozen = true;
        break;
      case 'go':
        if (!this.#frozen) {
          fail('not-stopped');
          break;
        }
        this.#frozen = false;
        this.onGo?.();
        reply();
        break;
      case 'halt':
        reply();
        this.end({ reason: 'halt' });
        break;
      case 'reboot':
        this.#frozen = false;
        reply();
        this.say({ type: 'rebooted' });
        break;
      case 'power-button':
        reply();
        this.end({ reason: 'power-off' });
        break;
      case 'sysrq':
        reply();
        this.print('ttyS0', `sysrq: HELP : key ${request.letter}\r\n`);
        break;
      case 'backup':
        reply();
        this.#backUp(request);
        break;
      case 'stats':
        reply({ instructions: 42, wallSeconds: 2, cpuSeconds: 1, disks: [], nics: this.#nicCounters() });
        break;
      case 'proc':
        if (request.file === 'uptime') reply(Buffer.from('17.65 16.31\n'));
        else fail(request.file === 'stat' ? 'unsupported' : 'not_found');
        break;
      case 'stack':
        if (request.pid === 1) reply('Stack:\nCall Trace:\n\n');
        else fail('not_found');
        break;
      case 'trace':
      case 'cad':
      case 'attach-nic':
      case 'disk-settings':
      case 'consoles':
      case 'memory':
        reply();
        break;
      case 'grow-disk':
        this.disk(request.device)
          .grow(request.sizeBytes)
          .then(
            () => reply(),
            (error: unknown) => fail(toAppError(error).code),
          );
        break;
      case 'attach-disk':
        if (this.#farm.refuseDisks === undefined) reply();
        else fail(this.#farm.refuseDisks);
        break;
      case 'detach':
        if (this.#farm.holdDevices) {
          fail('guest_not_responding');
          break;
        }
        this.say({ type: 'device-gone', device: request.device });
        reply();
        break;
      case 'proc-files':
      case 'attach-share':
        reply();
        break;
      default:
        void this.#changeLayers(id, request);
    }
  }

  async #changeLayers(id: number, request: LayerRequest): Promise<void> {
    const report = (done: number, total: number): void => this.say({ type: 'progress', id, done, total });
    try {
      if (this.#farm.refuseLayers?.(request) === true) throw new AppError('io_error', 'refused');
      await this.#farm.layerGate(request);
      const result = await changeLayers((device) => this.disk(device), request, report);
      this.say({ type: 'reply', id, result: result ?? null });
    } catch (error) {
      const { code, message } = toAppError(error);
      this.say({ type: 'reply-error', id, code, message });
    }
  }

  #backUp(request: BackupRequest): void {
    this.backup = request;
    const backupId = request.plan.head.id;
    if (this.#farm.holdBackups) {
      this.say({ type: 'backup-progress', backupId, doneBytes: 512, totalBytes: 4096 });
      // The task ends when it is canceled. A port that nobody reads tells nothing.
      request.writer?.on('message', () => undefined);
      request.writer?.on('close', () => {
        if (this.backup !== request) return;
        this.backup = undefined;
        this.say({ type: 'backup-failed', backupId, error: { code: 'canceled', detail: 'canceled' } });
      });
      return;
    }
    if (this.#farm.failBackups !== undefined) {
      this.say({ type: 'backup-failed', backupId, error: this.#farm.failBackups });
      return;
    }
    void this.finishBackup();
  }

  /** Backs the disks up as the machine's thread would. */
  async finishBackup(): Promise<void> {
    if (this.backup === undefined) return;
    const { plan, writer } = this.backup;
    const backupId = plan.head.id;
    this.backup = undefined;
    try {
      const disks = this.data.config.disks.map(({ device }) => this.disk(device));
      const run = (await prepareBackup(disks, plan, writer)).begin('crash');
      this.say({ type: 'backup-done', backupId, result: await run.finished });
    } catch (error) {
      this.say({ type: 'backup-failed', backupId, error: toAppError(error).toPlain() });
    }
  }
}

export class MachineFarm {
  /** Which requests that change layers fail. */
  refuseLayers: ((request: LayerRequest) => boolean) | undefined;
  /** What a request that changes layers waits for. */
  layerGate: (request: LayerRequest) => Promise<void> = async () => undefined;
  readonly machines: FakeMachine[] = [];
  /** What a new machine does: runs, never starts, or ends at once. */
  onStart: 'run' | 'hang' | MachineEnd = 'run';
  holdBackups = false;
  failBackups: PlainError | undefined;
  /** What machines answer when a disk is plugged in; they take it when missing. */
  refuseDisks: string | undefined;
  /** Guests do not let go of devices. */
  holdDevices = false;

  readonly factory: MachineFactory = (data) => {
    const machine = new FakeMachine(data, this);
    this.machines.push(machine);
    return machine;
  };

  /** The newest machine of a VM. */
  of(name: string): FakeMachine {
    const machine = this.machines.findLast(({ data }) => data.config.name === name);
    if (machine === undefined) throw new Error(`no machine was made for ${name}`);
    return machine;
  }
}

interface FakePort extends PortSettings {
  readonly name: string;
  readonly mac: string;
}

interface FakeNetwork {
  readonly options: NetworkOptions;
  readonly ports: Map<string, FakePort>;
  readonly reserved: Map<string, string>;
  readonly forwards: Map<string, PortForward>;
}

export class FakeSwitch implements NetworkSwitch {
  /** Of the host, and another program's. */
  static readonly takenPort = 7;
  readonly networks = new Map<string, FakeNetwork>();

  async createNetwork(options: NetworkOptions): Promise<void> {
    const reserved = new Map((options.reservations ?? []).map(({ address, mac }) => [address, mac]));
    this.networks.set(options.id, { options, ports: new Map(), reserved, forwards: new Map() });
  }
  async configureNetwork(options: NetworkOptions): Promise<void> {
    const known = this.networks.get(options.id);
    if (known === undefined) throw new AppError('not_found', 'no such network');
    this.networks.set(options.id, { ...known, options });
  }
  async deleteNetwork(id: string): Promise<void> {
    this.networks.delete(id);
  }
  async attach({ networkId, portId, ...port }: Parameters<NetworkSwitch['attach']>[0]) {
    const ports = this.networks.get(networkId)?.ports;
    if (ports === undefined) throw new AppError('not_found', 'no such network');
    ports.set(portId, port);
    return {
      ring: new SharedArrayBuffer(16),
      detach: async () => {
        ports.delete(portId);
      },
    };
  }
  async configurePort(networkId: string, portId: string, settings: PortSettings): Promise<void> {
    const ports = this.networks.get(networkId)?.ports;
    const { name, mac } = ports?.get(portId) ?? { name: '', mac: '' };
    ports?.set(portId, { name, mac, ...settings });
  }
  async capture(networkId: string, options: CaptureOptions) {
    return Readable.from([Buffer.from(JSON.stringify({ networkId, ...options }))]);
  }
  async reserve(networkId: string, address: string, mac: string | null): Promise<void> {
    const reserved = this.networks.get(networkId)?.reserved;
    if (mac === null) reserved?.delete(address);
    else reserved?.set(address, mac);
  }
  async forward(networkId: string, forward: PortForward): Promise<void> {
    if (forward.hostPort === FakeSwitch.takenPort) {
      throw new AppError('in_use', 'tcp port 7 of 127.0.0.1 is in use by another program', {
        field: 'host_port',
      });
    }
    this.networks.get(networkId)?.forwards.set(forward.id, forward);
  }
  async uplink(networkId: string) {
    const uplink = this.networks.get(networkId)?.options.uplink;
    return uplink && { up: uplink.kind === 'nat', detail: uplink.kind === 'nat' ? null : 'no', path: null };
  }
  async unforward(networkId: string, id: string): Promise<void> {
    this.networks.get(networkId)?.forwards.delete(id);
  }
  async ports(networkId: string) {
    const drops = Object.fromEntries(DROP_CAUSES.map((cause) => [cause, 0])) as Record<DropCause, number>;
    return [...(this.networks.get(networkId)?.ports ?? [])].map(([id, { name, mac, addresses = [] }]) => ({
      ...{ id, name, mac, addresses, drops: { ...drops, macSpoof: 2 }, droppedBeforeSwitch: 1 },
      ...{ receivedFrames: 10, receivedBytes: 1000, sentFrames: 20, sentBytes: 2000 },
    }));
  }
  async macTable(networkId: string) {
    const ports = [...(this.networks.get(networkId)?.ports ?? [])];
    return ports.map(([portId, { mac }]) => ({ mac, vlan: 1, portId, ageSeconds: 0.4, fixed: true }));
  }
  async leases(networkId: string) {
    const ports = [...(this.networks.get(networkId)?.ports.values() ?? [])];
    return ports.map(({ mac, name }, index) => ({ mac, address: `10.0.77.${index + 10}`, hostName: name }));
  }
  async close(): Promise<void> {
    this.networks.clear();
  }
}

export const IMAGE_DISK_BYTES = 64 * 1024;

/** Image files that no kernel would boot from, with a manifest in the file's place. */
export class FakeLibrary implements ImageLibrary {
  readonly #dir: string;
  corrupt = new Set<string>();
  /** Lets a build or import go on. */
  gate: Promise<void> = Promise.resolve();

  constructor(dir: string) {
    this.#dir = dir;
    fs.mkdirSync(dir, { recursive: true });
  }

  /** An image that is there before the daemon starts. */
  seed(name: string): string {
    return this.#add(name, `seed ${name}`).id;
  }

  list(): StoredImage[] {
    return fs
      .readdirSync(this.#dir)
      .filter((file) => file.endsWith('.json'))
      .map((file) => this.get(file.slice(0, -'.json'.length)));
  }
  get(id: string): StoredImage {
    const file = path.join(this.#dir, `${id}.json`);
    if (!fs.existsSync(file)) throw new AppError('not_found', `there is no image ${id}`);
    return JSON.parse(fs.readFileSync(file, 'utf8')) as StoredImage;
  }
  async use(id: string): Promise<StoredImage> {
    if (this.corrupt.has(id)) throw new AppError('image_corrupt', `the disk of image ${id} has been changed`);
    return this.get(id);
  }
  async build(
    { name }: { readonly name: string },
    onProgress: (progress: { fraction: number; label: string }) => void,
    signal: AbortSignal,
  ): Promise<StoredImage> {
    onProgress({ fraction: 0.5, label: 'building' });
    await this.#gated(signal);
    return this.#add(name, `built ${name}`);
  }
  async import(sources: { name: string; kernel?: string | undefined; disk: string }): Promise<StoredImage> {
    if (sources.kernel !== undefined && fs.readFileSync(sources.kernel, 'utf8') !== 'kernel') {
      throw new AppError('bad_kernel', `${sources.kernel} is no kernel`, {
        field: 'kernel',
        remedy: 'name one',
      });
    }
    return this.#add(sources.name, `imported ${fs.readFileSync(sources.disk, 'utf8')}`);
  }
  async verify(id: string): Promise<void> {
    await this.use(id);
  }
  remove(id: string): void {
    fs.rmSync(path.join(this.#dir, `${id}.json`));
    fs.rmSync(path.join(this.#dir, `${id}.disk`));
  }

  #gated(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      this.gate.then(resolve, reject);
    });
  }

  #add(name: string, content: string): StoredImage {
    const id = createHash('sha256').update(content).digest('hex');
    const disk = path.join(this.#dir, `${id}.disk`);
    fs.writeFileSync(disk, content.padEnd(IMAGE_DISK_BYTES, '\0'));
    const sha256 = createHash('sha256').update(fs.readFileSync(disk)).digest('hex');
    const image: StoredImage = {
      id,
      name,
      append: 'console=ttyS0',
      createdAt: '2026-01-01T00:00:00.000Z',
      kernel: path.join(this.#dir, 'kernel'),
      disk,
      files: [{ role: 'disk', sha256, sizeBytes: IMAGE_DISK_BYTES }],
      kernelRelease: '6.1.0-32-cloud-amd64',
      kernelVersion: '#1 SMP PREEMPT_DYNAMIC Debian 6.1.129-1 (2025-03-06)',
    };
    fs.writeFileSync(path.join(this.#dir, `${id}.json`), JSON.stringify(image));
    return image;
  }
}
