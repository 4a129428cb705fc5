/**
 * Which registers a micro-op touches, found by running its definition once against an emitter that only
 * takes notes. So nothing has to be declared twice.
 */
import { STATE, UOP } from '../layout.ts';
import type { Emitter, FlagRecorder, Push, RegisterField, Width } from '../uops/emitter.ts';
import type { UopDefinition } from '../uops/define.ts';
import { scratchOf } from '../uops/memory-emitter.ts';
import { FunctionWriter } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';
import { uopDefinitions } from '../uops/index.ts';
import type { UopReader } from './code-reader.ts';
import { coreEffects } from './core-effects.ts';

export interface OperandProfile {
  /** Record fields that name a register which is read, or written. */
  readonly reads: readonly RegisterField[];
  readonly writes: readonly RegisterField[];
  /** State offsets of registers that are read, or written, whatever the record says. */
  readonly fixedReads: readonly number[];
  readonly fixedWrites: readonly number[];
  readonly flags: Pick<ProfilingFlags, 'first' | 'carry' | 'third'>;
  /** The region may be left before or behind it, with the flags as they are. */
  readonly leaves: boolean;
}

/** Takes flags and forgets them; nothing is read. */
export const IGNORED_FLAGS: FlagRecorder = {
  add() {},
  sub() {},
  compare() {},
  logic() {},
  product() {},
  step() {},
  set() {},
  conditionally(_condition: Push, change: Push) {
    change();
  },
  setCarry() {},
  pushCarry() {},
  pushCondition() {},
};

/** What a micro-op does to the flags. */
class ProfilingFlags implements FlagRecorder {
  /** What is first: it needs what was there before, or sets all flags. */
  first: 'none' | 'reads' | 'overwrites' = 'none';
  /** Sets CF apart from the others. */
  carry = false;
  /** Adds or subtracts with CF. */
  third = false;

  reads(): void {
    if (this.first === 'none') this.first = 'reads';
  }
  overwrites(): void {
    if (this.first === 'none') this.first = 'overwrites';
  }
  #arithmetic(withCarry = false): void {
    if (withCarry) {
      this.carry = true;
      this.third = true;
    }
    this.overwrites();
  }

  add(_width: Width, _a: number, _b: number, _sum: number, withCarry?: boolean): void {
    this.#arithmetic(withCarry);
  }
  sub(_width: Width, _a: number, _b: number, _difference: number, withCarry?: boolean): void {
    this.#arithmetic(withCarry);
  }
  compare(): void {
    this.overwrites();
  }
  logic(): void {
    this.overwrites();
  }
  product(): void {
    this.overwrites();
  }
  set(result: Push, carry: Push): void {
    this.overwrites();
    result();
    carry();
  }
  step(): void {
    this.reads();
    this.carry = true;
  }
  setCarry(): void {
    this.reads();
    this.carry = true;
  }
  conditionally(condition: Push, change: Push, otherwise?: Push): void {
    this.reads();
    condition();
    change();
    otherwise?.();
  }
  pushCarry(): void {
    this.reads();
  }
  pushCondition(): void {
    this.reads();
  }
}

const isFlagWord = (offset: number): boolean => offset === STATE.FLAG_CARRY || offset === STATE.FLAG_RESULT;

class ProfilingEmitter implements Emitter {
  readonly w = new FunctionWriter([], []);
  readonly flags = new ProfilingFlags();
  readonly reads = new Set<RegisterField>();
  readonly writes = new Set<RegisterField>();
  readonly fixedReads = new Set<number>();
  readonly fixedWrites = new Set<number>();
  leaves = false;
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];

  constructor() {
    const scratch = scratchOf(this.w);
    this.i64 = scratch.i64;
    this.i32 = scratch.i32;
    this.v128 = scratch.v128;
    this.f64 = scratch.f64;
    this.f32 = scratch.f32;
  }

  reg(field: RegisterField): void {
    this.reads.add(field);
  }
  setReg(field: RegisterField, _width: number, value: Push): void {
    this.writes.add(field);
    value();
  }
  fixed(offset: number): void {
    this.fixedReads.add(offset);
  }
  setFixed(offset: number, _width: number, value: Push): void {
    this.fixedWrites.add(offset);
    value();
  }
  xmm(field: 'a' | 'b'): void {
    this.reads.add(field);
  }
  setXmm(field: 'a' | 'b', value: Push): void {
    this.writes.add(field);
    value();
  }
  registerPointer(field: 'a' | 'b'): void {
    this.reads.add(field);
  }
  registerWritten(field: 'a' | 'b'): void {
    this.writes.add(field);
  }
  imm(): void {}
  address(): void {
    this.reads.add('base');
    this.reads.add('index');
  }
  readPointer(): void {
    this.leaves = true;
  }
  writePointer(): void {
    this.leaves = true;
  }
  store(_width: number, value: Push, finish?: Push): void {
    this.leaves = true;
    value();
    finish?.();
  }
  commit(): void {
    this.leaves = true;
  }
  state(offset: number, _type: ValueType): void {
    if (offset >= STATE.XMM) this.fixedReads.add(offset);
    if (isFlagWord(offset)) this.flags.reads();
  }
  setState(offset: number, _type: ValueType, value: Push): void {
    value();
    if (isFlagWord(offset)) this.flags.reads();
  }
  call(name: string): void {
    const { readsFlags, writesFlags } = coreEffects(name);
    if (readsFlags || writesFlags) this.flags.reads();
  }
  systemCall(_name: string, args: Push, after?: Push): void {
    this.leaves = true;
    args();
    after?.();
  }
  shieldNext(): void {
    this.leaves = true;
  }
  faultIf(): void {
    this.leaves = true;
  }
  fault(): void {
    this.leaves = true;
  }
  nextRip(): void {}
  jump(): void {
    this.leaves = true;
  }
  jumpIf(): void {
    this.leaves = true;
  }
  jumpIndirect(): void {
    this.leaves = true;
  }
  jumpBack(): void {
    this.leaves = true;
  }
  leave(): void {
    this.leaves = true;
  }
  enterRegion(): void {
    this.leaves = true;
  }
  relookup(): void {
    this.leaves = true;
  }
}

const profiles: (OperandProfile | undefined)[] = [];

function operandProfile({ emit }: UopDefinition): OperandProfile {
  const e = new ProfilingEmitter();
  emit(e);
  return {
    reads: [...e.reads],
    writes: [...e.writes],
    fixedReads: [...e.fixedReads],
    fixedWrites: [...e.fixedWrites],
    flags: e.flags,
    leaves: e.leaves,
  };
}

/** What a decoded micro-op touches. */
export function profileOf(uops: UopReader, uop: number): OperandProfile {
  const number = uops.u16(uop, UOP.OP);
  profiles[number] ??= operandProfile(uopDefinitions()[number]!);
  return profiles[number];
}
