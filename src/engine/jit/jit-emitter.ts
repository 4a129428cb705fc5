/** The compiler's operands: record fields are constants, registers are locals of the region's function. */
import { CPU, EXIT, STATE, TLB, UOP } from '../layout.ts';
import type { Emitter, FlagRecorder, Push, RegisterField, Width } from '../uops/emitter.ts';
import { type CoreFunction, MemoryEmitter, type Scratch, STORES } from '../uops/memory-emitter.ts';
import type { FunctionWriter, Label } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';
import { type CoreEffects, coreEffects } from './core-effects.ts';
import { IGNORED_FLAGS } from './operand-profile.ts';
import { type DecodedInstruction, pageOf, type UopReader } from './code-reader.ts';
import { KIND_BITS } from './flag-state.ts';
import type { LazyFlags } from './lazy-flags.ts';
import { RESULT } from '../region-call.ts';
import type { RegisterFile } from './register-file.ts';
import { bytesOf, offsetIn, type StackRun } from './stack-run.ts';

/** Locals and labels that all code of a region shares. */
export interface RegionFrame {
  /** i64: RIP of the page's first byte */
  readonly page: number;
  /** i64: retired instructions */
  readonly icount: number;
  /** i64: where the region is left to */
  readonly rip: number;
  /** i32: RESULT_* of the region */
  readonly result: number;
  /** i64: offset << SITE_SHIFT | kind of the flags << COUNT_BITS | instructions to count, of an exit in mid-block */
  readonly site: number;
  /** Address of the TLB bank, where it does not change: user programs have one. */
  readonly bank: number | undefined;
  /** RIP is in `rip`, everything is counted. */
  readonly exit: Label;
  /** RIP and count come from `site`, `result` is set. */
  readonly exitAtSite: Label;
  /** The same with a fault that is not of the stack. */
  readonly faultAtSite: Label;
  /** The same before an instruction whose access the TLB does not allow. */
  readonly missAtSite: Label;
}

/** A block has fewer instructions than this many bits can count. */
export const COUNT_BITS = 12;
/** Where an exit's offset begins: behind the count of instructions and the kind of the flags. */
export const SITE_SHIFT = COUNT_BITS + KIND_BITS;

/** A number where it is a safe integer, which most offsets make it. */
function siteOf(pc: number, low: number): number | bigint {
  const site = pc * 2 ** SITE_SHIFT + low;
  return Number.isSafeInteger(site) ? site : (BigInt(pc) << BigInt(SITE_SHIFT)) | BigInt(low);
}

/** How the region goes on at the end of a block; the region compiler knows where to. */
export interface ControlSink {
  jump(): void;
  jumpIf(): void;
  jumpIndirect(): void;
}

const FIELD: Readonly<Record<RegisterField, number>> = {
  a: UOP.A,
  b: UOP.B,
  base: UOP.BASE,
  index: UOP.INDEX,
};

const RSP = STATE.REGS + 4 * 8;

export class JitEmitter extends MemoryEmitter implements Emitter {
  readonly #flags: LazyFlags;
  readonly registers: RegisterFile;
  readonly #frame: RegionFrame;
  readonly #uops: UopReader;
  readonly #control: ControlSink;
  #uop = 0;
  #flagsAreDead = false;
  #instruction!: DecodedInstruction;
  /** Instructions of the block that are complete before the present one. */
  #done = 0;
  /** An access that the TLB does not allow ends the region before the instruction, for the interpreter to do it. */
  #leavesOnMiss = false;
  /** Of the access to the stack that comes next, from the pointer in i32[4], where its bytes have been checked. */
  #stackOffset: number | undefined;

  constructor(
    w: FunctionWriter,
    frame: RegionFrame,
    scratch: Scratch,
    coreFunction: CoreFunction,
    tlbEntries: number,
    uops: UopReader,
    flags: LazyFlags,
    registers: RegisterFile,
    control: ControlSink,
  ) {
    super(w, scratch, coreFunction, tlbEntries);
    this.#frame = frame;
    this.#uops = uops;
    this.#flags = flags;
    this.registers = registers;
    this.#control = control;
  }

  /** Where the flags go: nowhere while nothing can read them before they are overwritten. */
  get flags(): FlagRecorder {
    return this.#flagsAreDead ? IGNORED_FLAGS : this.#flags;
  }

  /** The micro-op that is emitted next. */
  select(
    uop: number,
    instruction: DecodedInstruction,
    done: number,
    flagsAreDead: boolean,
    mayLeaveOnMiss: boolean,
  ): void {
    this.#uop = uop;
    this.#flagsAreDead = flagsAreDead;
    this.#instruction = instruction;
    this.#done = done;
    this.#leavesOnMiss = mayLeaveOnMiss;
  }

  /** Says that the access that comes next is that of the n-th instruction of a run; before the first, all are checked. */
  inStackRun(run: StackRun, n: number): void {
    if (n === 0) this.#checkStackRun(run);
    this.#stackOffset = offsetIn(run, n);
  }

  #checkStackRun(run: StackRun): void {
    const { count, from } = bytesOf(run);
    this.fixed(RSP, 64);
    this.w.i64(from);
    this.w.op('i64.add');
    this.#pushPointerOrLeave(count, run.isPush ? TLB.WRITE_TAG : TLB.READ_TAG);
    this.w.set(this.i32[4]);
  }

  /** Pops a linear address, pushes a pointer to as many bytes; leaves the region where the TLB does not allow it. */
  #pushPointerOrLeave(size: number, tag: number): void {
    const { w } = this;
    this.pushHit(size, tag, 'i64.ne');
    w.if(undefined, 'unlikely');
    this.#leaveAt(this.#instruction.pc, this.#done, RESULT.MISS);
    w.end();
    this.pushHitPointer();
  }

  /** Drops the address of an access in a run, and pushes the run's pointer; returns where from that the access is. */
  #takeStackPointer(): number | undefined {
    const offset = this.#stackOffset;
    if (offset === undefined) return undefined;
    this.#stackOffset = undefined;
    this.w.op('drop');
    this.w.get(this.i32[4]);
    return offset;
  }

  override readPointer(size: number): void {
    const offset = this.#takeStackPointer();
    if (offset !== undefined) {
      this.w.i32(offset);
      this.w.op('i32.add');
    } else if (this.#leavesOnMiss) this.#pushPointerOrLeave(size, TLB.READ_TAG);
    else super.readPointer(size);
  }

  override writePointer(size: number, readFirst: boolean): void {
    if (this.#leavesOnMiss) this.#pushPointerOrLeave(size, TLB.WRITE_TAG);
    else super.writePointer(size, readFirst);
  }

  override store(width: Width, value: Push, finish?: Push, leave = true): void {
    const offset = this.#takeStackPointer();
    if (offset === undefined) {
      if (!this.#leavesOnMiss) {
        super.store(width, value, finish, leave);
        return;
      }
      this.#pushPointerOrLeave(width / 8, TLB.WRITE_TAG);
    }
    value();
    this.w.memory(STORES[width], offset);
    finish?.();
  }

  protected override fixedBank(): number | undefined {
    return this.#frame.bank;
  }

  protected override faultIfZero(): void {
    this.w.op('i32.eqz');
    this.faultIf();
  }

  #operand(field: RegisterField): number {
    return this.#uops.u16(this.#uop, FIELD[field]);
  }

  reg(field: RegisterField, width: Width): void {
    this.fixed(this.#operand(field), width);
  }
  setReg(field: RegisterField, width: Width, value: Push): void {
    this.setFixed(this.#operand(field), width, value);
  }
  fixed(offset: number, width: Width): void {
    if (offset === STATE.PAGE) this.place(pageOf(this.#instruction.pc) * 4096);
    else this.registers.read(offset, width);
  }
  setFixed(offset: number, width: Width, value: Push): void {
    this.registers.write(offset, width, value);
  }
  xmm(field: 'a' | 'b'): void {
    this.registers.readVector(this.#operand(field));
  }
  setXmm(field: 'a' | 'b', value: Push): void {
    this.registers.writeVector(this.#operand(field), value);
  }
  registerPointer(field: 'a' | 'b'): void {
    const offset = this.#operand(field);
    this.registers.spill(offset);
    this.w.i32(CPU + offset);
  }
  registerWritten(field: 'a' | 'b'): void {
    this.registers.reload(this.#operand(field));
  }

  imm(): void {
    this.w.i64(this.#uops.immediate(this.#uop));
  }

  address(): void {
    const { w } = this;
    const base = this.#operand('base');
    const index = this.#operand('index');
    const disp = this.#uops.i32(this.#uop, UOP.DISP);
    let pushed = false;
    const add = (push: Push): void => {
      push();
      if (pushed) w.op('i64.add');
      pushed = true;
    };
    if (base !== STATE.ZERO) add(() => this.fixed(base, 64));
    if (index !== STATE.ZERO) {
      add(() => {
        this.fixed(index, 64);
        const scale = this.#uops.u8(this.#uop, UOP.SCALE) & ~UOP.STACK;
        if (scale === 0) return;
        w.i64(scale);
        w.op('i64.shl');
      });
    }
    if (disp !== 0 || !pushed) add(() => w.i64(disp));
  }

  override state(offset: number, type: ValueType): void {
    if (offset === STATE.FLAG_CARRY) this.#flags.pushCarryWord();
    else if (offset === STATE.FLAG_RESULT) this.#flags.pushResult();
    else if (type === 'v128') this.registers.readVector(offset);
    else if (this.registers.isGeneral(offset)) this.registers.read(offset, 64);
    else super.state(offset, type);
  }

  override setState(offset: number, type: ValueType, value: Push): void {
    if (offset === STATE.FLAG_CARRY) this.#flags.setCarryWord(value);
    else if (offset === STATE.FLAG_RESULT) this.#flags.setResult(value);
    else super.setState(offset, type, value);
  }

  override call(name: string): void {
    const effects = coreEffects(name);
    this.#synchronize(effects);
    super.call(name);
    this.#refresh(effects);
  }

  /** Puts what the core will look at into memory. Leaves the stack as it is. */
  #synchronize(effects: CoreEffects): void {
    if (effects.registers) this.registers.spillAll();
    if (effects.readsFlags) this.#flags.publish();
  }

  #refresh(effects: CoreEffects): void {
    if (effects.registers) this.registers.reloadAll();
    if (effects.writesFlags) this.#flags.adopt();
  }

  systemCall(name: string, args: Push, after?: Push): void {
    const { w } = this;
    const effects = coreEffects(name);
    const result = this.i32[4];
    super.setState(STATE.RIP, 'i64', () => this.place(this.#instruction.pc));
    super.setState(STATE.ICOUNT, 'i64', () => {
      w.get(this.#frame.icount);
      w.i64(this.#done);
      w.op('i64.add');
    });
    args();
    this.#synchronize(effects);
    super.call(name);
    w.set(result);
    this.#refresh(effects);
    w.get(result);
    w.i32(2);
    w.op('i32.eq');
    this.faultIf();
    after?.();
    w.get(result);
    w.if();
    // A repetition that pauses is not complete.
    w.get(result);
    w.i32(4);
    w.op('i32.eq');
    w.if();
    this.count(this.#done);
    w.else();
    this.count(this.#done + 1);
    w.end();
    super.state(STATE.RIP, 'i64');
    w.set(this.#frame.rip);
    w.i32(RESULT.LOOKUP);
    w.i32(RESULT.LEAVE);
    w.get(result);
    w.i32(1);
    w.op('i32.eq');
    w.op('select');
    w.set(this.#frame.result);
    this.#flags.nameKind();
    w.br(this.#frame.exit);
    w.end();
    this.#leaveIfWritten();
  }

  shieldNext(): void {
    const { w } = this;
    super.state(STATE.INTR_PENDING, 'i32');
    w.if(undefined, 'unlikely');
    super.setState(STATE.EXIT_REASON, 'i32', () => w.i32(EXIT.BUDGET));
    this.#leaveAt(this.#instruction.next, this.#done + 1, RESULT.LEAVE);
    w.end();
    super.setState(STATE.INTR_SHADOW, 'i32', () => w.i32(0));
  }

  /** Leaves the region behind an instruction that stored to translated code. */
  #leaveIfWritten(): void {
    super.state(STATE.CODE_WRITTEN, 'i32');
    this.w.if(undefined, 'unlikely');
    this.leaveWritten();
    this.w.end();
  }

  protected override leaveWritten(): void {
    super.setState(STATE.CODE_WRITTEN, 'i32', () => this.w.i32(0));
    this.#leaveAt(this.#instruction.next, this.#done + 1, RESULT.LOOKUP);
  }

  /** Leaves the region at `pc` with `done` instructions of the block complete. */
  #leaveAt(pc: number, done: number, result: number): void {
    this.w.i64(siteOf(pc, (this.#flags.exitKind << COUNT_BITS) | done));
    this.w.set(this.#frame.site);
    const shared = this.#sharedExit(result);
    if (shared !== undefined) {
      this.w.br(shared);
      return;
    }
    this.w.i32(result);
    this.w.set(this.#frame.result);
    this.w.br(this.#frame.exitAtSite);
  }

  /** Where it is left to for what happens at many places. */
  #sharedExit(result: number): Label | undefined {
    if (result === RESULT.MISS) return this.#frame.missAtSite;
    return result === RESULT.FAULT ? this.#frame.faultAtSite : undefined;
  }

  override faultIf(): void {
    this.w.if(undefined, 'unlikely');
    this.#leaveForFault();
    this.w.end();
  }

  fault(vector: number, error: number): void {
    super.setState(STATE.FAULT_VECTOR, 'i32', () => this.w.i32(vector));
    super.setState(STATE.FAULT_ERROR, 'i32', () => this.w.i32(error));
    this.#leaveForFault();
  }

  #leaveForFault(): void {
    const onStack = (this.#uops.u8(this.#uop, UOP.SCALE) & UOP.STACK) !== 0;
    this.#leaveAt(this.#instruction.pc, this.#done, onStack ? RESULT.STACK_FAULT : RESULT.FAULT);
  }

  commit(leave = true): void {
    if (this.#leavesOnMiss) return;
    const { w } = this;
    w.get(this.slowFlag);
    w.if(undefined, 'unlikely');
    super.call('commitWrite');
    if (leave) this.#leaveIfWritten();
    w.end();
  }

  /** Pushes the RIP of an offset. */
  place(offset: number): void {
    this.w.get(this.#frame.page);
    if (offset === 0) return;
    this.w.i64(offset);
    this.w.op('i64.add');
  }

  nextRip(): void {
    this.place(this.#instruction.next);
  }

  /** Counts retired instructions. */
  count(instructions: number): void {
    this.w.get(this.#frame.icount);
    this.w.i64(instructions);
    this.w.op('i64.add');
    this.w.set(this.#frame.icount);
  }

  jump(): void {
    this.#control.jump();
  }
  jumpIf(): void {
    this.#control.jumpIf();
  }
  jumpIndirect(): void {
    this.#control.jumpIndirect();
  }
  jumpBack(): void {
    this.#control.jumpIndirect();
  }
  leave(): void {
    this.#leaveAt(this.#instruction.next, this.#done + 1, RESULT.LOOKUP);
  }
  enterRegion(): void {
    throw new Error('a region is never decoded');
  }
  relookup(): void {
    this.#leaveAt(this.#instruction.pc, this.#done, RESULT.LOOKUP);
  }
}
