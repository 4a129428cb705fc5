/** Sees on the consoles when a guest is up: it asks for a login. */

/** getty's prompt, with nothing behind it; the host's name is before it. */
const PROMPT = /(?:^|[\r\n])[^\r\n]{0,80}login: $/;
const TAIL_BYTES = 120;

export class LoginWatch {
  readonly #onPrompt: (console: string) => void;
  readonly #tails = new Map<string, string>();
  #seen = false;

  /** `onPrompt` is called once for each boot. */
  constructor(onPrompt: (console: string) => void) {
    this.#onPrompt = onPrompt;
  }

  output(console: string, bytes: Uint8Array): void {
    if (this.#seen) return;
    const end = Buffer.from(bytes.subarray(-TAIL_BYTES)).toString('latin1');
    const tail = `${this.#tails.get(console) ?? ''}${end}`.slice(-TAIL_BYTES);
    this.#tails.set(console, tail);
    if (!PROMPT.test(tail)) return;
    this.#seen = true;
    this.#onPrompt(console);
  }

  rebooted(): void {
    this.#seen = false;
    this.#tails.clear();
  }
}
