/** Sends what is traced in a machine to the daemon's thread: in batches, and no more than that can take. */
import type { FromMachine, TraceKind, TraceRecord } from '../contracts/ports.ts';
import type { MachineIntervention } from '../engine/inspection.ts';
import { type KernelPoints, Tracer } from '../inspect/index.ts';

const BATCH_MS = 50;
/** Of one batch: more than a guest does that is not out to flood its host. */
export const BATCH_RECORDS_MAX = 5000;

export class TraceSender {
  readonly #tracer: Tracer;
  readonly #post: (message: FromMachine) => void;
  #records: TraceRecord[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(machine: MachineIntervention, points: KernelPoints, post: (message: FromMachine) => void) {
    this.#post = post;
    this.#tracer = new Tracer(machine, points, (record) => this.#take(record));
  }

  set(kinds: readonly TraceKind[]): void {
    this.#tracer.set(kinds);
  }

  close(): void {
    this.#send();
  }

  #take(record: TraceRecord): void {
    if (this.#records.length >= BATCH_RECORDS_MAX) {
      this.#dropped++;
      return;
    }
    this.#records.push(record);
    this.#timer ??= setTimeout(() => this.#send(), BATCH_MS);
  }

  #send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#records.length === 0) return;
    this.#post({ type: 'trace', records: this.#records, dropped: this.#dropped });
    this.#records = [];
    this.#dropped = 0;
  }
}
