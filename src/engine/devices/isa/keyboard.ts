/** An AT keyboard as the keyboard controller talks to it: IBM PS/2 technical reference, "Keyboard". */

/** Scan code set 2, unprefixed codes; E0-prefixed ones have 0xe000 added. */
export const KEY = {
  LEFT_CTRL: 0x14,
  LEFT_ALT: 0x11,
  DELETE: 0xe071,
  /** Print Screen while Alt is held. */
  SYSRQ: 0x84,
} as const;

/** Set 2 codes of a…z and 0…9. */
const LETTERS = [
  0x1c, 0x32, 0x21, 0x23, 0x24, 0x2b, 0x34, 0x33, 0x43, 0x3b, 0x42, 0x4b, 0x3a, 0x31, 0x44, 0x4d, 0x15, 0x2d,
  0x1b, 0x2c, 0x3c, 0x2a, 0x1d, 0x22, 0x35, 0x1a,
] as const;
const DIGITS = [0x45, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46] as const;

/** The key of a letter or digit; undefined for any other character. */
export function keyOf(character: string): number | undefined {
  const code = character.toLowerCase().charCodeAt(0);
  if (code >= 0x30 && code <= 0x39) return DIGITS[code - 0x30];
  return code >= 0x61 && code <= 0x7a ? LETTERS[code - 0x61] : undefined;
}

const ACK = 0xfa;
const RESEND = 0xfe;
const SELF_TEST_PASSED = 0xaa;
const IDENTITY = [0xab, 0x83] as const;
/** What a real keyboard buffers. */
const BUFFER_BYTES = 16;

export class Keyboard {
  readonly #changed: () => void;
  #buffer: number[] = [];
  /** The command whose parameter comes next. */
  #command = 0;
  #scanCodeSet = 2;
  #scans = true;

  /** @param changed called when there is something to read */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  reset(): void {
    this.#buffer = [];
    this.#setDefaults();
  }

  #setDefaults(): void {
    this.#command = 0;
    this.#scanCodeSet = 2;
    this.#scans = true;
  }

  /** The next byte for the controller. */
  take(): number | undefined {
    return this.#buffer.shift();
  }

  get hasData(): boolean {
    return this.#buffer.length > 0;
  }

  /** Presses or releases a key; ignored where the guest has turned scanning off; lost when the buffer is full. */
  key(code: number, isDown: boolean): void {
    const bytes = [...(code > 0xff ? [0xe0] : []), ...(isDown ? [] : [0xf0]), code & 0xff];
    if (this.#scans) this.#reply(...bytes);
  }

  /** A byte from the controller. */
  write(byte: number): void {
    const command = this.#command;
    this.#command = 0;
    if (command !== 0) this.#parameter(command, byte);
    else this.#execute(byte);
  }

  #reply(...bytes: number[]): void {
    if (this.#buffer.length + bytes.length <= BUFFER_BYTES) this.#buffer.push(...bytes);
    this.#changed();
  }

  #parameter(command: number, byte: number): void {
    if (command === 0xf0 && byte === 0) {
      this.#reply(ACK, this.#scanCodeSet);
      return;
    }
    if (command === 0xf0) this.#scanCodeSet = byte;
    this.#reply(ACK);
  }

  #execute(byte: number): void {
    switch (byte) {
      case 0xed:
      case 0xf0:
      case 0xf3:
        this.#command = byte;
        this.#reply(ACK);
        return;
      case 0xee:
        this.#reply(byte);
        return;
      case 0xf2:
        this.#reply(ACK, ...IDENTITY);
        return;
      case 0xf4:
        this.#scans = true;
        this.#reply(ACK);
        return;
      case 0xf5:
      case 0xf6:
        this.#buffer = [];
        this.#setDefaults();
        this.#scans = byte === 0xf6;
        this.#reply(ACK);
        return;
      case 0xff:
        this.reset();
        this.#reply(ACK, SELF_TEST_PASSED);
        return;
      default:
        this.#reply(RESEND);
    }
  }
}

/** Set 2 to set 1, as the controller translates it (IBM PS/2 technical reference, "8042 translation"). */
const TRANSLATION = [
  0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, 0x65, 0x38,
  0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20,
  0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15,
  0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60,
  0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
  0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b,
  0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49,
  0x46, 0x54,
] as const;

/** Translates a stream of set 2 bytes: F0 becomes bit 7 of the code after it. */
export class Set1Translator {
  #isRelease = false;

  /** The translated byte; undefined when there is none for this one. */
  translate(byte: number): number | undefined {
    if (byte === 0xf0) {
      this.#isRelease = true;
      return undefined;
    }
    const code = byte === 0x83 ? 0x41 : byte === 0x84 ? 0x54 : (TRANSLATION[byte] ?? byte);
    const released = this.#isRelease && code < 0x80 ? code | 0x80 : code;
    this.#isRelease = false;
    return released;
  }
}
