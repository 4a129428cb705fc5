/** Runs one machine in the foreground on UML's command line. */
import { readFileSync } from 'node:fs';
import { CompileService } from '../../engine/jit/compile-service.ts';
import type { VmState } from '../../contracts/api/index.ts';
import type { FromMachine, MachineRequest } from '../../contracts/ports.ts';
import { kernelVersion } from '../../engine/boot/kernel-version.ts';
import type { MachineControl } from '../../mconsole/verb.ts';
import { NOTIFY, notifyText } from '../../mconsole/wire/notify.ts';
import { releaseUmid, type UmidFolder } from '../../mconsole/socket/umid-folder.ts';
import { parseCommandLine, type UmlCommandLine } from '../../uml/command-line.ts';
import { MachineHost } from '../../vmm/machine-host.ts';
import { checkMemory, exitStatus, reportBootError } from '../boot.ts';
import { defaultHome } from '../home.ts';
import type { Io } from '../io.ts';
import { claimFolder, type ForegroundConsole, openConsole } from './console.ts';
import { Lines } from './lines.ts';
import { defaultKernel, type GuestKernel, linesOf, machineConfig } from './plan.ts';

/** `kernel`: that of the default image when missing. Returns the exit status. Errors are reported on stderr. */
export async function runLinux(
  words: readonly string[],
  kernel: string | undefined,
  io: Io,
): Promise<number> {
  try {
    const line = parseCommandLine(words);
    for (const warning of line.warnings) io.stderr.write(`umlaut: ${warning}\n`);
    const lines = new Lines(linesOf(line));
    const guest = kernel === undefined ? defaultKernel(defaultHome(io.env)) : { kernel };
    const folder = claimFolder(line, io);
    try {
      return await runMachine(line, guest, lines, folder, io);
    } finally {
      releaseUmid(folder);
    }
  } catch (error) {
    return reportBootError(error, io);
  }
}

async function runMachine(
  line: UmlCommandLine,
  guest: GuestKernel,
  lines: Lines,
  folder: UmidFolder,
  io: Io,
): Promise<number> {
  const config = machineConfig(line, guest, folder.umid);
  checkMemory(config.memoryBytes);
  let console: ForegroundConsole | undefined;
  const take = (message: FromMachine): void => {
    if (message.type === 'console-output') lines.output(message.console, message.bytes);
    // Not within the machine's own call, which goes on to run it.
    if (message.type === 'rebooted' && line.noReboot) setImmediate(() => host.halt());
    if (message.type === 'panicked') console?.notify(NOTIFY.PANIC, notifyText(lines.panicMessage() ?? ''));
    if (message.type === 'hung') console?.notify(NOTIFY.HANG, new Uint8Array(0));
    if (message.type === 'notification') console?.notify(NOTIFY.USER, message.bytes);
  };
  const host = new MachineHost({ config, nicRings: [] }, readFileSync, take, new CompileService().connect());
  const control = new HostControl(host, lines);
  const { release, version } = kernelVersion(readFileSync(config.kernel));
  const context = {
    instance: control,
    version: ['Linux', folder.umid, release ?? 'unknown', version, 'x86_64'].filter((part) => part).join(' '),
    memoryBytes: config.memoryBytes,
    devices: devicesOf(line),
  };
  const detach = lines.attach(host, io);
  try {
    console = await openConsole(folder, context, line.notifyPath, io);
    const end = await host.run();
    control.ended();
    await host.close();
    return exitStatus(end, io);
  } finally {
    detach();
    await host.close();
    await console?.close();
  }
}

/** As `config` tells them. */
function devicesOf(line: UmlCommandLine): Map<string, string> {
  const devices = new Map<string, string>();
  for (const [unit, { file, backing }] of line.ubds) {
    devices.set(`ubd${unit}`, backing === undefined ? file : `${file},${backing}`);
  }
  for (const [name, { text }] of linesOf(line)) {
    devices.set(name.replace('hvc', 'con').replace('ttyS', 'ssl'), text);
  }
  return devices;
}

/** A machine of this process as the verbs of the management console see it. */
class HostControl implements MachineControl {
  readonly #host: MachineHost;
  readonly consoles: Lines;
  state: VmState = 'running';

  constructor(host: MachineHost, lines: Lines) {
    this.#host = host;
    this.consoles = lines;
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
    this.#host.request({ type: 'reboot' });
    this.state = 'running';
  }
  async stop(): Promise<void> {
    this.#host.request({ type: 'stop' });
    this.state = 'stopped';
  }
  async go(): Promise<void> {
    this.#host.request({ type: 'go' });
    this.state = 'running';
  }
  async request(request: MachineRequest): Promise<unknown> {
    return this.#host.request(request);
  }
}
