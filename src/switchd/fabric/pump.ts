/**
 * Moves frames from VM ports into their segments, in batches, round-robin over the ports that have any:
 * the cost of a round depends on active ports, and no port waits for more than one batch of each other one.
 */
import { type RingConsumer, RingCorruptError } from '../ring/consumer.ts';
import type { Port } from './port.ts';
import type { Segment } from './segment.ts';

/** Limits of a port's turn. */
const BATCH_FRAMES = 512;
const BATCH_BYTES = 256 * 1024;
/** Turns of a port that is being removed; it could go on sending. */
const LAST_TURNS_MAX = 64;

/** A port that frames come in on. */
export interface Inlet {
  readonly port: Port;
  readonly segment: Segment;
  readonly input: RingConsumer;
  /** The port's ring is broken: it gets no more turns. */
  readonly onCorrupt: (error: RingCorruptError) => void;
  open: boolean;
}

export class Pump {
  #active: Inlet[] = [];
  #scheduled = false;

  add(inlet: Inlet): void {
    inlet.input.wait(() => this.#activate(inlet));
  }

  /** Forwards what is still in the ring, then lets go of it. */
  remove(inlet: Inlet): void {
    for (let turn = 0; turn < LAST_TURNS_MAX && inlet.open && this.#turn(inlet); turn++);
    if (!inlet.open) return;
    inlet.open = false;
    inlet.input.close();
  }

  #activate(inlet: Inlet): void {
    if (!inlet.open) return;
    this.#active.push(inlet);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#round());
  }

  #round(): void {
    const active = this.#active;
    this.#active = [];
    this.#scheduled = false;
    for (const inlet of active) {
      if (!inlet.open) continue;
      const more = this.#turn(inlet);
      if (more) this.#activate(inlet);
      else if (inlet.open) this.add(inlet);
    }
  }

  /** True when the port may have more. */
  #turn(inlet: Inlet): boolean {
    const { input, segment, port } = inlet;
    segment.setTime(performance.now() / 1000);
    let frames = 0;
    let bytes = 0;
    try {
      while (frames < BATCH_FRAMES && bytes < BATCH_BYTES && input.next()) {
        segment.forward(port, input);
        frames++;
        bytes += input.length;
      }
    } catch (error) {
      if (!(error instanceof RingCorruptError)) throw error;
      inlet.open = false;
      input.close();
      inlet.onCorrupt(error);
    }
    // Room first: who gets these frames may make the sender send again at once.
    input.release();
    segment.flush();
    return inlet.open && (frames === BATCH_FRAMES || bytes >= BATCH_BYTES);
  }
}
