/**
 * Compiles a region to one WebAssembly function (number of the entry) → i32 (RESULT): registers are loaded, blocks follow in
 * structured control flow, and every way out ends in one epilogue that writes the registers back.
 */
import { BLOCK, CPU, JUMP_CACHE, PLACEMENT, STATE, TLB, UOP } from '../layout.ts';
import { uopDefinitions, uopNumber } from '../uops/index.ts';
import { type CoreFunction, pushJumpCacheSlot, scratchOf } from '../uops/memory-emitter.ts';
import { FunctionWriter, type Hint, type Label } from '../wasm/function-writer.ts';
import { LOAD } from '../wasm/opcodes.ts';
import { type DecodedInstruction, pageOf } from './code-reader.ts';
import type { CodeNode, FlowGraph, RegionNode } from './flow-graph.ts';
import { type FlagState, KIND_BITS, sameKind } from './flag-state.ts';
import { flagNeeds, uopsOfDeadFlags } from './flag-liveness.ts';
import { type ControlSink, COUNT_BITS, JitEmitter, type RegionFrame, SITE_SHIFT } from './jit-emitter.ts';
import { LazyFlags } from './lazy-flags.ts';
import { pushRegionCall, REGION_SIGNATURE, RESULT } from '../region-call.ts';
import { shapeKeeper } from '../shapes.ts';
import { RegisterFile, registerUse } from './register-file.ts';
import { type StackRun, stackRunAt } from './stack-run.ts';
import { DISPATCHER, type Structure, structure } from './structure.ts';

export interface RegionOptions {
  readonly tlbEntries: number;
  /** Type index of regions in the module. */
  readonly regionType: number;
}

/** Where the pages of a region's code were last seen. */
export interface Placement {
  /** Address of the record, see `PLACEMENT`. */
  readonly record: number;
  /** Address of the count of dropped translations in its half of the address space. */
  readonly generation: number;
}

/** A region to compile. */
export interface RegionSource {
  readonly graph: FlowGraph;
  /** undefined where all code is in the entry's page. */
  readonly placement: Placement | undefined;
  /** Address of the block that enters it. */
  readonly block: number;
  /** Whether it is code at CPL 3. */
  readonly isUser: boolean;
}

const USER_BANK = TLB.BASE + TLB.BANK_USER * TLB.ENTRIES * TLB.ENTRY_SIZE;

export function compileRegion(
  source: RegionSource,
  coreFunction: CoreFunction,
  options: RegionOptions,
): FunctionWriter {
  return new RegionCompiler(source, coreFunction, options).compile();
}

const keepShape = shapeKeeper<RegionCompiler>();

class RegionCompiler implements ControlSink {
  readonly #graph: FlowGraph;
  readonly #structure: Structure;
  readonly #regionType: number;
  /** Address of the block that enters the region. */
  readonly #record: number;
  /** Offsets where it is entered. */
  readonly #entries: ReadonlySet<number>;
  readonly #w = new FunctionWriter(REGION_SIGNATURE.params, REGION_SIGNATURE.results);
  readonly #frame: RegionFrame;
  readonly #flags: LazyFlags;
  readonly #registers: RegisterFile;
  readonly #e: JitEmitter;
  /** Labels of loops (branch to go round) and of merge blocks (branch to go there), by node. */
  readonly #loops = new Map<number, Label>();
  readonly #merges = new Map<number, Label>();
  /** What is known of the flags at the merge blocks, from those who branch there. */
  readonly #arrivals = new Map<number, FlagState>();
  /** i32: number in the dispatcher's table of the node to go to; at first that of the entry. */
  readonly #next = 0;
  #block!: CodeNode;
  /** A run of pushes that a call has begun, and the block where it goes on. */
  #carried: { readonly run: StackRun; readonly into: CodeNode } | undefined;

  constructor(source: RegionSource, coreFunction: CoreFunction, options: RegionOptions) {
    const { graph } = source;
    this.#graph = graph;
    this.#regionType = options.regionType;
    this.#structure = structure(graph);
    this.#record = source.block;
    this.#entries = new Set(graph.entries.map(({ offset }) => offset));
    const w = this.#w;
    this.#flags = new LazyFlags(w, flagNeeds(graph), () => w.call(coreFunction('settleFlags')));
    this.#registers = new RegisterFile(w, registerUse(graph));
    const frame = {
      page: w.local('i64'),
      icount: w.local('i64'),
      rip: w.local('i64'),
      result: w.local('i32'),
      site: w.local('i64'),
      bank: source.isUser ? USER_BANK : undefined,
    };
    const scratch = scratchOf(w);
    this.#stateField(STATE.PAGE, 'i64');
    w.set(frame.page);
    this.#forEntriesInOtherPages((page) => {
      w.get(frame.page);
      w.i64(page * -4096);
      w.op('i64.add');
      w.set(frame.page);
      this.#storeState(STATE.PAGE, () => w.get(frame.page));
    });
    if (source.placement !== undefined) this.#checkPlacement(source.placement, frame.page, coreFunction);
    this.#markUsed(source.block);
    this.#prologue(frame);
    const [exit, exitAtSite, faultAtSite, missAtSite] = [w.block(), w.block(), w.block(), w.block()];
    this.#frame = { ...frame, exit, exitAtSite, faultAtSite, missAtSite };
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
    keepShape(this);
  }

  compile(): FunctionWriter {
    const w = this.#w;
    this.#tree(this.#structure.root, 'unknown');
    w.end(); // missAtSite
    this.#missExit();
    w.end(); // faultAtSite
    w.i32(RESULT.FAULT);
    w.set(this.#frame.result);
    w.end(); // exitAtSite
    this.#siteExit();
    w.end(); // exit
    this.#epilogue();
    return w;
  }

  /** Emits code for when the region is entered in a page that is not the first entry's. */
  #forEntriesInOtherPages(emit: (page: number) => void): void {
    const w = this.#w;
    this.#graph.entries.forEach(({ offset }, n) => {
      const page = pageOf(offset);
      if (page === 0) return;
      w.get(this.#next);
      w.i32(n);
      w.op('i32.eq');
      w.if();
      emit(page);
      w.end();
    });
  }

  #stateField(offset: number, type: 'i32' | 'i64'): void {
    this.#w.i32(0);
    this.#w.memory(LOAD[type], CPU + offset);
  }

  /**
   * Code in other pages is where it was compiled from as long as no translation was dropped. If one was, the core
   * looks again; when a page has moved it ends the region, and RIP is looked up.
   */
  #checkPlacement(placement: Placement, page: number, coreFunction: CoreFunction): void {
    const w = this.#w;
    w.i32(0);
    w.memory('i64.load', placement.record + PLACEMENT.GENERATION);
    w.i32(0);
    w.memory('i64.load', placement.generation);
    w.op('i64.ne');
    w.i32(0);
    w.memory('i64.load', placement.record + PLACEMENT.PAGE);
    w.get(page);
    w.op('i64.ne');
    w.op('i32.or');
    w.if(undefined, 'unlikely');
    w.i32(placement.record);
    w.call(coreFunction('checkPlacement'));
    w.op('i32.eqz');
    w.if();
    this.#storeState(STATE.RIP, () => {
      w.get(page);
      this.#pushEntryOffset();
      w.op('i64.add');
    });
    w.i32(RESULT.LOOKUP);
    w.op('return');
    w.end();
    w.end();
  }

  /** Pushes the offset of the entry that was taken. */
  #pushEntryOffset(): void {
    const w = this.#w;
    const [first, ...others] = this.#graph.entries;
    w.i64(first.offset);
    others.forEach(({ offset }, n) => {
      w.i64(offset);
      w.get(this.#next);
      w.i32(n + 1);
      w.op('i32.ne');
      w.op('select');
    });
  }

  /** Keeps the region in the code cache. */
  #markUsed(block: number): void {
    this.#w.i32(0);
    this.#w.i32(1);
    this.#w.memory('i32.store', block + BLOCK.USED);
  }

  #prologue(frame: Pick<RegionFrame, 'icount'>): void {
    const w = this.#w;
    this.#stateField(STATE.ICOUNT, 'i64');
    w.set(frame.icount);
    this.#registers.reloadAll();
    this.#flags.load();
  }

  /** Says which region is left for the interpreter to do an access. */
  #missExit(): void {
    const w = this.#w;
    w.i32(0);
    w.i32(this.#record);
    w.memory('i32.store', CPU + STATE.MISSED_REGION);
    w.i32(RESULT.MISS);
    w.set(this.#frame.result);
    w.br(this.#frame.exitAtSite);
  }

  /** Exits in mid-block: RIP and count from the site. */
  #siteExit(): void {
    const w = this.#w;
    const kind = this.#e.i32[5];
    w.get(this.#frame.page);
    w.get(this.#frame.site);
    w.i64(SITE_SHIFT);
    w.op('i64.shr_s');
    w.op('i64.add');
    w.set(this.#frame.rip);
    w.get(this.#frame.icount);
    w.get(this.#frame.site);
    w.i64((1 << COUNT_BITS) - 1);
    w.op('i64.and');
    w.op('i64.add');
    w.set(this.#frame.icount);
    w.get(this.#frame.site);
    w.op('i32.wrap_i64');
    w.i32(COUNT_BITS);
    w.op('i32.shr_u');
    w.i32((1 << KIND_BITS) - 1);
    w.op('i32.and');
    w.set(kind);
    this.#flags.setKind(kind);
  }

  #epilogue(): void {
    const w = this.#w;
    this.#registers.spillAll();
    this.#flags.known = 'unknown';
    this.#flags.spill();
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
    w.if(undefined, 'likely');
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
    w.if(undefined, 'likely');
    w.get(slot);
    w.memory('i32.load', JUMP_CACHE.BASE + JUMP_CACHE.UOP);
    w.tee(uop);
    w.memory('i32.load16_u', UOP.OP);
    w.i32(uopNumber('region'));
    w.op('i32.eq');
    w.if(undefined, 'likely');
    this.#storeState(STATE.PAGE, () => {
      w.get(rip);
      w.get(rip);
      this.#stateField(STATE.SEG_BASE + 8, 'i64');
      w.op('i64.add');
      w.i64(0xfff);
      w.op('i64.and');
      w.op('i64.sub');
    });
    w.get(uop);
    w.memory('i32.load', UOP.LINK);
    w.set(uop);
    pushRegionCall(w, uop);
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

  // ---- nodes ----

  /** The node and all that it dominates. `known`: what is known of the flags on entry. */
  #tree(id: number, known: FlagState): void {
    const w = this.#w;
    const isLoop = this.#structure.loopHeaders.has(id);
    if (isLoop) {
      this.#flags.known = known;
      this.#flags.sync();
      this.#loops.set(id, w.loop());
    }
    const merges = this.#structure.children
      .get(id)!
      .filter((child) => this.#structure.merges.has(child))
      .sort((a, b) => this.#position(b) - this.#position(a));
    this.#within(id, merges, isLoop ? 'unknown' : known);
    if (isLoop) w.end();
  }

  /** Merge nodes are placed behind the code that branches to them, the last in order outermost. */
  #within(id: number, merges: readonly number[], known: FlagState): void {
    const [outermost, ...rest] = merges;
    if (outermost === undefined) {
      this.#node(id, known);
      return;
    }
    this.#merges.set(outermost, this.#w.block());
    this.#within(id, rest, known);
    this.#w.end();
    this.#tree(outermost, this.#arrivals.get(outermost) ?? 'unknown');
  }

  #position(id: number): number {
    return this.#structure.order.get(id)!;
  }

  #node(id: number, known: FlagState): void {
    this.#flags.known = known;
    if (id === DISPATCHER) {
      this.#dispatch();
      return;
    }
    const node = this.#graph.nodes.get(id)!;
    if (node.kind === 'code') this.#code(node);
    else this.#chooseFrom(node);
  }

  #dispatch(): void {
    const { dispatched } = this.#structure;
    for (const id of dispatched) this.#arrivals.set(id, 'unknown');
    const labels = dispatched.map((id) => this.#merges.get(id)!);
    this.#w.get(this.#next);
    this.#w.brTable(labels, labels[0]);
  }

  #code(block: CodeNode): void {
    this.#block = block;
    const dead = uopsOfDeadFlags(this.#graph, block);
    const { instructions } = block;
    let done = 0;
    const emit = (run: StackRun | undefined, from: number, to: number): void => {
      for (let n = from; n < to; n++) this.#instruction(block, done++, dead, run, n);
    };
    const carried = this.#takeCarried(block);
    if (carried !== undefined) emit(carried, carried.length, carried.length + carried.ahead);
    while (done < instructions.length) {
      const run = this.#stackRunAt(block, done);
      emit(run, 0, run?.length ?? 1);
    }
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

  /** @param n number of the instruction in its run, if it is in one */
  #instruction(
    block: CodeNode,
    done: number,
    dead: ReadonlySet<number>,
    run: StackRun | undefined,
    n: number,
  ): void {
    const { instructions } = block;
    const instruction = instructions[done];
    const last = instruction.firstUop + instruction.uopCount - 1;
    const mayLeaveOnMiss = this.#mayLeaveOnMiss(instruction);
    for (let uop = instruction.firstUop; uop <= last; uop++) {
      this.#e.select(uop, instruction, done, dead.has(uop), mayLeaveOnMiss);
      if (uop === last) {
        if (run !== undefined) this.#inRun(block, run, n);
        // Both ways count it; before the condition, which is branched on as soon as it is known.
        if (instruction.ending.kind === 'branch') this.#e.count(instructions.length);
      }
      uopDefinitions()[this.#graph.uops.u16(uop, UOP.OP)].emit(this.#e);
    }
  }

  #inRun(block: CodeNode, run: StackRun, n: number): void {
    this.#e.inStackRun(run, n);
    if (n === 0 && run.ahead > 0) this.#carried = { run, into: this.#callee(block)! };
  }

  /** The rest of the run that the call which leads to a block began. */
  #takeCarried(block: CodeNode): StackRun | undefined {
    const carried = this.#carried;
    this.#carried = undefined;
    return carried?.into === block ? carried.run : undefined;
  }

  /** The only block that a block leads to, if that is the only way into it. */
  #callee(block: CodeNode): CodeNode | undefined {
    const [to, ...others] = block.targets.values();
    if (to === undefined || others.length > 0 || !this.#isInlined(block.id, to)) return undefined;
    const node = this.#graph.nodes.get(to)!;
    return node.kind === 'code' && !this.#structure.loopHeaders.has(to) ? node : undefined;
  }

  /**
   * Whether the interpreter can be left to do what the TLB does not allow. Where the region is entered it would come back at
   * once, a trace point would be told twice, and where it happens often a call of the core costs less.
   */
  #mayLeaveOnMiss({ pc, tracePoint, missesOften }: DecodedInstruction): boolean {
    return !missesOften && tracePoint < 0 && !this.#entries.has(pc);
  }

  #stackRunAt(block: CodeNode, first: number): StackRun | undefined {
    const { instructions } = block;
    if (!this.#mayLeaveOnMiss(instructions[first])) return undefined;
    const isLast = first === instructions.length - 1;
    const callee = isLast ? (this.#callee(block)?.instructions ?? []) : [];
    return stackRunAt(this.#graph.uops, instructions, first, callee);
  }

  /** Emits one of several ways on: what becomes known of the flags there does not hold on the others. */
  #aside(way: () => void): void {
    const { known } = this.#flags;
    way();
    this.#flags.known = known;
  }

  /** Goes to an offset: inside the region by structure, else out of it. Everything is counted. */
  #goTo(from: RegionNode, target: number): void {
    const to = from.targets.get(target);
    if (to === undefined) this.#exitTo(target);
    else this.#goToNode(from, to, target);
  }

  #goToNode(from: RegionNode, to: number, target: number): void {
    const w = this.#w;
    const { order, merges } = this.#structure;
    if (this.#structure.isDispatched(from.id, to)) {
      this.#exitIfSpent(target);
      w.i32(this.#structure.dispatched.indexOf(to));
      w.set(this.#next);
      this.#flags.sync();
      w.br(this.#loops.get(DISPATCHER)!);
    } else if (order.get(to)! <= order.get(from.id)!) {
      this.#exitIfSpent(target);
      this.#flags.sync();
      w.br(this.#loops.get(to)!);
    } else if (merges.has(to)) {
      this.#arrive(to);
    } else {
      this.#inline(from, to);
    }
  }

  /** Whether the code of a node follows where it is gone to from another: nothing else leads there but ways back to it. */
  #isInlined(from: number, to: number): boolean {
    const { order, merges } = this.#structure;
    const isForward = order.get(to)! > order.get(from)!;
    return isForward && !merges.has(to) && !this.#structure.isDispatched(from, to);
  }

  /** Branches forwards to a node that others branch to as well. */
  #arrive(to: number): void {
    this.#flags.sync();
    const { known } = this.#flags;
    const others = this.#arrivals.get(to);
    this.#arrivals.set(to, others === undefined || sameKind(others, known) ? known : 'unknown');
    this.#w.br(this.#merges.get(to)!);
  }

  /** The code of a node that is reached from one place only. */
  #inline(from: RegionNode, to: number): void {
    this.#aside(() => this.#tree(to, this.#flags.known));
    if (from.kind === 'code') this.#block = from;
  }

  #exitTo(target: number): void {
    this.#e.place(target);
    this.#w.set(this.#frame.rip);
    this.#leave();
  }

  /** Leaves to RIP. */
  #leave(): void {
    const w = this.#w;
    w.i32(RESULT.LOOKUP);
    w.set(this.#frame.result);
    this.#flags.nameKind();
    w.br(this.#frame.exit);
  }

  /** At a loop's back edge: leaves when the slice's instructions are spent. */
  #exitIfSpent(target: number): void {
    this.#ifSpent(() => this.#exitTo(target));
  }

  #ifSpent(then: () => void): void {
    const w = this.#w;
    w.get(this.#frame.icount);
    this.#stateField(STATE.ICOUNT_LIMIT, 'i64');
    w.op('i64.ge_s');
    w.if(undefined, 'unlikely');
    then();
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
    w.if(undefined, this.#branchHint(block));
    this.#aside(() => this.#goTo(block, this.#target()));
    w.end();
  }

  /** Whether a branch is taken is known where only one of its ways was warm enough to be in the region. */
  #branchHint(block: CodeNode): Hint | undefined {
    const taken = block.targets.has(this.#target());
    if (taken === block.targets.has(block.instructions.at(-1)!.next)) return undefined;
    return taken ? 'likely' : 'unlikely';
  }

  jumpIndirect(): void {
    const block = this.#block;
    this.#w.set(this.#frame.rip);
    this.#e.count(block.instructions.length);
    if (block.choice === undefined) this.#chooseFrom(block);
    else this.#goToChoice(block, block.choice);
  }

  /** To the node that chooses; where that is behind, what `rip` holds is looked up when the slice is spent. */
  #goToChoice(from: CodeNode, choice: number): void {
    const w = this.#w;
    const { order, merges } = this.#structure;
    const isDispatched = this.#structure.isDispatched(from.id, choice);
    if (!isDispatched && order.get(choice)! > order.get(from.id)!) {
      if (merges.has(choice)) this.#arrive(choice);
      else this.#inline(from, choice);
      return;
    }
    this.#ifSpent(() => this.#leave());
    if (isDispatched) {
      w.i32(this.#structure.dispatched.indexOf(choice));
      w.set(this.#next);
    }
    this.#flags.sync();
    w.br(this.#loops.get(isDispatched ? DISPATCHER : choice)!);
  }

  /** Goes to the target that RIP is, or leaves. */
  #chooseFrom(node: RegionNode): void {
    this.#choose(
      node,
      this.#frame.rip,
      [...node.targets.keys()].sort((a, b) => a - b),
    );
    this.#leave();
  }

  /** Goes to the candidate that the target is, if any, by binary search. */
  #choose(block: RegionNode, target: number, candidates: readonly number[]): void {
    const w = this.#w;
    if (candidates.length <= 2) {
      for (const candidate of candidates) {
        w.get(target);
        this.#e.place(candidate);
        w.op('i64.eq');
        w.if(undefined, candidate === candidates.at(-1) ? 'likely' : undefined);
        this.#aside(() => this.#goTo(block, candidate));
        w.end();
      }
      return;
    }
    const middle = candidates.length >> 1;
    w.get(target);
    this.#e.place(candidates[middle]);
    w.op('i64.lt_u');
    w.if();
    this.#aside(() => this.#choose(block, target, candidates.slice(0, middle)));
    w.else();
    this.#aside(() => this.#choose(block, target, candidates.slice(middle)));
    w.end();
  }
}
