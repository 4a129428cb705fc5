/** The consoles of a VM: they outlive the guest's reboots and the machine's thread. */
import { type Console, SCROLLBACK_BYTES } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';

/** ttyS0 to ttyS3 are the PC's serial ports, hvc0 the virtio console. */
export const CONSOLE_NAMES = ['ttyS0', 'ttyS1', 'ttyS2', 'ttyS3', 'hvc0'] as const;
const VIEWERS_MAX = 64;

/** What a viewer's connection offers. It must take `output` at once or say that it cannot. */
export interface Viewer {
  /** `bytes` may be kept. False: its buffer is full; it is told and gets nothing more. */
  output(bytes: Uint8Array): boolean;
  /** It was dropped: it read too slowly, or the console has gone. */
  dropped(reason: 'too-slow' | 'gone'): void;
}

export interface ViewerHandle {
  input(bytes: Uint8Array): void;
  close(): void;
}

class ConsoleBuffer {
  readonly viewers = new Set<Viewer>();
  readonly #ring = new Uint8Array(SCROLLBACK_BYTES);
  #written = 0;

  get bytes(): number {
    return Math.min(this.#written, SCROLLBACK_BYTES);
  }

  append(bytes: Uint8Array): void {
    const tail = bytes.subarray(Math.max(bytes.length - SCROLLBACK_BYTES, 0));
    this.#written += bytes.length - tail.length;
    const at = this.#written % SCROLLBACK_BYTES;
    const first = tail.subarray(0, SCROLLBACK_BYTES - at);
    this.#ring.set(first, at);
    this.#ring.set(tail.subarray(first.length), 0);
    this.#written += tail.length;
  }

  scrollback(): Uint8Array {
    const at = this.#written % SCROLLBACK_BYTES;
    if (this.#written <= SCROLLBACK_BYTES) return this.#ring.slice(0, this.#written);
    const copy = new Uint8Array(SCROLLBACK_BYTES);
    copy.set(this.#ring.subarray(at), 0);
    copy.set(this.#ring.subarray(0, at), SCROLLBACK_BYTES - at);
    return copy;
  }
}

export class ConsoleHub {
  readonly #consoles = new Map<string, ConsoleBuffer>(
    CONSOLE_NAMES.map((name) => [name, new ConsoleBuffer()]),
  );
  readonly #taps = new Set<(bytes: Uint8Array) => void>();
  readonly #toGuest: (console: string, bytes: Uint8Array) => void;

  /** `toGuest` takes what viewers type; without a running machine it is lost, as on an unplugged cable. */
  constructor(toGuest: (console: string, bytes: Uint8Array) => void) {
    this.#toGuest = toGuest;
  }

  list(): Console[] {
    return [...this.#consoles].map(([name, console]) => ({
      name,
      viewers: console.viewers.size,
      scrollback_bytes: console.bytes,
    }));
  }

  /** Throws AppError `not_found`. */
  require(name: string): void {
    this.#get(name);
  }

  /** From the guest. */
  output(name: string, bytes: Uint8Array): void {
    const console = this.#consoles.get(name);
    if (console === undefined) return;
    console.append(bytes);
    for (const tap of this.#taps) tap(bytes);
    for (const viewer of [...console.viewers]) {
      if (viewer.output(bytes)) continue;
      console.viewers.delete(viewer);
      viewer.dropped('too-slow');
    }
  }

  /** What was last printed on all consoles, as far as it is kept. */
  recent(): Map<string, Uint8Array> {
    return new Map([...this.#consoles].map(([name, console]) => [name, console.scrollback()]));
  }

  /** The scrollback is sent before this returns. AppErrors: `not_found`, `quota_exceeded`. */
  attach(name: string, viewer: Viewer): ViewerHandle {
    const console = this.#get(name);
    if (console.viewers.size >= VIEWERS_MAX) {
      throw new AppError(
        'quota_exceeded',
        `the console ${name} has ${VIEWERS_MAX} viewers, which is the most`,
        {
          remedy: 'close one of them',
        },
      );
    }
    if (console.bytes > 0) viewer.output(console.scrollback());
    console.viewers.add(viewer);
    return {
      input: (bytes) => {
        if (console.viewers.has(viewer)) this.#toGuest(name, bytes);
      },
      close: () => console.viewers.delete(viewer),
    };
  }

  /** `listener` gets what the guest prints on any console from now on. Returns the function that ends it. */
  tap(listener: (bytes: Uint8Array) => void): () => void {
    this.#taps.add(listener);
    return () => this.#taps.delete(listener);
  }

  /** Drops all viewers: the VM is deleted or the daemon ends. */
  close(): void {
    for (const console of this.#consoles.values()) {
      const viewers = [...console.viewers];
      console.viewers.clear();
      for (const viewer of viewers) viewer.dropped('gone');
    }
  }

  #get(name: string): ConsoleBuffer {
    const console = this.#consoles.get(name);
    if (console !== undefined) return console;
    throw new AppError('not_found', `there is no console ${JSON.stringify(name.slice(0, 40))}`, {
      field: 'console',
      remedy: `use one of ${CONSOLE_NAMES.join(', ')}`,
    });
  }
}
