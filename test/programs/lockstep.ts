/** Runs a program on two processors and compares their whole state whenever the one under test stops. */
import { EXIT } from '../../src/engine/layout.ts';
import { Random } from '../vectors/random.ts';
import { REG } from './instructions.ts';
import { WITH_ERROR_CODE } from './kernel.ts';
import type { Ending, ProgramMachine } from './machine.ts';
import { PLACE } from './places.ts';
import type { Program } from './program.ts';

/** What a run has shown. */
export interface Outcome {
  /** Absent: no difference. */
  readonly difference?: string;
  readonly retired: number;
  readonly comparisons: number;
}

/** How many instructions the processor under test is given at a time, at most. */
const PACES = [1, 7, 60, 700, 5000];
const INTERRUPT_PERCENT = 12;
/** Stops without a comparison in a row: repetitions that pause behind each element. */
const UNCOMPARED_MAX = 20_000;

/**
 * @param subject the processor under test
 * @param reference one that can stop behind every instruction
 * @param limit instructions after which it is enough
 */
export function lockstep(
  program: Program,
  subject: ProgramMachine,
  reference: ProgramMachine,
  limit: number,
): Outcome {
  const random = new Random(program.seed, 'pace');
  const pace = random.pick(PACES);
  subject.start(program);
  reference.start(program);
  let comparisons = 0;
  let uncompared = 0;
  const outcome = (difference?: string): Outcome => ({
    retired: subject.retired,
    comparisons,
    ...(difference === undefined
      ? {}
      : { difference: `after ${subject.retired} instructions: ${difference}` }),
  });
  while (subject.retired < limit) {
    const ending = subject.run(1 + random.below(pace));
    const theirs = follow(reference, subject.retired, ending);
    if (reference.retired !== subject.retired) return outcome(unequalCounts(subject, reference, ending));
    if (isOnTheWay(subject, reference) && ending === EXIT.BUDGET) {
      uncompared += 1;
      if (uncompared > UNCOMPARED_MAX) return outcome('it gets no further');
      continue;
    }
    uncompared = 0;
    comparisons += 1;
    const difference = compare(subject, reference);
    if (difference !== undefined) return outcome(difference);
    if (ending !== EXIT.BUDGET) {
      return outcome(theirs === ending ? undefined : `ends with ${ending}, the reference with ${theirs}`);
    }
    if (subject.interruptible && random.chance(INTERRUPT_PERCENT)) {
      subject.interrupt();
      reference.interrupt();
    }
  }
  return outcome();
}

/** Runs the reference to the same count, and on to its end if the other has ended otherwise than by the count. */
function follow(reference: ProgramMachine, retired: number, ending: Ending): Ending {
  let last: Ending = EXIT.BUDGET;
  while (reference.retired < retired && last === EXIT.BUDGET)
    last = reference.run(retired - reference.retired);
  if (ending === EXIT.BUDGET) return last;
  // It ends in an instruction that does not retire; a repetition comes there in many steps.
  for (let n = 0; n < UNCOMPARED_MAX && last === EXIT.BUDGET && reference.retired === retired; n++) {
    last = reference.run(1);
  }
  return last;
}

function unequalCounts(subject: ProgramMachine, reference: ProgramMachine, ending: Ending): string {
  return `it ends with ${ending}, the reference is at ${reference.retired}\n${subject.dump()}\nreference:\n${reference.dump()}`;
}

function compare(subject: ProgramMachine, reference: ProgramMachine): string | undefined {
  const [mine, theirs] = [subject.dump(), reference.dump()];
  if (mine !== theirs) return `registers\n${mine}\nreference:\n${theirs}`;
  const state = subject.stateDifference(reference);
  if (state !== undefined) return `the state at 0x${state.toString(16)}\n${mine}`;
  const ram = subject.ramDifference(reference);
  if (ram !== undefined) {
    const line = (of: ProgramMachine): string => of.ram.subarray(ram & ~15, (ram & ~15) + 16).toString('hex');
    return `RAM at 0x${ram.toString(16)}: ${line(subject)}, reference ${line(reference)}\n${mine}`;
  }
  if (subject.interruptible !== reference.interruptible)
    return `interrupts are possible in one only\n${mine}`;
  if (subject.halted !== reference.halted) return `one is halted\n${mine}`;
  return undefined;
}

/** Registers that a repetition changes. */
const REPEATED: readonly number[] = [REG.AX, REG.CX, REG.SI, REG.DI];

/**
 * Whether the one under test has stopped between two instructions' ends, where the reference cannot: in the middle
 * of a repetition, or with a fault delivered whose handler has not begun.
 */
function isOnTheWay(subject: ProgramMachine, reference: ProgramMachine): boolean {
  const at = reference.rip;
  const repeats = isRepetition(reference, at);
  const same = (left: readonly number[]): boolean =>
    Array.from({ length: 16 }, (_, n) => n).every(
      (n) =>
        left.includes(n) ||
        (repeats && REPEATED.includes(n)) ||
        subject.register(n) === reference.register(n),
    );
  if (subject.rip === at)
    return repeats && same([]) && REPEATED.some((n) => subject.register(n) !== reference.register(n));
  const stub = Number(subject.rip) - PLACE.STUBS;
  if (stub < 0 || stub >= 32 * 16 || stub % 16 !== 0) return false;
  const frame = Number(subject.register(REG.SP)) + (WITH_ERROR_CODE.has(stub / 16) ? 8 : 0);
  return subject.ram.readBigUInt64LE(frame) === at && same([REG.SP]);
}

/** Whether a string instruction with REP or REPNE is there. */
function isRepetition(machine: ProgramMachine, rip: bigint): boolean {
  let at = Number(rip & 0xffff_ffffn);
  let repeated = false;
  for (let n = 0; n < 14 && at < machine.ram.length; n++, at++) {
    const byte = machine.ram[at]!;
    if (byte === 0xf2 || byte === 0xf3) repeated = true;
    else if (byte !== 0x66 && byte !== 0x67 && (byte & 0xf0) !== 0x40) {
      return repeated && ((byte >= 0xa4 && byte <= 0xa7) || (byte >= 0xaa && byte <= 0xaf));
    }
  }
  return false;
}
