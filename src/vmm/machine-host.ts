/** A machine with its disks, switch ports and consoles: what a VM's worker holds, and `umlaut boot` too. */
import type { MessagePort } from 'node:worker_threads';
import { AppError, systemErrorCode } from '../contracts/errors.ts';
import type { NicConfig, ProcFileConfig } from '../contracts/machine.ts';
import type {
  ConsoleName,
  FromMachine,
  MachineEnd,
  MachineRequest,
  MachineStats,
  MachineWorkerData,
} from '../contracts/ports.ts';
import type { CharPort, NicPort } from '../engine/backends.ts';
import type { JitStats } from '../engine/cpu.ts';
import { Machine, MEMORY_BYTES_MAX } from '../engine/machine/machine.ts';
import type { Profiler } from '../engine/profiler.ts';
import { CpuReplica } from '../engine/replica.ts';
import { whenStarted } from '../engine/v8.ts';
import { createCpu } from '../engine/vcpu.ts';
import { Inspector, KernelPoints, ProcFiles } from '../inspect/index.ts';
import type { DiskFailure } from '../storage/guest.ts';
import { openNicPort } from '../switchd/port-rings.ts';
import { SERIALS, VIRTIO_CONSOLES } from './console-names.ts';
import { ConsoleQueue } from './console-queue.ts';
import { GUEST_AGENT_PORT_NAME, GuestAgent } from './guest-agent.ts';
import { MachineDevices } from './machine-devices.ts';
import { changeLayers, freezeLayers } from './machine-layers.ts';
import { NOTIFY_PORT_NAME, NotifyPort } from './notify-port.ts';
import { OnlineBackups } from './online-backups.ts';
import { procRule } from './proc-sources.ts';
import { Quiescer } from './quiescer.ts';
import { releaseMemory } from './release-memory.ts';
import { TraceSender } from './trace-sender.ts';

/** `stop` of a stopped machine, `go` of a running one; the messages are those of UML's mconsole. */
export class RunStateError extends Error {
  readonly code: 'already-stopped' | 'not-stopped';
  constructor(code: RunStateError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export class MachineHost {
  readonly #data: MachineWorkerData;
  readonly #post: (message: FromMachine) => void;
  readonly #compiler: MessagePort | undefined;
  readonly #profiler: Profiler | undefined;
  readonly #devices: MachineDevices;
  readonly #consoles = new Map<ConsoleName, ConsoleQueue>();
  readonly #machine: Machine;
  readonly #inspector: Inspector;
  #madeReplica: CpuReplica | undefined;
  readonly #agent = new GuestAgent();
  readonly #quiescer: Quiescer;
  readonly #backups: OnlineBackups;
  /** The kernel's messages are at the first serial port, and it takes a break there for SysRq: elsewhere it is a key like others. */
  readonly #hasSerialConsole: boolean;
  readonly #points: KernelPoints;
  readonly #procFiles: ProcFiles;
  readonly #tracer: TraceSender;
  readonly #startMs = performance.now();

  /**
   * Opens everything and makes the machine.
   * @param readFile reads the kernel and initrd, for each boot anew
   * @param compiler a port of a `CompileService`
   * @param profiler hears where the guest is
   * @throws AppError as `openDisk`, `memory_exhausted`
   */
  constructor(
    data: MachineWorkerData,
    readFile: (path: string) => Uint8Array,
    post: (message: FromMachine) => void,
    compiler?: MessagePort,
    profiler?: Profiler,
  ) {
    this.#data = data;
    this.#profiler = profiler;
    this.#compiler = compiler;
    this.#post = post;
    const { config } = data;
    checkMemory(config.memoryBytes);
    this.#hasSerialConsole = /(^| )console=ttyS0\b/.test(config.append);
    this.#quiescer = new Quiescer({
      agent: this.#agent,
      hasSerialConsole: this.#hasSerialConsole,
      isStopped: () => this.#machine.isStopped,
      sysRq: (letter) => this.#machine.sysRq(letter),
    });
    this.#backups = new OnlineBackups({ disks: () => this.#devices.disks, quiescer: this.#quiescer, post });
    this.#devices = new MachineDevices(data, {
      gone: (device) => post({ type: 'device-gone', device }),
      diskFailed: (device, failure) => this.#diskFailed(device, failure),
      isOpen: (slot) => this.#isOpen(slot),
    });
    try {
      this.#machine = this.#makeMachine(readFile);
      this.#devices.joined(this.#machine);
      this.#inspector = new Inspector(this.#machine.view, () => this.#replica());
      this.#points = new KernelPoints(this.#machine);
      this.#tracer = new TraceSender(this.#machine.intervention, this.#points, (message) => post(message));
      this.#tracer.set(config.trace ?? []);
      this.#procFiles = new ProcFiles(
        this.#machine,
        this.#points,
        () => this.#replica(),
        (path, error) => post({ type: 'proc-file-failed', path, why: String(error) }),
      );
      this.#setProcFiles(config.procFiles ?? []);
    } catch (error) {
      void this.#devices.close();
      throw error instanceof RangeError ? outOfMemory(error, config.memoryBytes) : error;
    }
  }

  /** Kept for the machine's life, with some megabytes, once somebody wanted it. */
  #replica(): CpuReplica {
    this.#madeReplica ??= new CpuReplica(this.#machine.view, this.#data.config.tlbEntries);
    return this.#madeReplica;
  }

  #makeMachine(readFile: (path: string) => Uint8Array): Machine {
    const { config } = this.#data;
    const { kernel, initrd } = config;
    return new Machine({
      memoryBytes: config.memoryBytes,
      kernel: () => readNamed(readFile, kernel, 'kernel'),
      initrd: initrd === undefined ? undefined : () => readNamed(readFile, initrd, 'initrd'),
      commandLine: config.append,
      serials: SERIALS.map((name) => this.#console(name)),
      virtio: {
        ...this.#devices.options,
        consoles: [
          ...VIRTIO_CONSOLES.map((name) => {
            const console = name.startsWith('hvc');
            return { port: this.#console(name), console, ...(console ? {} : { name }) };
          }),
          { port: this.#notifyPort(), console: false, name: NOTIFY_PORT_NAME },
          { port: this.#agent, console: false, name: GUEST_AGENT_PORT_NAME },
        ],
        lines: { ports: VIRTIO_CONSOLES.length, count: config.consoleCount ?? 1 },
        rng: true,
      },
      releaseMemory,
      debugExitPort: config.debugExitPort,
      createCpu: (memory, map, hooks) =>
        createCpu(memory, map, hooks, {
          jitThreshold: config.jitThreshold,
          jitCodeBytes: config.jitCodeBytes,
          tlbEntries: config.tlbEntries,
          compiler: this.#compiler,
          profiler: this.#profiler,
        }),
      onReboot: () => {
        this.#points.rebooted();
        this.#post({ type: 'rebooted' });
      },
      onPanic: () => this.#post({ type: 'panicked' }),
      onHang: () => this.#post({ type: 'hung' }),
    });
  }

  #notifyPort(): CharPort {
    return new NotifyPort((bytes, dropped) => this.#post({ type: 'notification', bytes, dropped }));
  }

  #console(name: ConsoleName): CharPort {
    const queue = new ConsoleQueue({
      output: (bytes) => {
        if (name === SERIALS[0]) this.#quiescer.printed(bytes);
        this.#post({ type: 'console-output', console: name, bytes });
      },
      held: (held) => this.#post({ type: 'console-held', console: name, held }),
    });
    this.#consoles.set(name, queue);
    return queue;
  }

  /** Boots and runs; resolves when the machine has ended. Throws BootError when the kernel cannot be booted, AppErrors: `not_found` when it cannot be read, as `openShare`. */
  async run(): Promise<MachineEnd> {
    await this.#devices.opened();
    this.#machine.start();
    whenStarted();
    this.#post({ type: 'started' });
    return this.#machine.ended;
  }

  /** Cancels backups, finishes and flushes disk writes, lets go of everything. */
  async close(): Promise<void> {
    this.#machine.halt();
    this.#procFiles.close();
    this.#points.close();
    this.#tracer.close();
    await this.#backups.cancelAll();
    await this.#devices.close();
  }

  /** Bytes for a console; false while the sender should wait for `console-held`. Those for one that does not exist are dropped. */
  input(name: ConsoleName, bytes: Uint8Array): boolean {
    return this.#consoles.get(name)?.push(bytes) ?? true;
  }

  /** So much of a console's output has been read. */
  outputTaken(name: ConsoleName, bytes: number): void {
    this.#consoles.get(name)?.taken(bytes);
  }

  /** Tells the guest the size of the terminal at the other end, where the console has a way to. */
  resize(name: ConsoleName, columns: number, rows: number): void {
    const port = VIRTIO_CONSOLES.indexOf(name);
    if (port >= 0) this.#machine.virtio.console?.handle.setSize(port, columns, rows);
  }

  /** Ends the machine at once; `run` resolves. */
  halt(): void {
    this.#machine.halt();
  }

  /** Carries a request out; `report` hears how far it is. Throws AppError or RunStateError. */
  request(request: MachineRequest, report: (done: number, total: number) => void = () => undefined): unknown {
    switch (request.type) {
      case 'stop':
        if (this.#machine.isStopped) throw new RunStateError('already-stopped', 'Already stopped');
        return this.#machine.stop();
      case 'go':
        if (!this.#machine.isStopped) throw new RunStateError('not-stopped', 'Not stopped');
        this.#machine.go();
        // What fails again stops the machine again: whoever asked hears of that.
        return Promise.all(this.#devices.disks.map((disk) => disk.retryHeld())).then(() => undefined);
      case 'halt':
        return this.#machine.halt();
      case 'reboot':
        // The reset waits for what is in flight, and the guest that asked for it is gone.
        for (const disk of this.#devices.disks) disk.failHeld();
        return this.#machine.reboot();
      case 'cad':
        return this.#machine.ctrlAltDelete();
      case 'power-button':
        return this.#machine.powerButton();
      case 'sysrq':
        return this.#sysRq(request.letter);
      case 'backup':
        return this.#backups.begin(request.plan, request.quiesce, request.writer);
      case 'freeze-layers':
        return this.#quiescer.hold(request.quiesce, (consistency) => ({
          ...freezeLayers((device) => this.#devices.disk(device), request.layers),
          consistency,
        }));
      case 'disk-settings':
        return this.#devices.disk(request.device).configure(request.limits, request.onError);
      case 'grow-disk':
        return this.#devices.growDisk(request.device, request.sizeBytes);
      case 'proc':
        return this.#inspector.proc(request.file);
      case 'proc-files':
        return this.#setProcFiles(request.files);
      case 'trace':
        return this.#tracer.set(request.kinds);
      case 'stack':
        return this.#inspector.stack(request.pid);
      case 'stats':
        return this.stats();
      case 'attach-disk':
        return this.#devices.attachDisk(request.disk);
      case 'attach-nic':
        return this.attachNic(request.nic, openNicPort(request.ring));
      case 'attach-share':
        return this.#devices.attachShare(request.share);
      case 'memory':
        return this.#setMemory(request.bytes);
      case 'consoles':
        return this.#machine.virtio.console?.handle.setLineCount(request.count);
      case 'detach':
        return this.#detach(request.device);
      default:
        return changeLayers((device) => this.#devices.disk(device), request, report);
    }
  }

  #setProcFiles(files: readonly ProcFileConfig[]): void {
    this.#procFiles.set(files.map(procRule));
  }

  #diskFailed(device: string, { request, error, held, unreported }: DiskFailure): void {
    if (held && !this.#machine.isStopped) this.#machine.stop();
    const code = systemErrorCode(error) ?? 'EIO';
    const message = error instanceof Error ? error.message : String(error);
    this.#post({ type: 'disk-error', device, request, code, message, held, unreported });
  }

  #sysRq(letter: string): void {
    if (!/^[0-9a-z?]$/i.test(letter)) {
      throw new AppError('invalid_input', `${JSON.stringify(letter)} is not a SysRq key`, {
        field: 'letter',
        remedy: 'give one letter or digit; h lists them',
      });
    }
    if (this.#hasSerialConsole) this.#machine.sysRq(letter);
    else if (!this.#machine.sysRqKeys(letter)) {
      throw new AppError('invalid_input', `the keyboard has no SysRq key ${letter}`, {
        field: 'letter',
        remedy: 'have the guest use the console ttyS0 (console=ttyS0), or give another letter',
      });
    }
  }

  /** Plugs a network card in whose cable is `port`. AppErrors: `conflict`, `quota_exceeded`. */
  attachNic(nic: NicConfig, port: NicPort): void {
    this.#devices.attachNic(nic, port);
  }

  #setMemory(bytes: number): void {
    const { memoryBytes } = this.#data.config;
    if (bytes > memoryBytes) {
      throw new AppError('memory_too_large', `the machine was started with ${memoryBytes} bytes`, {
        field: 'memory',
        remedy: 'halt it to give it more',
      });
    }
    this.#machine.setMemory(bytes);
  }

  /** Of a kernel that cannot be read it is not known: it is asked to let go as it is. */
  #isOpen(slot: number): boolean {
    try {
      return this.#inspector.openDiskSlots().has(slot);
    } catch (error) {
      if (error instanceof AppError && error.code === 'unsupported') return false;
      throw error;
    }
  }

  #detach(device: string): Promise<void> {
    if (this.#backups.busy) {
      throw new AppError('conflict', 'a backup of the VM goes on', {
        field: 'device',
        remedy: 'wait for its end, or cancel it',
      });
    }
    return this.#devices.detach(device);
  }

  /** What the engine's compiler has done. */
  get jitStats(): JitStats {
    return this.#machine.jitStats;
  }

  stats(): MachineStats {
    const { user, system } = process.threadCpuUsage();
    return {
      instructions: this.#machine.instructions,
      wallSeconds: (performance.now() - this.#startMs) / 1000,
      cpuSeconds: (user + system) / 1e6,
      ...this.#devices.stats(),
    };
  }
}

function readNamed(readFile: (path: string) => Uint8Array, path: string, field: string): Uint8Array {
  try {
    return readFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError('not_found', `the ${field} ${path} cannot be read: ${reason}`, {
      field,
      remedy: 'give the path of a file that can be read',
      cause,
    });
  }
}

function checkMemory(memoryBytes: number): void {
  const isWhole = Number.isSafeInteger(memoryBytes) && memoryBytes % 4096 === 0 && memoryBytes > 0;
  if (isWhole && memoryBytes <= MEMORY_BYTES_MAX) return;
  const remedy = `give a multiple of 4 KiB up to ${MEMORY_BYTES_MAX / 2 ** 20}M`;
  const options = { field: 'memory', remedy };
  if (!isWhole) throw new AppError('invalid_input', `${memoryBytes} bytes are not a size of memory`, options);
  throw new AppError('memory_too_large', 'the machine is to have more memory than it can address', options);
}

function outOfMemory(cause: RangeError, memoryBytes: number): AppError {
  return new AppError(
    'memory_exhausted',
    `${Math.ceil(memoryBytes / 2 ** 20)} MiB of guest memory cannot be had: ${cause.message}`,
    { field: 'memory', remedy: 'give the machine less memory, or end other machines', cause },
  );
}
