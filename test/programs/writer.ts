/** What the statements of a generated program are written through. */
import type { Random } from '../vectors/random.ts';
import { Assembler, type Label, little } from './assembler.ts';
import { based, type Dialect, randomInstruction, REG } from './instructions.ts';
import { PLACE } from './places.ts';

/** Bytes of code that other code changes: instructions stay as long as they are. */
export interface PatchPoint {
  readonly label: Label;
  readonly bytes: 1 | 4;
  /** A new content. */
  value(random: Random): number;
}

/** A table of code addresses for indirect jumps. */
interface JumpTable {
  readonly label: Label;
  readonly targets: readonly Label[];
}

const SLOTS = PLACE.DATA + PLACE.DATA_BYTES - 0x1000;
const SLOT_COUNT = 256;

export class ProgramWriter {
  readonly asm = new Assembler();
  readonly dialect: Dialect;
  /** Runs at level 0. */
  readonly kernel: boolean;
  /** A function calls only those behind it. */
  readonly functions: readonly Label[];
  readonly patchPoints: PatchPoint[] = [];
  readonly tables: JumpTable[] = [];
  #slots = 0;

  constructor(dialect: Dialect, kernel: boolean, functions: number) {
    this.dialect = dialect;
    this.kernel = kernel;
    this.functions = Array.from({ length: functions }, () => ({}));
  }

  get wide(): boolean {
    return this.dialect.bits === 64;
  }

  put(...bytes: readonly number[]): void {
    this.asm.put(...bytes);
  }

  /** Random instructions that go straight on. */
  straight(random: Random, most: number): void {
    const count = 1 + random.below(most);
    for (let n = 0; n < count; n++) this.put(...randomInstruction(random, this.dialect, this.asm.address));
    // the usual index
    if (random.chance(20)) this.put(0x81, 0xe3, ...little(0x3f8, 4)); // and ebx, 0x3f8
  }

  /** A conditional branch; `near` forbids the short form. */
  jcc(condition: number, label: Label, near: boolean): void {
    if (near) this.asm.branch([0x0f, 0x80 + condition], label, 4);
    else this.asm.branch([0x70 + condition], label, 1);
  }

  jump(label: Label): void {
    this.asm.branch([0xe9], label, 4);
  }
  call(label: Label): void {
    this.asm.branch([0xe8], label, 4);
  }

  /** opcode [address] */
  direct(opcode: readonly number[], digit: number, address: Label, rest: readonly number[] = []): void {
    const modrm = this.wide ? [0x04 | (digit << 3), 0x25] : [0x05 | (digit << 3)];
    this.asm.absolute([...opcode, ...modrm], address, rest);
  }

  /** mov register, value (32 bits) */
  load(register: number, value: number): void {
    this.put(...(register >= 8 ? [0x41] : []), 0xb8 + (register & 7), ...little(value, 4));
  }

  /** lea register, [place in the data], through the base register */
  point(register: number, offset: number): void {
    const { modrm, bytes, rex } = based(this.dialect.base, undefined, 0, offset - PLACE.DATA_BYTES / 2);
    this.put(...(this.wide ? [0x48 | rex] : []), 0x8d, modrm | ((register & 7) << 3), ...bytes);
  }

  /** Address of a counter that nothing else uses. */
  slot(): Label {
    this.#slots = (this.#slots + 1) % SLOT_COUNT;
    return { address: SLOTS + this.#slots * 8 };
  }

  push(register: number): void {
    this.put(...(register >= 8 ? [0x41] : []), 0x50 + (register & 7));
  }
  pop(register: number): void {
    this.put(...(register >= 8 ? [0x41] : []), 0x58 + (register & 7));
  }

  /** jmp [table + register * pointer size] */
  jumpThrough(register: number, targets: readonly Label[]): void {
    const label: Label = {};
    this.tables.push({ label, targets });
    const scale = this.wide ? 3 : 2;
    this.asm.absolute([0xff, 0x24, (scale << 6) | (register << 3) | 5], label);
  }

  /** Writes the tables behind the code, and fills in all labels. */
  finish(): void {
    const size = this.wide ? 8 : 4;
    for (const { label, targets } of this.tables) {
      this.asm.place(label);
      for (const target of targets) {
        // no instruction, so no length is noted
        const address = target.address ?? PLACE.CODE;
        this.asm.data(little(address, size));
      }
    }
    this.asm.finish();
  }
}

/** The register that statements may use for themselves. */
export const SCRATCH = REG.AX;
