/** Guest registers in locals: which of them a region needs, and moving them to and from the state block. */
import { CPU, STATE } from '../layout.ts';
import type { Push, Width } from '../uops/emitter.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';
import { UOP } from '../layout.ts';
import { blocksOf, type FlowGraph } from './flow-graph.ts';
import { truncateTo } from '../uops/operands.ts';
import { profileOf } from './operand-profile.ts';

/** State offset of the register that an operand is part of: AH is part of RAX. */
const whole = (offset: number): number => offset & ~7;
const isGeneralRegister = (offset: number): boolean => offset < STATE.ZERO;
const isTemporary = (offset: number): boolean => offset >= STATE.TEMP0 && offset < STATE.RIP;
const isVector = (offset: number): boolean => offset >= STATE.XMM && offset < STATE.ST;
const isVectorTemporary = (offset: number): boolean =>
  offset === STATE.XMM_TEMP0 || offset === STATE.XMM_TEMP1;

const FIELDS = { a: UOP.A, b: UOP.B, base: UOP.BASE, index: UOP.INDEX } as const;

const LOADS: Readonly<Record<Width, string>> = {
  8: 'i64.load8_u',
  16: 'i64.load16_u',
  32: 'i64.load32_u',
  64: 'i64.load',
};

/** Registers that the micro-ops of a region read or write, by state offset. */
export interface RegisterUse {
  readonly read: ReadonlySet<number>;
  readonly written: ReadonlySet<number>;
}

export function registerUse(graph: FlowGraph): RegisterUse {
  const read = new Set<number>();
  const written = new Set<number>();
  const note = (set: Set<number>, offset: number): void => {
    if (isGeneralRegister(offset)) set.add(whole(offset));
    else if (isVector(offset)) set.add(offset & ~15);
  };
  for (const node of blocksOf(graph)) {
    for (const uop of node.uops) {
      const profile = profileOf(graph.uops, uop);
      for (const field of profile.reads) note(read, graph.uops.u16(uop, FIELDS[field]));
      for (const field of profile.writes) note(written, graph.uops.u16(uop, FIELDS[field]));
      for (const offset of profile.fixedReads) note(read, offset);
      for (const offset of profile.fixedWrites) note(written, offset);
    }
  }
  return { read, written };
}

export class RegisterFile {
  readonly #w: FunctionWriter;
  readonly #written: readonly number[];
  /** Those that are in locals. */
  readonly #used: readonly number[];
  /** Local of a register or temporary, by state offset. */
  readonly #locals = new Map<number, number>();

  constructor(w: FunctionWriter, use: RegisterUse) {
    this.#w = w;
    this.#written = [...use.written];
    this.#used = [...new Set([...use.read, ...use.written])];
    for (const offset of this.#used) {
      this.#locals.set(offset, w.local(isVector(offset) ? 'v128' : 'i64'));
    }
  }

  isGeneral(offset: number): boolean {
    return isGeneralRegister(offset) || isTemporary(offset);
  }

  #local(offset: number, type: 'i64' | 'v128'): number {
    let local = this.#locals.get(offset);
    if (local === undefined) {
      // Temporaries are dead between instructions: they get a local when first met, and never a load.
      if (!isTemporary(offset) && !isVectorTemporary(offset)) {
        throw new Error(`register at state offset 0x${offset.toString(16)} is not in the region's profile`);
      }
      local = this.#w.local(type);
      this.#locals.set(offset, local);
    }
    return local;
  }

  /** Pushes the low bits of a register, zero-extended; other state fields are loaded. */
  read(offset: number, width: Width): void {
    const w = this.#w;
    if (offset === STATE.ZERO) {
      w.i64(0);
      return;
    }
    if (!this.isGeneral(offset)) {
      w.i32(0);
      w.memory(LOADS[width], CPU + offset);
      return;
    }
    w.get(this.#local(whole(offset), 'i64'));
    if (offset & 1) {
      w.i64(8);
      w.op('i64.shr_u');
    }
    truncateTo(w, width);
  }

  write(offset: number, width: Width, value: Push): void {
    const w = this.#w;
    if (!this.isGeneral(offset)) throw new Error(`state offset 0x${offset.toString(16)} is no register`);
    const local = this.#local(whole(offset), 'i64');
    if (width >= 32) {
      value();
      truncateTo(w, width);
      w.set(local);
      return;
    }
    const shift = offset & 1 ? 8 : 0;
    const mask = (1 << width) - 1;
    value();
    w.i64(mask);
    w.op('i64.and');
    if (shift > 0) {
      w.i64(shift);
      w.op('i64.shl');
    }
    w.get(local);
    w.i64(~(mask << shift));
    w.op('i64.and');
    w.op('i64.or');
    w.set(local);
  }

  readVector(offset: number): void {
    if (isVector(offset) || isVectorTemporary(offset)) {
      this.#w.get(this.#local(offset, 'v128'));
      return;
    }
    this.#w.i32(0);
    this.#w.memory('v128.load', CPU + offset);
  }

  writeVector(offset: number, value: Push): void {
    if (isVector(offset) || isVectorTemporary(offset)) {
      value();
      this.#w.set(this.#local(offset, 'v128'));
      return;
    }
    this.#w.i32(0);
    value();
    this.#w.memory('v128.store', CPU + offset);
  }

  /** Writes a register's local to its place in memory. */
  spill(offset: number): void {
    const local = this.#locals.get(isVector(offset) ? offset : whole(offset));
    if (local === undefined) return;
    const vector = isVector(offset) || isVectorTemporary(offset);
    this.#w.i32(0);
    this.#w.get(local);
    this.#w.memory(vector ? 'v128.store' : 'i64.store', CPU + (vector ? offset : whole(offset)));
  }

  reload(offset: number): void {
    const vector = isVector(offset) || isVectorTemporary(offset);
    const at = vector ? offset : whole(offset);
    const local = isVectorTemporary(offset) ? this.#local(at, 'v128') : this.#locals.get(at);
    if (local === undefined) return;
    this.#w.i32(0);
    this.#w.memory(vector ? 'v128.load' : 'i64.load', CPU + at);
    this.#w.set(local);
  }

  /** Writes every register that the region changes. */
  spillAll(): void {
    for (const offset of this.#written) this.spill(offset);
  }

  /** Reads every register that the region has in a local. */
  reloadAll(): void {
    for (const offset of this.#used) this.reload(offset);
  }
}
