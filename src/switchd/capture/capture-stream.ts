/** The reader's end of a capture: a stream of pcapng. Ending it ends the capture. */
import { Readable } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';
import type { FromCapture, ToCapture } from './messages.ts';

export class CaptureStream extends Readable {
  readonly #port: MessagePort;
  /** Received, and not yet told as taken. */
  #untold = 0;
  #isFull = false;
  #isFinished = false;

  constructor(port: MessagePort) {
    super();
    this.#port = port;
    port.on('message', (message: FromCapture) => {
      if (message.type === 'end') return this.#finish();
      this.#untold += message.bytes.length;
      this.#isFull = !this.push(message.bytes);
      if (!this.#isFull) this.#tell();
    });
    // Also when the switch has died.
    port.on('close', () => this.#finish());
  }

  override _read(): void {
    this.#isFull = false;
    this.#tell();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#port.close();
    done(error);
  }

  #finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.push(null);
  }

  #tell(): void {
    if (this.#untold === 0) return;
    const message: ToCapture = { taken: this.#untold };
    this.#untold = 0;
    this.#port.postMessage(message);
  }
}
