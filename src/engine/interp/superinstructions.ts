/**
 * What the interpreter runs instead of ordinary micro-ops where these follow each other, or where a memory operand has no index.
 * Half of the time of an interpreted micro-op is the way from one to the next: its branch is hard to predict.
 *
 * They are made of the ordinary definitions and exist for the interpreter alone. Their numbers follow those of the ordinary ones.
 * `specialize` writes one into the first record of a sequence and changes nothing else: the other records are what they were, and
 * each is the one that `pc` is at while its part of the work is done. So faults, exits and links need to know nothing of it.
 */
import { STATE, UOP } from '../layout.ts';
import { uopDefinitions, uopNumber } from '../uops/index.ts';
import { RSP } from '../uops/operands.ts';
import type { InterpEmitter } from './interp-emitter.ts';

export interface Superinstruction {
  readonly number: number;
  /** The ordinary micro-ops that it stands for. */
  readonly uops: readonly number[];
  readonly emit: (e: InterpEmitter) => void;
}

/** What a record must be like to be part of one: a field that is, or is not, a value. */
interface Requirement {
  readonly field: number;
  readonly value: number;
  readonly equal: boolean;
}

/** Micro-ops in a row, by name, and what runs them. It begins with `pc` at the first and ends with it at the last. */
interface Step {
  readonly names: readonly string[];
  readonly emit: (e: InterpEmitter) => void;
}

const WITHOUT_INDEX: Requirement = { field: UOP.INDEX, value: STATE.ZERO, equal: true };
const HAS_MEMORY_OPERAND = /\.(rm|mr|mi)$|^lea/;
/** Only such pushes and pops can be checked together. */
const PUSH = 'push64.64.r';
const POP = 'pop64.64.r';

function requirementOf(name: string): Requirement | undefined {
  if (HAS_MEMORY_OPERAND.test(name)) return WITHOUT_INDEX;
  if (name === POP) return { field: UOP.A, value: RSP, equal: false };
  if (name === PUSH) return { field: UOP.B, value: RSP, equal: false };
  return undefined;
}

function single(name: string): Step {
  const { emit } = uopDefinitions()[uopNumber(name)]!;
  const isPlain = HAS_MEMORY_OPERAND.test(name);
  return { names: [name], emit: (e) => (isPlain ? e.withoutIndex(() => emit(e)) : emit(e)) };
}

/** Registers that are pushed or popped one after another, in one access. */
function stackRun(name: typeof PUSH | typeof POP, length: number): Step {
  const { emit } = uopDefinitions()[uopNumber(name)]!;
  const names = Array.from({ length }, () => name);
  return { names, emit: (e) => e.stackRun(name === PUSH, length, () => emit(e)) };
}

const superinstructions: Superinstruction[] = [];
const steps = new Map<string, readonly Step[]>();

function define(...sequence: readonly Step[]): void {
  const names = sequence.flatMap((step) => step.names);
  const key = names.join(' ');
  if (steps.has(key)) return;
  steps.set(key, sequence);
  superinstructions.push({
    number: uopDefinitions().length + superinstructions.length,
    uops: names.map(uopNumber),
    emit(e) {
      for (const [n, step] of sequence.entries()) {
        if (n > 0) e.follow();
        step.emit(e);
      }
    },
  });
}

/** All sequences of one name of each list. */
function defineAll(...lists: readonly (readonly string[])[]): void {
  const sequences = lists.reduce<string[][]>(
    (all, names) => all.flatMap((begin) => names.map((name) => [...begin, name])),
    [[]],
  );
  for (const names of sequences) define(...names.map(single));
}

const named = (
  operations: readonly string[],
  widths: readonly number[],
  forms: readonly string[],
): string[] =>
  operations.flatMap((operation) =>
    widths.flatMap((width) => forms.map((form) => `${operation}${width}.${form}`)),
  );
const conditions = (...codes: readonly number[]): string[] => codes.map((code) => `jcc${code}`);

const WIDTHS = [8, 16, 32, 64];

/*
 * The families. In parentheses: the share of all micro-ops that a C compiler executes in a guest.
 */

// Branches (15 %), of which nearly all follow a comparison, and four in five ask for equality.
defineAll(named(['cmp', 'test'], WIDTHS, ['rr', 'ri', 'mi', 'mr']), conditions(4, 5));
defineAll(named(['cmp'], WIDTHS, ['rm']), conditions(4, 5));
defineAll(named(['cmp'], WIDTHS, ['rr', 'ri']), conditions(2, 3, 6, 7, 12, 13, 14, 15));
defineAll(named(['test'], [32, 64], ['rr']), conditions(8, 9, 14, 15));

// The beginning and the end of a function (9 %).
for (let length = 2; length <= 6; length++) {
  define(stackRun(PUSH, length));
  define(stackRun(POP, length));
  define(stackRun(POP, length), single('ret64.64'));
}
defineAll([POP], ['ret64.64']);

// Memory operands (35 %), of which most have no index.
defineAll(named(['mov'], [8, 32, 64], ['rm', 'mr', 'mi']));
defineAll(['movzx32.8.rm', 'movzx32.16.rm', 'movsx64.32.rm', 'lea32', 'lea64']);
defineAll(named(['cmp'], WIDTHS, ['mi', 'mr', 'rm']));
defineAll(named(['test'], [8, 32], ['mi']));

/** All by number, which begin behind those of the ordinary micro-ops. */
export function allSuperinstructions(): readonly Superinstruction[] {
  return superinstructions;
}

/** A finite automaton over the micro-ops of a block: state 0 is its beginning, and the end of any match. */
class Matcher {
  /** By micro-op: 0, or the number of what it is to the automaton. */
  readonly #symbols = new Uint8Array(uopDefinitions().length);
  readonly #requirements: (Requirement | undefined)[] = [undefined];
  readonly #next: Uint16Array[] = [];
  /** By state: the superinstruction that has been matched there, or 0. */
  readonly #matched: number[] = [0];

  constructor(sequences: readonly Superinstruction[]) {
    for (const { uops } of sequences) for (const uop of uops) this.#addSymbol(uop);
    this.#next.push(this.#row());
    for (const sequence of sequences) this.#add(sequence);
  }

  #addSymbol(uop: number): void {
    if (this.#symbols[uop] !== 0) return;
    this.#symbols[uop] = this.#requirements.length;
    this.#requirements.push(requirementOf(uopDefinitions()[uop]!.name));
  }

  #row(): Uint16Array {
    return new Uint16Array(this.#requirements.length);
  }

  #add({ uops, number }: Superinstruction): void {
    let state = 0;
    for (const uop of uops) {
      const row = this.#next[state]!;
      const symbol = this.#symbols[uop]!;
      if (row[symbol] === 0) {
        row[symbol] = this.#next.length;
        this.#next.push(this.#row());
        this.#matched.push(0);
      }
      state = row[symbol]!;
    }
    this.#matched[state] = number;
  }

  /** The state behind a record, at an index of 16-bit words. */
  #step(state: number, words: Uint16Array, record: number): number {
    const symbol = this.#symbols[words[record]!]!;
    const requirement = this.#requirements[symbol];
    if (requirement !== undefined) {
      const { field, value, equal } = requirement;
      if ((words[record + field / 2] === value) !== equal) return 0;
    }
    return this.#next[state]![symbol]!;
  }

  /** Puts the longest superinstruction at each place, from the first record to the last. */
  specialize(words: Uint16Array, first: number, count: number): void {
    const size = UOP.SIZE / 2;
    const end = first / 2 + count * size;
    for (let record = first / 2; record < end; ) {
      let matched = 0;
      let behind = record + size;
      let state = 0;
      for (let at = record; at < end; at += size) {
        state = this.#step(state, words, at);
        if (state === 0) break;
        if (this.#matched[state] === 0) continue;
        matched = this.#matched[state]!;
        behind = at + size;
      }
      if (matched !== 0) words[record] = matched;
      record = behind;
    }
  }
}

const matcher = new Matcher(superinstructions);

/**
 * Rewrites the operations of a block's records, which are complete and go on to the next or end the block.
 * @param words the memory that they are in
 * @param first address of the first
 */
export function specialize(words: Uint16Array, first: number, count: number): void {
  matcher.specialize(words, first, count);
}
