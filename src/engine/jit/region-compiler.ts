/**
 * Compiles a region to one WebAssembly function () → i32 (RESULT): registers are loaded, blocks follow in
 * structured control flow, and every way out ends in one epilogue that writes the registers back.
 */
import { CPU, JUMP_CACHE, STATE, UOP } from '../layout.ts';
import { uopDefinitions, uopNumber } from '../uops/index.ts';
import { type CoreFunction, declareScratch, pushJumpCacheSlot } from '../uops/memory-emitter.ts';
import { FunctionWriter, type Label } from '../wasm/function-writer.ts';
import { type BasicBlock, type FlowGraph, pageOf } from './flow-graph.ts';
import { type ControlSink, JitEmitter, RESULT, type RegionFrame, SITE_SHIFT } from './jit-emitter.ts';
import { LazyFlags, type StaticKind } from './lazy-flags.ts';
import { RegisterFile, registerUse } from './register-file.ts';
import { type Structure, structure } from './structure.ts';

export interface RegionOptions {
  readonly tlbEntries: number;
  /** Linear-memory address of guest RAM. */
  readonly ramBase: number;
  /** Type index of regions in the module. */
  readonly regionType: number;
}

export function compileRegion(
  graph: FlowGraph,
  coreFunction: CoreFunction,
  options: RegionOptions,
): FunctionWriter {
  return new RegionCompiler(graph, coreFunction, options).compile();
}

class RegionCompiler implements ControlSink {
  readonly #graph: FlowGraph;
  readonly #structure: Structure;
  readonly #ramBase: number;
  readonly #regionType: number;
  readonly #w = new FunctionWriter([], ['i32']);
  readonly #frame: RegionFrame;
  readonly #flags: LazyFlags;
  readonly #registers: RegisterFile;
  readonly #e: JitEmitter;
  /** Labels of loops (branch to go round) and of merge blocks (branch to go there), by block start. */
  readonly #loops = new Map<number, Label>();
  readonly #merges = new Map<number, Label>();
  #block!: BasicBlock;

  constructor(graph: FlowGraph, coreFunction: CoreFunction, options: RegionOptions) {
    this.#graph = graph;
    this.#ramBase = options.ramBase;
    this.#regionType = options.regionType;
    this.#structure = structure(graph);
    const w = this.#w;
    this.#flags = new LazyFlags(w);
    this.#registers = new RegisterFile(w, registerUse(graph));
    const frame = {
      page: w.local('i64'),
      icount: w.local('i64'),
      rip: w.local('i64'),
      result: w.local('i32'),
      site: w.local('i32'),
      slow: w.local('i32'),
      bank: w.local('i32'),
    };
    const scratch = declareScratch(w);
    this.#prologue(frame);
    this.#frame = { ...frame, exit: w.block(), exitAtSite: w.block() };
    this.#e = new JitEmitter(
      w,
      this.#frame,
      scratch,
      coreFunction,
      options.tlbEntries,
      graph.uops,
      this.#flags,
      this.#registers,
      this,
    );
  }

  compile(): FunctionWriter {
    const w = this.#w;
    this.#tree(this.#graph.entry, 'explicit');
    w.end(); // exitAtSite
    this.#siteExit();
    w.end(); // exit
    this.#epilogue();
    return w;
  }

  #stateField(offset: number, type: 'i32' | 'i64'): void {
    this.#w.i32(0);
    this.#w.memory(`${type}.load`, CPU + offset);
  }

  #prologue(frame: { page: number; icount: number; bank: number }): void {
    const w = this.#w;
    this.#stateField(STATE.PAGE, 'i64');
    w.set(frame.page);
    this.#stateField(STATE.ICOUNT, 'i64');
    w.set(frame.icount);
    this.#stateField(STATE.TLB_BANK, 'i32');
    w.set(frame.bank);
    this.#registers.reloadAll();
    this.#flags.load((offset) => this.#stateField(offset, 'i64'));
  }

  /** Exits in mid-block: RIP and count from the site. */
  #siteExit(): void {
    const w = this.#w;
    w.get(this.#frame.page);
    w.get(this.#frame.site);
    w.i32(SITE_SHIFT);
    w.op('i32.shr_s');
    w.op('i64.extend_i32_s');
    w.op('i64.add');
    w.set(this.#frame.rip);
    w.get(this.#frame.icount);
    w.get(this.#frame.site);
    w.i32((1 << SITE_SHIFT) - 1);
    w.op('i32.and');
    w.op('i64.extend_i32_u');
    w.op('i64.add');
    w.set(this.#frame.icount);
  }

  #epilogue(): void {
    const w = this.#w;
    this.#registers.spillAll();
    this.#flags.known = 'unknown';
    this.#storeState(STATE.FLAG_CARRY, () => this.#flags.pushCarryWord());
    this.#storeState(STATE.FLAG_RESULT, () => this.#flags.pushResult());
    this.#storeState(STATE.ICOUNT, () => w.get(this.#frame.icount));
    this.#storeState(STATE.RIP, () => w.get(this.#frame.rip));
    this.#continueInRegion();
    w.get(this.#frame.result);
  }

  /**
   * Where RIP is the entry of another region, by the jump cache, goes there at once by a tail call: the way through
   * the interpreter costs more than a short region.
   */
  #continueInRegion(): void {
    const w = this.#w;
    const slot = this.#e.i32[4];
    const uop = this.#e.i32[5];
    const rip = this.#frame.rip;
    w.get(this.#frame.result);
    w.op('i32.eqz');
    w.get(this.#frame.icount);
    this.#stateField(STATE.ICOUNT_LIMIT, 'i64');
    w.op('i64.lt_s');
    w.op('i32.and');
    w.if();
    pushJumpCacheSlot(w, rip);
    w.tee(slot);
    w.memory('i64.load', JUMP_CACHE.BASE + JUMP_CACHE.RIP);
    w.get(rip);
    w.op('i64.eq');
    w.get(slot);
    w.memory('i32.load', JUMP_CACHE.BASE + JUMP_CACHE.MODE);
    this.#stateField(STATE.MODE, 'i32');
    w.op('i32.eq');
    w.op('i32.and');
    w.if();
    w.get(slot);
    w.memory('i32.load', JUMP_CACHE.BASE + JUMP_CACHE.UOP);
    w.tee(uop);
    w.memory('i32.load16_u', UOP.OP);
    w.i32(uopNumber('region'));
    w.op('i32.eq');
    w.if();
    this.#storeState(STATE.PAGE, () => {
      w.get(rip);
      w.get(rip);
      this.#stateField(STATE.SEG_BASE + 8, 'i64');
      w.op('i64.add');
      w.i64(0xfffn);
      w.op('i64.and');
      w.op('i64.sub');
    });
    w.get(uop);
    w.memory('i32.load', UOP.LINK);
    w.returnCallIndirect(this.#regionType);
    w.end();
    w.end();
    w.end();
  }

  #storeState(offset: number, value: () => void): void {
    this.#w.i32(0);
    value();
    this.#w.memory('i64.store', CPU + offset);
  }

  // ---- blocks ----

  /** The block and all that it dominates. `known`: what is known of the flags on entry. */
  #tree(start: number, known: StaticKind): void {
    const w = this.#w;
    const isLoop = this.#structure.loopHeaders.has(start);
    if (isLoop) this.#loops.set(start, w.loop());
    const merges = this.#structure.children
      .get(start)!
      .filter((child) => this.#structure.merges.has(child))
      .sort((a, b) => this.#position(b) - this.#position(a));
    this.#within(start, merges, isLoop ? 'unknown' : known);
    if (isLoop) w.end();
  }

  /** Merge blocks are placed behind the code that branches to them, the last in order outermost. */
  #within(start: number, merges: readonly number[], known: StaticKind): void {
    const [outermost, ...rest] = merges;
    if (outermost === undefined) {
      this.#code(this.#graph.blocks.get(start)!, known);
      return;
    }
    this.#merges.set(outermost, this.#w.block());
    this.#within(start, rest, known);
    this.#w.end();
    this.#tree(outermost, 'unknown');
  }

  #position(start: number): number {
    return this.#structure.order.get(start)!;
  }

  #code(block: BasicBlock, known: StaticKind): void {
    this.#block = block;
    this.#flags.known = known;
    block.instructions.forEach((instruction, done) => {
      for (let uop = instruction.firstUop; uop < instruction.firstUop + instruction.uopCount; uop++) {
        this.#e.select(uop, instruction, done);
        uopDefinitions()[this.#graph.uops.u16(uop, UOP.OP)].emit(this.#e);
      }
    });
    const last = block.instructions.at(-1)!;
    switch (last.ending.kind) {
      case 'next':
        this.#e.count(block.instructions.length);
        this.#goTo(block, last.next);
        break;
      case 'branch':
        // `jumpIf` has dealt with the taken side; the count covers both.
        this.#goTo(block, last.next);
        break;
      case 'leave':
        this.#e.leave();
        break;
      default:
    }
    this.#w.op('unreachable');
  }

  /** Goes to an offset: inside the region by structure, else out of it. Everything is counted. */
  #goTo(block: BasicBlock, target: number): void {
    const w = this.#w;
    const from = block.start;
    if (
      !this.#graph.blocks.has(target) ||
      !this.#structure.allows(from, target) ||
      !this.#isEdge(block, target)
    ) {
      this.#exitTo(target);
      return;
    }
    if (pageOf(target) !== pageOf(from)) this.#guardPage(target);
    if (this.#position(target) <= this.#position(from)) {
      this.#exitIfSpent(target);
      w.br(this.#loops.get(target)!);
    } else if (this.#structure.merges.has(target)) {
      w.br(this.#merges.get(target)!);
    } else {
      const known = this.#flags.known;
      this.#tree(target, known);
      this.#flags.known = known;
      this.#block = block;
    }
  }

  /** Leaves the region if another page is no longer where its code was compiled from. */
  #guardPage(target: number): void {
    const w = this.#w;
    this.#e.pageIsMapped(target, this.#ramBase + this.#graph.pages.get(pageOf(target))!);
    w.op('i32.eqz');
    w.if();
    this.#exitTo(target);
    w.end();
  }

  #isEdge(block: BasicBlock, target: number): boolean {
    return block.successors.includes(target);
  }

  #exitTo(target: number): void {
    this.#e.place(target);
    this.#leaveTo();
  }

  /** Pops RIP and leaves. */
  #leaveTo(): void {
    const w = this.#w;
    w.set(this.#frame.rip);
    w.i32(RESULT.LOOKUP);
    w.set(this.#frame.result);
    w.br(this.#frame.exit);
  }

  /** At a loop's back edge: leaves when the slice's instructions are spent. */
  #exitIfSpent(target: number): void {
    const w = this.#w;
    w.get(this.#frame.icount);
    this.#stateField(STATE.ICOUNT_LIMIT, 'i64');
    w.op('i64.ge_s');
    w.if();
    this.#exitTo(target);
    w.end();
  }

  // ---- ControlSink ----

  #target(): number {
    const { ending } = this.#block.instructions.at(-1)!;
    if (ending.kind === 'branch' || ending.kind === 'jump' || ending.kind === 'call') return ending.target;
    throw new Error('a jump without a target');
  }

  jump(): void {
    this.#e.count(this.#block.instructions.length);
    this.#goTo(this.#block, this.#target());
  }

  jumpIf(): void {
    const w = this.#w;
    const block = this.#block;
    const condition = this.#e.i32[5];
    w.set(condition);
    this.#e.count(block.instructions.length);
    w.get(condition);
    w.if();
    this.#goTo(block, this.#target());
    w.end();
  }

  jumpIndirect(): void {
    const w = this.#w;
    const block = this.#block;
    const target = this.#e.i64[8];
    w.set(target);
    this.#e.count(block.instructions.length);
    this.#choose(
      block,
      target,
      [...block.successors].sort((a, b) => a - b),
    );
    w.get(target);
    this.#leaveTo();
  }

  /** Goes to the candidate that the target is, if any, by binary search. */
  #choose(block: BasicBlock, target: number, candidates: readonly number[]): void {
    const w = this.#w;
    if (candidates.length <= 2) {
      for (const candidate of candidates) {
        w.get(target);
        this.#e.place(candidate);
        w.op('i64.eq');
        w.if();
        this.#goTo(block, candidate);
        w.end();
      }
      return;
    }
    const middle = candidates.length >> 1;
    w.get(target);
    this.#e.place(candidates[middle]);
    w.op('i64.lt_u');
    w.if();
    this.#choose(block, target, candidates.slice(0, middle));
    w.else();
    this.#choose(block, target, candidates.slice(middle));
    w.end();
  }
}
