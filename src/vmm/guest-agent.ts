/**
 * The host's side of the QEMU guest agent (qemu-guest-agent, /dev/virtio-ports/org.qemu.guest_agent.0): JSON requests and
 * answers, a line each (docs/interop/qemu-ga.rst of QEMU). What comes from a guest is hostile: bounded and checked.
 */
import type { CharPort } from '../engine/backends.ts';
import { ConsoleQueue } from './console-queue.ts';

export const GUEST_AGENT_PORT_NAME = 'org.qemu.guest_agent.0';

const SYNC_TIMEOUT_MS = 3000;
/** A frozen file system is first written out. */
const FREEZE_TIMEOUT_MS = 20_000;
const THAW_TIMEOUT_MS = 5000;
const THAW_ATTEMPTS = 2;
const LINE_BYTES_MAX = 64 * 1024;
/** Before an answer to guest-sync-delimited: all that came before it is left over from earlier. */
const SENTINEL = 0xff;

export class GuestAgent implements CharPort {
  readonly #queue: ConsoleQueue;
  #line: number[] = [];
  #open = false;
  #lastId = 0;
  /** Until the next sentinel, what comes is of earlier: an error among it, by which agents answer to the sentinel itself. */
  #isStale = false;
  #answered: ((answer: unknown) => void) | undefined;

  constructor() {
    this.#queue = new ConsoleQueue({
      output: (bytes) => {
        this.#receive(bytes);
        this.#queue.taken(bytes.length);
      },
      held: () => undefined,
    });
  }

  // The port's side.

  output(bytes: Uint8Array): void {
    this.#queue.output(bytes);
  }
  input(max: number): Uint8Array {
    return this.#queue.input(max);
  }
  onReadable(ready: () => void): void {
    this.#queue.onReadable(ready);
  }
  opened(open: boolean): void {
    this.#open = open;
  }

  /** A program in the guest has the port open. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** Freezes all file systems. False when it cannot, or there was nothing to freeze: some may be frozen all the same, or soon. */
  async freeze(): Promise<boolean> {
    const frozen = await this.#ask({ execute: 'guest-fsfreeze-freeze' }, FREEZE_TIMEOUT_MS);
    if (typeof frozen === 'number' && frozen > 0) return true;
    return false;
  }

  /** Whether there is an agent that answers. */
  async answers(): Promise<boolean> {
    return this.#open && (await this.#synchronize());
  }

  /** Lets the file systems go on. False when the agent does not say that it has. */
  async thaw(): Promise<boolean> {
    for (let attempt = 0; attempt < THAW_ATTEMPTS; attempt++) {
      if (attempt > 0 && !(await this.#synchronize())) continue;
      const thawed = await this.#ask({ execute: 'guest-fsfreeze-thaw' }, THAW_TIMEOUT_MS);
      if (typeof thawed === 'number') return true;
    }
    return false;
  }

  /** Whether an agent answers; afterwards nothing of earlier requests is to be expected. */
  async #synchronize(): Promise<boolean> {
    const id = ++this.#lastId;
    const request = { execute: 'guest-sync-delimited', arguments: { id } };
    return (await this.#ask(request, SYNC_TIMEOUT_MS, true)) === id;
  }

  /** What it returns; undefined for an error or no answer. */
  #ask(request: object, timeoutMs: number, delimited = false): Promise<unknown> {
    const line = Buffer.from(`${JSON.stringify(request)}\n`);
    this.#isStale = delimited;
    this.#queue.push(delimited ? Buffer.concat([Buffer.of(SENTINEL), line]) : line);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#answered?.(undefined), timeoutMs);
      this.#answered = (answer) => {
        clearTimeout(timer);
        this.#answered = undefined;
        resolve(answer);
      };
    });
  }

  #receive(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (byte === SENTINEL) {
        this.#line = [];
        this.#isStale = false;
      } else if (byte === 10) this.#take(Buffer.from(this.#line.splice(0)));
      else if (this.#line.length < LINE_BYTES_MAX) this.#line.push(byte);
    }
  }

  #take(line: Buffer): void {
    if (this.#isStale) return;
    let answer: unknown;
    try {
      answer = JSON.parse(line.toString());
    } catch {
      return;
    }
    if (typeof answer !== 'object' || answer === null) return;
    if ('return' in answer) this.#answered?.(answer.return);
    else if ('error' in answer) this.#answered?.(undefined);
  }
}
