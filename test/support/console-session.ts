/** Somebody at a VM's console, over its WebSocket. */
import type WebSocket from 'ws';
import { ROOT_PASSWORD } from '../../src/images/index.ts';

const BOOT_MS = 120_000;
const COMMAND_MS = 60_000;
const TAIL = 2000;
/** The kernel logs to the same console, at any time. */
const KERNEL_MESSAGE = /^\[ *\d+\.\d{6}\] /;

export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

export class ConsoleSession {
  readonly #name: string;
  readonly #socket: WebSocket;
  /** Received and not yet consumed by `expect`. */
  #unread = '';
  #receivedBytes = 0;
  #changed: (() => void) | undefined;
  #commands = 0;

  constructor(name: string, socket: WebSocket) {
    this.#name = name;
    this.#socket = socket;
    const decoder = new TextDecoder();
    socket.on('message', (data: Buffer) => {
      this.#receivedBytes += data.length;
      this.#unread += decoder.decode(data, { stream: true });
      this.#changed?.();
    });
    socket.on('close', () => this.#changed?.());
    // The client hands it over paused, so that nothing is lost before somebody listens.
    socket.resume();
  }

  send(text: string): void {
    this.#socket.send(Buffer.from(text));
  }

  /** Waits for `pattern` in what has not been consumed yet; consumes it and all before it. */
  async expect(pattern: RegExp, timeoutMs = COMMAND_MS): Promise<RegExpMatchArray> {
    const match = await this.#until(() => this.#unread.match(pattern) ?? undefined, `${pattern}`, timeoutMs);
    // INVARIANT: String.match sets the index for a pattern without the flag g.
    this.#unread = this.#unread.slice(match.index! + match[0].length);
    return match;
  }

  /** Waits for the first `bytes` that come and consumes all: what a VM that does not run has in its scrollback. */
  async skip(bytes: number): Promise<void> {
    await this.#until(() => (this.#receivedBytes >= bytes ? true : undefined), `${bytes} bytes`, COMMAND_MS);
    this.#unread = '';
  }

  /** From the login prompt to the shell's, where the kernel keeps quiet from then on. Boots may come before. */
  async login(): Promise<void> {
    await this.expect(/login: /, BOOT_MS);
    this.send('root\n');
    await this.expect(/[Pp]assword: /);
    this.send(`${ROOT_PASSWORD}\n`);
    await this.expect(/# /);
    await this.check('dmesg -n 1');
  }

  /**
   * Runs a command in the shell. The marks around its output are quoted in what is typed, so that the terminal's echo
   * is not taken for them.
   */
  async run(command: string, timeoutMs = COMMAND_MS): Promise<CommandResult> {
    const id = ++this.#commands;
    this.send(`echo @'<'${id}; ${command}; echo @'>'${id}=$?\n`);
    await this.expect(new RegExp(`@<${id}\\r?\\n`), timeoutMs);
    const [text, status] = await this.expect(new RegExp(`[^]*?@>${id}=(\\d+)\\r?\\n`), timeoutMs);
    const lines = text.slice(0, text.lastIndexOf('@>')).split(/\r?\n/);
    const output = lines.filter((line) => !KERNEL_MESSAGE.test(line)).join('\n');
    return { status: Number(status), output: output.trimEnd() };
  }

  /** As `run`, failing when the command does. */
  async check(command: string, timeoutMs = COMMAND_MS): Promise<string> {
    const { status, output } = await this.run(command, timeoutMs);
    if (status !== 0) throw this.#failure(`"${command}" ended with ${status}: ${output}`);
    return output;
  }

  close(): void {
    this.#socket.close();
  }

  /** What `look` finds, when it finds something; it looks again whenever something has come. */
  async #until<T>(look: () => T | undefined, what: string, timeoutMs: number): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    const timer = setTimeout(() => this.#changed?.(), timeoutMs);
    try {
      for (;;) {
        const found = look();
        if (found !== undefined) return found;
        if (Date.now() >= deadline) throw this.#failure(`no ${what} within ${timeoutMs} ms`);
        if (this.#socket.readyState === this.#socket.CLOSED) throw this.#failure(`closed before ${what}`);
        await new Promise<void>((resolve) => {
          this.#changed = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #failure(what: string): Error {
    return new Error(
      `console of ${this.#name}: ${what}; the end of what came:\n${this.#unread.slice(-TAIL)}`,
    );
  }
}
