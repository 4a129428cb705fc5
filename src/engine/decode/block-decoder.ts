/** Decodes a block: from one RIP to the next unconditional transfer, the page's end, or a length limit. */
import { hasTracePoints, tracePointAt } from '../trace-points.ts';
import type { DecodeExports } from '../core/exports.ts';
import { BLOCK, type MemoryMap, MODE, UOP } from '../layout.ts';
import { CodeBytes, FetchFault } from './code-bytes.ts';
import { decodeInstruction } from './decode-instruction.ts';
import { FLOW } from './instruction.ts';
import { KnownInstructions, type Run } from './known-instructions.ts';
import { emitMark } from './mark.ts';
import { UopArena } from './uop-arena.ts';
import { UopWriter } from './uop-writer.ts';

/** Instructions in a block: DONE has 8 bits, and interrupts wait for a block's end. */
const MAX_INSTRUCTIONS = 48;
/** Room that a block may need in the arena. */
const MAX_BLOCK_BYTES = BLOCK.SIZE + (MAX_INSTRUCTIONS + 1) * 12 * UOP.SIZE;

/** Rewrites the operations of a block's records: how many, from an address on. */
export type Specialize = (words: Uint16Array, first: number, count: number) => void;

export class BlockDecoder {
  readonly arena: UopArena;
  readonly #memory: Uint8Array;
  readonly #ram: number;
  readonly #known: KnownInstructions;
  readonly #view: DataView;
  readonly #words: Uint16Array;
  readonly #specialize: Specialize;
  readonly #out: UopWriter;
  readonly #heat: number;
  readonly #maxInstructions: number;

  /**
   * @param core of the same memory
   * @param specialize puts into a block what it is executed with
   * @param heat executions of a block before the compiler hears of it, 0 = never
   * @param maxInstructions where blocks end at the latest
   */
  constructor(
    memory: WebAssembly.Memory,
    map: MemoryMap,
    core: DecodeExports,
    specialize: Specialize,
    heat: number,
    maxInstructions: number = MAX_INSTRUCTIONS,
  ) {
    this.#memory = new Uint8Array(memory.buffer);
    this.#ram = map.ram;
    this.#known = new KnownInstructions(core, decodeInstruction);
    this.#view = new DataView(memory.buffer);
    this.#words = new Uint16Array(memory.buffer);
    this.#specialize = specialize;
    this.#out = new UopWriter(memory.buffer);
    this.arena = new UopArena(map, MAX_BLOCK_BYTES);
    this.#heat = heat;
    this.#maxInstructions = maxInstructions;
  }

  /** The arena may have no room for another block where it is: it has to go on elsewhere. */
  get full(): boolean {
    return this.arena.room < MAX_BLOCK_BYTES;
  }

  /**
   * Decodes the block at a RAM offset and writes it to the arena.
   * @param nextPage RAM offset of the page that follows in linear addresses, when an instruction crosses; throws FetchFault with the
   *   fault pending
   * @returns address of the block's header; FetchFault is thrown when the first instruction cannot be fetched
   */
  decode(ramOffset: number, mode: number, nextPage: () => number): number {
    const header = this.arena.free;
    const start = ramOffset & 4095;
    const code = new CodeBytes(
      this.#memory,
      this.#ram + ramOffset - start,
      start,
      () => this.#ram + nextPage(),
    );
    this.#out.begin(header + BLOCK.SIZE);
    const instructions = this.#instructions(code, ramOffset - start, mode);
    this.#specialize(this.#words, header + BLOCK.SIZE, this.#out.count);
    const length = code.pageOffset - start;
    this.#writeHeader(header, ramOffset, mode, length, instructions, code.secondPage - this.#ram);
    this.arena.take(this.#out.end);
    this.arena.noteBlock(ramOffset);
    this.arena.noteHeader(header);
    return header;
  }

  #writeHeader(
    at: number,
    ramOffset: number,
    mode: number,
    length: number,
    count: number,
    page2: number,
  ): void {
    const view = this.#view;
    view.setUint32(at + BLOCK.PHYS, ramOffset, true);
    view.setUint32(at + BLOCK.PHYS + 4, 0, true);
    view.setUint32(at + BLOCK.MODE, mode, true);
    view.setUint16(at + BLOCK.LENGTH, length, true);
    view.setUint16(at + BLOCK.INSTRUCTIONS, count, true);
    view.setUint32(at + BLOCK.HASH_NEXT, 0, true);
    view.setUint32(at + BLOCK.PAGE_NEXT, 0, true);
    view.setUint32(at + BLOCK.HEAT, this.#heat, true);
    view.setUint16(at + BLOCK.DEAD, 0, true);
    view.setUint16(at + BLOCK.UOPS, this.#out.count, true);
    view.setUint32(at + BLOCK.PAGE2, page2 < 0 ? BLOCK.NO_PAGE : page2 >>> 12, true);
    view.setUint32(at + BLOCK.PAGE2_NEXT, 0, true);
    view.setUint32(at + BLOCK.OWNER, 0, true);
    view.setUint32(at + BLOCK.USED, 0, true);
  }

  /** Decodes instructions until the block ends; returns how many. */
  #instructions(code: CodeBytes, page: number, mode: number): number {
    const limit = mode & MODE.SINGLE_STEP ? 1 : this.#maxInstructions;
    const traced = hasTracePoints(this.#view, page);
    let shadow = false;
    for (let done = 0; ; ) {
      const first = this.#out.count;
      const at = code.pageOffset;
      const tracePoint = traced ? tracePointAt(this.#view, page + at) : -1;
      if (tracePoint >= 0) emitMark(this.#out, 'trace', tracePoint, at, done);
      const { instructions, flow } = this.#append(code, mode, done, traced || shadow ? 1 : limit - done);
      if (code.crossed && done > 0) {
        // An instruction that crosses into the next page has a block of its own.
        this.#out.truncate(first);
        code.rewind(at);
        this.#end('next', at, done - 1);
        return done;
      }
      done += instructions;
      if (flow === FLOW.END) return done;
      if (flow === FLOW.CHECK || shadow || limit === 1) {
        this.#end(shadow ? 'next.unshadow' : 'next.check', code.pageOffset, done - 1);
        return done;
      }
      shadow = flow === FLOW.SHADOW;
      if (done >= limit || code.pageOffset >= 4096) {
        this.#end(shadow ? 'next.check' : 'next', code.pageOffset, done - 1);
        return done;
      }
    }
  }

  /**
   * The micro-op that goes on at `pageOffset`. It belongs to the last instruction: DONE counts those before it.
   */
  #end(name: string, pageOffset: number, done: number): void {
    emitMark(this.#out, name, pageOffset, pageOffset, done);
  }

  #append(code: CodeBytes, mode: number, done: number, count: number): Run {
    try {
      return this.#known.append(code, this.#out, mode, done, count);
    } catch (error) {
      // What the next page holds matters only if control gets there.
      if (error instanceof FetchFault && done > 0) return { instructions: 1, flow: FLOW.NEXT };
      throw error;
    }
  }
}
