/** Micro-ops that no instruction asks for. */
import { uop } from '../uops/index.ts';
import { ZERO } from './instruction.ts';
import type { UopWriter } from './uop-writer.ts';

/**
 * Appends one before the instruction at `pageOffset`.
 * @param immediate sign-extended
 * @param done instructions of the block before that one
 */
export function emitMark(
  out: UopWriter,
  name: string,
  immediate: number,
  pageOffset: number,
  done: number,
): void {
  const first = out.count;
  out.write(uop`${name}`, ZERO, ZERO, ZERO, ZERO, 0, 0, immediate, immediate >> 31);
  out.finishInstruction(first, done, pageOffset, pageOffset);
}
