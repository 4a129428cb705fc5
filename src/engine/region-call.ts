/** How the interpreter and compiled regions call a region: by the LINK of a micro-op `region`, see `REGION_LINK`. */
import { REGION_LINK } from './layout.ts';
import type { FunctionWriter } from './wasm/function-writer.ts';
import type { Signature } from './wasm/module-writer.ts';

/** Of regions in the table: takes the number of the entry, returns a RESULT. */
export const REGION_SIGNATURE: Signature = { params: ['i32'], results: ['i32'] };

/** What a region's function returns to the interpreter. */
export const RESULT = {
  /** Look up RIP. */
  LOOKUP: 0,
  /** A fault is pending at RIP. */
  FAULT: 1,
  /** Return to JavaScript with EXIT_REASON. */
  LEAVE: 2,
  /** A fault of an access to the stack is pending at RIP. */
  STACK_FAULT: 3,
  /** The TLB does not allow an access of the instruction at RIP: the interpreter has to do it. */
  MISS: 4,
} as const;

/** Pushes the number of the entry and the index in the table, from a LINK in an i32 local. */
export function pushRegionCall(w: FunctionWriter, link: number): void {
  w.get(link);
  w.i32(REGION_LINK.ENTRY_SHIFT);
  w.op('i32.shr_u');
  w.get(link);
  w.i32(REGION_LINK.INDEX_MASK);
  w.op('i32.and');
}
