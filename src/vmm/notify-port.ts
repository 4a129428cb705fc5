/** The host's end of /dev/virtio-ports/umlaut.notify, by which programs in a guest tell the host something. */
import type { CharPort } from '../engine/backends.ts';

export const NOTIFY_PORT_NAME = 'umlaut.notify';
/** As UML's user notification: a longer one is cut. */
export const NOTIFICATION_BYTES_MAX = 512;
/** So many at once, and so many a second in the long run: more would push everybody's events out of the log. */
export const BURST_MAX = 20;
export const PER_SECOND_MAX = 5;

export class NotifyPort implements CharPort {
  readonly #onNotification: (bytes: Uint8Array, dropped: number) => void;
  readonly #nowMs: () => number;
  #tokens = BURST_MAX;
  #filledMs: number;
  #dropped = 0;

  /** `dropped`: how many before it were too many. */
  constructor(
    onNotification: (bytes: Uint8Array, dropped: number) => void,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#onNotification = onNotification;
    this.#nowMs = nowMs;
    this.#filledMs = nowMs();
  }

  /** Each write of the guest is a notification. */
  output(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const now = this.#nowMs();
    this.#tokens = Math.min(BURST_MAX, this.#tokens + ((now - this.#filledMs) / 1000) * PER_SECOND_MAX);
    this.#filledMs = now;
    if (this.#tokens < 1) {
      this.#dropped++;
      return;
    }
    this.#tokens--;
    this.#onNotification(bytes.slice(0, NOTIFICATION_BYTES_MAX), this.#dropped);
    this.#dropped = 0;
  }

  /** Nothing is said to the guest. */
  input(): Uint8Array {
    return new Uint8Array(0);
  }

  onReadable(): void {}
}
