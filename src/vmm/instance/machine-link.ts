/** The daemon's side of one run of a machine: requests with answers and time limits, and how the run ended. */
import type { MessagePort, Transferable } from 'node:worker_threads';
import type { BackupPlan, BackupSummary } from '../../contracts/backup.ts';
import { AppError, isErrorCode } from '../../contracts/errors.ts';
import type {
  ConsoleMessage,
  FromMachine,
  MachineEnd,
  MachineRequest,
  ToMachine,
  TraceRecord,
} from '../../contracts/ports.ts';
import type { MachineWorker } from '../ports.ts';

/** A thread that has said its end may take so long to let go of its files. */
const EXIT_GRACE_MS = 5000;
/** A thread that is to be ended may take so long to come up before that. */
const START_GRACE_MS = 2000;
export const REQUEST_TIMEOUT_MS = 30_000;
/** The guest may take long to write out what it has. */
const BACKUP_BEGIN_TIMEOUT_MS = 180_000;

type ProgressListener = (done: number, total: number) => void;

export interface MachineEvents {
  started(): void;
  rebooted(): void;
  panicked(): void;
  hung(): void;
  traced(records: readonly TraceRecord[], dropped: number): void;
  procFileFailed(path: string, why: string): void;
  notification(bytes: Uint8Array, dropped: number): void;
  output(console: string, bytes: Uint8Array): void;
  /** Whoever sends input should wait, or go on. */
  held(console: string, held: boolean): void;
  deviceGone(device: string): void;
  diskError(error: DiskErrorMessage): void;
}

export type DiskErrorMessage = Extract<FromMachine, { type: 'disk-error' }>;

export interface BackupWatch {
  /** Rejects with AppError when the backup or the machine fails. */
  readonly finished: Promise<BackupSummary>;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
  readonly progress: ProgressListener | undefined;
  readonly timer: NodeJS.Timeout | undefined;
}

interface RunningBackup {
  progress(done: number, total: number): void;
  resolve(result: BackupSummary): void;
  reject(error: Error): void;
}

export class MachineLink {
  /** Resolves, once, when the thread is gone and its files are free. Never rejects. */
  readonly ended: Promise<MachineEnd>;
  readonly #worker: MachineWorker;
  readonly #events: MachineEvents;
  readonly #ending = Promise.withResolvers<MachineEnd>();
  readonly #exited = Promise.withResolvers<void>();
  readonly #started = Promise.withResolvers<void>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #backups = new Map<string, RunningBackup>();
  #nextId = 1;
  #end: MachineEnd | undefined;

  constructor(worker: MachineWorker, events: MachineEvents) {
    this.#worker = worker;
    this.#events = events;
    this.ended = this.#ending.promise;
    worker.on('message', (message) => this.#receive(message));
    worker.on('error', (error) => this.#finish(crash(error)));
    worker.on('exit', (status) => {
      this.#exited.resolve();
      this.#finish({
        reason: 'error',
        code: 'machine_failed',
        detail: `its thread ended with status ${status}`,
      });
    });
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** AppErrors: what the machine answers, `machine_failed` when it ends first, `guest_not_responding`. */
  request(
    request: MachineRequest,
    timeoutMs = REQUEST_TIMEOUT_MS,
    transfer: Transferable[] = [],
  ): Promise<unknown> {
    if (this.#end !== undefined) return Promise.reject(endError(this.#end));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        const detail = `the machine did not answer to ${request.type} within ${timeoutMs / 1000} s`;
        reject(new AppError('guest_not_responding', detail, { remedy: 'try again, or halt the VM' }));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, progress: undefined, timer });
      this.#post({ type: 'request', id, request }, transfer);
    });
  }

  /** As `request`, for what takes as long as it takes. */
  longRequest(request: MachineRequest, progress?: ProgressListener): Promise<unknown> {
    if (this.#end !== undefined) return Promise.reject(endError(this.#end));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, progress, timer: undefined });
      this.#post({ type: 'request', id, request });
    });
  }

  /** A message about a console, without an answer. */
  console(message: ConsoleMessage): void {
    if (this.#end === undefined) this.#post(message);
  }

  /**
   * Begins a backup: its moment is taken when this resolves. `finished` settles when it is durable or gone.
   * @param writer to the task that writes it; closed when the machine has ended
   */
  async backup(
    plan: BackupPlan,
    quiesce: boolean,
    writer: MessagePort,
    onProgress: (done: number, total: number) => void,
  ): Promise<BackupWatch> {
    const backupId = plan.head.id;
    const { promise, resolve, reject } = Promise.withResolvers<BackupSummary>();
    // The caller looks at it after the request is answered.
    promise.catch(() => undefined);
    this.#backups.set(backupId, { progress: onProgress, resolve, reject });
    try {
      await this.request({ type: 'backup', plan, quiesce, writer }, BACKUP_BEGIN_TIMEOUT_MS, [writer]);
    } catch (error) {
      this.#backups.delete(backupId);
      throw error;
    }
    return { finished: promise };
  }

  /** Ends the thread without asking it. */
  async kill(detail: string): Promise<void> {
    this.#finish({ reason: 'error', code: 'machine_failed', detail });
    await this.ended;
  }

  #post(message: ToMachine, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #receive(message: FromMachine): void {
    if (message.type === 'started') this.#started.resolve();
    if (this.#end !== undefined && message.type !== 'console-output') return;
    switch (message.type) {
      case 'reply':
        this.#take(message.id)?.resolve(message.result);
        break;
      case 'reply-error':
        this.#take(message.id)?.reject(machineError(message));
        break;
      case 'progress':
        this.#waiting.get(message.id)?.progress?.(message.done, message.total);
        break;
      case 'started':
        this.#events.started();
        break;
      case 'rebooted':
        this.#events.rebooted();
        break;
      case 'panicked':
        this.#events.panicked();
        break;
      case 'trace':
        this.#events.traced(message.records, message.dropped);
        break;
      case 'hung':
        this.#events.hung();
        break;
      case 'proc-file-failed':
        this.#events.procFileFailed(message.path, message.why);
        break;
      case 'notification':
        this.#events.notification(message.bytes, message.dropped);
        break;
      case 'device-gone':
        this.#events.deviceGone(message.device);
        break;
      case 'disk-error':
        this.#events.diskError(message);
        break;
      case 'console-output':
        this.#events.output(message.console, message.bytes);
        break;
      case 'console-held':
        this.#events.held(message.console, message.held);
        break;
      case 'backup-progress':
        this.#backups.get(message.backupId)?.progress(message.doneBytes, message.totalBytes);
        break;
      case 'backup-done':
        this.#takeBackup(message.backupId)?.resolve(message.result);
        break;
      case 'backup-failed':
        this.#takeBackup(message.backupId)?.reject(AppError.fromPlain(message.error));
        break;
      case 'ended':
        this.#finish(message.end);
        break;
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    clearTimeout(waiting?.timer);
    return waiting;
  }

  #takeBackup(id: string): RunningBackup | undefined {
    const backup = this.#backups.get(id);
    this.#backups.delete(id);
    return backup;
  }

  #finish(end: MachineEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    void this.#letGo(end);
  }

  async #letGo(end: MachineEnd): Promise<void> {
    // A thread that failed is not trusted to end by itself. While it comes up it finds functions of C libraries, and koffi
    // aborts the whole process if the thread is ended in that moment.
    if (end.reason === 'error') await within(START_GRACE_MS, [this.#started.promise, this.#exited.promise]);
    else await within(EXIT_GRACE_MS, [this.#exited.promise]);
    await this.#worker.terminate();
    const error = endError(end);
    for (const id of [...this.#waiting.keys()]) this.#take(id)?.reject(error);
    for (const id of [...this.#backups.keys()]) this.#takeBackup(id)?.reject(error);
    this.#ending.resolve(end);
  }
}

/** Waits for the first of these, or as long as that. */
async function within(ms: number, events: readonly Promise<void>[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const grace = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([...events, grace]);
  clearTimeout(timer);
}

function crash(error: unknown): MachineEnd {
  const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return { reason: 'error', code: isErrorCode(code) ? code : 'machine_failed', detail };
}

type MachineProblem = Pick<
  Extract<FromMachine, { readonly type: 'reply-error' }>,
  'code' | 'message' | 'field' | 'remedy'
>;

/** What a machine answers, in the catalogue's codes. */
function machineError({ code, message, field, remedy }: MachineProblem): AppError {
  if (isErrorCode(code)) return new AppError(code, message, { field, remedy });
  if (code === 'already-stopped') {
    return new AppError('conflict', 'the VM is stopped already', { remedy: 'let it go on with go' });
  }
  if (code === 'not-stopped') return new AppError('conflict', 'the VM is not stopped');
  if (code === 'ENOSPC') {
    return new AppError('disk_full', message, { remedy: 'free space on the host, then try again' });
  }
  return new AppError('machine_failed', `${code}: ${message}`);
}

/** Why a run that ended cannot answer. */
export function endError(end: MachineEnd): AppError {
  switch (end.reason) {
    case 'power-off':
      return new AppError('conflict', 'the guest has powered off');
    case 'halt':
      return new AppError('conflict', 'the VM was halted');
    case 'debug-exit':
      return new AppError('conflict', `the guest ended the run with exit status ${end.status}`);
    case 'triple-fault':
      return new AppError('machine_failed', `the guest's CPU had a triple fault: ${end.detail}`, {
        remedy: 'look at the end of the console output: the kernel may not fit this machine, or be damaged',
      });
    case 'error':
      return new AppError(isErrorCode(end.code) ? end.code : 'machine_failed', end.detail, {
        remedy: 'look at the console output and the daemon’s log, then start the VM again',
      });
  }
}
