/** The interpreter's operands: every field of the micro-op record is loaded when the micro-op runs. */
import { pushRegionCall, RESULT } from '../region-call.ts';
import { BLOCK, CPU, EXIT, JUMP_CACHE, STATE, UOP } from '../layout.ts';
import type { Emitter, Push, RegisterField, Width } from '../uops/emitter.ts';
import { type CoreFunction, MemoryEmitter, pushJumpCacheSlot, type Scratch } from '../uops/memory-emitter.ts';
import { RSP, truncateTo } from '../uops/operands.ts';
import type { FunctionWriter, Label } from '../wasm/function-writer.ts';
import { RecentFlags } from './recent-flags.ts';

/** Locals and labels of the interpreter's one function. */
export interface InterpFrame {
  /** i32: address of the current micro-op record */
  readonly pc: number;
  /** i64: RIP minus the linear address's page offset: RIP of an instruction = page + its PC field */
  readonly page: number;
  /** i64: retired instructions */
  readonly icount: number;
  /** Type index of compiled regions: () → i32 */
  readonly regionType: number;
  /** Goes on behind the micro-op at `pc`. */
  readonly next: Label;
  /** Takes the direct jump at `pc`. */
  readonly jump: Label;
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

export class InterpEmitter extends MemoryEmitter implements Emitter {
  readonly flags = new RecentFlags(this);
  readonly #frame: InterpFrame;
  /** Whether memory operands may have an index. */
  #indexed = true;
  /** Register operands are those of the record that is so many behind the one at `pc`. */
  #ahead = 0;

  constructor(
    w: FunctionWriter,
    frame: InterpFrame,
    scratch: Scratch,
    coreFunction: CoreFunction,
    tlbEntries: number,
  ) {
    super(w, scratch, coreFunction, tlbEntries);
    this.#frame = frame;
  }

  protected override faultIfZero(): void {
    this.w.op('i32.eqz');
    this.w.brIf(this.#frame.fault, 'unlikely');
  }

  /** Pushes a register operand's state offset (i32). */
  #offset(field: RegisterField): void {
    this.w.get(this.#frame.pc);
    this.w.memory('i32.load16_u', this.#ahead * UOP.SIZE + FIELD[field]);
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
    if (width === 32) truncateTo(this.w, width);
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
    const { w } = this;
    this.reg('base', 64);
    if (this.#indexed) {
      this.reg('index', 64);
      w.get(this.#frame.pc);
      w.memory('i64.load8_u', UOP.SCALE);
      w.op('i64.shl');
      w.op('i64.add');
    }
    w.get(this.#frame.pc);
    w.memory('i64.load32_s', UOP.DISP);
    w.op('i64.add');
  }

  /** Emits for records whose index is STATE.ZERO. */
  withoutIndex(emit: Push): void {
    this.#indexed = false;
    emit();
    this.#indexed = true;
  }

  /**
   * Pushes or pops the registers of records in a row, none of which is RSP, when the TLB has all of these bytes; `pc` is at the
   * last record then. Otherwise `first` does what the first record says, and no more is done.
   */
  stackRun(isPush: boolean, length: number, first: Push): void {
    const { w } = this;
    const bytes = 8 * length;
    const top = this.i64[8]!;
    const start = (): void => {
      this.fixed(RSP, 64);
      if (!isPush) return;
      w.i64(BigInt(bytes));
      w.op('i64.sub');
    };
    const transfer = (): void => {
      w.set(this.i32[0]!);
      for (let n = 0; n < length; n++) this.#transfer(isPush, n, 8 * (isPush ? length - 1 - n : n));
      this.setFixed(RSP, 64, () => {
        w.get(top);
        if (isPush) return;
        w.i64(BigInt(bytes));
        w.op('i64.add');
      });
      this.#advance(length - 1);
    };
    const alone = (): void => {
      first();
      w.br(this.#frame.next);
    };
    start();
    this.ifMapped(bytes, isPush ? 'write' : 'read', transfer, alone);
  }

  /** Moves the register of the n-th record to or from an offset behind the pointer in i32[0]. */
  #transfer(isPush: boolean, n: number, offset: number): void {
    const { w } = this;
    const pointer = (): void => w.get(this.i32[0]!);
    this.#ahead = n;
    if (isPush) {
      pointer();
      this.reg('b', 64);
      w.memory('i64.store', offset);
    } else {
      this.setReg('a', 64, () => {
        pointer();
        w.memory('i64.load', offset);
      });
    }
    this.#ahead = 0;
  }

  commit(leave = true): void {
    const { w } = this;
    w.get(this.slowFlag);
    w.if(undefined, 'unlikely');
    this.call('commitWrite');
    if (leave) this.#leaveIfWritten();
    w.end();
  }

  #leaveIfWritten(): void {
    this.state(STATE.CODE_WRITTEN, 'i32');
    this.w.brIf(this.#frame.complete, 'unlikely');
  }

  protected override leaveWritten(): void {
    this.w.br(this.#frame.complete);
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
    w.brIf(this.#frame.fault, 'unlikely');
    after?.();
    w.get(result);
    w.if();
    this.#leaveWith(result);
    w.end();
    this.state(STATE.CODE_WRITTEN, 'i32');
    w.brIf(this.#frame.complete, 'unlikely');
  }

  /** Leaves the block by the code 1, 3 or 4 in a local. */
  #leaveWith(result: number): void {
    const { w } = this;
    w.get(result);
    w.i32(4);
    w.op('i32.eq');
    w.if();
    this.#retire(0);
    w.br(this.#frame.exit);
    w.end();
    this.#retire(1);
    w.get(result);
    w.i32(1);
    w.op('i32.eq');
    w.brIf(this.#frame.lookup);
    w.br(this.#frame.exit);
  }

  shieldNext(): void {
    // The block ends behind the next instruction.
  }

  override faultIf(): void {
    this.w.brIf(this.#frame.fault, 'unlikely');
  }

  fault(vector: number, error: number): void {
    this.setState(STATE.FAULT_VECTOR, 'i32', () => this.w.i32(vector));
    this.setState(STATE.FAULT_ERROR, 'i32', () => this.w.i32(error));
    this.w.br(this.#frame.fault);
  }

  jump(): void {
    this.w.br(this.#frame.jump);
  }

  #advance(records: number): void {
    const { w } = this;
    w.get(this.#frame.pc);
    w.i32(records * UOP.SIZE);
    w.op('i32.add');
    w.set(this.#frame.pc);
  }

  /** Goes on to the record that follows, which may be anything. */
  dispatch(labels: readonly Label[]): void {
    const { w } = this;
    this.#advance(1);
    w.get(this.#frame.pc);
    w.memory('i32.load16_u', UOP.OP);
    w.brTable(labels, labels[0]!);
  }

  /** Begins the code of a micro-op that is dispatched. */
  begin(): void {
    this.flags.forget();
  }

  /** Goes on to the next micro-op of a superinstruction. */
  follow(): void {
    this.flags.follow();
    this.#advance(1);
  }

  /** Pops the address of the record that is next. */
  #startAt(): void {
    const { w } = this;
    w.i32(UOP.SIZE);
    w.op('i32.sub');
    w.set(this.#frame.pc);
  }

  /** Code at the `jump` label: counts, checks the budget, follows the link or looks the target up. */
  emitJump(): void {
    const { w } = this;
    const link = this.i32[4];
    const target = this.i64[8];
    this.#retire(1);
    w.get(this.#frame.pc);
    w.memory('i32.load', UOP.LINK);
    w.tee(link);
    w.if(undefined, 'likely');
    w.get(this.#frame.icount);
    this.state(STATE.ICOUNT_LIMIT, 'i64');
    w.op('i64.lt_s');
    w.if(undefined, 'likely');
    this.#heat(link);
    w.op('i32.eqz');
    w.if(undefined, 'likely');
    w.get(link);
    this.#startAt();
    w.br(this.#frame.next);
    w.end();
    this.setState(STATE.RIP, 'i64', () => {
      w.get(this.#frame.page);
      this.imm();
      w.op('i64.add');
    });
    this.#exitWith(EXIT.HOT);
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

  /** Counts an execution of the block at a local; pushes 1 when it has just become hot. */
  #heat(block: number): void {
    const { w } = this;
    const counter = this.i32[3];
    const left = this.i32[2];
    w.get(block);
    w.i32(BLOCK.SIZE - BLOCK.HEAT);
    w.op('i32.sub');
    w.tee(counter);
    w.get(counter);
    w.memory('i32.load');
    w.i32(1);
    w.op('i32.sub');
    w.tee(left);
    w.memory('i32.store');
    w.get(left);
    w.op('i32.eqz');
  }

  /** Counts what a region has retired, and why it has come back. */
  #noteReturn(result: number): void {
    const { w } = this;
    const slot = this.i32[3]!;
    this.setState(STATE.JIT_INSTRUCTIONS, 'i64', () => {
      this.state(STATE.JIT_INSTRUCTIONS, 'i64');
      this.state(STATE.ICOUNT, 'i64');
      w.op('i64.add');
      w.get(this.#frame.icount);
      w.op('i64.sub');
    });
    w.get(result);
    w.i32(3);
    w.op('i32.shl');
    w.tee(slot);
    w.get(slot);
    w.memory('i64.load', CPU + STATE.JIT_RETURNS);
    w.i64(1n);
    w.op('i64.add');
    w.memory('i64.store', CPU + STATE.JIT_RETURNS);
  }

  enterRegion(): void {
    const { w } = this;
    const result = this.i32[4];
    this.setState(STATE.ICOUNT, 'i64', () => w.get(this.#frame.icount));
    w.get(this.#frame.pc);
    w.memory('i32.load', UOP.LINK);
    w.set(result);
    pushRegionCall(w, result);
    w.callIndirect(this.#frame.regionType);
    w.set(result);
    this.state(STATE.FLAG_KIND, 'i32');
    w.if();
    this.call('settleFlags');
    w.end();
    this.#noteReturn(result);
    this.state(STATE.ICOUNT, 'i64');
    w.set(this.#frame.icount);
    w.get(result);
    w.op('i32.eqz');
    w.brIf(this.#frame.lookup);
    w.get(result);
    w.i32(RESULT.MISS);
    w.op('i32.eq');
    w.if();
    this.call('noteMiss');
    w.br(this.#frame.lookup);
    w.end();
    w.get(result);
    w.i32(RESULT.LEAVE);
    w.op('i32.eq');
    w.brIf(this.#frame.exit);
    w.get(result);
    w.i32(RESULT.STACK_FAULT);
    w.op('i32.eq');
    w.if();
    this.call('stackFault');
    w.end();
    this.call('deliverFault');
    w.i32(1);
    w.op('i32.ne');
    w.brIf(this.#frame.exit);
    w.br(this.#frame.lookup);
  }

  jumpIf(): void {
    this.w.brIf(this.#frame.jump);
  }

  jumpIndirect(): void {
    this.w.set(this.i64[8]);
    this.#rememberTarget(this.i64[8]);
    this.#jumpTo(this.i64[8]);
  }

  jumpBack(): void {
    this.w.set(this.i64[8]);
    this.#jumpTo(this.i64[8]);
  }

  #jumpTo(target: number): void {
    this.setState(STATE.RIP, 'i64', () => this.w.get(target));
    this.#retire(1);
    this.w.br(this.#frame.lookup);
  }

  /** Keeps the targets in the record, for the compiler: the last in LINK, the two before it in IMM. */
  #rememberTarget(target: number): void {
    const { w } = this;
    w.get(this.#frame.pc);
    w.memory('i32.load', UOP.LINK);
    w.get(target);
    w.op('i32.wrap_i64');
    w.op('i32.ne');
    w.if();
    w.get(this.#frame.pc);
    this.imm();
    w.i64(32n);
    w.op('i64.shl');
    w.get(this.#frame.pc);
    w.memory('i64.load32_u', UOP.LINK);
    w.op('i64.or');
    w.memory('i64.store', UOP.IMM);
    w.get(this.#frame.pc);
    w.get(target);
    w.op('i32.wrap_i64');
    w.memory('i32.store', UOP.LINK);
    w.end();
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
    w.get(this.#frame.pc);
    w.memory('i32.load8_u', UOP.SCALE);
    w.i32(UOP.STACK);
    w.op('i32.and');
    w.if();
    this.call('stackFault');
    w.end();
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
    this.setState(STATE.ICOUNT, 'i64', () => w.get(this.#frame.icount));
    this.#exitIf(EXIT.BUDGET, () => {
      w.get(this.#frame.icount);
      this.state(STATE.ICOUNT_LIMIT, 'i64');
      w.op('i64.ge_s');
    });
    this.state(STATE.INTR_PENDING, 'i32');
    w.if(undefined, 'unlikely');
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
    this.#findBlock();
    this.#heat(this.#frame.pc);
    w.if(undefined, 'unlikely');
    this.#exitWith(EXIT.HOT);
    w.end();
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
    w.get(this.#frame.pc);
    this.#startAt();
  }

  /** Sets `pc` from the jump cache, or by the core, or leaves. A dead block's first micro-op has number 0. */
  #findBlock(): void {
    const { w } = this;
    const slot = this.i32[4];
    const rip = this.i64[8];
    this.state(STATE.RIP, 'i64');
    w.set(rip);
    pushJumpCacheSlot(w, rip);
    w.tee(slot);
    w.memory('i64.load', JUMP_CACHE.BASE + JUMP_CACHE.RIP);
    w.get(rip);
    w.op('i64.eq');
    w.get(slot);
    w.memory('i32.load', JUMP_CACHE.BASE + JUMP_CACHE.MODE);
    this.state(STATE.MODE, 'i32');
    w.op('i32.eq');
    w.op('i32.and');
    w.if('i32', 'likely');
    w.get(slot);
    w.memory('i32.load', JUMP_CACHE.BASE + JUMP_CACHE.UOP);
    w.tee(this.#frame.pc);
    w.memory('i32.load16_u', UOP.OP);
    w.else();
    w.i32(0);
    w.end();
    w.op('i32.eqz');
    w.if(undefined, 'unlikely');
    this.call('findBlock');
    w.tee(this.#frame.pc);
    w.op('i32.eqz');
    w.brIf(this.#frame.exit);
    w.end();
  }

  #exitWith(reason: number): void {
    this.setState(STATE.EXIT_REASON, 'i32', () => this.w.i32(reason));
    this.w.br(this.#frame.exit);
  }

  #exitIf(reason: number, condition: Push): void {
    condition();
    this.w.if(undefined, 'unlikely');
    this.#exitWith(reason);
    this.w.end();
  }
}
