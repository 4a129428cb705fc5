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
import {
  carryBits,
  type FlagState,
  KIND_IN_LOCAL,
  kindNumber,
  type KnownFlags,
  sameKind,
} from './flag-state.ts';

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
  readonly #x: number;
  readonly #y: number;
  readonly #kind: number;
  readonly #carry: number | undefined;
  readonly #third: number | undefined;
  /** i64 */
  readonly #scratch: number;
  /** What is known here. Set it at the beginning of each block. */
  known: FlagState = 'unknown';

  /** @param callSettle calls `settleFlags` of the core */
  constructor(w: FunctionWriter, needs: FlagNeeds, callSettle: Push) {
    this.#w = w;
    this.#callSettle = callSettle;
    this.#x = w.local('i64');
    this.#y = w.local('i64');
    this.#kind = w.local('i32');
    this.#carry = needs.carry ? w.local('i64') : undefined;
    this.#third = needs.third ? w.local('i64') : undefined;
    this.#scratch = w.local('i64');
  }

  // ---- recording ----

  #copy(from: number, to: number): void {
    this.#w.get(from);
    this.#w.set(to);
  }

  #needed(local: number | undefined): number {
    if (local === undefined) throw new Error('flags need a local that the profile does not name');
    return local;
  }

  #record(op: KnownFlags['op'], width: Width, x: number, y?: number, carryBit?: number): void {
    this.#copy(x, this.#x);
    if (y !== undefined) this.#copy(y, this.#y);
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
      w.i64(-1n);
      w.op('i64.xor');
      this.#binary('i64.or', a, b);
      w.op('i64.and');
      this.#binary('i64.and', a, b);
      w.op('i64.or');
    }
    w.set(this.#needed(this.#carry));
    this.#copy(a, this.#needed(this.#third));
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
      w.i64(-1n);
      w.op('i64.xor');
      w.op('i64.and');
      w.get(a);
      w.i64(-1n);
      w.op('i64.xor');
      w.get(b);
      w.op('i64.and');
      w.op('i64.or');
    }
    w.set(this.#needed(this.#carry));
    this.#copy(a, this.#needed(this.#third));
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
    const w = this.#w;
    const carry = this.#needed(this.#carry);
    if (this.known === 'unknown' || this.known.op === 'product') this.settle();
    const { op, carryBit } = this.#settledState();
    if (carryBit !== undefined) return carryBit;
    if (op === 'explicit') {
      this.#copy(this.#y, carry);
      return 63;
    }
    this.#carryFlag();
    w.op('i64.extend_i32_u');
    w.set(carry);
    return 0;
  }

  setCarry(value: number, bit: number): void {
    const w = this.#w;
    this.#copy(value, this.#needed(this.#carry));
    if (this.known !== 'unknown') {
      this.known = { ...this.known, carryBit: bit, synced: false };
      return;
    }
    w.get(this.#kind);
    w.i32(FLAG_KIND.APART - 1);
    w.op('i32.and');
    w.i32(carryBits(bit));
    w.op('i32.or');
    w.set(this.#kind);
  }

  set(result: Push, carry: Push): void {
    const w = this.#w;
    result();
    carry();
    w.set(this.#y);
    w.set(this.#x);
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
    this.#w.set(this.#kind);
    this.known = { ...this.known, synced: true };
  }

  /** Names the kind in the local on a way out of the region, which is not the way that goes on. */
  nameKind(): void {
    if (this.known === 'unknown') return;
    this.pushKind();
    this.#w.set(this.#kind);
  }

  /** Pushes the kind's number. */
  pushKind(): void {
    if (this.known === 'unknown') this.#w.get(this.#kind);
    else this.#w.i32(kindNumber(this.known));
  }

  /** The kind's number for an exit: KIND_IN_LOCAL if it is not known. */
  get exitKind(): number {
    return this.known === 'unknown' ? KIND_IN_LOCAL : kindNumber(this.known);
  }

  /** Takes the kind from a local that has the number of an exit's. */
  setKind(number: number): void {
    const w = this.#w;
    w.get(this.#kind);
    w.get(number);
    w.get(number);
    w.i32(KIND_IN_LOCAL);
    w.op('i32.eq');
    w.op('select');
    w.set(this.#kind);
    this.known = 'unknown';
  }

  #settledState(): KnownFlags {
    if (this.known === 'unknown') throw new Error('the flags are not settled');
    return this.known;
  }

  /** Makes the flags explicit by a call. */
  settle(): void {
    const w = this.#w;
    const isUnknown = this.known === 'unknown';
    if (isUnknown) {
      w.get(this.#kind);
      w.if();
    }
    this.spill();
    this.#callSettle();
    this.#loadWords();
    if (isUnknown) {
      w.i32(FLAG_KIND.EXPLICIT);
      w.set(this.#kind);
      w.end();
    }
    this.known = { ...EXPLICIT, synced: isUnknown };
  }

  /** Settles flags of which no part can be computed here. */
  #readable(): KnownFlags {
    if (this.known === 'unknown' || this.known.op === 'product') this.settle();
    return this.#settledState();
  }

  // ---- state ----

  #store(type: 'i32' | 'i64', offset: number, value: Push): void {
    this.#w.i32(0);
    value();
    this.#w.memory(`${type}.store`, CPU + offset);
  }

  #load(type: 'i32' | 'i64', offset: number, local: number): void {
    this.#w.i32(0);
    this.#w.memory(`${type}.load`, CPU + offset);
    this.#w.set(local);
  }

  #loadWords(): void {
    this.#load('i64', STATE.FLAG_RESULT, this.#x);
    this.#load('i64', STATE.FLAG_CARRY, this.#y);
  }

  /** Writes the locals to the state as they are. */
  spill(): void {
    const put = (offset: number, local: number | undefined): void => {
      if (local !== undefined) this.#store('i64', offset, () => this.#w.get(local));
    };
    put(STATE.FLAG_RESULT, this.#x);
    put(STATE.FLAG_CARRY, this.#y);
    put(STATE.FLAG_APART, this.#carry);
    put(STATE.FLAG_THIRD, this.#third);
    this.#store('i32', STATE.FLAG_KIND, () => this.pushKind());
  }

  /** Reads what `spill` of another region, or the interpreter, has left. */
  load(): void {
    this.#loadWords();
    if (this.#carry !== undefined) this.#load('i64', STATE.FLAG_APART, this.#carry);
    if (this.#third !== undefined) this.#load('i64', STATE.FLAG_THIRD, this.#third);
    this.#load('i32', STATE.FLAG_KIND, this.#kind);
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
    const { op, width } = this.#readable();
    if (op === 'explicit') this.#w.get(this.#x);
    else this.#extended(width, () => this.#result());
  }

  /** Pushes FLAG_CARRY. */
  pushCarryWord(): void {
    const w = this.#w;
    const { op, carryBit } = this.#readable();
    if (op === 'explicit' && carryBit === undefined) {
      w.get(this.#y);
      return;
    }
    this.#carryFlag();
    w.op('i64.extend_i32_u');
    w.i64(63n);
    w.op('i64.shl');
    this.#carryFlag();
    this.#overflowFlag();
    w.op('i32.xor');
    w.op('i64.extend_i32_u');
    w.i64(62n);
    w.op('i64.shl');
    w.op('i64.or');
    this.#lowBits();
    w.op('i64.or');
  }

  setResult(value: Push): void {
    value();
    this.#w.set(this.#scratch);
    if (!sameKind(this.known, EXPLICIT)) {
      this.pushCarryWord();
      this.#w.set(this.#y);
    }
    this.#copy(this.#scratch, this.#x);
    this.known = EXPLICIT;
  }

  setCarryWord(value: Push): void {
    value();
    this.#w.set(this.#scratch);
    this.pushResult();
    this.#w.set(this.#x);
    this.#copy(this.#scratch, this.#y);
    this.known = EXPLICIT;
  }

  // ---- reading ----

  #binary(op: string, a: number, b: number): void {
    this.#w.get(a);
    this.#w.get(b);
    this.#w.op(op);
  }

  #extended(width: Width, value: Push): void {
    value();
    if (width !== 64) this.#w.op(`i64.extend${width}_s`);
  }

  /** Pushes the result; upper bits do not count. */
  #result(): void {
    if (this.#settledState().op === 'compare') this.#binary('i64.sub', this.#x, this.#y);
    else this.#w.get(this.#x);
  }

  /** Pushes the first operand of an addition or subtraction; upper bits do not count. */
  #first(): void {
    const { op } = this.#settledState();
    if (op === 'compare') this.#w.get(this.#x);
    else if (op === 'add') this.#binary('i64.sub', this.#x, this.#y);
    else if (op === 'sub') this.#binary('i64.add', this.#x, this.#y);
    else this.#w.get(this.#needed(this.#third));
  }

  /** Compares at the operation's width; 32-bit operands as i32, which spares their extension. */
  #comparison(comparison: string, a: Push, b: Push): void {
    const w = this.#w;
    const { width } = this.#settledState();
    const signed = comparison.endsWith('_s');
    for (const operand of [a, b]) {
      operand();
      if (width === 64) continue;
      w.op('i32.wrap_i64');
      if (width === 32) continue;
      if (signed) {
        w.op(`i32.extend${width}_s`);
      } else {
        w.i32((1 << width) - 1);
        w.op('i32.and');
      }
    }
    w.op(`${width === 64 ? 'i64' : 'i32'}.${comparison}`);
  }

  /** Pushes whether a value is negative at the operation's width. */
  #negative(value: Push): void {
    this.#comparison('lt_s', value, () => this.#w.i64(0n));
  }

  #zeroFlag(): void {
    const { op } = this.#settledState();
    const x = (): void => this.#w.get(this.#x);
    if (op === 'compare') this.#comparison('eq', x, () => this.#w.get(this.#y));
    else this.#comparison('eq', x, () => this.#w.i64(0n));
  }

  /** Pushes CF. */
  #carryFlag(): void {
    const w = this.#w;
    const { op, carryBit } = this.#settledState();
    if (carryBit !== undefined) {
      w.get(this.#needed(this.#carry));
      if (carryBit === 63) {
        w.i64(0n);
        w.op('i64.lt_s');
        return;
      }
      if (carryBit !== 0) {
        w.i64(BigInt(carryBit));
        w.op('i64.shr_u');
      }
      w.op('i32.wrap_i64');
      w.i32(1);
      w.op('i32.and');
      return;
    }
    const y = (): void => w.get(this.#y);
    if (op === 'explicit') {
      y();
      w.i64(0n);
      w.op('i64.lt_s');
    } else if (op === 'logic') {
      w.i32(0);
    } else if (op === 'add') {
      this.#comparison('lt_u', () => this.#result(), y);
    } else {
      this.#comparison('lt_u', () => this.#first(), y);
    }
  }

  #overflowFlag(): void {
    const w = this.#w;
    const { op } = this.#settledState();
    if (op === 'logic') {
      w.i32(0);
      return;
    }
    if (op === 'explicit') {
      w.get(this.#y);
      w.get(this.#y);
      w.i64(1n);
      w.op('i64.shl');
      w.op('i64.xor');
      w.i64(0n);
      w.op('i64.lt_s');
      return;
    }
    const isSum = op === 'add' || op === 'adc';
    this.#negative(() => {
      // of a sum (a ^ r) & (b ^ r), of a difference (a ^ r) & (a ^ b)
      this.#first();
      this.#result();
      w.op('i64.xor');
      w.get(this.#y);
      if (isSum) this.#result();
      else this.#first();
      w.op('i64.xor');
      w.op('i64.and');
    });
  }

  /** Pushes the bits of FLAG_CARRY that are not CF and OF: AF, and the inversions of PF and SF. */
  #lowBits(): void {
    const w = this.#w;
    const { op } = this.#settledState();
    if (op === 'logic') {
      w.i64(0n);
    } else if (op === 'explicit') {
      w.get(this.#y);
      w.i64(0xbn);
      w.op('i64.and');
    } else {
      this.#first();
      w.get(this.#y);
      w.op('i64.xor');
      this.#result();
      w.op('i64.xor');
      w.i64(1n);
      w.op('i64.shr_u');
      w.i64(8n);
      w.op('i64.and');
    }
  }

  #signFlag(): void {
    const w = this.#w;
    if (this.#settledState().op !== 'explicit') {
      this.#negative(() => this.#result());
      return;
    }
    // bit 1 of an explicit FLAG_CARRY inverts SF
    w.get(this.#x);
    w.get(this.#y);
    w.i64(62n);
    w.op('i64.shl');
    w.op('i64.xor');
    w.i64(0n);
    w.op('i64.lt_s');
  }

  #parityFlag(): void {
    const w = this.#w;
    this.#result();
    w.i64(0xffn);
    w.op('i64.and');
    w.op('i64.popcnt');
    if (this.#settledState().op === 'explicit') {
      w.get(this.#y);
      w.op('i64.xor');
    }
    w.op('i32.wrap_i64');
    w.i32(1);
    w.op('i32.and');
    w.op('i32.eqz');
  }

  pushCarry(): void {
    this.#readable();
    this.#carryFlag();
    this.#w.op('i64.extend_i32_u');
  }

  pushCondition(code: number): void {
    this.#readable();
    this.#positiveCondition(code >> 1);
    if (code & 1) this.#w.op('i32.eqz');
  }

  #positiveCondition(condition: number): void {
    switch (condition) {
      case 0:
        this.#overflowFlag();
        break;
      case 1:
        this.#carryFlag();
        break;
      case 2:
        this.#zeroFlag();
        break;
      case 3:
        this.#belowOrEqual();
        break;
      case 4:
        this.#signFlag();
        break;
      case 5:
        this.#parityFlag();
        break;
      case 6:
        this.#less('lt_s');
        break;
      default:
        this.#less('le_s');
    }
  }

  #belowOrEqual(): void {
    const { op, carryBit } = this.#settledState();
    if (op === 'compare' && carryBit === undefined) {
      this.#comparison(
        'le_u',
        () => this.#w.get(this.#x),
        () => this.#w.get(this.#y),
      );
      return;
    }
    this.#carryFlag();
    this.#zeroFlag();
    this.#w.op('i32.or');
  }

  #less(comparison: 'lt_s' | 'le_s'): void {
    const w = this.#w;
    const { op } = this.#settledState();
    const x = (): void => w.get(this.#x);
    if (op === 'compare') {
      this.#comparison(comparison, x, () => w.get(this.#y));
    } else if (op === 'logic') {
      this.#comparison(comparison, x, () => w.i64(0n));
    } else {
      this.#signFlag();
      this.#overflowFlag();
      w.op('i32.xor');
      if (comparison === 'lt_s') return;
      this.#zeroFlag();
      w.op('i32.or');
    }
  }
}
