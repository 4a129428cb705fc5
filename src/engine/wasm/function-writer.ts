/** Writes the body of one WebAssembly function. Knows nothing of x86. */
import { ByteBuffer } from './byte-buffer.ts';
import { LANE_OPCODES, MEMORY_OPCODES, OPCODES, VALUE_TYPES, type ValueType } from './opcodes.ts';

/** A branch target: the nesting depth at which its block was opened. */
export type Label = number;

/** Whether a condition is mostly true: the compiler moves what is unlikely out of the way. */
export type Hint = 'likely' | 'unlikely';

/** The hint of a branch, by its position behind the function's locals. */
export interface BranchHint {
  readonly position: number;
  readonly hint: Hint;
}

/** The largest number of a local that LEB128 has a byte for. */
const LOCALS_MAX = 127;

export class FunctionWriter {
  readonly body = new ByteBuffer();
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly #locals: ValueType[] = [];
  /** Where the body has the number of a local. */
  readonly #uses: number[] = [];
  readonly #hints: BranchHint[] = [];
  #depth = 0;

  constructor(params: readonly ValueType[], results: readonly ValueType[]) {
    this.params = params;
    this.results = results;
  }

  /** Returns a number for a local. It is declared if the body uses it: V8 deals with every local at every branch. */
  local(type: ValueType): number {
    const number = this.params.length + this.#locals.length;
    if (number > LOCALS_MAX) throw new Error(`a function has at most ${LOCALS_MAX} locals`);
    this.#locals.push(type);
    return number;
  }

  /** An instruction without immediates, by its name in the text format. */
  op(name: string): void {
    const code = OPCODES[name];
    if (code === undefined) throw new Error(`no such WebAssembly instruction: ${name}`);
    this.#code(code);
  }

  #code(code: number): void {
    if (code <= 0xff) {
      this.body.u8(code);
    } else {
      this.body.u8(code >>> 8);
      this.body.u32(code & 0xff);
    }
  }

  /** A load or store with a constant offset; alignment is declared as 1. */
  memory(name: string, offset = 0): void {
    const code = MEMORY_OPCODES[name];
    if (code === undefined) throw new Error(`no such WebAssembly memory instruction: ${name}`);
    this.#code(code);
    this.body.u8(0);
    this.body.u32(offset);
  }

  lane(name: string, lane: number): void {
    const code = LANE_OPCODES[name];
    if (code === undefined) throw new Error(`no such WebAssembly lane instruction: ${name}`);
    this.#code(code);
    this.body.u8(lane);
  }

  shuffle(lanes: readonly number[]): void {
    this.body.u8(0xfd);
    this.body.u32(0x0d);
    for (const lane of lanes) this.body.u8(lane);
  }

  i32(value: number): void {
    this.body.u8(0x41);
    this.body.s32(value);
  }
  /** A number must be a safe integer. */
  i64(value: bigint | number): void {
    this.body.u8(0x42);
    this.body.s64(value);
  }
  f32(value: number): void {
    this.body.u8(0x43);
    this.body.append(new Uint8Array(new Float32Array([value]).buffer));
  }
  f64(value: number): void {
    this.body.u8(0x44);
    this.body.append(new Uint8Array(new Float64Array([value]).buffer));
  }
  /** A 128-bit constant from two 64-bit halves. */
  v128(low: bigint, high: bigint): void {
    this.body.u8(0xfd);
    this.body.u32(0x0c);
    this.body.append(
      new Uint8Array(new BigUint64Array([BigInt.asUintN(64, low), BigInt.asUintN(64, high)]).buffer),
    );
  }

  #use(code: number, local: number): void {
    this.body.u8(code);
    this.#uses.push(this.body.length);
    this.body.u8(local);
  }
  get(local: number): void {
    this.#use(0x20, local);
  }
  set(local: number): void {
    this.#use(0x21, local);
  }
  tee(local: number): void {
    this.#use(0x22, local);
  }

  #hint(hint: Hint | undefined): void {
    if (hint !== undefined) this.#hints.push({ position: this.body.length, hint });
  }

  #open(code: number, result: ValueType | undefined): Label {
    this.body.u8(code);
    this.body.u8(result === undefined ? 0x40 : VALUE_TYPES[result]);
    this.#depth += 1;
    return this.#depth;
  }
  block(result?: ValueType): Label {
    return this.#open(0x02, result);
  }
  loop(result?: ValueType): Label {
    return this.#open(0x03, result);
  }
  /** Pops the i32 condition. */
  if(result?: ValueType, hint?: Hint): Label {
    this.#hint(hint);
    return this.#open(0x04, result);
  }
  else(): void {
    this.body.u8(0x05);
  }
  end(): void {
    this.body.u8(0x0b);
    this.#depth -= 1;
  }
  br(label: Label): void {
    this.body.u8(0x0c);
    this.body.u32(this.#depth - label);
  }
  brIf(label: Label, hint?: Hint): void {
    this.#hint(hint);
    this.body.u8(0x0d);
    this.body.u32(this.#depth - label);
  }
  /** Pops the i32 index. */
  brTable(labels: readonly Label[], fallback: Label): void {
    this.body.u8(0x0e);
    this.body.u32(labels.length);
    for (const label of labels) this.body.u32(this.#depth - label);
    this.body.u32(this.#depth - fallback);
  }
  /** Calls a function by its index in the module. */
  call(index: number): void {
    this.body.u8(0x10);
    this.body.u32(index);
  }

  /** Pops the i32 index into table 0 and calls the function of that type there. */
  callIndirect(type: number): void {
    this.body.u8(0x11);
    this.body.u32(type);
    this.body.u8(0);
  }

  /** The same as a tail call: the caller's frame is gone. */
  returnCallIndirect(type: number): void {
    this.body.u8(0x13);
    this.body.u32(type);
    this.body.u8(0);
  }

  /** Whether the body uses a local, by number. */
  #used(): readonly boolean[] {
    const body = this.body.view();
    const used: boolean[] = [];
    for (const at of this.#uses) used[body[at]!] = true;
    return used;
  }

  /** The declaration of the locals. */
  #declaration(used: readonly boolean[]): ByteBuffer {
    const out = new ByteBuffer();
    const runs: { type: ValueType; count: number }[] = [];
    for (const [n, type] of this.#locals.entries()) {
      if (!used[this.params.length + n]) continue;
      const last = runs.at(-1);
      if (last?.type === type) last.count += 1;
      else runs.push({ type, count: 1 });
    }
    out.u32(runs.length);
    for (const run of runs) {
      out.u32(run.count);
      out.u8(VALUE_TYPES[run.type]);
    }
    return out;
  }

  /** What number a local has among those that are declared. */
  #numbers(used: readonly boolean[]): readonly number[] {
    let next = this.params.length;
    return Array.from(used, (isUsed, n) => (n < this.params.length ? n : isUsed ? next++ : -1));
  }

  /** The code section's entry for this function, without its size. */
  code(): Uint8Array {
    const used = this.#used();
    const out = this.#declaration(used);
    const start = out.length;
    out.append(this.body.view());
    const bytes = out.view();
    const declared = this.#numbers(used);
    for (const at of this.#uses) bytes[start + at] = declared[bytes[start + at]!]!;
    out.u8(0x0b);
    return out.view();
  }

  /** Hints, in the order of their branches; positions are from the beginning of `code`. */
  hints(): BranchHint[] {
    const { length } = this.#declaration(this.#used());
    return this.#hints.map(({ position, hint }) => ({ position: length + position, hint }));
  }
}
