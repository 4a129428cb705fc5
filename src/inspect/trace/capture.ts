/** What trace points have seen and nobody has looked at yet: bytes, put down one after the other, as `decoder.ts` reads them. */
import type { GuestWords } from './guest-words.ts';

/** More than a guest does between two looks that is not out to flood its host. */
const CAPTURE_BYTES = 512 << 10;
const PAGE = 4096;
const KEY_HIGH = 0x1f_ffff;
const WORD = 2 ** 32;

/** Calls that begin, and what becomes of them. */
export const SEEN = {
  OPEN: 1,
  CONNECT: 2,
  OPENED: 3,
  CONNECTED: 4,
  INSTALLED: 5,
  EXEC: 6,
} as const;
type Seen = (typeof SEEN)[keyof typeof SEEN];

/** Of an address: what is left out is the same for all of a kernel's. */
export function keyOf(high: number, low: number): number {
  return (high & KEY_HIGH) * WORD + low;
}

export class Capture {
  /** Calls that found no room. */
  dropped = 0;
  readonly #put = Buffer.alloc(CAPTURE_BYTES);
  readonly #view = new DataView(this.#put.buffer, this.#put.byteOffset, CAPTURE_BYTES);
  readonly #onSeen: (isUrgent: boolean) => void;
  #length = 0;
  #start = 0;
  #isWhole = false;
  #field = 0;

  /** @param onSeen there is something to look at; urgent: half of the room is taken */
  constructor(onSeen: (isUrgent: boolean) => void) {
    this.#onSeen = onSeen;
  }

  /** What has been put down since the last time: until something is put down again. */
  take(): Buffer {
    const taken = this.#put.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }

  begin(seen: Seen): void {
    this.#start = this.#length;
    this.#isWhole = true;
    this.byte(seen);
  }

  /** It is all there, and counts if there was room for it. */
  end(): void {
    if (!this.#isWhole) {
      this.#length = this.#start;
      this.dropped++;
    } else if (this.#start === 0) this.#onSeen(false);
    else if (this.#start < CAPTURE_BYTES / 2 && this.#length >= CAPTURE_BYTES / 2) this.#onSeen(true);
  }

  /** It cannot be read: as if it had not begun. */
  giveUp(): void {
    this.#length = this.#start;
  }

  byte(value: number): void {
    if (this.#has(1)) this.#view.setUint8(this.#length++, value);
  }

  word(value: number): void {
    if (!this.#has(4)) return;
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  number(value: number): void {
    if (!this.#has(8)) return;
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  /** Bytes of RAM. */
  copy(ram: Uint8Array, at: number, length: number): void {
    if (!this.#has(length)) return;
    for (let n = 0; n < length; n++) this.#put[this.#length + n] = ram[at + n]!;
    this.#length += length;
  }

  /** Begins a field of any length: what comes until `close`. */
  open(): void {
    this.#field = this.#length;
    this.word(0);
  }
  close(): void {
    if (this.#isWhole) this.#view.setUint32(this.#field, this.#length - this.#field - 4, true);
  }

  /** Bytes of the guest's, as many as are mapped. */
  bytes(guest: GuestWords, high: number, low: number, length: number): void {
    this.#pieces(guest, high, low, length, false);
  }

  /** The same, and no more than up to a NUL, which is left out. */
  text(guest: GuestWords, high: number, low: number, lengthMax: number): void {
    this.#pieces(guest, high, low, lengthMax, true);
  }

  #pieces(guest: GuestWords, high: number, low: number, lengthMax: number, isText: boolean): void {
    let done = 0;
    for (let more = true; more && done < lengthMax; ) {
      const piece = Math.min(lengthMax - done, PAGE - ((low + done) & (PAGE - 1)));
      const at = guest.behind(high, low, done, piece);
      if (at < 0) break;
      const length = isText ? lengthToNul(guest.ram, at, piece) : piece;
      this.copy(guest.ram, at, length);
      done += length;
      more = length === piece;
    }
  }

  #has(bytes: number): boolean {
    this.#isWhole &&= this.#length + bytes <= CAPTURE_BYTES;
    return this.#isWhole;
  }
}

function lengthToNul(ram: Uint8Array, at: number, lengthMax: number): number {
  let length = 0;
  while (length < lengthMax && ram[at + length] !== 0) length++;
  return length;
}
