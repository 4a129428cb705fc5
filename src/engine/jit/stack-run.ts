/** Registers that are pushed or popped one after another, as at the beginning and the end of a function. */
import { STATE, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import type { DecodedInstruction, UopReader } from './code-reader.ts';

/** Bytes that each moves. */
const BYTES = 8;
const RSP = STATE.REGS + 4 * 8;
const PUSH = uopNumber('push64.64.r');
const POP = uopNumber('pop64.64.r');

/** Instructions of a block that do nothing else. */
export interface StackRun {
  readonly isPush: boolean;
  readonly length: number;
}

/** Of the stack that a run touches. */
export interface RunBytes {
  readonly count: number;
  /** Where they begin, from RSP. */
  readonly from: number;
}

function operationOf(uops: UopReader, { firstUop, uopCount }: DecodedInstruction): number {
  const op = uopCount === 1 ? uops.u16(firstUop, UOP.OP) : -1;
  if (op === PUSH) return uops.u16(firstUop, UOP.B) === RSP ? -1 : PUSH;
  if (op === POP) return uops.u16(firstUop, UOP.A) === RSP ? -1 : POP;
  return -1;
}

/** The run that begins with an instruction of a block, undefined where there are not two. */
export function stackRunAt(
  uops: UopReader,
  block: readonly DecodedInstruction[],
  first: number,
): StackRun | undefined {
  const op = operationOf(uops, block[first]!);
  if (op < 0) return undefined;
  let end = first + 1;
  while (end < block.length && operationOf(uops, block[end]!) === op) end += 1;
  return end - first > 1 ? { isPush: op === PUSH, length: end - first } : undefined;
}

export function bytesOf({ isPush, length }: StackRun): RunBytes {
  const count = length * BYTES;
  return { count, from: isPush ? -count : 0 };
}

/** Where in these bytes is what the n-th instruction moves. */
export function offsetIn({ isPush, length }: StackRun, n: number): number {
  return BYTES * (isPush ? length - 1 - n : n);
}
