/** Many generated programs on one processor. */
import type { CpuOptions } from '../../src/engine/vcpu.ts';
import { lockstep } from './lockstep.ts';
import { ProgramMachine } from './machine.ts';
import { generate } from './program.ts';
import { REFERENCE } from './settings.ts';

export interface Campaign {
  /** How to see it again, and what it was, of each program that ran otherwise than on the reference. */
  readonly failures: readonly string[];
  readonly instructions: number;
  readonly comparisons: number;
  readonly regions: number;
}

/** @param limit instructions of each program, at most */
export function campaign(
  setting: string,
  options: CpuOptions,
  seeds: Iterable<number>,
  limit: number,
): Campaign {
  const reference = new ProgramMachine(REFERENCE);
  const subject = new ProgramMachine(options);
  const failures: string[] = [];
  let instructions = 0;
  let comparisons = 0;
  for (const seed of seeds) {
    const outcome = lockstep(generate(seed), subject, reference, limit);
    instructions += outcome.retired;
    comparisons += outcome.comparisons;
    if (outcome.difference === undefined) continue;
    const replay = `node test/programs/replay.ts --seed ${seed} --setting '${setting}' --limit ${limit}`;
    failures.push(`${replay}\n${outcome.difference}`);
  }
  return { failures, instructions, comparisons, regions: subject.regions };
}

export function* range(first: number, count: number): Generator<number> {
  for (let n = 0; n < count; n++) yield first + n;
}
