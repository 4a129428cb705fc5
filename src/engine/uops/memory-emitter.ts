/** What both tiers' emitters share: guest memory through the software TLB, state fields, core calls. */
import { CPU, JUMP_CACHE, STATE, TLB } from '../layout.ts';
import type { FunctionWriter } from '../wasm/function-writer.ts';
import { LOAD, STORE, type ValueType } from '../wasm/opcodes.ts';
import type { Push, Width } from './emitter.ts';

export const STORES: Readonly<Record<Width, string>> = {
  8: 'i64.store8',
  16: 'i64.store16',
  32: 'i64.store32',
  64: 'i64.store',
};

/** Scratch locals of a function, by type. */
export interface Scratch {
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];
}

/** Numbers for the scratch locals that micro-ops use. */
export function scratchOf(w: FunctionWriter): Scratch {
  const locals = (type: ValueType, count: number): readonly number[] =>
    Array.from({ length: count }, () => w.local(type));
  return {
    i64: locals('i64', 9),
    i32: locals('i32', 7),
    v128: locals('v128', 4),
    f64: locals('f64', 3),
    f32: locals('f32', 3),
  };
}

/** Index of an export of the core runtime among the module's functions; throws when there is none. */
export type CoreFunction = (name: string) => number;

/** Pushes the offset in the jump cache of the slot for a RIP in a local (see `jumpCacheSlot` of the core). */
export function pushJumpCacheSlot(w: FunctionWriter, rip: number): void {
  w.get(rip);
  w.op('i32.wrap_i64');
  w.get(rip);
  w.op('i32.wrap_i64');
  w.i32(12);
  w.op('i32.shr_u');
  w.op('i32.xor');
  w.i32(JUMP_CACHE.ENTRIES / 2 - 1);
  w.op('i32.and');
  w.get(rip);
  w.i64(63);
  w.op('i64.shr_u');
  w.op('i32.wrap_i64');
  w.i32(Math.log2(JUMP_CACHE.ENTRIES / 2));
  w.op('i32.shl');
  w.op('i32.or');
  w.i32(Math.log2(JUMP_CACHE.ENTRY_SIZE));
  w.op('i32.shl');
}

/** What a slow store returns when nothing was stored. */
const FAULT = 2;

export abstract class MemoryEmitter implements Scratch {
  readonly w: FunctionWriter;
  readonly i64: readonly number[];
  readonly i32: readonly number[];
  readonly v128: readonly number[];
  readonly f64: readonly number[];
  readonly f32: readonly number[];
  readonly #coreFunction: CoreFunction;
  readonly #tlbMask: number;

  constructor(w: FunctionWriter, scratch: Scratch, coreFunction: CoreFunction, tlbEntries: number) {
    this.w = w;
    this.i64 = scratch.i64;
    this.i32 = scratch.i32;
    this.v128 = scratch.v128;
    this.f64 = scratch.f64;
    this.f32 = scratch.f32;
    this.#coreFunction = coreFunction;
    this.#tlbMask = (tlbEntries - 1) << TLB.ENTRY_SHIFT;
  }

  /** Address of the TLB bank in use, where it is always the same. */
  protected fixedBank(): number | undefined {
    return undefined;
  }
  /** Pushes the address of the TLB bank in use (i32). */
  protected tlbBank(): void {
    this.stateField(STATE.TLB_BANK, 'i32');
  }
  /** i32 local: 1 when the last writePointer took the slow path. */
  protected get slowFlag(): number {
    return this.i32[6];
  }
  /** Pops an i32; if it is 0, leaves with the pending fault. */
  protected abstract faultIfZero(): void;

  /** Pops an i32; if it is not 0, leaves with the pending fault. */
  abstract faultIf(): void;

  /** Leaves the block behind the instruction, which wrote to translated code. */
  protected abstract leaveWritten(): void;

  readPointer(size: number): void {
    this.#translate(size, TLB.READ_TAG, () => {
      const pointer = this.i32[5];
      this.w.get(this.i64[8]);
      this.w.i32(size);
      this.call('slowRead');
      this.w.tee(pointer);
      this.faultIfZero();
      this.w.get(pointer);
    });
  }

  writePointer(size: number, readFirst: boolean): void {
    this.w.i32(0);
    this.w.set(this.slowFlag);
    this.#translate(size, TLB.WRITE_TAG, () => {
      const pointer = this.i32[5];
      this.w.i32(1);
      this.w.set(this.slowFlag);
      this.w.get(this.i64[8]);
      this.w.i32(size);
      this.w.i32(readFirst ? 1 : 0);
      this.call('slowWrite');
      this.w.tee(pointer);
      this.faultIfZero();
      this.w.get(pointer);
    });
  }

  /** Pushes the address of the TLB entry for a linear address in a local, without that of a fixed bank. */
  protected pushTlbEntry(address: number): void {
    const { w } = this;
    w.get(address);
    w.i64(12 - TLB.ENTRY_SHIFT);
    w.op('i64.shr_u');
    w.op('i32.wrap_i64');
    w.i32(this.#tlbMask);
    w.op('i32.and');
    if (this.fixedBank() !== undefined) return;
    this.tlbBank();
    w.op('i32.add');
  }

  /**
   * One compare against the tag of the page that holds the access's last byte catches a miss, a page
   * crossing and a missing right alike. Uses i64[8], i32[4], i32[5].
   */
  #translate(size: number, tag: number, missed: Push): void {
    const { w } = this;
    this.pushHit(size, tag);
    w.if('i32', 'likely');
    this.pushHitPointer();
    w.else();
    missed();
    w.end();
  }

  /**
   * Pops a linear address into i64[8]. Emits `mapped`, which finds a pointer to that many bytes on the stack, for when the TLB
   * allows the access to all of them at once, and `otherwise`.
   */
  ifMapped(size: number, access: 'read' | 'write', mapped: Push, otherwise: Push): void {
    const { w } = this;
    this.pushHit(size, access === 'read' ? TLB.READ_TAG : TLB.WRITE_TAG);
    w.if(undefined, 'likely');
    this.pushHitPointer();
    mapped();
    w.else();
    otherwise();
    w.end();
  }

  /**
   * Pops a linear address into i64[8], pushes 1 if the TLB allows the access, or with 'i64.ne' if it does not; the entry is in
   * i32[4].
   */
  protected pushHit(size: number, tag: number, comparison: 'i64.eq' | 'i64.ne' = 'i64.eq'): void {
    const { w } = this;
    const address = this.i64[8];
    w.set(address);
    this.pushTlbEntry(address);
    w.tee(this.i32[4]);
    w.memory('i64.load', (this.fixedBank() ?? 0) + tag);
    w.get(address);
    if (size > 1) {
      w.i64(size - 1);
      w.op('i64.add');
    }
    w.i64(-4096);
    w.op('i64.and');
    w.op(comparison);
  }

  /** Pushes the pointer that the entry in i32[4] makes of the address in i64[8]. */
  protected pushHitPointer(): void {
    const { w } = this;
    w.get(this.i64[8]);
    w.op('i32.wrap_i64');
    w.get(this.i32[4]);
    w.memory('i32.load', (this.fixedBank() ?? 0) + TLB.ADDEND);
    w.op('i32.add');
  }

  store(width: Width, value: Push, finish?: Push, leave = true): void {
    const { w } = this;
    const size = width / 8;
    this.pushHit(size, TLB.WRITE_TAG);
    w.if(undefined, 'likely');
    this.pushHitPointer();
    value();
    w.memory(STORES[width]);
    w.else();
    w.get(this.i64[8]);
    value();
    w.i32(size);
    this.call('slowStore');
    if (leave) this.#afterSlowStore(finish);
    else this.#faultIfCode(FAULT);
    w.end();
    finish?.();
  }

  /** Pops the code of a slow store; leaves unless it is 0. */
  #afterSlowStore(finish: Push | undefined): void {
    const { w } = this;
    const code = this.i32[5];
    w.tee(code);
    w.if(undefined, 'unlikely');
    w.get(code);
    this.#faultIfCode(FAULT);
    finish?.();
    this.leaveWritten();
    w.end();
  }

  #faultIfCode(code: number): void {
    this.w.i32(code);
    this.w.op('i32.eq');
    this.faultIf();
  }

  state(offset: number, type: ValueType): void {
    this.stateField(offset, type);
  }

  /** Pushes a field of the state as it is in memory. */
  protected stateField(offset: number, type: ValueType): void {
    this.w.i32(0);
    this.w.memory(LOAD[type], CPU + offset);
  }

  setState(offset: number, type: ValueType, value: Push): void {
    this.w.i32(0);
    value();
    this.w.memory(STORE[type], CPU + offset);
  }

  call(name: string): void {
    this.w.call(this.#coreFunction(name));
  }
}
