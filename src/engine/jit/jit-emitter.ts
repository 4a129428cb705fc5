/** The compiler's operands: record fields are constants, registers are locals of the region's function. */
import { CPU, EXIT, STATE, UOP } from '../layout.ts';
import type { Emitter, FlagRecorder, Push, RegisterField, Width } from '../uops/emitter.ts';
import { uopProperty } from '../uops/index.ts';
import { type CoreFunction, MemoryEmitter, type Scratch } from '../uops/memory-emitter.ts';
import type { FunctionWriter, Label } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';
import { type CoreEffects, coreEffects } from './core-effects.ts';
import { IGNORED_FLAGS } from './operand-profile.ts';
import { type DecodedInstruction, pageOf, type UopReader } from './code-reader.ts';
import { KIND_BITS } from './flag-state.ts';
import type { LazyFlags } from './lazy-flags.ts';
import { RESULT } from '../region-call.ts';
import type { RegisterFile } from './register-file.ts';
import { bytesOf, offsetIn, type RunBytes, type StackRun } from './stack-run.ts';

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
/** Micro-ops whose own memory access is to the stack. */
const isStackUop = uopProperty((name) => /^(push|pop(?!.*m$|cnt)|call|ret|leave)\d/.test(name));

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
  /** Of the access to the stack that comes next, from the pointer in i32[4], where its page is known. */
  #stackOffset: number | undefined;
  /** The access to the stack that comes next is known not to be in its page. */
  #isStackMissed = false;

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
  select(uop: number, instruction: DecodedInstruction, done: number, flagsAreDead: boolean): void {
    this.#uop = uop;
    this.#flagsAreDead = flagsAreDead;
    this.#instruction = instruction;
    this.#done = done;
  }

  protected override isOnStack(size: number): boolean {
    const isPowerOfTwo = (size & (size - 1)) === 0;
    return isPowerOfTwo && (isStackUop(this.#uops.u16(this.#uop, UOP.OP)) || this.#operand('base') === RSP);
  }

  /**
   * Emits the instructions of a run twice: for a stack that is known to be where STATE.STACK_PAGE says, with one check
   * for all of them, and for any other.
   */
  stackRun(run: StackRun, emitInstruction: (n: number) => void): void {
    const { w } = this;
    const all = Array.from({ length: run.length }, (_, n) => n);
    this.#pushIsInStackPage(bytesOf(run));
    w.if(undefined, 'likely');
    w.get(this.i64[8]);
    w.op('i32.wrap_i64');
    super.state(STATE.STACK_ADDEND, 'i32');
    w.op('i32.add');
    w.set(this.i32[4]);
    for (const n of all) {
      this.#stackOffset = offsetIn(run, n);
      emitInstruction(n);
    }
    this.#stackOffset = undefined;
    w.else();
    this.#isStackMissed = true;
    for (const n of all) emitInstruction(n);
    this.#isStackMissed = false;
    w.end();
  }

  /** Pushes whether these bytes are in the stack's page; where they begin is in i64[8]. */
  #pushIsInStackPage({ count, from }: RunBytes): void {
    const { w } = this;
    this.fixed(RSP, 64);
    w.i64(from);
    w.op('i64.add');
    w.tee(this.i64[8]);
    w.i64(-4096);
    w.op('i64.and');
    super.state(STATE.STACK_PAGE, 'i64');
    w.op('i64.eq');
    w.get(this.i64[8]);
    w.i64(count - 1);
    w.op('i64.add');
    w.i64(-4096);
    w.op('i64.and');
    super.state(STATE.STACK_PAGE, 'i64');
    w.op('i64.eq');
    w.op('i32.and');
  }

  override readPointer(size: number): void {
    if (this.#stackOffset !== undefined) {
      this.w.op('drop');
      this.w.get(this.i32[4]);
      this.w.i32(this.#stackOffset);
      this.w.op('i32.add');
    } else if (this.#isStackMissed) {
      this.w.set(this.i64[8]);
      this.missedRead(size);
    } else super.readPointer(size);
  }

  override store(width: Width, value: Push, finish?: Push, leave = true): void {
    if (this.#stackOffset !== undefined) {
      this.w.op('drop');
      this.w.get(this.i32[4]);
      value();
      this.w.memory('i64.store', this.#stackOffset);
      finish?.();
    } else if (this.#isStackMissed) {
      this.w.set(this.i64[8]);
      this.missedStore(width, value, finish, leave);
      finish?.();
    } else super.store(width, value, finish, leave);
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
    if (result === RESULT.FAULT) {
      this.w.br(this.#frame.faultAtSite);
      return;
    }
    this.w.i32(result);
    this.w.set(this.#frame.result);
    this.w.br(this.#frame.exitAtSite);
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
