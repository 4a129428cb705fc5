/** Sends what is traced in a machine to the daemon's thread, in batches. */
import type { FromMachine, TraceKind, TraceRecord } from '../contracts/ports.ts';
import type { MachineIntervention } from '../engine/inspection.ts';
import { type KernelPoints, Tracer } from '../inspect/index.ts';

/** Each time takes something out of the processor's caches. */
const BATCH_MS = 200;

export class TraceSender {
  readonly #tracer: Tracer;
  readonly #post: (message: FromMachine) => void;
  #records: TraceRecord[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(machine: MachineIntervention, points: KernelPoints, post: (message: FromMachine) => void) {
    this.#post = post;
    const onSeen = (isUrgent: boolean): void => {
      if (isUrgent) clearTimeout(this.#timer);
      else if (this.#timer !== undefined) return;
      this.#timer = setTimeout(() => this.#send(), isUrgent ? 0 : BATCH_MS);
    };
    this.#tracer = new Tracer(machine, points, onSeen, (record) => void this.#records.push(record));
  }

  set(kinds: readonly TraceKind[]): void {
    this.#tracer.set(kinds);
  }

  close(): void {
    this.#send();
  }

  #send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#tracer.tell();
    const dropped = this.#tracer.takeDropped();
    if (this.#records.length === 0 && dropped === 0) return;
    this.#post({ type: 'trace', records: this.#records, dropped });
    this.#records = [];
  }
}
