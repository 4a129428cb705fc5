/**
 * The control flow of a region: from one entry, along direct branches and calls, decoded into basic blocks.
 *
 * Places are given as offsets from the first byte of the entry's page. Other pages of a region are where they
 * were when it was compiled; an edge that leads into another page is guarded at run time.
 */
import { CodeBytes, FetchFault } from '../decode/code-bytes.ts';
import { decodeInstruction } from '../decode/index.ts';
import { FLOW } from '../decode/instruction.ts';
import { UopWriter } from '../decode/uop-writer.ts';
import { UOP } from '../layout.ts';
import { uopDefinitions } from '../uops/index.ts';

const MAX_INSTRUCTIONS = 400;
const MAX_UOPS_PER_INSTRUCTION = 12;
/** Bytes that code of a region may be away from its entry. */
const MAX_REACH = 1 << 18;
/** Return addresses that a return is compared with. */
const MAX_RETURNS = 32;

export interface DecodedInstruction {
  readonly pc: number;
  readonly next: number;
  readonly firstUop: number;
  readonly uopCount: number;
  readonly ending: Ending;
}

/** How an instruction passes control on. Targets are offsets. */
export type Ending =
  | { readonly kind: 'next' }
  /** Conditional: to the target or on. */
  | { readonly kind: 'branch'; readonly target: number }
  | { readonly kind: 'jump'; readonly target: number }
  | { readonly kind: 'call'; readonly target: number }
  /** Likely to one of the region's return addresses. */
  | { readonly kind: 'return' }
  /** To a computed target. */
  | { readonly kind: 'indirect' }
  /** Leaves the region by itself, or always faults. */
  | { readonly kind: 'leave' }
  /** Has to be left to the interpreter. */
  | { readonly kind: 'refuse' };

export interface BasicBlock {
  readonly start: number;
  readonly instructions: readonly DecodedInstruction[];
  /** Offsets of successors inside the region. */
  readonly successors: readonly number[];
}

export interface FlowGraph {
  readonly blocks: ReadonlyMap<number, BasicBlock>;
  readonly entry: number;
  readonly uops: UopReader;
  readonly instructions: number;
  /** RAM offsets of the pages that code was taken from, by page number relative to the entry's. */
  readonly pages: ReadonlyMap<number, number>;
}

const BUFFER_BYTES = MAX_INSTRUCTIONS * MAX_UOPS_PER_INSTRUCTION * UOP.SIZE;

/** Reads fields of decoded records by their number. */
export class UopReader {
  readonly #view: DataView;
  constructor(buffer: ArrayBuffer) {
    this.#view = new DataView(buffer);
  }
  u8(uop: number, field: number): number {
    return this.#view.getUint8(uop * UOP.SIZE + field);
  }
  u16(uop: number, field: number): number {
    return this.#view.getUint16(uop * UOP.SIZE + field, true);
  }
  i32(uop: number, field: number): number {
    return this.#view.getInt32(uop * UOP.SIZE + field, true);
  }
  i64(uop: number, field: number): bigint {
    return this.#view.getBigInt64(uop * UOP.SIZE + field, true);
  }
}

const CONDITIONAL = /^(jcc|jcxz|loop)/;

function endingOf(name: string, flow: number, target: number): Ending {
  if (CONDITIONAL.test(name)) return { kind: 'branch', target };
  if (name === 'jmp') return { kind: 'jump', target };
  if (/^call\d+\.\d+$/.test(name)) return { kind: 'call', target };
  if (/^ret\d/.test(name)) return { kind: 'return' };
  if (/^(jmp|call)\d/.test(name)) return { kind: 'indirect' };
  if (flow === FLOW.SHADOW) return { kind: 'refuse' };
  return flow === FLOW.NEXT ? { kind: 'next' } : { kind: 'leave' };
}

/** Page, relative to the entry's, that an offset lies in. */
export const pageOf = (offset: number): number => Math.floor(offset / 4096);

/** What the region's code is read through. */
export interface CodeSource {
  readonly ram: Uint8Array;
  /** RAM offset of a page relative to the entry's, -1 if it cannot be executed from. */
  page(relative: number): number;
  /** Whether the block at an offset in RAM is executed often enough: cold code stays out. */
  executed(ramOffset: number): boolean;
}

class GraphBuilder {
  readonly #source: CodeSource;
  readonly #mode: number;
  readonly #pages = new Map<number, number>();
  readonly #buffer = new ArrayBuffer(BUFFER_BYTES);
  readonly #out: UopWriter;
  readonly #uops: UopReader;
  readonly #decoded = new Map<number, DecodedInstruction>();
  readonly #leaders = new Set<number>();

  constructor(source: CodeSource, mode: number) {
    this.#source = source;
    this.#mode = mode;
    this.#out = new UopWriter(this.#buffer);
    this.#out.begin(0);
    this.#uops = new UopReader(this.#buffer);
  }

  build(entry: number): FlowGraph {
    this.#leaders.add(entry);
    const work = [entry];
    for (let pc = work.shift(); pc !== undefined; pc = work.shift()) this.#follow(pc, work);
    const returns = this.#returnAddresses();
    const blocks = new Map<number, BasicBlock>();
    for (const start of this.#leaders) {
      const block = this.#block(start, returns);
      if (block !== undefined) blocks.set(start, block);
    }
    const pages = new Map([...this.#pages].filter(([, ram]) => ram >= 0));
    return { blocks, entry, uops: this.#uops, instructions: this.#decoded.size, pages };
  }

  /** RAM offset of the page that an offset lies in, -1 if there is none. */
  #page(at: number): number {
    const relative = pageOf(at);
    let page = this.#pages.get(relative);
    if (page === undefined) {
      page = this.#source.page(relative);
      this.#pages.set(relative, page);
    }
    return page;
  }

  /** Where calls inside return to; none when they are too many to compare with. */
  #returnAddresses(): number[] {
    const calls = [...this.#decoded.values()].filter(
      ({ ending, next }) =>
        ending.kind === 'call' && this.#decoded.has(ending.target) && this.#decoded.has(next),
    );
    return calls.length > MAX_RETURNS ? [] : calls.map(({ next }) => next);
  }

  /** Decodes straight on from `pc`; where else control can go is added to `work`. */
  #follow(pc: number, work: number[]): void {
    let at = pc;
    while (!this.#decoded.has(at) && this.#decoded.size < MAX_INSTRUCTIONS) {
      const instruction = this.#decode(at);
      if (instruction === undefined) return;
      this.#decoded.set(at, instruction);
      const { ending, next } = instruction;
      if (ending.kind === 'branch' || ending.kind === 'jump' || ending.kind === 'call') {
        this.#lead(ending.target, work);
        // what a call returns to; behind a branch decoding goes on anyway
        if (ending.kind === 'call') this.#lead(next, work);
        if (ending.kind === 'branch') this.#leaders.add(next);
      }
      if (ending.kind !== 'next' && ending.kind !== 'branch') return;
      if (pageOf(next) !== pageOf(at)) this.#leaders.add(next);
      at = next;
    }
  }

  #lead(target: number, work: number[]): void {
    if (Math.abs(target) > MAX_REACH) return;
    const page = this.#page(target);
    if (page < 0 || !this.#source.executed(page + (target & 4095))) return;
    this.#leaders.add(target);
    work.push(target);
  }

  #decode(pc: number): DecodedInstruction | undefined {
    const firstUop = this.#out.count;
    const page = this.#page(pc);
    if (page < 0) return undefined;
    const base = pageOf(pc) * 4096;
    const code = new CodeBytes(this.#source.ram, page, pc - base, () => {
      throw new FetchFault();
    });
    try {
      const flow = decodeInstruction(code, this.#out, this.#mode, 0);
      const last = this.#out.count - 1;
      const name = uopDefinitions()[this.#uops.u16(last, UOP.OP)].name;
      const target = base + this.#uops.i32(last, UOP.IMM);
      const ending = endingOf(name, flow, target);
      if (ending.kind === 'refuse') return undefined;
      return { pc, next: base + code.pageOffset, firstUop, uopCount: this.#out.count - firstUop, ending };
    } catch (error) {
      // An instruction that runs into the next page is left to the interpreter.
      if (!(error instanceof FetchFault)) throw error;
      this.#out.truncate(firstUop);
      return undefined;
    }
  }

  #block(start: number, returns: readonly number[]): BasicBlock | undefined {
    const instructions: DecodedInstruction[] = [];
    let at = start;
    for (;;) {
      const instruction = this.#decoded.get(at);
      if (instruction === undefined) break;
      instructions.push(instruction);
      at = instruction.next;
      const ends = instruction.ending.kind !== 'next' || pageOf(at) !== pageOf(start);
      if (ends || this.#leaders.has(at)) break;
    }
    if (instructions.length === 0) return undefined;
    return { start, instructions, successors: this.#successors(instructions.at(-1)!, returns) };
  }

  #successors(last: DecodedInstruction, returns: readonly number[]): number[] {
    const inside = (...targets: number[]): number[] =>
      [...new Set(targets)].filter((target) => this.#leaders.has(target) && this.#decoded.has(target));
    switch (last.ending.kind) {
      case 'next':
        return inside(last.next);
      case 'branch':
        return inside(last.ending.target, last.next);
      case 'jump':
      case 'call':
        return inside(last.ending.target);
      case 'return':
        return inside(...returns);
      default:
        return [];
    }
  }
}

/** @param entry offset of the first instruction in its page */
export function buildFlowGraph(source: CodeSource, entry: number, mode: number): FlowGraph {
  return new GraphBuilder(source, mode).build(entry);
}
