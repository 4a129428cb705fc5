/** Locals that micro-ops use as they like, of which a function declares those that its code uses: V8 deals with each of them at each branch. */
import type { FunctionWriter } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';

/** Numbers of locals of one type, declared when first asked for. */
export class ScratchLocals implements Iterable<number> {
  readonly [index: number]: number;
  readonly #w: FunctionWriter;
  readonly #type: ValueType;
  readonly #locals: number[] = [];

  constructor(w: FunctionWriter, type: ValueType) {
    this.#w = w;
    this.#type = type;
  }

  #local(n: number): number {
    this.#locals[n] ??= this.#w.local(this.#type);
    return this.#locals[n];
  }

  get 0(): number {
    return this.#local(0);
  }
  get 1(): number {
    return this.#local(1);
  }
  get 2(): number {
    return this.#local(2);
  }
  get 3(): number {
    return this.#local(3);
  }
  get 4(): number {
    return this.#local(4);
  }
  get 5(): number {
    return this.#local(5);
  }
  get 6(): number {
    return this.#local(6);
  }
  get 7(): number {
    return this.#local(7);
  }
  get 8(): number {
    return this.#local(8);
  }

  *[Symbol.iterator](): Generator<number> {
    for (let n = 0; n <= 8; n++) yield this.#local(n);
  }
}

/** Scratch locals of a function, by type. */
export interface Scratch {
  readonly i64: ScratchLocals;
  readonly i32: ScratchLocals;
  readonly v128: ScratchLocals;
  readonly f64: ScratchLocals;
  readonly f32: ScratchLocals;
}

export function scratchOf(w: FunctionWriter): Scratch {
  const locals = (type: ValueType): ScratchLocals => new ScratchLocals(w, type);
  return {
    i64: locals('i64'),
    i32: locals('i32'),
    v128: locals('v128'),
    f64: locals('f64'),
    f32: locals('f32'),
  };
}
