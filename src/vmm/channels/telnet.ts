/** The server's side of telnet (RFC 854, 857, 858, 1073): a character at a time, and the size of the client's window. */

const IAC = 255;
const COMMAND = { SE: 240, BREAK: 243, SB: 250, WILL: 251, WONT: 252, DO: 253, DONT: 254 } as const;
const OPTION = { ECHO: 1, SUPPRESS_GO_AHEAD: 3, WINDOW_SIZE: 31 } as const;
/** A subnegotiation that never ends is cut. */
const SUBNEGOTIATION_MAX = 256;
const CR = 13;
const LF = 10;

export interface TelnetInput {
  readonly bytes: Uint8Array;
  /** The window's size, where it was told. */
  readonly size: { readonly columns: number; readonly rows: number } | undefined;
}

/** Sent first: the guest echoes, and the client is asked for its size. */
export const TELNET_GREETING: Uint8Array = Uint8Array.of(
  ...[IAC, COMMAND.WILL, OPTION.ECHO],
  ...[IAC, COMMAND.WILL, OPTION.SUPPRESS_GO_AHEAD],
  ...[IAC, COMMAND.DO, OPTION.SUPPRESS_GO_AHEAD],
  ...[IAC, COMMAND.DO, OPTION.WINDOW_SIZE],
);

/** Data for the client: the escape byte twice. */
export function encodeTelnet(bytes: Uint8Array): Uint8Array {
  if (!bytes.includes(IAC)) return bytes;
  const encoded: number[] = [];
  for (const byte of bytes) encoded.push(...(byte === IAC ? [IAC, IAC] : [byte]));
  return Uint8Array.from(encoded);
}

type State = 'data' | 'command' | 'option' | 'sub' | 'sub-command';

/** What a client sends, taken apart; it may come in any pieces. */
export class TelnetDecoder {
  #state: State = 'data';
  #afterReturn = false;
  #sub: number[] = [];
  #size: TelnetInput['size'];

  decode(input: Uint8Array): TelnetInput {
    const bytes: number[] = [];
    this.#size = undefined;
    for (const byte of input) this.#take(byte, bytes);
    return { bytes: Uint8Array.from(bytes), size: this.#size };
  }

  #take(byte: number, bytes: number[]): void {
    switch (this.#state) {
      case 'data':
        if (byte === IAC) this.#state = 'command';
        else this.#data(byte, bytes);
        break;
      case 'command':
        this.#command(byte, bytes);
        break;
      case 'option':
        // What is refused or agreed to changes nothing: there is nothing to give way to.
        this.#state = 'data';
        break;
      case 'sub':
        if (byte === IAC) this.#state = 'sub-command';
        else this.#subByte(byte);
        break;
      case 'sub-command':
        this.#state = byte === COMMAND.SE ? 'data' : 'sub';
        if (byte === COMMAND.SE) this.#subEnded();
        else if (byte === IAC) this.#subByte(byte);
        break;
    }
  }

  /** The return key comes as CR NUL or CR LF. */
  #data(byte: number, bytes: number[]): void {
    const follows = this.#afterReturn && (byte === 0 || byte === LF);
    this.#afterReturn = byte === CR;
    if (!follows) bytes.push(byte);
  }

  #command(byte: number, bytes: number[]): void {
    this.#state = 'data';
    if (byte === IAC) this.#data(byte, bytes);
    else if (byte === COMMAND.SB) {
      this.#state = 'sub';
      this.#sub = [];
    } else if (byte >= COMMAND.WILL && byte <= COMMAND.DONT) this.#state = 'option';
  }

  #subByte(byte: number): void {
    if (this.#sub.length < SUBNEGOTIATION_MAX) this.#sub.push(byte);
  }

  #subEnded(): void {
    const [option, columnsHigh = 0, columnsLow = 0, rowsHigh = 0, rowsLow = 0] = this.#sub;
    if (option !== OPTION.WINDOW_SIZE || this.#sub.length !== 5) return;
    const [columns, rows] = [(columnsHigh << 8) | columnsLow, (rowsHigh << 8) | rowsLow];
    if (columns > 0 && rows > 0) this.#size = { columns, rows };
  }
}

/** For a client: its window's size (RFC 1073). */
export function windowSizeMessage(columns: number, rows: number): Uint8Array {
  const size = [columns >> 8, columns & 0xff, rows >> 8, rows & 0xff];
  const escaped = size.flatMap((byte) => (byte === IAC ? [IAC, IAC] : [byte]));
  return Uint8Array.of(IAC, COMMAND.SB, OPTION.WINDOW_SIZE, ...escaped, IAC, COMMAND.SE);
}
