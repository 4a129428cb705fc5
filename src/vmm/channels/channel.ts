/** What a channel is to a console, and the buffer between a guest that prints and a reader that is slower. */
import type { Viewer, ViewerHandle } from '../instance/console-hub.ts';

/** How a line is joined to something on the host. */
export interface ChannelContext {
  /** For window titles: `Virtual Console #1 (web)`. */
  readonly title: string;
  /** The guest gets what comes in by this channel. */
  readonly reads: boolean;
  /** What the guest prints goes out by this channel. */
  readonly writes: boolean;
  /** Joins a viewer to the console. */
  join(viewer: Viewer, wantsScrollback: boolean): ViewerHandle;
  /** It has ended by itself: its terminal was closed, its device has gone. */
  ended(why: string): void;
}

export interface OpenChannel {
  /** What its other end is called, if it has a name: `/dev/pts/5`, `9000`. */
  readonly device: string | undefined;
  close(): void;
}

/** Output that waits for its reader. */
const WAITING_BYTES_MAX = 256 << 10;
/** A guest that can wait does so from here on. */
const BEHIND_BYTES = 64 << 10;
/** A reader that takes nothing for so long is waited for no longer, and loses what does not fit. */
export const PATIENCE_MS = 3000;

/** Where output goes. */
export interface Sink {
  /** Takes bytes, and calls `done` for each call when they are out of the way. */
  write(bytes: Uint8Array, done: () => void): void;
}

/**
 * A viewer that is never dropped: what its reader does not take is kept up to a limit and lost beyond. `opened` gives it the
 * handle of its console.
 */
export class SteadyViewer implements Viewer {
  readonly #sink: Sink;
  readonly #onHeld: (isHeld: boolean) => void;
  readonly #onGone: () => void;
  #handle: ViewerHandle | undefined;
  #waiting = 0;
  #patience: NodeJS.Timeout | undefined;
  #isStalled = false;
  /** Output that its reader did not get. */
  lostBytes = 0;

  constructor(sink: Sink, onHeld: (isHeld: boolean) => void, onGone: () => void) {
    this.#sink = sink;
    this.#onHeld = onHeld;
    this.#onGone = onGone;
  }

  opened(handle: ViewerHandle): void {
    this.#handle = handle;
  }

  /** For the guest. */
  input(bytes: Uint8Array): void {
    this.#handle?.input(bytes);
  }

  resize(columns: number, rows: number): void {
    this.#handle?.resize(columns, rows);
  }

  output(bytes: Uint8Array): boolean {
    if (this.#waiting + bytes.length > WAITING_BYTES_MAX) {
      this.lostBytes += bytes.length;
      return true;
    }
    this.#waiting += bytes.length;
    this.#sink.write(bytes, () => this.#done(bytes.length));
    return true;
  }

  isBehind(): boolean {
    if (this.#waiting <= BEHIND_BYTES || this.#isStalled) return false;
    this.#patience ??= setTimeout(() => {
      this.#isStalled = true;
      this.#handle?.caughtUp();
    }, PATIENCE_MS).unref();
    return true;
  }

  held(isHeld: boolean): void {
    this.#onHeld(isHeld);
  }

  dropped(): void {
    this.close();
    this.#onGone();
  }

  close(): void {
    clearTimeout(this.#patience);
    this.#handle?.close();
  }

  /** The reader has taken something: it is worth waiting for. */
  #done(bytes: number): void {
    this.#waiting -= bytes;
    this.#isStalled = false;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    if (this.#waiting <= BEHIND_BYTES) this.#handle?.caughtUp();
  }
}
