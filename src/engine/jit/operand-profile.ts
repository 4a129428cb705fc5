/**
 * Which registers a micro-op touches, found by running its definition once against an emitter that only
 * takes notes. So nothing has to be declared twice.
 */
import { STATE } from '../layout.ts';
import type { Emitter, FlagRecorder, Push, RegisterField } from '../uops/emitter.ts';
import type { UopDefinition } from '../uops/define.ts';
import { declareScratch, type Scratch } from '../uops/memory-emitter.ts';
import { FunctionWriter } from '../wasm/function-writer.ts';
import type { ValueType } from '../wasm/opcodes.ts';
import { coreEffects } from './core-effects.ts';

export interface OperandProfile {
  /** Record fields that name a register which is read, or written. */
  readonly reads: ReadonlySet<RegisterField>;
  readonly writes: ReadonlySet<RegisterField>;
  /** State offsets of registers that are read, or written, whatever the record says. */
  readonly fixedReads: ReadonlySet<number>;
  readonly fixedWrites: ReadonlySet<number>;
  /** Calls a core function that may touch any register. */
  readonly callsOut: boolean;
}

const NO_FLAGS: FlagRecorder = {
  add() {},
  sub() {},
  logic() {},
  step() {},
  conditionally(change: Push) {
    change();
  },
  setCarry() {},
  pushCarry() {},
  pushCondition() {},
};

class ProfilingEmitter implements Emitter {
  readonly w = new FunctionWriter([], []);
  readonly flags = NO_FLAGS;
  readonly reads = new Set<RegisterField>();
  readonly writes = new Set<RegisterField>();
  readonly fixedReads = new Set<number>();
  readonly fixedWrites = new Set<number>();
  callsOut = false;
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];

  constructor() {
    const scratch: Scratch = declareScratch(this.w);
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
  readPointer(): void {}
  writePointer(): void {}
  store(_width: number, value: Push, finish?: Push): void {
    value();
    finish?.();
  }
  commit(): void {}
  state(offset: number, _type: ValueType): void {
    if (offset >= STATE.XMM) this.fixedReads.add(offset);
  }
  setState(_offset: number, _type: ValueType, value: Push): void {
    value();
  }
  call(name: string): void {
    if (coreEffects(name).registers) this.callsOut = true;
  }
  systemCall(_name: string, args: Push, after?: Push): void {
    this.callsOut = true;
    args();
    after?.();
  }
  shieldNext(): void {}
  faultIf(): void {}
  fault(): void {}
  nextRip(): void {}
  jump(): void {}
  jumpIf(): void {}
  jumpIndirect(): void {}
  jumpBack(): void {}
  leave(): void {}
  enterRegion(): void {}
  relookup(): void {}
}

const profiles = new Map<number, OperandProfile>();

export function operandProfile(definition: UopDefinition): OperandProfile {
  let profile = profiles.get(definition.number);
  if (profile === undefined) {
    const e = new ProfilingEmitter();
    definition.emit(e);
    profile = e;
    profiles.set(definition.number, profile);
  }
  return profile;
}
