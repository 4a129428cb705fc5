/** A machine state to start from and the bytes of one instruction. */
import { FRAME_GPRS, INPUT, PLACE, WINDOW_BYTES } from './layout.ts';
import type { Form } from './form.ts';
import type { Random } from './random.ts';

const MXCSR_DEFAULT = 0x1f80;
const FCW_DEFAULT = 0x37f;
const FXSAVE = { FCW: 0, FSW: 2, FTW: 4, MXCSR: 24, ST: 32, XMM: 160 } as const;
/** What RFLAGS has besides the status flags: interrupts on, and the bit that is always set. */
const FLAGS_FIXED = 0x202;
const FLAGS_RANDOM = 0xcd5;

export class TestCase {
  readonly form: Form;
  readonly random: Random;
  readonly registers = new BigUint64Array(16);
  readonly window = new Uint8Array(WINDOW_BYTES);
  readonly fxsave = new Uint8Array(512);
  readonly fx = new DataView(this.fxsave.buffer);
  flags = 0;
  code: number[] = [];
  /** Flags that the comparison leaves out. */
  undefinedFlags = 0;
  /** Registers whose values are fixed: not available for addresses. */
  readonly pinned = new Set<number>();

  constructor(form: Form, random: Random) {
    this.form = form;
    this.random = random;
    for (let i = 0; i < 16; i++) this.registers[i] = random.integer();
    this.flags = (random.u32() & FLAGS_RANDOM & ~(form.family === 'integer' ? 0 : 0x400)) | FLAGS_FIXED;
    this.#fillVectors(this.window);
    this.#fillVectors(new Uint8Array(this.fxsave.buffer, FXSAVE.XMM, 256));
    this.#controlWords();
    this.#fillStack();
  }

  /** Sets a register that the instruction uses implicitly. */
  pin(register: number, value: bigint): void {
    this.registers[register] = BigInt.asUintN(64, value);
    this.pinned.add(register);
  }

  /** Writes into the window at an address. */
  poke(address: number, value: bigint): void {
    new DataView(this.window.buffer).setBigUint64(address - PLACE.WINDOW, BigInt.asUintN(64, value), true);
  }

  /** An address with `bytes` bytes of the window behind it. */
  address(bytes: number, align = 1): number {
    const last = PLACE.WINDOW + WINDOW_BYTES - bytes;
    const address = PLACE.WINDOW + this.random.below(last - PLACE.WINDOW + 1);
    return address - (address % align);
  }

  /** The case in INPUT's format. */
  write(into: Uint8Array): void {
    const view = new DataView(into.buffer, into.byteOffset, INPUT.BYTES);
    into.set(this.fxsave, INPUT.FXSAVE);
    for (const [i, register] of FRAME_GPRS.entries()) {
      view.setBigUint64(INPUT.REGISTERS + i * 8, this.registers[register], true);
    }
    view.setBigUint64(INPUT.RIP, BigInt(PLACE.CODE), true);
    view.setBigUint64(INPUT.RFLAGS, BigInt(this.flags), true);
    into.fill(0xf4, INPUT.CODE, INPUT.WINDOW);
    into.set(this.code, INPUT.CODE);
    into.set(this.window, INPUT.WINDOW);
  }

  /** Fills 16-byte pieces with numbers of one kind each. */
  #fillVectors(bytes: Uint8Array): void {
    const { random } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += 16) {
      const kind = random.below(4);
      for (let i = 0; i < 16; i += 8) {
        if (kind === 0) view.setBigUint64(at + i, random.u64(), true);
        else if (kind === 1) view.setBigUint64(at + i, random.float64(), true);
        else if (kind === 2) {
          view.setUint32(at + i, random.float32(), true);
          view.setUint32(at + i + 4, random.float32(), true);
        } else view.setBigUint64(at + i, random.integer(), true);
      }
    }
  }

  #controlWords(): void {
    const { random, fx } = this;
    let mxcsr = MXCSR_DEFAULT;
    if (random.chance(30)) mxcsr = (mxcsr | (random.u32() & 0xe07f)) & 0xffff;
    // Whether an unmasked exception leaves the x87 registers in MMX mode differs between processors.
    if (random.chance(8) && this.form.family !== 'mmx') mxcsr = random.u32() & 0xffc0;
    fx.setUint32(FXSAVE.MXCSR, mxcsr, true);
    let fcw = FCW_DEFAULT;
    if (random.chance(40)) fcw = 0x7f | (random.u32() & 0xf00);
    if (random.chance(8)) fcw = 0x40 | (random.u32() & 0xf3f);
    fx.setUint16(FXSAVE.FCW, fcw, true);
    const sticky = random.chance(20) ? random.u32() & 0x7f : 0;
    // An exception flag whose mask is clear is pending: the next waiting instruction raises it.
    const pending = (sticky & ~fcw & 0x3f) !== 0 ? 0x8080 : 0;
    fx.setUint16(FXSAVE.FSW, sticky | pending | (random.below(8) << 11) | (random.u32() & 0x4700), true);
    fx.setUint8(FXSAVE.FTW, random.chance(70) ? 0xff : random.u32() & 0xff);
  }

  #fillStack(): void {
    for (let i = 0; i < 8; i++) {
      const { significand, exponent } = this.random.float80();
      this.fx.setBigUint64(FXSAVE.ST + i * 16, significand, true);
      this.fx.setUint16(FXSAVE.ST + i * 16 + 8, exponent, true);
    }
  }
}
