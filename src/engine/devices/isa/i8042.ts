/**
 * 8042 keyboard controller with a keyboard and no auxiliary port, and system control port A (0x92):
 * IBM PS/2 technical reference, "Keyboard and auxiliary device controller".
 */
import type { Board, Device, IrqLine } from '../../machine/bus.ts';
import { byteRegion } from '../../machine/io-space.ts';
import { KEY, Keyboard, keyOf, Set1Translator } from './keyboard.ts';

const IRQ = 1;
const STATUS = { OUTPUT_FULL: 0x01, SYSTEM: 0x04, LAST_WAS_COMMAND: 0x08, NOT_LOCKED: 0x10 } as const;
const CTR = { KEYBOARD_IRQ: 0x01, SYSTEM: 0x04, KEYBOARD_OFF: 0x10, AUX_OFF: 0x20, TRANSLATE: 0x40 } as const;
const OUTPUT_PORT_NOT_RESET = 0x01;
const OUTPUT_PORT_A20 = 0x02;
/** Commands 0xf0…0xff pulse output lines; line 0 is the processor's reset. */
const PULSE = 0xf0;
const ANSWERS_MAX = 16;
const PRESSING_MAX = 64;

export class I8042 implements Device {
  readonly name = 'i8042';
  readonly #board: Board;
  readonly #irq: IrqLine;
  readonly #keyboard = new Keyboard(() => this.#load());
  #translator = new Set1Translator();
  #ctr = 0;
  #outputPort = 0;
  #lastWasCommand = false;
  /** The controller command whose parameter comes next. */
  #command = 0;
  /** Answers of the controller itself, ahead of the keyboard's bytes. */
  #answers: number[] = [];
  /** The output buffer. */
  #output: number | undefined;
  #data = 0;
  /** Keys that wait for the keyboard's buffer: a chord is not torn apart. */
  #pressing: (readonly [code: number, isDown: boolean])[] = [];

  constructor(board: Board) {
    this.#board = board;
    this.#irq = board.irq(IRQ);
    board.ports.map(
      0x60,
      1,
      this.#region(
        'i8042 data',
        () => this.#readData(),
        (value) => this.#writeData(value),
      ),
    );
    board.ports.map(
      0x64,
      1,
      this.#region(
        'i8042 command',
        () => this.#status,
        (value) => this.#writeCommand(value),
      ),
    );
    board.ports.map(
      0x92,
      1,
      this.#region(
        'port A',
        () => this.#outputPort & OUTPUT_PORT_A20,
        (value) => this.#writePortA(value),
      ),
    );
    this.reset();
  }

  #region(name: string, read: () => number, write: (value: number) => void): ReturnType<typeof byteRegion> {
    return byteRegion(name, read, (_offset, value) => write(value));
  }

  reset(): void {
    this.#keyboard.reset();
    this.#translator = new Set1Translator();
    this.#ctr = CTR.KEYBOARD_IRQ | CTR.SYSTEM | CTR.AUX_OFF | CTR.TRANSLATE;
    this.#outputPort = OUTPUT_PORT_NOT_RESET | OUTPUT_PORT_A20;
    this.#lastWasCommand = false;
    this.#command = 0;
    this.#answers = [];
    this.#pressing = [];
    this.#output = undefined;
    this.#irq.set(false);
  }

  /** Presses keys in order and releases them in reverse; ignored while many others still wait. */
  chord(keys: readonly number[]): void {
    if (this.#pressing.length + 2 * keys.length > PRESSING_MAX) return;
    this.#pressing.push(...keys.map((code) => [code, true] as const));
    this.#pressing.push(...[...keys].reverse().map((code) => [code, false] as const));
    this.#press();
  }

  ctrlAltDelete(): void {
    this.chord([KEY.LEFT_CTRL, KEY.LEFT_ALT, KEY.DELETE]);
  }

  /** Alt, SysRq and a letter or digit; false where there is no key for the character. */
  sysRq(character: string): boolean {
    // Linux's handler knows capital letters from a serial line alone.
    const key = /[A-Z]/.test(character) ? undefined : keyOf(character);
    if (key !== undefined) this.chord([KEY.LEFT_ALT, KEY.SYSRQ, key]);
    return key !== undefined;
  }

  #press(): void {
    while (this.#pressing.length > 0 && !this.#keyboard.hasData) {
      const [code, isDown] = this.#pressing.shift()!;
      this.#keyboard.key(code, isDown);
    }
  }

  get #status(): number {
    return (
      (this.#output !== undefined ? STATUS.OUTPUT_FULL : 0) |
      STATUS.SYSTEM |
      STATUS.NOT_LOCKED |
      (this.#lastWasCommand ? STATUS.LAST_WAS_COMMAND : 0)
    );
  }

  /** Fills the output buffer if it is empty. */
  #load(): void {
    while (this.#output === undefined) {
      const answer = this.#answers.shift();
      if (answer !== undefined) {
        this.#output = answer;
        break;
      }
      if ((this.#ctr & CTR.KEYBOARD_OFF) !== 0) break;
      const byte = this.#keyboard.take();
      if (byte === undefined) break;
      this.#output = (this.#ctr & CTR.TRANSLATE) !== 0 ? this.#translator.translate(byte) : byte;
    }
    this.#update();
  }

  #update(): void {
    this.#irq.set(this.#output !== undefined && (this.#ctr & CTR.KEYBOARD_IRQ) !== 0);
  }

  #readData(): number {
    if (this.#output !== undefined) {
      this.#data = this.#output;
      this.#output = undefined;
      // The line goes low between two bytes, so that each of them is an edge.
      this.#update();
    }
    this.#press();
    this.#load();
    return this.#data;
  }

  #answer(byte: number): void {
    // A guest that never reads loses the answers, as it does on a real controller.
    if (this.#answers.length < ANSWERS_MAX) this.#answers.push(byte);
    this.#load();
  }

  #writeData(value: number): void {
    this.#lastWasCommand = false;
    const command = this.#command;
    this.#command = 0;
    switch (command) {
      case 0x60:
        this.#ctr = value;
        this.#load();
        return;
      case 0xd1:
        this.#writeOutputPort(value);
        return;
      case 0xd2:
      case 0xd3:
        // 0xd3 would come back as a byte of the auxiliary port, if there were one.
        this.#answer(value);
        return;
      case 0xd4:
        return;
      default:
        this.#ctr &= ~CTR.KEYBOARD_OFF;
        this.#keyboard.write(value);
    }
  }

  #writeCommand(value: number): void {
    this.#lastWasCommand = true;
    this.#command = 0;
    switch (value) {
      case 0x20:
        this.#answer(this.#ctr);
        return;
      case 0x60:
      case 0xd1:
      case 0xd2:
      case 0xd3:
      case 0xd4:
        this.#command = value;
        return;
      case 0xa7:
        this.#ctr |= CTR.AUX_OFF;
        return;
      case 0xa8:
        // There is no auxiliary port to enable: its clock stays off.
        return;
      case 0xa9:
        // Clock line stuck: no auxiliary port.
        this.#answer(0x01);
        return;
      case 0xaa:
        this.#answer(0x55);
        return;
      case 0xab:
        this.#answer(0x00);
        return;
      case 0xad:
        this.#ctr |= CTR.KEYBOARD_OFF;
        return;
      case 0xae:
        this.#ctr &= ~CTR.KEYBOARD_OFF;
        this.#load();
        return;
      case 0xd0:
        this.#answer(this.#outputPort);
        return;
      default:
        if (value >= PULSE && (value & 1) === 0) this.#board.raise({ kind: 'reset' });
    }
  }

  #writeOutputPort(value: number): void {
    this.#outputPort = value;
    if ((value & OUTPUT_PORT_NOT_RESET) === 0) this.#board.raise({ kind: 'reset' });
  }

  /** Bit 0 resets the processor; bit 1 is A20, which is always on. */
  #writePortA(value: number): void {
    if ((value & 1) !== 0) this.#board.raise({ kind: 'reset' });
  }
}
