/**
 * Flags in compiled regions: locals keep the operands of the last operation that set them, which costs next to
 * nothing where nothing reads the flags. Where something does, the kind of the operation is mostly known at compile
 * time, and a condition is a comparison of the operands.
 *
 * What x and y hold, by kind (zero-extended operands; of results only the operation's width counts):
 *
 * | kind    | x           | y          |                                     |
 * |---------|-------------|------------|-------------------------------------|
 * | explicit| FLAG_RESULT | FLAG_CARRY | see `uops/flags.ts`                 |
 * | logic   | result      |            | CF, OF and AF clear                 |
 * | add     | sum         | b          | a = sum - b                         |
 * | sub     | difference  | b          | a = difference + b                  |
 * | compare | a           | b          |                                     |
 * | adc, sbb| result      | b          | the third local has a; CF is apart  |
 * | product | a           | b          | sign-extended operands              |
 *
 * CF may be apart: a bit of the carry local, whatever the kind says. Leaving the region stores the locals as they are;
 * `settleFlags` of the core makes them explicit before anything outside of compiled code looks.
 */
import { CPU, FLAG_KIND, STATE } from '../layout.ts';
import type { FlagRecorder, Push, Width } from '../uops/emitter.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';
import { LOAD, STORE } from '../wasm/opcodes.ts';
import {
  carryBits,
  type FlagState,
  KIND_IN_LOCAL,
  kindNumber,
  type KnownFlags,
  sameKind,
} from './flag-state.ts';
import { type FlagLocals, FlagReader, needed } from './flag-reader.ts';

const EXPLICIT: KnownFlags = { op: 'explicit', width: 64, carryBit: undefined, synced: false };

/** Locals that a region needs only for some instructions. */
export interface FlagNeeds {
  /** CF apart from the operation. */
  readonly carry: boolean;
  /** A third operand. */
  readonly third: boolean;
}

export class LazyFlags implements FlagRecorder {
  readonly #w: FunctionWriter;
  readonly #callSettle: Push;
  readonly #locals: FlagLocals;
  /** i64 */
  readonly #scratch: number;
  /** What is known here. Set it at the beginning of each block. */
  known: FlagState = 'unknown';

  /** @param callSettle calls `settleFlags` of the core */
  constructor(w: FunctionWriter, needs: FlagNeeds, callSettle: Push) {
    this.#w = w;
    this.#callSettle = callSettle;
    this.#locals = {
      x: w.local('i64'),
      y: w.local('i64'),
      kind: w.local('i32'),
      carry: needs.carry ? w.local('i64') : undefined,
      third: needs.third ? w.local('i64') : undefined,
    };
    this.#scratch = w.local('i64');
  }

  // ---- recording ----

  #copy(from: number, to: number): void {
    this.#w.get(from);
    this.#w.set(to);
  }

  #record(op: KnownFlags['op'], width: Width, x: number, y?: number, carryBit?: number): void {
    this.#copy(x, this.#locals.x);
    if (y !== undefined) this.#copy(y, this.#locals.y);
    this.known = { op, width, carryBit, synced: false };
  }

  add(width: Width, a: number, b: number, sum: number, withCarry = false): void {
    if (!withCarry) {
      this.#record('add', width, sum, b);
      return;
    }
    const w = this.#w;
    // the carry out of bit 63 is that of (a & b) | ((a | b) & ~sum); narrower sums have it in the bit above them
    w.get(sum);
    if (width === 64) {
      w.i64(-1);
      w.op('i64.xor');
      this.#binary('i64.or', a, b);
      w.op('i64.and');
      this.#binary('i64.and', a, b);
      w.op('i64.or');
    }
    w.set(needed(this.#locals.carry));
    this.#copy(a, needed(this.#locals.third));
    this.#record('adc', width, sum, b, width === 64 ? 63 : width);
  }

  sub(width: Width, a: number, b: number, difference: number, withCarry = false): void {
    if (!withCarry) {
      this.#record('sub', width, difference, b);
      return;
    }
    const w = this.#w;
    // the borrow into bit 64 is that of (~a & b) | (~(a ^ b) & difference); narrower differences are negative
    w.get(difference);
    if (width === 64) {
      this.#binary('i64.xor', a, b);
      w.i64(-1);
      w.op('i64.xor');
      w.op('i64.and');
      w.get(a);
      w.i64(-1);
      w.op('i64.xor');
      w.get(b);
      w.op('i64.and');
      w.op('i64.or');
    }
    w.set(needed(this.#locals.carry));
    this.#copy(a, needed(this.#locals.third));
    this.#record('sbb', width, difference, b, 63);
  }

  compare(width: Width, a: number, b: number): void {
    this.#record('compare', width, a, b);
  }

  logic(width: Width, value: number): void {
    this.#record('logic', width, value);
  }

  product(width: Width, a: number, b: number): void {
    this.#record('product', width, a, b);
  }

  step(width: Width, add: boolean, _a: number, one: number, value: number): void {
    const carryBit = this.#separateCarry();
    this.#record(add ? 'add' : 'sub', width, value, one, carryBit);
  }

  /** Keeps the present CF in its local; returns which bit of it. */
  #separateCarry(): number {
    const carry = needed(this.#locals.carry);
    const { op, carryBit } = this.#readable();
    if (carryBit !== undefined) return carryBit;
    if (op === 'explicit') {
      this.#copy(this.#locals.y, carry);
      return 63;
    }
    this.pushCarry();
    this.#w.set(carry);
    return 0;
  }

  setCarry(value: number, bit: number): void {
    const w = this.#w;
    this.#copy(value, needed(this.#locals.carry));
    if (this.known !== 'unknown') {
      this.known = { ...this.known, carryBit: bit, synced: false };
      return;
    }
    w.get(this.#locals.kind);
    w.i32(FLAG_KIND.APART - 1);
    w.op('i32.and');
    w.i32(carryBits(bit));
    w.op('i32.or');
    w.set(this.#locals.kind);
  }

  set(result: Push, carry: Push): void {
    const w = this.#w;
    result();
    carry();
    w.set(this.#locals.y);
    w.set(this.#locals.x);
    this.known = EXPLICIT;
  }

  conditionally(condition: Push, change: Push, otherwise: Push = () => {}): void {
    this.sync();
    condition();
    this.#w.if();
    const before = this.known;
    change();
    this.sync();
    const changed = this.known;
    this.#w.else();
    this.known = before;
    otherwise();
    this.sync();
    this.#w.end();
    if (!sameKind(this.known, changed)) this.known = 'unknown';
  }

  // ---- kind ----

  /** Names the kind in the local, before ways meet. */
  sync(): void {
    if (this.known === 'unknown' || this.known.synced) return;
    this.pushKind();
    this.#w.set(this.#locals.kind);
    const { op, width, carryBit } = this.known;
    this.known = { op, width, carryBit, synced: true };
  }

  /** Names the kind in the local on a way out of the region, which is not the way that goes on. */
  nameKind(): void {
    if (this.known === 'unknown') return;
    this.pushKind();
    this.#w.set(this.#locals.kind);
  }

  /** Pushes the kind's number. */
  pushKind(): void {
    if (this.known === 'unknown') this.#w.get(this.#locals.kind);
    else this.#w.i32(kindNumber(this.known));
  }

  /** The kind's number for an exit: KIND_IN_LOCAL if it is not known. */
  get exitKind(): number {
    return this.known === 'unknown' ? KIND_IN_LOCAL : kindNumber(this.known);
  }

  /** Takes the kind from a local that has the number of an exit's. */
  setKind(number: number): void {
    const w = this.#w;
    w.get(this.#locals.kind);
    w.get(number);
    w.get(number);
    w.i32(KIND_IN_LOCAL);
    w.op('i32.eq');
    w.op('select');
    w.set(this.#locals.kind);
    this.known = 'unknown';
  }

  /** Makes the flags explicit by a call. */
  settle(): KnownFlags {
    const w = this.#w;
    const isUnknown = this.known === 'unknown';
    if (isUnknown) {
      w.get(this.#locals.kind);
      w.if();
    }
    this.spill();
    this.#callSettle();
    this.#loadWords();
    if (isUnknown) {
      w.i32(FLAG_KIND.EXPLICIT);
      w.set(this.#locals.kind);
      w.end();
    }
    const known = { ...EXPLICIT, synced: isUnknown };
    this.known = known;
    return known;
  }

  /** Settles flags of which no part can be computed here. */
  #readable(): KnownFlags {
    if (this.known !== 'unknown' && this.known.op !== 'product') return this.known;
    return this.settle();
  }

  // ---- state ----

  #store(type: 'i32' | 'i64', offset: number, value: Push): void {
    this.#w.i32(0);
    value();
    this.#w.memory(STORE[type], CPU + offset);
  }

  #load(type: 'i32' | 'i64', offset: number, local: number): void {
    this.#w.i32(0);
    this.#w.memory(LOAD[type], CPU + offset);
    this.#w.set(local);
  }

  #loadWords(): void {
    this.#load('i64', STATE.FLAG_RESULT, this.#locals.x);
    this.#load('i64', STATE.FLAG_CARRY, this.#locals.y);
  }

  /** Writes the locals to the state as they are. */
  spill(): void {
    const put = (offset: number, local: number | undefined): void => {
      if (local !== undefined) this.#store('i64', offset, () => this.#w.get(local));
    };
    put(STATE.FLAG_RESULT, this.#locals.x);
    put(STATE.FLAG_CARRY, this.#locals.y);
    put(STATE.FLAG_APART, this.#locals.carry);
    put(STATE.FLAG_THIRD, this.#locals.third);
    this.#store('i32', STATE.FLAG_KIND, () => this.pushKind());
  }

  /** Reads what `spill` of another region, or the interpreter, has left. */
  load(): void {
    this.#loadWords();
    if (this.#locals.carry !== undefined) this.#load('i64', STATE.FLAG_APART, this.#locals.carry);
    if (this.#locals.third !== undefined) this.#load('i64', STATE.FLAG_THIRD, this.#locals.third);
    this.#load('i32', STATE.FLAG_KIND, this.#locals.kind);
    this.known = 'unknown';
  }

  /** Writes explicit flags to the state, for a core call that reads them. */
  publish(): void {
    this.#store('i64', STATE.FLAG_RESULT, () => this.pushResult());
    this.#store('i64', STATE.FLAG_CARRY, () => this.pushCarryWord());
  }

  /** A core call has set the flags. */
  adopt(): void {
    this.#loadWords();
    this.known = EXPLICIT;
  }

  /** Pushes FLAG_RESULT. */
  pushResult(): void {
    this.#reading().pushResult();
  }

  /** Pushes FLAG_CARRY. */
  pushCarryWord(): void {
    this.#reading().pushCarryWord();
  }

  setResult(value: Push): void {
    value();
    this.#w.set(this.#scratch);
    if (!sameKind(this.known, EXPLICIT)) {
      this.pushCarryWord();
      this.#w.set(this.#locals.y);
    }
    this.#copy(this.#scratch, this.#locals.x);
    this.known = EXPLICIT;
  }

  setCarryWord(value: Push): void {
    value();
    this.#w.set(this.#scratch);
    this.pushResult();
    this.#w.set(this.#locals.x);
    this.#copy(this.#scratch, this.#locals.y);
    this.known = EXPLICIT;
  }

  // ---- reading ----

  #reading(): FlagReader {
    return new FlagReader(this.#w, this.#locals, this.#readable());
  }

  pushCarry(): void {
    this.#reading().pushCarryFlag();
    this.#w.op('i64.extend_i32_u');
  }

  pushCondition(code: number): void {
    this.#reading().pushCondition(code);
  }

  #binary(op: string, a: number, b: number): void {
    this.#w.get(a);
    this.#w.get(b);
    this.#w.op(op);
  }
}
