/**
 * One VM's life. Everything that changes its state runs in its serial queue; only the end of a run comes in from
 * outside, and it is a single synchronous step.
 */
import type { VmState } from '../../contracts/api/index.ts';
import { AppError, type PlainError, toAppError } from '../../contracts/errors.ts';
import type {
  ConsoleMessage,
  MachineEnd,
  MachineRequest,
  MachineWorkerData,
  TraceRecord,
} from '../../contracts/ports.ts';
import type { Line } from '../../uml/channels.ts';
import type { Log, MachineFactory } from '../ports.ts';
import { SerialQueue } from '../serial-queue.ts';
import { ConsoleHub } from './console-hub.ts';
import { consoleCountFor, type LineName, Lines, lineText } from './lines.ts';
import { type DiskErrorMessage, endError, MachineLink } from './machine-link.ts';
import { LoginWatch } from './login-watch.ts';
import { panicMessage } from './panic-message.ts';

const START_TIMEOUT_MS = 120_000;
const HALT_TIMEOUT_MS = 60_000;

export interface StateChange {
  readonly state: VmState;
  readonly cause: PlainError | null;
  /** How the run ended, if it did. */
  readonly end?: MachineEnd | undefined;
}

/** What a run needs, obtained at its start and given back at its end. */
export interface RunResources {
  readonly data: MachineWorkerData;
  release(): void;
}

export interface InstanceHost {
  readonly createWorker: MachineFactory;
  readonly log: Log;
  /** Sets memory aside; throws `memory_exhausted`. Synchronous. */
  reserve(vmId: string): void;
  unreserve(vmId: string): void;
  prepare(vmId: string): Promise<RunResources>;
  /** Writes a new state down. `wanted`: whether it shall run again after a restart of the daemon; undefined: as before. */
  changed(vmId: string, change: StateChange, wanted: boolean | undefined): void;
  rebooted(vmId: string): void;
  /** Its guest's kernel has panicked; `message` as it is on the console, if it is. */
  panicked(vmId: string, message: string | null): void;
  /** What its guest's programs have done. */
  traced(vmId: string, records: readonly TraceRecord[], dropped: number): void;
  /** Bytes on a console. */
  console(vmId: string, console: string, direction: 'shown' | 'typed', bytes: Uint8Array): void;
  consoleSized(
    vmId: string,
    console: string,
    size: { readonly columns: number; readonly rows: number },
  ): void;
  /** Its guest has not reset its watchdog in time. */
  hung(vmId: string): void;
  /** A console asks for a login, for the first time since the guest has booted. */
  loginPrompted(vmId: string, console: string): void;
  /** What its guest wanted to read of a file of /proc that is the host's could not be made. */
  procFileFailed(vmId: string, path: string, why: string): void;
  notified(vmId: string, bytes: Uint8Array, dropped: number): void;
  /** The guest has let go of a device, which is closed. */
  deviceGone(vmId: string, device: string): void;
  /** A request of one of its disks has failed. */
  diskFailed(vmId: string, error: DiskErrorMessage): void;
  /** What its lines are to be joined to when it runs. */
  linesOf(vmId: string): readonly ConfiguredLine[];
  /** For titles of windows. */
  nameOf(vmId: string): string;
  /** A line can be reached by a device of the host; or, with `problem`, it is joined to nothing. */
  lineChanged(
    vmId: string,
    line: string,
    change: { readonly device?: string; readonly problem?: string },
  ): void;
}

export interface ConfiguredLine {
  readonly name: LineName;
  readonly line: Line;
}

interface Run {
  readonly link: MachineLink;
  /** Rejects when the run ends before it has started. */
  readonly started: Promise<void>;
}

export class Instance {
  readonly id: string;
  readonly consoles: ConsoleHub;
  /** Joined while it runs. */
  readonly lines: Lines;
  readonly #host: InstanceHost;
  readonly #queue = new SerialQueue();
  #state: VmState;
  #run: Run | undefined;
  /** Why the machine has stopped itself, since it last went on. */
  #stoppedBy: AppError | undefined;
  #shuttingDown = false;
  #deleted = false;

  constructor(id: string, state: VmState, host: InstanceHost) {
    this.id = id;
    this.#state = state;
    this.#host = host;
    this.consoles = new ConsoleHub({
      input: (console, bytes) => {
        this.#tell({ type: 'console-input', console, bytes });
        host.console(id, console, 'typed', bytes);
      },
      taken: (console, bytes) => this.#tell({ type: 'console-output-taken', console, bytes }),
      resize: (console, size) => {
        this.#tell({ type: 'console-size', console, ...size });
        host.consoleSized(id, console, size);
      },
    });
    this.lines = new Lines(
      this.consoles,
      { descriptors: false },
      {
        vmName: () => host.nameOf(id),
        opened: (line, device) => host.lineChanged(id, line, { device }),
        ended: (line, problem) => host.lineChanged(id, line, { problem }),
      },
    );
    this.consoles.setConsoleCount(consoleCountFor(host.linesOf(id).map(({ name }) => name)));
  }

  get state(): VmState {
    return this.#state;
  }
  get hasMachine(): boolean {
    return this.#run !== undefined;
  }

  /** Runs `task` while nothing else changes the VM. */
  exclusive<T>(task: () => Promise<T> | T): Promise<T> {
    return this.#queue.run(() => {
      if (this.#deleted) throw new AppError('not_found', 'the VM has been deleted');
      return task();
    });
  }

  /** Boots. AppErrors: `conflict`, `memory_exhausted`, what images and disks say, `machine_failed`. */
  start(): Promise<void> {
    return this.exclusive(() => this.#start());
  }

  /** Ends the run at once; disks are flushed. `conflict` when there is none. */
  halt(): Promise<void> {
    return this.exclusive(() => this.#halt(false));
  }

  /** For the end of the daemon: as `halt`, but the VM boots again with the next daemon. */
  shutDown(): Promise<void> {
    this.#shuttingDown = true;
    return this.#queue.run(async () => {
      if (this.#run !== undefined) await this.#halt(true);
    });
  }

  stop(): Promise<void> {
    return this.#freeze('stop', 'running', 'stopped');
  }
  go(): Promise<void> {
    return this.#freeze('go', 'stopped', 'running');
  }

  /** A request that does not change the state. `conflict` unless there is a machine. */
  request(request: MachineRequest): Promise<unknown> {
    return this.exclusive(() => this.#link().request(request));
  }

  reboot(): Promise<void> {
    return this.exclusive(async () => {
      const link = this.#link();
      await link.request({ type: 'reboot' });
      if (this.#state === 'stopped' && this.#run?.link === link)
        this.#change({ state: 'running', cause: null });
    });
  }

  /** For work beside the queue, such as a backup: the machine as it is now. */
  machine(): MachineLink {
    return this.#link();
  }

  /**
   * Joins a line anew, or with undefined to nothing, in the machine that runs; within `exclusive`, when `linesOf` has the
   * change. AppErrors as the channels'.
   */
  async setLine(name: LineName, line: Line | undefined): Promise<void> {
    const count = consoleCountFor(this.#host.linesOf(this.id).map((one) => one.name));
    this.lines.leave(name);
    this.consoles.setConsoleCount(count);
    await this.#run?.link.request({ type: 'consoles', count });
    if (line !== undefined && this.#run !== undefined) await this.lines.join(name, line);
  }

  /** Waits for the end of the present run; at once when there is none. */
  async runEnded(): Promise<void> {
    await this.#run?.link.ended;
  }

  /** `remove` deletes the VM's records and files, with nothing else going on; refused while it runs. */
  delete(remove: () => void): Promise<void> {
    return this.exclusive(() => {
      if (this.#run !== undefined) throw this.#wrongState('be deleted', 'halt it first');
      remove();
      this.#deleted = true;
      this.consoles.close();
    });
  }

  async #start(): Promise<void> {
    if (this.#shuttingDown) throw new AppError('shutting_down', 'the daemon is ending');
    if (!['created', 'halted', 'failed'].includes(this.#state)) throw this.#wrongState('be started');
    this.#host.reserve(this.id);
    this.#change({ state: 'starting', cause: null }, true);
    let run: Run;
    try {
      run = await this.#launch();
    } catch (error) {
      const cause = toAppError(error);
      this.#host.unreserve(this.id);
      this.#change({ state: 'failed', cause: cause.toPlain() }, false);
      throw cause;
    }
    await this.#untilStarted(run);
  }

  async #launch(): Promise<Run> {
    const resources = await this.#host.prepare(this.id);
    let worker: ReturnType<MachineFactory>;
    try {
      worker = this.#host.createWorker(resources.data);
    } catch (error) {
      resources.release();
      throw error;
    }
    const started = Promise.withResolvers<void>();
    started.promise.catch(() => undefined);
    const login = new LoginWatch((console) => this.#host.loginPrompted(this.id, console));
    const link = new MachineLink(worker, {
      started: () => started.resolve(),
      rebooted: () => {
        login.rebooted();
        this.#host.rebooted(this.id);
      },
      panicked: () => this.#host.panicked(this.id, panicMessage(this.consoles)),
      notification: (bytes, dropped) => this.#host.notified(this.id, bytes, dropped),
      procFileFailed: (path, why) => this.#host.procFileFailed(this.id, path, why),
      hung: () => this.#host.hung(this.id),
      traced: (records, dropped) => this.#host.traced(this.id, records, dropped),
      output: (console, bytes) => {
        this.consoles.output(console, bytes);
        login.output(console, bytes);
        this.#host.console(this.id, console, 'shown', bytes);
      },
      held: (console, isHeld) => this.consoles.held(console, isHeld),
      deviceGone: (device) => this.#host.deviceGone(this.id, device),
      diskError: (error) => this.#diskFailed(error),
    });
    const run = { link, started: started.promise };
    this.#stoppedBy = undefined;
    this.#run = run;
    this.consoles.machineStarted();
    void this.#joinLines();
    void link.ended.then((end) => {
      this.#run = undefined;
      this.lines.close();
      resources.release();
      this.#host.unreserve(this.id);
      this.#ended(end);
      started.reject(endError(end));
    });
    return run;
  }

  #tell(message: ConsoleMessage): void {
    this.#run?.link.console(message);
  }

  /** A line that cannot be joined keeps the VM from nothing. */
  async #joinLines(): Promise<void> {
    for (const { name, line } of this.#host.linesOf(this.id)) {
      try {
        await this.lines.join(name, line);
      } catch (error) {
        this.#host.lineChanged(this.id, lineText(name), { problem: toAppError(error).message });
      }
    }
  }

  async #untilStarted(run: Run): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), START_TIMEOUT_MS);
    });
    try {
      if ((await Promise.race([run.started, late])) === 'late') {
        await run.link.kill(`it did not start within ${START_TIMEOUT_MS / 1000} s`);
        await run.started;
      }
    } finally {
      clearTimeout(timer);
    }
    if (this.#run !== run) return;
    const stoppedBy = this.#stoppedBy?.toPlain() ?? null;
    this.#change({ state: 'running', cause: null });
    if (stoppedBy !== null) this.#change({ state: 'stopped', cause: stoppedBy });
  }

  async #halt(keepWanted: boolean): Promise<void> {
    const link = this.#link();
    this.#change({ state: 'halting', cause: null }, keepWanted ? undefined : false);
    try {
      await link.request({ type: 'halt' }, HALT_TIMEOUT_MS);
    } catch (error) {
      // It may have ended by itself meanwhile; whoever does not answer is ended.
      this.#host.log.warn(
        { vm: this.id, error: toAppError(error).message },
        'the machine did not halt when asked',
      );
      await link.kill('it did not halt when asked');
    }
    if ((await raceTimeout(link.ended, HALT_TIMEOUT_MS)) === 'late')
      await link.kill('it did not end when halted');
  }

  #freeze(type: 'stop' | 'go', from: VmState, to: VmState): Promise<void> {
    return this.exclusive(async () => {
      const link = this.#link();
      if (this.#state !== from) throw this.#wrongState(type);
      this.#stoppedBy = undefined;
      await link.request({ type });
      if (this.#run?.link !== link) return;
      // What had stopped it may have stopped it again at once.
      if (this.#stoppedBy !== undefined) throw this.#stoppedBy;
      this.#change({ state: to, cause: null });
    });
  }

  /** A held request has stopped the machine already, whatever its queue is at. */
  #diskFailed(error: DiskErrorMessage): void {
    this.#host.diskFailed(this.id, error);
    if (!error.held) return;
    const code = error.code === 'ENOSPC' || error.code === 'EDQUOT' ? 'disk_full' : 'io_error';
    const detail = `a ${error.request} of ${error.device} failed: ${error.message}`;
    const remedy = 'mend the cause, then let the VM go on: the request is tried again';
    this.#stoppedBy = new AppError(code, detail, { remedy });
    if (this.#state !== 'running' && this.#state !== 'stopped') return;
    this.#change({ state: 'stopped', cause: this.#stoppedBy.toPlain() });
  }

  /** The end of a run, however it came. */
  #ended(end: MachineEnd): void {
    const failed = end.reason === 'error' || end.reason === 'triple-fault';
    const cause = failed ? endError(end).toPlain() : null;
    if (failed) this.#host.log.error({ vm: this.id, cause }, 'a virtual machine failed');
    const wanted = this.#shuttingDown ? undefined : false;
    this.#change({ state: failed ? 'failed' : 'halted', cause, end }, wanted);
  }

  #change(change: StateChange, wanted?: boolean): void {
    this.#state = change.state;
    this.#host.changed(this.id, change, wanted);
  }

  #link(): MachineLink {
    if (this.#run === undefined) throw this.#wrongState('do this', 'start it first');
    return this.#run.link;
  }

  #wrongState(what: string, remedy?: string): AppError {
    return new AppError('conflict', `the VM is ${this.#state} and cannot ${what}`, {
      field: 'state',
      remedy,
    });
  }
}

async function raceTimeout<T>(promise: Promise<T>, timeoutMs: number): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
