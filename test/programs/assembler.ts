/** Puts a program's machine code together: labels, branches to them, and the length of each instruction. */
import { PLACE } from './places.ts';

/** A place in the code; its address is known once it has been placed. */
export interface Label {
  address?: number;
}

interface Fixup {
  readonly at: number;
  readonly bytes: 1 | 4;
  /** What the distance is counted from; undefined for an absolute address. */
  readonly from: number | undefined;
  readonly label: Label;
}

export class Assembler {
  readonly code = new Uint8Array(PLACE.CODE_BYTES);
  /** At each instruction's first byte its length. */
  readonly lengths = new Uint8Array(PLACE.CODE_BYTES);
  readonly #fixups: Fixup[] = [];
  /** Offset of the next instruction. */
  #at = 0;

  get address(): number {
    return PLACE.CODE + this.#at;
  }
  get room(): number {
    return PLACE.CODE_BYTES - this.#at;
  }

  /** Goes on at an address. */
  moveTo(address: number): void {
    this.#at = address - PLACE.CODE;
  }

  place(label: Label): void {
    label.address = this.address;
  }
  here(): Label {
    return { address: this.address };
  }

  /** One instruction; gives its address. */
  put(...bytes: readonly number[]): number {
    const { address } = this;
    this.code.set(bytes, this.#at);
    this.lengths[this.#at] = bytes.length;
    this.#at += bytes.length;
    return address;
  }

  /** Bytes that are no instruction. */
  data(bytes: readonly number[]): void {
    this.code.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** An instruction that ends in the distance to a label, of 1 or 4 bytes. */
  branch(opcode: readonly number[], label: Label, bytes: 1 | 4): number {
    const address = this.put(...opcode, ...Array<number>(bytes).fill(0));
    this.#fixups.push({ at: this.#at - bytes, bytes, from: this.address, label });
    return address;
  }

  /** An instruction with a label's address as 4 bytes in it, which `rest` follow. */
  absolute(opcode: readonly number[], label: Label, rest: readonly number[] = []): number {
    const address = this.put(...opcode, 0, 0, 0, 0, ...rest);
    this.#fixups.push({ at: this.#at - 4 - rest.length, bytes: 4, from: undefined, label });
    return address;
  }

  /** Fills in what labels stand for. Distances that do not fit into a byte are cut: the branch goes somewhere. */
  finish(): void {
    for (const { at, bytes, from, label } of this.#fixups) {
      const value = (label.address ?? PLACE.CODE) - (from ?? 0);
      for (let n = 0; n < bytes; n++) this.code[at + n] = (value >> (n * 8)) & 0xff;
    }
  }
}

/** The low bytes of a number, the lowest first. */
export const little = (value: number | bigint, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, n) =>
    Number((BigInt.asUintN(64, BigInt(value)) >> BigInt(n * 8)) & 0xffn),
  );
