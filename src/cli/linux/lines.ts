/** Joins a machine's consoles to descriptors of this process. */
import { createReadStream, createWriteStream, fstatSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { AppError } from '../../contracts/errors.ts';
import type { Channel, Line } from '../../uml/channels.ts';
import { PANIC_TAIL_BYTES, panicMessageIn } from '../../vmm/instance/panic-message.ts';
import type { MachineHost } from '../../vmm/machine-host.ts';
import { attachConsole, haltOnSignals } from '../boot-terminal.ts';
import type { Io } from '../io.ts';

/** Output that waits for a reader; more is dropped, and the guest runs on. */
const WAITING_BYTES_MAX = 1 << 20;

export class Lines {
  readonly #lines: ReadonlyMap<string, Line>;
  readonly #outputs = new Map<string, Writable>();
  /** The end of what was printed, by line. */
  readonly #tails = new Map<string, Buffer>();
  readonly #taps = new Set<(name: string, bytes: Uint8Array) => void>();

  /** Throws AppError `invalid_input` for a descriptor that is not open, or one that two lines would read. */
  constructor(lines: ReadonlyMap<string, Line>) {
    this.#lines = lines;
    const read = new Set<number>();
    const outputs = new Map<number, Writable>();
    for (const [name, { input, output }] of lines) {
      if (input.kind === 'fd') requireOpen(input.fd);
      if (input.kind === 'fd' && read.has(input.fd)) throw readTwice(input.fd);
      if (input.kind === 'fd') read.add(input.fd);
      if (output.kind !== 'fd') continue;
      requireOpen(output.fd);
      const stream = outputs.get(output.fd) ?? openOutput(output.fd);
      outputs.set(output.fd, stream);
      this.#outputs.set(name, stream);
    }
  }

  /** From the guest. */
  output(name: string, bytes: Uint8Array): void {
    const tail = Buffer.concat([this.#tails.get(name) ?? Buffer.alloc(0), bytes]);
    this.#tails.set(name, tail.subarray(-PANIC_TAIL_BYTES));
    for (const tap of this.#taps) tap(name, bytes);
    const stream = this.#outputs.get(name);
    if (stream !== undefined && stream.writableLength <= WAITING_BYTES_MAX) stream.write(bytes);
  }

  /** Why the guest's kernel has panicked, if it is printed on a line. */
  panicMessage(): string | null {
    for (const tail of this.#tails.values()) {
      const message = panicMessageIn(tail);
      if (message !== null) return message;
    }
    return null;
  }

  /**
   * `listener` gets what is printed from now on, on the line that prints first: a kernel with two consoles prints everything
   * on both. Returns the function that ends it.
   */
  tap(listener: (bytes: Uint8Array) => void): () => void {
    let first: string | undefined;
    const tap = (name: string, bytes: Uint8Array): void => {
      first ??= name;
      if (name === first) listener(bytes);
    };
    this.#taps.add(tap);
    return () => this.#taps.delete(tap);
  }

  /** Begins to read, and to obey signals. Returns a function that puts everything back. */
  attach(host: MachineHost, io: Io): () => void {
    const undo = [...this.#lines].flatMap(([name, { input }]) => attachInput(host, name, input, io));
    if (![...this.#lines.values()].some(({ input }) => isStandardInput(input)))
      undo.push(haltOnSignals(host));
    return () => {
      for (const step of undo) step();
    };
  }
}

const isStandardInput = (channel: Channel): boolean => channel.kind === 'fd' && channel.fd === 0;

function attachInput(host: MachineHost, name: string, input: Channel, io: Io): (() => void)[] {
  if (input.kind !== 'fd') return [];
  if (input.fd === 0) return [attachConsole(host, name, io)];
  const stream = createReadStream('', { fd: input.fd, autoClose: false });
  stream.on('data', (bytes) => {
    if (!host.input(name, Buffer.from(bytes))) stream.pause();
  });
  // Its other end has gone: the line is silent from now on.
  stream.on('error', () => stream.destroy());
  host.onInputDrained(name, () => void stream.resume());
  return [() => stream.destroy()];
}

function openOutput(fd: number): Writable {
  if (fd === 1) return process.stdout;
  if (fd === 2) return process.stderr;
  const stream = createWriteStream('', { fd, autoClose: false });
  stream.on('error', () => stream.destroy());
  return stream;
}

function requireOpen(fd: number): void {
  try {
    fstatSync(fd);
  } catch (cause) {
    throw new AppError('invalid_input', `the descriptor ${fd} is not open`, {
      field: `fd:${fd}`,
      remedy: `open it when you start the command, as in: umlaut linux ... ${fd}<>FILE`,
      cause,
    });
  }
}

function readTwice(fd: number): AppError {
  return new AppError('invalid_input', `two lines would read descriptor ${fd}`, {
    field: `fd:${fd}`,
    remedy: 'give one of them null for its input, as in ssl0=null,fd:1',
  });
}
