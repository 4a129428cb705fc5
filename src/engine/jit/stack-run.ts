/**
 * Instructions that move words to or from the stack one after another, so that one check is enough for all: a function's
 * pushes, with the call that leads to them, and its pops, with the return behind them.
 */
import { STATE, UOP } from '../layout.ts';
import { uopNumber } from '../uops/index.ts';
import type { DecodedInstruction, UopReader } from './code-reader.ts';

/** Bytes that each moves. */
const BYTES = 8;
const RSP = STATE.REGS + 4 * 8;
const PUSH = uopNumber('push64.64.r');
const POP = uopNumber('pop64.64.r');
const RETURN = uopNumber('ret64.64');
const CALLS: readonly number[] = [uopNumber('call64.64'), uopNumber('call64.64.r')];

export interface StackRun {
  readonly isPush: boolean;
  /** Instructions of the block. */
  readonly length: number;
  /** Pushes that follow in the block to which the last instruction, a call, leads. */
  readonly ahead: number;
}

/** Of the stack that a run touches. */
export interface RunBytes {
  readonly count: number;
  /** Where they begin, from RSP. */
  readonly from: number;
}

/** The micro-op of an instruction that has no other. */
function onlyOperation(uops: UopReader, { firstUop, uopCount }: DecodedInstruction): number {
  return uopCount === 1 ? uops.u16(firstUop, UOP.OP) : -1;
}

function operationOf(uops: UopReader, instruction: DecodedInstruction): number {
  const op = onlyOperation(uops, instruction);
  if (op === PUSH) return uops.u16(instruction.firstUop, UOP.B) === RSP ? -1 : PUSH;
  if (op === POP) return uops.u16(instruction.firstUop, UOP.A) === RSP ? -1 : POP;
  return -1;
}

/** Where those end that do the same as the one at `first`. */
function endOf(uops: UopReader, block: readonly DecodedInstruction[], first: number, op: number): number {
  let end = first;
  while (end < block.length && operationOf(uops, block[end]) === op) end += 1;
  return end;
}

/**
 * The run that begins with an instruction of a block, undefined where there are not two.
 * @param callee the block that a call at the end leads to, if that is the only way into it
 */
export function stackRunAt(
  uops: UopReader,
  block: readonly DecodedInstruction[],
  first: number,
  callee: readonly DecodedInstruction[],
): StackRun | undefined {
  const { firstUop, uopCount } = block[first];
  if (CALLS.includes(uops.u16(firstUop + uopCount - 1, UOP.OP))) {
    const ahead = endOf(uops, callee, 0, PUSH);
    return ahead > 0 ? { isPush: true, length: 1, ahead } : undefined;
  }
  const op = operationOf(uops, block[first]);
  if (op < 0) return undefined;
  const end = endOf(uops, block, first, op);
  const returns = op === POP && end < block.length && onlyOperation(uops, block[end]) === RETURN;
  const length = end - first + (returns ? 1 : 0);
  return length > 1 ? { isPush: op === PUSH, length, ahead: 0 } : undefined;
}

export function bytesOf({ isPush, length, ahead }: StackRun): RunBytes {
  const count = (length + ahead) * BYTES;
  return { count, from: isPush ? -count : 0 };
}

/** Where in these bytes is what the n-th instruction moves. */
export function offsetIn({ isPush, length, ahead }: StackRun, n: number): number {
  return BYTES * (isPush ? length + ahead - 1 - n : n);
}
