/**
 * The control flow of a region: from where it starts along branches, calls and returns, as a graph of basic blocks.
 *
 * It ends where another region can be entered. What it calls and does not have in it returns to it from outside: those
 * places are entries as well, and so are the heads of its loops, which it is left at when a slice is spent.
 *
 * Functions that are called are part of it. A small one has a copy for each place that calls it, whose return is
 * compared with one address; of others there is one, whose returns choose among all places that call it. A block of
 * two copies may have the same address: whichever of them control gets to, it is the same code.
 */
import { REGION_LINK } from '../layout.ts';
import { shapeKeeper } from '../shapes.ts';
import {
  type CodePage,
  CodeReader,
  type CodeSource,
  type DecodedInstruction,
  pageOf,
  type UopReader,
} from './code-reader.ts';

/** Instructions in a region, copies counted. */
const MAX_INSTRUCTIONS = 400;
/** The same for a region of which more goes straight on from its entry: long loop bodies without a branch. */
const MAX_STRAIGHT = 1000;
/** Instructions of a function that is copied to where it is called, and how deep such copies nest. */
const MAX_COPIED = 32;
const MAX_DEPTH = 6;
/** Bytes that code of a region may be away from its entry. */
const MAX_REACH = 1 << 30;
/** Returns with more places to go to than this share one choice. */
const MAX_OWN_RETURNS = 2;

/** Offsets that control goes to inside the region, and the node that it arrives at. */
export type Targets = ReadonlyMap<number, number>;

/** A basic block. */
export interface CodeNode {
  readonly kind: 'code';
  readonly id: number;
  readonly start: number;
  readonly instructions: readonly DecodedInstruction[];
  /** Numbers of their micro-ops. */
  readonly uops: readonly number[];
  readonly targets: Targets;
  /** The node that chooses where a return goes, if it is not the block itself. */
  readonly choice: number | undefined;
}
/** Chooses by the address that a function returns to. */
export interface ChoiceNode {
  readonly kind: 'choice';
  readonly id: number;
  readonly targets: Targets;
}
export type RegionNode = CodeNode | ChoiceNode;

/** A node that control comes to from outside. */
export interface RegionEntry {
  readonly node: number;
  readonly offset: number;
}

export interface FlowGraph {
  readonly nodes: ReadonlyMap<number, RegionNode>;
  /** Where it can be entered; the first is where it starts. */
  readonly entries: readonly RegionEntry[];
  readonly uops: UopReader;
  readonly instructions: number;
  /** The pages that code was taken from, by number relative to the entry's. */
  readonly pages: ReadonlyMap<number, CodePage>;
}

/** The micro-ops of instructions, by their numbers. */
function uopsOf(instructions: readonly DecodedInstruction[]): number[] {
  const uops: number[] = [];
  for (const { firstUop, uopCount } of instructions) {
    for (let uop = firstUop; uop < firstUop + uopCount; uop++) uops.push(uop);
  }
  return uops;
}

/** The blocks of a region. */
export function blocksOf(graph: FlowGraph): CodeNode[] {
  return [...graph.nodes.values()].filter((node) => node.kind === 'code');
}

export function successorsOf(node: RegionNode): readonly number[] {
  if (node.kind === 'code' && node.choice !== undefined) return [node.choice];
  return [...new Set(node.targets.values())];
}

/** A function in the region: all of it, or a copy for one caller. */
class FunctionCopy {
  readonly start: number;
  readonly caller: FunctionCopy | undefined;
  readonly depth: number;
  /** Where it returns to: offset, and the copy that has the code there. */
  readonly returns = new Map<number, FunctionCopy>();
  readonly instructions = new Set<number>();
  readonly leaders = new Set<number>();
  /** Where its computed jumps may go to, by the offset of the instruction. */
  readonly jumps = new Map<number, readonly number[]>();
  /** Functions that it calls, by the offset of the instruction and where they start. */
  readonly callees = new Map<number, Map<number, FunctionCopy>>();
  /** Node of each leader. */
  readonly nodes = new Map<number, number>();

  constructor(start: number, caller?: FunctionCopy) {
    this.start = start;
    this.caller = caller;
    this.depth = caller === undefined ? 0 : caller.depth + 1;
  }

  isWithin(start: number): boolean {
    return this.start === start || (this.caller?.isWithin(start) ?? false);
  }
}

const keepShape = shapeKeeper<GraphBuilder>();

class GraphBuilder {
  readonly #source: CodeSource;
  readonly #code: CodeReader;
  readonly #functions: FunctionCopy[] = [];
  /** Functions of which there is one, by their first instruction. */
  readonly #shared = new Map<number, FunctionCopy>();
  readonly #sizes = new Map<number, number>();
  readonly #work: { readonly of: FunctionCopy; readonly at: number }[] = [];
  readonly #nodes = new Map<number, RegionNode>();
  /** Offsets of entries behind the first, and the copy that has the code. */
  readonly #entries = new Map<number, FunctionCopy>();
  #start = 0;
  #instructions = 0;
  #ids = 0;

  constructor(source: CodeSource, mode: number) {
    this.#source = source;
    this.#code = new CodeReader(source, mode);
    keepShape(this);
  }

  build(start: number): FlowGraph {
    this.#start = start;
    const root = this.#sharedFunction(start);
    this.#lead(root, start);
    for (let item = this.#work.shift(); item !== undefined; item = this.#work.shift()) {
      this.#follow(item.of, item.at);
    }
    for (const copy of this.#functions) this.#numberNodes(copy);
    for (const copy of this.#functions) this.#makeNodes(copy);
    return {
      nodes: this.#nodes,
      entries: this.#entryNodes(root),
      uops: this.#code.take(),
      instructions: this.#instructions,
      pages: this.#code.pages,
    };
  }

  #entryNodes(root: FunctionCopy): RegionEntry[] {
    const entries = [{ node: root.nodes.get(this.#start) ?? 0, offset: this.#start }];
    for (const [offset, copy] of this.#entries) {
      const node = copy.nodes.get(offset);
      if (node !== undefined && offset !== this.#start) entries.push({ node, offset });
    }
    return entries;
  }

  /** Makes a place an entry, if the region may have one more; returns whether it is one. */
  #enter(of: FunctionCopy, at: number): boolean {
    if (at === this.#start || this.#entries.has(at)) return true;
    if (this.#entries.size >= REGION_LINK.ENTRIES - 1) return false;
    this.#entries.set(at, of);
    return true;
  }

  /** Goes on where control comes back to from outside. */
  #leadFromOutside(of: FunctionCopy, at: number): void {
    if (this.#isReachable(at) && this.#enter(of, at)) this.#lead(of, at);
  }

  #sharedFunction(start: number): FunctionCopy {
    let copy = this.#shared.get(start);
    if (copy === undefined) {
      copy = new FunctionCopy(start);
      this.#functions.push(copy);
      this.#shared.set(start, copy);
    }
    return copy;
  }

  #lead(of: FunctionCopy, at: number): void {
    if (of.leaders.has(at)) return;
    of.leaders.add(at);
    this.#work.push({ of, at });
  }

  #isReachable(target: number): boolean {
    return Math.abs(target) <= MAX_REACH && this.#code.isWarm(target) && !this.#isElsewhere(target);
  }

  #isElsewhere(at: number): boolean {
    return at !== this.#start && this.#code.isCompiled(at);
  }

  /** Takes the instructions from `start` straight on; where else control can go is added to the work. */
  #follow(of: FunctionCopy, start: number): void {
    let at = start;
    const most = this.#instructions === 0 ? MAX_STRAIGHT : MAX_INSTRUCTIONS;
    while (!of.instructions.has(at) && this.#instructions < most) {
      const instruction = this.#code.at(at);
      if (instruction === undefined) return;
      of.instructions.add(at);
      this.#instructions += 1;
      const { ending, next } = instruction;
      if (ending.kind === 'branch' || ending.kind === 'jump') {
        if (this.#isReachable(ending.target)) {
          if (ending.target <= at) this.#enter(of, ending.target);
          this.#lead(of, ending.target);
        }
        if (ending.kind === 'branch') of.leaders.add(next);
      } else if (ending.kind === 'leave') {
        this.#leadFromOutside(of, next);
      } else if (ending.kind === 'call') {
        this.#call(of, instruction, ending.target);
      } else if (ending.kind === 'indirect') {
        this.#indirect(of, instruction, ending.call, start);
      }
      if (ending.kind !== 'next' && ending.kind !== 'branch') return;
      if (this.#isElsewhere(next)) return;
      if (pageOf(next) !== pageOf(at)) of.leaders.add(next);
      at = next;
    }
  }

  #call(of: FunctionCopy, instruction: DecodedInstruction, target: number): void {
    if (!this.#isCallable(target)) {
      this.#leadFromOutside(of, instruction.next);
      return;
    }
    const callee = this.#callee(of, instruction.next, target);
    const callees = of.callees.get(instruction.pc) ?? new Map<number, FunctionCopy>();
    of.callees.set(instruction.pc, callees.set(target, callee));
    this.#lead(callee, target);
    this.#lead(of, instruction.next);
  }

  #indirect(of: FunctionCopy, instruction: DecodedInstruction, call: boolean, block: number): void {
    const targets = this.#source
      .targets(block, instruction.pc)
      .filter((target) => (call ? this.#isCallable(target) : this.#isReachable(target)));
    if (!call) of.jumps.set(instruction.pc, targets);
    if (call) this.#leadFromOutside(of, instruction.next);
    for (const target of targets) {
      if (call) this.#call(of, instruction, target);
      else this.#lead(of, target);
    }
  }

  /** A function that can be part of the region: one that is compiled only if it is small. */
  #isCallable(target: number): boolean {
    if (this.#isReachable(target)) return true;
    const isNear = Math.abs(target) <= MAX_REACH;
    return isNear && this.#code.isCompiled(target) && this.#size(target) <= MAX_COPIED;
  }

  /** The function to call from `of`: a copy of its own if it is small, else the one for all. */
  #callee(of: FunctionCopy, returnTo: number, target: number): FunctionCopy {
    const size = this.#size(target);
    const isCopied =
      size <= MAX_COPIED &&
      of.depth < MAX_DEPTH &&
      this.#instructions + size <= MAX_INSTRUCTIONS &&
      !of.isWithin(target);
    let callee: FunctionCopy;
    if (isCopied) {
      callee = new FunctionCopy(target, of);
      this.#functions.push(callee);
    } else {
      callee = this.#sharedFunction(target);
    }
    if (!callee.returns.has(returnTo)) callee.returns.set(returnTo, of);
    return callee;
  }

  /** Instructions of a function, without those that it calls; Infinity for many. */
  #size(start: number): number {
    let size = this.#sizes.get(start);
    if (size === undefined) {
      size = this.#measure(start);
      this.#sizes.set(start, size);
    }
    return size;
  }

  #measure(start: number): number {
    const seen = new Set<number>();
    const work = [start];
    for (let at = work.pop(); at !== undefined; at = work.pop()) {
      if (seen.has(at)) continue;
      const instruction = this.#code.at(at);
      if (instruction === undefined) continue;
      seen.add(at);
      if (seen.size > MAX_COPIED) return Number.POSITIVE_INFINITY;
      const { ending, next } = instruction;
      const goesOn = ending.kind === 'next' || ending.kind === 'branch' || ending.kind === 'call';
      if (goesOn || (ending.kind === 'indirect' && ending.call)) work.push(next);
      if ((ending.kind === 'branch' || ending.kind === 'jump') && this.#isReachable(ending.target)) {
        work.push(ending.target);
      }
    }
    return seen.size;
  }

  #numberNodes(copy: FunctionCopy): void {
    for (const leader of copy.leaders) {
      if (copy.instructions.has(leader)) copy.nodes.set(leader, this.#ids++);
    }
  }

  #makeNodes(copy: FunctionCopy): void {
    const returns = new Map<number, number>();
    for (const [offset, caller] of copy.returns) {
      const node = caller.nodes.get(offset);
      if (node !== undefined) returns.set(offset, node);
    }
    const choice = returns.size > MAX_OWN_RETURNS ? this.#ids++ : undefined;
    if (choice !== undefined) this.#nodes.set(choice, { kind: 'choice', id: choice, targets: returns });
    for (const [start, id] of copy.nodes) {
      const instructions = this.#instructionsFrom(copy, start);
      const last = instructions.at(-1)!;
      const targets = last.ending.kind === 'return' ? returns : this.#targets(copy, last);
      const uops = uopsOf(instructions);
      const own = last.ending.kind === 'return' ? choice : undefined;
      this.#nodes.set(id, { kind: 'code', id, start, instructions, uops, targets, choice: own });
    }
  }

  #instructionsFrom(copy: FunctionCopy, start: number): DecodedInstruction[] {
    const instructions: DecodedInstruction[] = [];
    let at = start;
    do {
      const instruction = this.#code.at(at)!;
      instructions.push(instruction);
      at = instruction.next;
      if (instruction.ending.kind !== 'next') break;
    } while (copy.instructions.has(at) && !copy.leaders.has(at));
    return instructions;
  }

  #targets(copy: FunctionCopy, last: DecodedInstruction): Targets {
    const targets = new Map<number, number>();
    const add = (offset: number, of = copy): void => {
      const node = of.nodes.get(offset);
      if (node !== undefined) targets.set(offset, node);
    };
    const { ending } = last;
    if (ending.kind === 'next' || ending.kind === 'branch') add(last.next);
    if (ending.kind === 'branch' || ending.kind === 'jump') add(ending.target);
    for (const target of copy.jumps.get(last.pc) ?? []) add(target);
    for (const [target, callee] of copy.callees.get(last.pc) ?? []) add(target, callee);
    return targets;
  }
}

/** @param entry offset of the first instruction in its page */
export function buildFlowGraph(source: CodeSource, entry: number, mode: number): FlowGraph {
  return new GraphBuilder(source, mode).build(entry);
}
