/** The consoles of a VM: they outlive the guest's reboots and the machine's thread. */
import { type Console, SCROLLBACK_BYTES } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { consoleNames } from '../console-names.ts';
import { withoutQueries } from './terminal-queries.ts';

const VIEWERS_MAX = 64;
/** What was read is told in portions of this: a message for each line would be as much work as the line. */
const TAKEN_BYTES = 16 << 10;

/** Whoever looks at a console. It must take `output` at once or say that it cannot. */
export interface Viewer {
  /** `bytes` may be kept. False: its buffer is full; it is told and gets nothing more. */
  output(bytes: Uint8Array): boolean;
  /** It was dropped: it read too slowly, or the console has gone. */
  dropped(reason: 'too-slow' | 'gone'): void;
  /** It has enough to do: guests that can wait for it do, until it calls `caughtUp`. */
  isBehind?(): boolean;
  /** The guest does not read its input, and this viewer should send none; or it reads again. */
  held?(isHeld: boolean): void;
}

export interface ViewerHandle {
  input(bytes: Uint8Array): void;
  /** The size of its terminal; that of the last who told counts. */
  resize(columns: number, rows: number): void;
  /** It is behind no longer. */
  caughtUp(): void;
  close(): void;
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** The machine, while there is one; without it, what is typed is lost, as on an unplugged cable. */
export interface ConsoleGuest {
  input(console: string, bytes: Uint8Array): void;
  /** So much of its output has been read. */
  taken(console: string, bytes: number): void;
  resize(console: string, size: TerminalSize): void;
}

class ConsoleBuffer {
  readonly viewers = new Set<Viewer>();
  size: TerminalSize | undefined;
  isHeld = false;
  /** Read by all, and not told yet. */
  untold = 0;
  #ring = new Uint8Array(0);
  #written = 0;

  append(bytes: Uint8Array): void {
    if (this.#ring.length === 0) this.#ring = new Uint8Array(SCROLLBACK_BYTES);
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

  get isBehind(): boolean {
    for (const viewer of this.viewers) if (viewer.isBehind?.() === true) return true;
    return false;
  }
}

/** What a viewer that comes is shown. */
const shown = (console: ConsoleBuffer): Uint8Array => withoutQueries(console.scrollback());

export class ConsoleHub {
  readonly #consoles = new Map<string, ConsoleBuffer>();
  readonly #taps = new Set<(bytes: Uint8Array, console: string) => void>();
  readonly #guest: ConsoleGuest;

  constructor(guest: ConsoleGuest) {
    this.#guest = guest;
    this.setConsoleCount(1);
  }

  /** The virtio consoles from now on. Viewers of those that go are dropped. */
  setConsoleCount(virtioCount: number): void {
    const names = consoleNames(virtioCount);
    for (const name of names) if (!this.#consoles.has(name)) this.#consoles.set(name, new ConsoleBuffer());
    for (const [name, console] of this.#consoles) {
      if (names.includes(name)) continue;
      this.#consoles.delete(name);
      dropAll(console);
    }
  }

  list(): Omit<Console, 'channel'>[] {
    return [...this.#consoles].map(([name, console]) => ({
      name,
      viewers: console.viewers.size,
      scrollback_bytes: shown(console).length,
    }));
  }

  /** Throws AppError `not_found`. */
  require(name: string): void {
    this.#get(name);
  }

  /** From the guest. */
  output(name: string, bytes: Uint8Array): void {
    const console = this.#consoles.get(name);
    if (console === undefined) {
      this.#guest.taken(name, bytes.length);
      return;
    }
    this.#show(name, console, bytes);
    console.untold += bytes.length;
    if (console.untold >= TAKEN_BYTES) this.#settle(name, console);
  }

  /** From the host, on a console that is there. */
  print(name: string, bytes: Uint8Array): void {
    this.#show(name, this.#get(name), bytes);
  }

  /** The guest does not read a console's input, or reads it again. */
  held(name: string, isHeld: boolean): void {
    const console = this.#consoles.get(name);
    if (console === undefined) return;
    console.isHeld = isHeld;
    for (const viewer of console.viewers) viewer.held?.(isHeld);
  }

  /** A new machine has come: it knows nothing of what was. */
  machineStarted(): void {
    for (const [name, console] of this.#consoles) {
      console.untold = 0;
      if (console.isHeld) this.held(name, false);
      if (console.size !== undefined) this.#guest.resize(name, console.size);
    }
  }

  /** What was last printed on all consoles, as far as it is kept. */
  recent(): Map<string, Uint8Array> {
    return new Map([...this.#consoles].map(([name, console]) => [name, console.scrollback()]));
  }

  /**
   * The scrollback, if wanted, is sent before this returns, without what was asked of terminals.
   * AppErrors: `not_found`, `quota_exceeded`.
   */
  attach(name: string, viewer: Viewer, wantsScrollback = true): ViewerHandle {
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
    const before = wantsScrollback ? shown(console) : new Uint8Array(0);
    if (before.length > 0) viewer.output(before);
    console.viewers.add(viewer);
    if (console.isHeld) viewer.held?.(true);
    return {
      input: (bytes) => {
        if (console.viewers.has(viewer)) this.#guest.input(name, bytes);
      },
      resize: (columns, rows) => {
        if (console.viewers.has(viewer)) this.#resize(name, console, { columns, rows });
      },
      caughtUp: () => this.#settle(name, console),
      close: () => {
        if (console.viewers.delete(viewer)) this.#settle(name, console);
      },
    };
  }

  /** `listener` gets what the guest prints on any console from now on. Returns the function that ends it. */
  tap(listener: (bytes: Uint8Array, console: string) => void): () => void {
    this.#taps.add(listener);
    return () => this.#taps.delete(listener);
  }

  /** Drops all viewers: the VM is deleted or the daemon ends. */
  close(): void {
    for (const console of this.#consoles.values()) dropAll(console);
  }

  #show(name: string, console: ConsoleBuffer, bytes: Uint8Array): void {
    console.append(bytes);
    for (const tap of this.#taps) tap(bytes, name);
    for (const viewer of [...console.viewers]) {
      if (viewer.output(bytes)) continue;
      console.viewers.delete(viewer);
      viewer.dropped('too-slow');
    }
  }

  /** Tells the machine what has been read, unless somebody who is behind is to be waited for. */
  #settle(name: string, console: ConsoleBuffer): void {
    if (console.untold === 0 || console.isBehind) return;
    const bytes = console.untold;
    console.untold = 0;
    this.#guest.taken(name, bytes);
  }

  #resize(name: string, console: ConsoleBuffer, size: TerminalSize): void {
    const before = console.size;
    if (before?.columns === size.columns && before.rows === size.rows) return;
    console.size = size;
    this.#guest.resize(name, size);
  }

  #get(name: string): ConsoleBuffer {
    const console = this.#consoles.get(name);
    if (console !== undefined) return console;
    throw new AppError('not_found', `there is no console ${JSON.stringify(name.slice(0, 40))}`, {
      field: 'console',
      remedy: `use one of ${[...this.#consoles.keys()].join(', ')}`,
    });
  }
}

function dropAll(console: ConsoleBuffer): void {
  const viewers = [...console.viewers];
  console.viewers.clear();
  for (const viewer of viewers) viewer.dropped('gone');
}
