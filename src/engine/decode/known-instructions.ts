/**
 * Instructions that were decoded before: the core copies what they have become (`core/assembly/known.ts`). The table is in the
 * memory of the VM, and its own thread's alone.
 */
import type { DecodeExports } from '../core/exports.ts';
import { KNOWN, MODE } from '../layout.ts';
import type { CodeBytes } from './code-bytes.ts';
import type { Flow } from './instruction.ts';
import type { UopWriter } from './uop-writer.ts';

/** Decodes the instruction at `code` and appends its micro-ops. */
export type Decode = (code: CodeBytes, out: UopWriter, mode: number, done: number) => Flow;

/** Instructions that were appended, and what the last one says about what follows. */
export interface Run {
  readonly instructions: number;
  readonly flow: Flow;
}

/** What may reach into the next page, and other than 64-bit code, is always decoded. */
const isKept = (code: CodeBytes, mode: number): boolean =>
  (mode & MODE.CODE_SIZE_MASK) === MODE.CODE64 && code.pageOffset <= KNOWN.LAST_START;

export class KnownInstructions {
  readonly #core: DecodeExports;
  readonly #decode: Decode;

  /** @param decode what is done for an instruction that is not there */
  constructor(core: DecodeExports, decode: Decode) {
    this.#core = core;
    this.#decode = decode;
  }

  /**
   * Appends the micro-ops of those at `code`: one that is not known, or as many as are known up to one that ends the
   * block.
   * @param done instructions of the block before them
   * @param count how many at most
   * @throws FetchFault when a byte of the first cannot be fetched
   */
  append(code: CodeBytes, out: UopWriter, mode: number, done: number, count: number): Run {
    if (!isKept(code, mode)) return { instructions: 1, flow: this.#decode(code, out, mode, done) };
    const run = this.#core.copyKnown(code.page, code.pageOffset, out.end, mode, done, count);
    const instructions = (run >>> KNOWN.RUN_INSTRUCTIONS) & 0x7f;
    if (instructions === 0) return { instructions: 1, flow: this.#learn(code, out, mode, done) };
    code.pageOffset = run & 0x1fff;
    out.count += (run >>> KNOWN.RUN_RECORDS) & 0xff;
    return { instructions, flow: ((run >>> KNOWN.RUN_FLOW) & 3) as Flow };
  }

  /** Decodes the one that the core has met, from its copy of the bytes, and keeps it. */
  #learn(code: CodeBytes, out: UopWriter, mode: number, done: number): Flow {
    const start = code.pageOffset;
    const first = out.end;
    const before = out.count;
    code.placeMatters = false;
    code.readFrom(KNOWN.BASE + KNOWN.UNKNOWN - start);
    const flow = this.#decode(code, out, mode, done);
    code.readFrom(code.page);
    const placeMatters = code.placeMatters ? 1 : 0;
    this.#core.keepKnown(code.pageOffset - start, mode, first, out.count - before, flow, placeMatters);
    return flow;
  }
}
