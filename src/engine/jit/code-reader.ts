/**
 * Instructions of a region: decoded when first met, and how each passes control on.
 *
 * Places are given as offsets from the first byte of the entry's page. Other pages are where they were when the
 * region was compiled; that they still are is checked when the region is entered.
 */
import { CodeBytes, FetchFault } from '../decode/code-bytes.ts';
import { decodeInstruction, emitMark } from '../decode/index.ts';
import { FLOW } from '../decode/instruction.ts';
import { UopWriter } from '../decode/uop-writer.ts';
import { REGION, UOP } from '../layout.ts';
import { uopProperty } from '../uops/index.ts';

/** Instructions that one region may decode. */
const MAX_DECODED = 1024;
const MAX_UOPS_PER_INSTRUCTION = 12;

export interface DecodedInstruction {
  readonly pc: number;
  readonly next: number;
  readonly firstUop: number;
  readonly uopCount: number;
  readonly ending: Ending;
  /** The number of the trace point that is told before it, -1 if there is none. */
  readonly tracePoint: number;
  /** The TLB has often not allowed what it does. */
  readonly missesOften: boolean;
}

/** How an instruction passes control on. Targets are offsets. */
export type Ending =
  | { readonly kind: 'next' }
  /** Conditional: to the target or on. */
  | { readonly kind: 'branch'; readonly target: number }
  | { readonly kind: 'jump'; readonly target: number }
  | { readonly kind: 'call'; readonly target: number }
  /** Likely to where the function was called from. */
  | { readonly kind: 'return' }
  /** To a computed target. */
  | { readonly kind: 'indirect'; readonly call: boolean }
  /** Leaves the region by itself, or always faults. */
  | { readonly kind: 'leave' }
  /** Has to be left to the interpreter. */
  | { readonly kind: 'refuse' };

/** What the region's code is read through. */
export interface CodeSource {
  readonly ram: Uint8Array;
  /** RAM offset of a page relative to the entry's, -1 if it cannot be executed from. */
  page(relative: number): number;
  /** Whether the block at an offset in RAM is executed often enough: cold code stays out. */
  executed(ramOffset: number): boolean;
  /** Whether a compiled region can be entered at an offset in RAM. */
  compiled(ramOffset: number): boolean;
  /** The number of the trace point at an offset in RAM, -1 if there is none. */
  tracePoint(ramOffset: number): number;
  /** Whether regions were often left before the instruction at an offset in RAM, because the TLB did not allow its access. */
  missesOften(ramOffset: number): boolean;
  /** Offsets that the computed jump at `pc` went to, as far as the interpreter has seen; `block` is where its block starts. */
  targets(block: number, pc: number): readonly number[];
}

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
  /** The immediate: a number where that is wide enough. */
  immediate(uop: number): number | bigint {
    const at = uop * UOP.SIZE + UOP.IMM;
    const low = this.#view.getInt32(at, true);
    return low >> 31 === this.#view.getInt32(at + 4, true) ? low : this.#view.getBigInt64(at, true);
  }
}

const CONDITIONAL = /^(jcc|jcxz|loop)/;
/** Instructions that can make an interrupt possible, and leave by themselves when one is pending. */
const ATTENTIVE = /^(popf|sti)/;

type Shape = (flow: number, target: number) => Ending;

function shapeOf(name: string): Shape {
  if (CONDITIONAL.test(name)) return (_flow, target) => ({ kind: 'branch', target });
  if (name === 'jmp') return (_flow, target) => ({ kind: 'jump', target });
  if (/^call\d+\.\d+$/.test(name)) return (_flow, target) => ({ kind: 'call', target });
  if (/^ret\d/.test(name)) return () => ({ kind: 'return' });
  if (/^jmp\d/.test(name)) return () => ({ kind: 'indirect', call: false });
  if (/^call\d/.test(name)) return () => ({ kind: 'indirect', call: true });
  if (ATTENTIVE.test(name)) return () => ({ kind: 'next' });
  return (flow) => {
    if (flow === FLOW.SHADOW) return { kind: 'refuse' };
    return { kind: flow === FLOW.NEXT ? 'next' : 'leave' };
  };
}

/** How instructions go on whose last micro-op has a number. */
const shape = uopProperty(shapeOf);

/** Where records are decoded to before it is known how many they are. */
const scratch = new ArrayBuffer(MAX_DECODED * MAX_UOPS_PER_INSTRUCTION * UOP.SIZE);
const scratchWriter = new UopWriter(scratch);
const scratchReader = new UopReader(scratch);

/** A page of guest RAM: its offset, and its bytes when it was first read. The guest may be changing them. */
export interface CodePage {
  readonly ramOffset: number;
  readonly bytes: Uint8Array;
}

/** Page, relative to the entry's, that an offset lies in. */
export const pageOf = (offset: number): number => Math.floor(offset / 4096);

/** One at a time: records are in a buffer that all readers share until `take`. */
export class CodeReader {
  readonly #source: CodeSource;
  readonly #mode: number;
  readonly #pages = new Map<number, CodePage>();
  readonly #out = scratchWriter;
  readonly #decoded = new Map<number, DecodedInstruction | undefined>();

  constructor(source: CodeSource, mode: number) {
    this.#source = source;
    this.#mode = mode;
    this.#out.begin(0);
  }

  /** The records so far. */
  take(): UopReader {
    return new UopReader(scratch.slice(0, this.#out.end));
  }

  /** The pages that code was taken from, by number relative to the entry's. */
  get pages(): ReadonlyMap<number, CodePage> {
    return this.#pages;
  }

  /** The instruction at an offset; undefined where there is none that a region can have. */
  at(pc: number): DecodedInstruction | undefined {
    if (!this.#decoded.has(pc)) this.#decoded.set(pc, this.#decode(pc));
    return this.#decoded.get(pc);
  }

  /** Whether code at an offset is executed often. */
  isWarm(offset: number): boolean {
    const page = this.#page(offset);
    return page !== undefined && this.#source.executed(page.ramOffset + (offset & 4095));
  }

  /** Whether a region that is compiled begins, or can be entered, at an offset. */
  isCompiled(offset: number): boolean {
    const page = this.#page(offset);
    return page !== undefined && this.#source.compiled(page.ramOffset + (offset & 4095));
  }

  #page(at: number): CodePage | undefined {
    const relative = pageOf(at);
    const known = this.#pages.get(relative);
    if (known !== undefined || this.#pages.size >= REGION.PAGES) return known;
    const ramOffset = this.#source.page(relative);
    if (ramOffset < 0) return undefined;
    const page = { ramOffset, bytes: this.#source.ram.slice(ramOffset, ramOffset + 4096) };
    this.#pages.set(relative, page);
    return page;
  }

  #decode(pc: number): DecodedInstruction | undefined {
    const firstUop = this.#out.count;
    const page = this.#page(pc);
    if (page === undefined || this.#decoded.size >= MAX_DECODED) return undefined;
    const ramOffset = page.ramOffset + (pc & 4095);
    const tracePoint = this.#source.tracePoint(ramOffset);
    const missesOften = this.#source.missesOften(ramOffset);
    const base = pageOf(pc) * 4096;
    const code = new CodeBytes(page.bytes, 0, pc - base, () => {
      throw new FetchFault();
    });
    try {
      if (tracePoint >= 0) emitMark(this.#out, 'trace', tracePoint, pc - base, 0);
      const flow = decodeInstruction(code, this.#out, this.#mode, 0);
      const last = this.#out.count - 1;
      const target = base + scratchReader.i32(last, UOP.IMM);
      const ending = shape(scratchReader.u16(last, UOP.OP))(flow, target);
      if (ending.kind === 'refuse') return undefined;
      const uopCount = this.#out.count - firstUop;
      return { pc, next: base + code.pageOffset, firstUop, uopCount, ending, tracePoint, missesOften };
    } catch (error) {
      // An instruction that runs into the next page is left to the interpreter.
      if (!(error instanceof FetchFault)) throw error;
      this.#out.truncate(firstUop);
      return undefined;
    }
  }
}
