/** A machine of this process with its consoles, as the verbs of the management console see it. */
import { resolve } from 'node:path';
import { NICS_MAX, type VmState } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { type NicConfig, shareDevice } from '../../contracts/machine.ts';
import type { FromMachine, MachineRequest } from '../../contracts/ports.ts';
import type { MachineControl, Target, WantedDisk } from '../../mconsole/target.ts';
import { parseLine } from '../../uml/channels.ts';
import type { UmlCommandLine } from '../../uml/command-line.ts';
import { parseEth, type TransportCard } from '../../uml/eth.ts';
import { HOSTFS_TAG } from '../../uml/hostfs.ts';
import { readHppfs } from '../../uml/hppfs.ts';
import { type ConsoleHub, consoleOf, FIRST_SERIAL, type LineName, Lines, lineText } from '../../vmm/index.ts';
import { consoleCountFor } from '../../vmm/instance/lines.ts';
import type { MachineHost } from '../../vmm/machine-host.ts';
import type { Io } from '../io.ts';
import { type ConfiguredLine, diskOf, hostfsShare, linesOf } from './plan.ts';

/** What a guest boots from: without it there is nothing that could go on. */
const BOOT_UNIT = 0;

/** A machine of this process as the daemon's instances are. */
export class HostControl implements MachineControl {
  readonly #host: MachineHost;
  readonly consoles: ConsoleHub;
  state: VmState = 'running';

  constructor(host: MachineHost, consoles: ConsoleHub) {
    this.#host = host;
    this.consoles = consoles;
  }

  get hasMachine(): boolean {
    return this.state !== 'halted';
  }
  ended(): void {
    this.state = 'halted';
  }
  async halt(): Promise<void> {
    this.#host.halt();
  }
  async reboot(): Promise<void> {
    await this.#host.request({ type: 'reboot' });
    this.state = 'running';
  }
  async stop(): Promise<void> {
    await this.#host.request({ type: 'stop' });
    this.state = 'stopped';
  }
  async go(): Promise<void> {
    await this.#host.request({ type: 'go' });
    this.state = 'running';
  }
  async request(request: MachineRequest): Promise<unknown> {
    return await this.#host.request(request);
  }
}

export interface PluggedCard {
  readonly nic: NicConfig;
  /** The machine's end of its cable. */
  readonly ring: SharedArrayBuffer;
}

/** Where the cables of network cards lead. */
export interface Cards {
  plug(unit: number, eth: TransportCard): Promise<PluggedCard>;
  unplug(unit: number): Promise<void>;
}

export interface ForegroundOptions {
  readonly host: MachineHost;
  readonly consoles: ConsoleHub;
  readonly line: UmlCommandLine;
  readonly umid: string;
  readonly version: string;
  readonly memoryBytes: number;
  readonly cards: Cards;
  readonly io: Io;
}

export class Foreground implements Target {
  readonly instance: HostControl;
  readonly #options: ForegroundOptions;
  readonly #lines: Lines;
  /** What is joined, also those that `none` has left. */
  readonly #configured: Map<string, ConfiguredLine>;
  readonly #disks: Map<number, string>;
  readonly #nics: Set<number>;
  #memoryBytes: number;

  constructor(options: ForegroundOptions) {
    const { host, consoles, line, umid, io } = options;
    this.#options = options;
    this.instance = new HostControl(host, consoles);
    this.#memoryBytes = options.memoryBytes;
    const xterm = line.xterm;
    this.#lines = new Lines(
      consoles,
      { descriptors: true, xterm },
      {
        vmName: () => umid,
        opened: (name, device) => {
          const what = name.startsWith('con') ? 'Virtual console' : 'Serial line';
          io.stderr.write(`${what} ${name.slice(3)} assigned device '${device}'\r\n`);
        },
        ended: (name, why) => io.stderr.write(`umlaut: ${name}: ${why}\r\n`),
      },
    );
    this.#configured = new Map(linesOf(line).map((one) => [lineText(one.name), one]));
    this.#disks = new Map([...line.ubds].map(([unit, { file, backing }]) => [unit, diskText(file, backing)]));
    this.#nics = new Set(line.eths.keys());
  }

  /** Joins the lines of the command line. AppErrors as the channels'. */
  async join(): Promise<void> {
    for (const { name, line } of this.#configured.values()) {
      await this.#lines.join(name, line);
      const console = consoleOf(name);
      // Its driver of terminals has no more.
      if (name.driver === 'con' && !console.startsWith('hvc'))
        this.#options.io.stderr.write(
          `umlaut: ${console} is no terminal in Linux, but /dev/virtio-ports/${console}\r\n`,
        );
    }
  }

  close(): void {
    this.instance.ended();
    this.#lines.close();
  }

  /** What the machine tells. */
  take(message: FromMachine): void {
    if (message.type === 'console-output') this.instance.consoles.output(message.console, message.bytes);
    if (message.type === 'console-held') this.instance.consoles.held(message.console, message.held);
    if (message.type === 'proc-file-failed')
      this.#options.io.stderr.write(`umlaut: /proc/${message.path}: ${message.why}\r\n`);
    if (message.type !== 'device-gone') return;
    const unit = Number(message.device.slice(3));
    if (message.device.startsWith('ubd')) this.#disks.delete(unit);
    else if (message.device.startsWith('eth')) {
      this.#nics.delete(unit);
      void this.#options.cards.unplug(unit);
    }
  }

  version(): string {
    return this.#options.version;
  }

  /** On the first serial console: from outside nothing can be written into the guest's log. */
  log(text: string): void {
    const bytes = new TextEncoder().encode(text.replaceAll(/\r?\n/g, '\r\n'));
    this.instance.consoles.print(FIRST_SERIAL, bytes);
  }

  async disk(unit: number): Promise<string | undefined> {
    return this.#disks.get(unit);
  }

  async addDisk(wanted: WantedDisk): Promise<void> {
    const { unit, file, backing } = wanted;
    const config = diskOf(`ubd${unit}`, wanted);
    await this.instance.request({ type: 'attach-disk', disk: config });
    this.#disks.set(unit, diskText(file, backing));
  }

  async removeDisk(unit: number): Promise<void> {
    if (unit === BOOT_UNIT && this.#disks.has(unit)) {
      throw new AppError('in_use', `the guest runs from ubd${unit}`, { field: 'device' });
    }
    await this.instance.request({ type: 'detach', device: `ubd${unit}` });
  }

  async hasNic(unit: number): Promise<boolean> {
    return this.#nics.has(unit);
  }

  async addNic(unit: number, value: string): Promise<void> {
    await this.addTransportNic(unit, parseEth(`eth${unit}=${value}`, String(unit), value).eth);
  }

  async addTransportNic(unit: number, card: TransportCard): Promise<void> {
    if (unit >= NICS_MAX) throw new AppError('quota_exceeded', `a VM has at most ${NICS_MAX} NICs`);
    const { cards } = this.#options;
    const { nic, ring } = await cards.plug(unit, card);
    try {
      await this.instance.request({ type: 'attach-nic', nic, ring });
    } catch (error) {
      await cards.unplug(unit);
      throw error;
    }
    this.#nics.add(unit);
  }

  async removeNic(unit: number): Promise<void> {
    await this.instance.request({ type: 'detach', device: `eth${unit}` });
  }

  async addHostfs(root: string, append: boolean): Promise<void> {
    await this.instance.request({ type: 'attach-share', share: hostfsShare({ root, append }) });
  }

  async removeHostfs(): Promise<void> {
    await this.instance.request({ type: 'detach', device: shareDevice(HOSTFS_TAG) });
  }

  line(name: LineName): string | undefined {
    return this.#lines.text(name) ?? (name.driver === 'ssl' ? 'null' : undefined);
  }

  async setLine(name: LineName, value: string): Promise<void> {
    const line = parseLine(`${lineText(name)}=${value}`, value);
    if (line === undefined) this.#configured.delete(lineText(name));
    else this.#configured.set(lineText(name), { name, line });
    this.#lines.leave(name);
    const count = consoleCountFor([...this.#configured.values()].map((one) => one.name));
    this.instance.consoles.setConsoleCount(count);
    await this.instance.request({ type: 'consoles', count });
    if (line !== undefined) await this.#lines.join(name, line);
  }

  async setHppfs(folder: string | undefined): Promise<void> {
    const files = folder === undefined ? [] : readHppfs(resolve(folder));
    await this.instance.request({ type: 'proc-files', files });
  }

  memoryBytes(): number {
    return this.#memoryBytes;
  }

  async changeMemory(bytes: number): Promise<void> {
    const wanted = this.#memoryBytes + bytes;
    await this.instance.request({ type: 'memory', bytes: wanted });
    this.#memoryBytes = wanted;
  }
}

function diskText(file: string, backing: string | undefined): string {
  return backing === undefined ? file : `${file},${backing}`;
}
