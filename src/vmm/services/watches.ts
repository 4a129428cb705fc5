/** Guests that are watched: what their programs do and what is on their consoles, written down where they cannot reach. */
import { Readable } from 'node:stream';
import type { Watch } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { TraceKind, TraceRecord } from '../../contracts/ports.ts';
import type { Store, VmRow } from '../../db/index.ts';
import { asciicast } from '../../uml/asciicast.ts';
import { TtyLogger, ttyName, ttyRecords } from '../../uml/tty-log.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import type { Log } from '../ports.ts';
import { BoundedLog, readBounded, streamBounded } from '../watch/bounded-log.ts';

/** Of each of a VM's two logs. */
const LOG_BYTES_MAX = 32 << 20;
/** Records that the event stream gets at a time, and how often: the log file has them all. */
const EVENT_RECORDS_MAX = 20;
const EVENT_MS = 500;

interface WatchDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly home: Home;
  readonly log: Log;
}

/** What is open of a VM that runs and is watched. */
interface Watched {
  readonly trace: BoundedLog;
  readonly tty: BoundedLog;
  readonly ttys: TtyLogger;
  waiting: TraceRecord[];
  dropped: number;
  timer: NodeJS.Timeout | undefined;
  failed: boolean;
}

export function watchOf(vm: VmRow): Watch[] {
  // INVARIANT: rows are written from checked input alone.
  return JSON.parse(vm.watch) as Watch[];
}

/** What the machine itself has to tell. */
export function traceKinds(watch: readonly Watch[]): TraceKind[] {
  return watch.filter((one): one is TraceKind => one !== 'tty');
}

export class Watches {
  readonly #deps: WatchDeps;
  readonly #watched = new Map<string, Watched>();
  readonly #ttys = new Set<string>();
  /** By VM and console: what viewers have said last. */
  readonly #sizes = new Map<string, Map<string, { readonly columns: number; readonly rows: number }>>();

  constructor(deps: WatchDeps) {
    this.#deps = deps;
  }

  /** A run begins, or what is watched has changed. */
  set(vmId: string, watch: readonly Watch[]): void {
    if (watch.includes('tty')) this.#ttys.add(vmId);
    else this.#ttys.delete(vmId);
  }

  /** A run has ended. */
  ended(vmId: string): void {
    this.#ttys.delete(vmId);
    this.#sizes.delete(vmId);
    const watched = this.#watched.get(vmId);
    if (watched === undefined) return;
    this.#watched.delete(vmId);
    watched.ttys.end();
    this.#tell(vmId, watched);
    watched.trace.close();
    watched.tty.close();
  }

  traced(vmId: string, records: readonly TraceRecord[], dropped: number): void {
    const watched = this.#open(vmId);
    const lines = records.map((record) => `${JSON.stringify(record)}\n`);
    if (dropped > 0) lines.push(`${JSON.stringify({ time: Date.now(), dropped })}\n`);
    this.#write(vmId, watched, () => watched.trace.append(Buffer.from(lines.join(''))));
    const told = records.filter(({ kind }) => kind !== 'open');
    const room = EVENT_RECORDS_MAX - watched.waiting.length;
    watched.waiting.push(...told.slice(0, room));
    watched.dropped += Math.max(0, told.length - room);
    if (told.length > 0) watched.timer ??= setTimeout(() => this.#tell(vmId, watched), EVENT_MS);
  }

  /** `direction`: shown by the guest, or typed by a user. */
  console(vmId: string, console: string, direction: 'shown' | 'typed', bytes: Uint8Array): void {
    if (!this.#ttys.has(vmId)) return;
    const watched = this.#open(vmId);
    watched.ttys.bytes(console, direction, bytes);
  }

  /** A viewer's terminal has a size, which the guest hears as well where its console has a way to. */
  resized(vmId: string, console: string, size: { readonly columns: number; readonly rows: number }): void {
    const sizes = this.#sizes.get(vmId) ?? new Map();
    this.#sizes.set(vmId, sizes.set(console, size));
    if (this.#ttys.has(vmId)) this.#watched.get(vmId)?.ttys.resized(console, size.columns, size.rows);
  }

  /** JSON lines, the oldest first. */
  trace(vmId: string): Readable {
    return streamBounded(this.#file(vmId, 'trace'));
  }

  /** In UML's format, all consoles in one. */
  tty(vmId: string): Readable {
    return streamBounded(this.#file(vmId, 'tty'));
  }

  /** One console as asciicast v2; the first that has anything when none is named. AppError `not_found`. */
  cast(vmId: string, console: string | undefined): Readable {
    const log = readBounded(this.#file(vmId, 'tty'));
    const recorded = [...new Set([...ttyRecords(log)].map(({ tty }) => ttyName(tty)))];
    const wanted = console ?? recorded[0];
    if (wanted !== undefined && recorded.includes(wanted))
      return Readable.from(asciicast(ttyRecords(log), wanted));
    throw new AppError('not_found', `nothing is recorded of ${wanted ?? 'any console'}`, {
      field: 'console',
      remedy:
        recorded.length === 0
          ? 'have the VM watched with `tty` while it runs'
          : `use one of ${recorded.join(', ')}`,
    });
  }

  #open(vmId: string): Watched {
    const known = this.#watched.get(vmId);
    if (known !== undefined) return known;
    const log = (kind: 'trace' | 'tty') => new BoundedLog(this.#file(vmId, kind), LOG_BYTES_MAX);
    const [trace, tty] = [log('trace'), log('tty')];
    const ttys = new TtyLogger((record) => this.#write(vmId, watched, () => tty.append(record)));
    for (const [console, { columns, rows }] of this.#sizes.get(vmId) ?? [])
      ttys.resized(console, columns, rows);
    const watched: Watched = { trace, tty, ttys, waiting: [], dropped: 0, timer: undefined, failed: false };
    this.#watched.set(vmId, watched);
    return watched;
  }

  #file(vmId: string, kind: 'trace' | 'tty'): string {
    return this.#deps.home.file('vms', vmId, kind === 'trace' ? 'trace.jsonl' : 'tty.log');
  }

  /** A full disk must not stop the guest that is watched; that something is missing is told once. */
  #write(vmId: string, watched: Watched, write: () => void): void {
    try {
      write();
      watched.failed = false;
    } catch (error) {
      if (!watched.failed)
        this.#deps.log.error({ vm: vmId, error: String(error) }, 'what is watched cannot be written down');
      watched.failed = true;
    }
  }

  #tell(vmId: string, watched: Watched): void {
    clearTimeout(watched.timer);
    watched.timer = undefined;
    const vm = this.#deps.store.vms.get(vmId);
    if (watched.waiting.length === 0 || vm === undefined) return;
    const data = { records: watched.waiting, dropped: watched.dropped };
    watched.waiting = [];
    watched.dropped = 0;
    this.#deps.events.append({
      type: 'vm.traced',
      tenant: vm.tenant,
      resource: { type: 'vm', id: vmId },
      data,
    });
  }
}
