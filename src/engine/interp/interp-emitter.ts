/** The interpreter's operands: every field of the micro-op record is loaded when the micro-op runs. */
import { CPU, EXIT, STATE, TLB, UOP } from '../layout.ts';
import type { Emitter, FlagRecorder, Push, RegisterField, Width } from '../uops/emitter.ts';
import { EagerFlags } from '../uops/flags.ts';
import type { FunctionWriter, Label } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';

/** Locals and labels of the interpreter's one function. */
export interface InterpFrame {
  /** i32: address of the current micro-op record */
  readonly pc: number;
  /** i64: RIP minus the linear address's page offset: RIP of an instruction = page + its PC field */
  readonly page: number;
  /** i64: retired instructions */
  readonly icount: number;
  /** i32: 1 when the last writePointer took the slow path */
  readonly slow: number;
  readonly dispatch: Label;
  readonly lookup: Label;
  readonly fault: Label;
  readonly complete: Label;
  readonly exit: Label;
}

const FIELD: Readonly<Record<RegisterField, number>> = {
  a: UOP.A,
  b: UOP.B,
  base: UOP.BASE,
  index: UOP.INDEX,
};
const LOADS: Readonly<Record<Width, string>> = {
  8: 'i64.load8_u',
  16: 'i64.load16_u',
  32: 'i64.load32_u',
  64: 'i64.load',
};
const STORES: Readonly<Record<Width, string>> = {
  8: 'i64.store8',
  16: 'i64.store16',
  32: 'i64.store',
  64: 'i64.store',
};

export interface Scratch {
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];
}

export class InterpEmitter implements Emitter {
  readonly w: FunctionWriter;
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];
  readonly flags: FlagRecorder = new EagerFlags(this);
  readonly #frame: InterpFrame;
  readonly #imports: ReadonlyMap<string, number>;
  readonly #tlbMask: number;

  constructor(
    w: FunctionWriter,
    frame: InterpFrame,
    scratch: Scratch,
    imports: ReadonlyMap<string, number>,
    tlbEntries: number,
  ) {
    this.w = w;
    this.#frame = frame;
    this.i64 = scratch.i64;
    this.i32 = scratch.i32;
    this.v128 = scratch.v128;
    this.f64 = scratch.f64;
    this.f32 = scratch.f32;
    this.#imports = imports;
    this.#tlbMask = (tlbEntries - 1) << TLB.ENTRY_SHIFT;
  }

  /** Pushes a register operand's state offset (i32). */
  #offset(field: RegisterField): void {
    this.w.get(this.#frame.pc);
    this.w.memory('i32.load16_u', FIELD[field]);
  }

  reg(field: RegisterField, width: Width): void {
    this.#offset(field);
    this.w.memory(LOADS[width], CPU);
  }

  setReg(field: RegisterField, width: Width, value: Push): void {
    this.#offset(field);
    value();
    this.#store(width, CPU);
  }

  fixed(offset: number, width: Width): void {
    this.w.i32(0);
    this.w.memory(LOADS[width], CPU + offset);
  }

  setFixed(offset: number, width: Width, value: Push): void {
    this.w.i32(0);
    value();
    this.#store(width, CPU + offset);
  }

  #store(width: Width, base: number): void {
    if (width === 32) {
      this.w.i64(0xffff_ffffn);
      this.w.op('i64.and');
    }
    this.w.memory(STORES[width], base);
  }

  xmm(field: 'a' | 'b'): void {
    this.#offset(field);
    this.w.memory('v128.load', CPU);
  }

  setXmm(field: 'a' | 'b', value: Push): void {
    this.#offset(field);
    value();
    this.w.memory('v128.store', CPU);
  }

  registerPointer(field: 'a' | 'b'): void {
    this.#offset(field);
    this.w.i32(CPU);
    this.w.op('i32.add');
  }

  registerWritten(): void {
    // Registers live in memory here: nothing to do.
  }

  imm(): void {
    this.w.get(this.#frame.pc);
    this.w.memory('i64.load', UOP.IMM);
  }

  address(): void {
    this.reg('base', 64);
    this.reg('index', 64);
    this.w.get(this.#frame.pc);
    this.w.memory('i64.load8_u', UOP.SCALE);
    this.w.op('i64.shl');
    this.w.op('i64.add');
    this.w.get(this.#frame.pc);
    this.w.memory('i64.load32_s', UOP.DISP);
    this.w.op('i64.add');
  }

  readPointer(size: number): void {
    this.#translate(size, TLB.READ_TAG, (address) => {
      this.w.get(address);
      this.w.i32(size);
      this.call('slowRead');
    });
  }

  writePointer(size: number, readFirst: boolean): void {
    this.w.i32(0);
    this.w.set(this.#frame.slow);
    this.#translate(size, TLB.WRITE_TAG, (address) => {
      this.w.i32(1);
      this.w.set(this.#frame.slow);
      this.w.get(address);
      this.w.i32(size);
      this.w.i32(readFirst ? 1 : 0);
      this.call('slowWrite');
    });
  }

  /**
   * One compare against the tag of the page that holds the access's last byte catches a miss, a page
   * crossing and a missing right alike. Uses i64[8], i32[4], i32[5].
   */
  #translate(size: number, tag: number, slow: (address: number) => void): void {
    const { w } = this;
    const address = this.i64[8];
    const entry = this.i32[4];
    const pointer = this.i32[5];
    w.tee(address);
    w.i64(BigInt(12 - TLB.ENTRY_SHIFT));
    w.op('i64.shr_u');
    w.op('i32.wrap_i64');
    w.i32(this.#tlbMask);
    w.op('i32.and');
    this.state(STATE.TLB_BANK, 'i32');
    w.op('i32.add');
    w.tee(entry);
    w.memory('i64.load', tag);
    w.get(address);
    if (size > 1) {
      w.i64(BigInt(size - 1));
      w.op('i64.add');
    }
    w.i64(-4096n);
    w.op('i64.and');
    w.op('i64.eq');
    w.if('i32');
    w.get(address);
    w.op('i32.wrap_i64');
    w.get(entry);
    w.memory('i32.load', TLB.ADDEND);
    w.op('i32.add');
    w.else();
    slow(address);
    w.tee(pointer);
    w.op('i32.eqz');
    w.brIf(this.#frame.fault);
    w.get(pointer);
    w.end();
  }

  commit(leave = true): void {
    const { w } = this;
    w.get(this.#frame.slow);
    w.if();
    this.call('commitWrite');
    if (leave) {
      this.state(STATE.CODE_WRITTEN, 'i32');
      w.brIf(this.#frame.complete);
    }
    w.end();
  }

  state(offset: number, type: ValueType): void {
    this.w.i32(0);
    this.w.memory(`${type}.load`, CPU + offset);
  }

  setState(offset: number, type: ValueType, value: Push): void {
    this.w.i32(0);
    value();
    this.w.memory(`${type}.store`, CPU + offset);
  }

  call(name: string): void {
    const index = this.#imports.get(name);
    if (index === undefined) throw new Error(`the core runtime has no export ${name}`);
    this.w.call(index);
  }

  /** Pushes page + a 16-bit field of the record. */
  #rip(field: number): void {
    this.w.get(this.#frame.page);
    this.w.get(this.#frame.pc);
    this.w.memory('i64.load16_u', field);
    this.w.op('i64.add');
  }

  nextRip(): void {
    this.#rip(UOP.NEXT_PC);
  }

  /** Adds the instructions complete before this one, and `more`, to the count. */
  #retire(more: number): void {
    const { w } = this;
    w.get(this.#frame.icount);
    w.get(this.#frame.pc);
    w.memory('i64.load8_u', UOP.DONE);
    w.op('i64.add');
    if (more > 0) {
      w.i64(BigInt(more));
      w.op('i64.add');
    }
    w.set(this.#frame.icount);
  }

  systemCall(name: string, args: Push, after?: Push): void {
    const { w } = this;
    const result = this.i32[4];
    this.setState(STATE.RIP, 'i64', () => this.#rip(UOP.PC));
    this.setState(STATE.ICOUNT, 'i64', () => {
      w.get(this.#frame.icount);
      w.get(this.#frame.pc);
      w.memory('i64.load8_u', UOP.DONE);
      w.op('i64.add');
    });
    args();
    this.call(name);
    w.tee(result);
    w.i32(2);
    w.op('i32.eq');
    w.brIf(this.#frame.fault);
    after?.();
    w.get(result);
    w.if();
    this.#retire(1);
    w.get(result);
    w.i32(1);
    w.op('i32.eq');
    w.brIf(this.#frame.lookup);
    w.br(this.#frame.exit);
    w.end();
  }

  faultIf(): void {
    this.w.brIf(this.#frame.fault);
  }

  fault(vector: number, error: number): void {
    this.setState(STATE.FAULT_VECTOR, 'i32', () => this.w.i32(vector));
    this.setState(STATE.FAULT_ERROR, 'i32', () => this.w.i32(error));
    this.w.br(this.#frame.fault);
  }

  /** Takes a direct jump: counts, checks the budget, follows the link or looks the target up. */
  jump(): void {
    const { w } = this;
    const link = this.i32[4];
    const target = this.i64[8];
    this.#retire(1);
    w.get(this.#frame.pc);
    w.memory('i32.load', UOP.LINK);
    w.tee(link);
    w.if();
    w.get(this.#frame.icount);
    this.state(STATE.ICOUNT_LIMIT, 'i64');
    w.op('i64.lt_s');
    w.if();
    w.get(link);
    w.set(this.#frame.pc);
    w.br(this.#frame.dispatch);
    w.end();
    w.end();
    this.imm();
    w.set(target);
    this.setState(STATE.RIP, 'i64', () => {
      w.get(this.#frame.page);
      w.get(target);
      w.op('i64.add');
    });
    // A target in the same page has the same translation: remember its micro-ops.
    w.get(target);
    w.i64(4096n);
    w.op('i64.lt_u');
    w.if();
    w.get(this.#frame.pc);
    this.call('linkBlock');
    w.end();
    w.br(this.#frame.lookup);
  }

  jumpIf(): void {
    this.w.if();
    this.jump();
    this.w.end();
  }

  jumpIndirect(): void {
    const target = this.i64[8];
    this.w.set(target);
    this.setState(STATE.RIP, 'i64', () => this.w.get(target));
    this.#retire(1);
    this.w.br(this.#frame.lookup);
  }

  leave(): void {
    this.w.br(this.#frame.complete);
  }

  relookup(): void {
    this.setState(STATE.RIP, 'i64', () => this.#rip(UOP.PC));
    this.w.br(this.#frame.lookup);
  }

  /** Code at the `fault` label: RIP is the faulting instruction's. */
  emitFaultExit(): void {
    const { w } = this;
    this.#retire(0);
    this.setState(STATE.RIP, 'i64', () => this.#rip(UOP.PC));
    this.setState(STATE.ICOUNT, 'i64', () => w.get(this.#frame.icount));
    this.call('deliverFault');
    w.i32(1);
    w.op('i32.ne');
    w.brIf(this.#frame.exit);
    w.br(this.#frame.lookup);
  }

  /** Code at the `complete` label: the instruction is done, go on at the next one by a full look-up. */
  emitCompleteExit(): void {
    this.#retire(1);
    this.setState(STATE.CODE_WRITTEN, 'i32', () => this.w.i32(0));
    this.setState(STATE.RIP, 'i64', () => this.#rip(UOP.NEXT_PC));
    this.w.br(this.#frame.lookup);
  }

  /** Code at the `lookup` label: leaves for an interrupt or the budget, else finds the micro-ops for RIP. */
  emitLookup(): void {
    const { w } = this;
    const exit = this.#frame.exit;
    this.setState(STATE.ICOUNT, 'i64', () => w.get(this.#frame.icount));
    this.#exitIf(EXIT.BUDGET, () => {
      w.get(this.#frame.icount);
      this.state(STATE.ICOUNT_LIMIT, 'i64');
      w.op('i64.ge_s');
    });
    this.state(STATE.INTR_PENDING, 'i32');
    w.if();
    this.#exitIf(EXIT.INTERRUPT, () => {
      this.state(STATE.RFLAGS, 'i64');
      w.i64(0x200n);
      w.op('i64.and');
      w.i64(0n);
      w.op('i64.ne');
      this.state(STATE.INTR_SHADOW, 'i32');
      w.op('i32.eqz');
      w.op('i32.and');
    });
    w.end();
    this.call('findBlock');
    w.tee(this.#frame.pc);
    w.op('i32.eqz');
    w.brIf(exit);
    this.state(STATE.RIP, 'i64');
    w.tee(this.#frame.page);
    w.get(this.#frame.page);
    this.state(STATE.SEG_BASE + 8, 'i64');
    w.op('i64.add');
    w.i64(0xfffn);
    w.op('i64.and');
    w.op('i64.sub');
    w.set(this.#frame.page);
    this.setState(STATE.PAGE, 'i64', () => w.get(this.#frame.page));
  }

  #exitIf(reason: number, condition: Push): void {
    condition();
    this.w.if();
    this.setState(STATE.EXIT_REASON, 'i32', () => this.w.i32(reason));
    this.w.br(this.#frame.exit);
    this.w.end();
  }
}
