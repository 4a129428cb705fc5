/**
 * Instructions that were decoded before, by their bytes: some four in five are there and are copied. Of jumps the
 * displacement does not count. What an instruction becomes depends on nothing but its bytes, the mode and, in ways that
 * are known here, its place.
 */
import { MODE, UOP } from '../layout.ts';
import type { CodeBytes } from './code-bytes.ts';
import type { Flow } from './instruction.ts';
import type { UopWriter } from './uop-writer.ts';

/** Decodes the instruction at `code` and appends its micro-ops. */
export type Decode = (code: CodeBytes, out: UopWriter, mode: number, done: number) => Flow;

/** What may reach into the next page is decoded. */
const LAST_START = 4096 - 16;
/** The longest instruction that is kept, and how many micro-ops it may become. */
const BYTES_MAX = 12;
const RECORDS_MAX = 2;

/** An entry: the bytes, what they are, and each record's words before PC, with DONE 0. */
const ENTRY = { META: 3, RECORDS: 4, RECORD_WORDS: UOP.PC / 4, WORDS: 16 } as const;
/** Bits of META. `KEY` has to agree. */
const META = { LENGTH: 9, KEY: 0x1fff, COUNT: 13, FLOW: 15, KEPT: 1 << 20 } as const;
const SLOT_BITS = 14;
const LENGTH_BITS = 15;

/** Masks of the bytes up to a length, by word. */
const MASKS = [0, 1, 2].map((word) =>
  Int32Array.from({ length: BYTES_MAX + 1 }, (_, length) => {
    const bytes = Math.min(4, Math.max(0, length - 4 * word));
    return bytes === 4 ? -1 : (1 << (8 * bytes)) - 1;
  }),
) as [Int32Array, Int32Array, Int32Array];

/** Bytes of a jump or call by its first byte: 0 for others. Behind 0F the second byte decides. */
const JUMP_LENGTH = new Uint8Array(256);
JUMP_LENGTH.fill(2, 0x70, 0x80);
JUMP_LENGTH[0xeb] = 2;
JUMP_LENGTH[0xe8] = JUMP_LENGTH[0xe9] = 5;

/** Bytes of the jump or call that begins with a word; 0 for others. */
const jumpLength = (word: number): number => ((word & 0xf0ff) === 0x800f ? 6 : JUMP_LENGTH[word & 0xff]!);
/** How many of them are before the displacement. */
const opcodeBytes = (jump: number): number => (jump === 6 ? 2 : 1);

const hash = (word: number, bits: number): number => Math.imul(word, 0x9e37_79b1) >>> (32 - bits);

/** The bytes of an instruction that count, in words; the others are 0. */
class Key {
  word0 = 0;
  word1 = 0;
  word2 = 0;

  /** Those at `code`, of which `bytes` count. */
  read(code: CodeBytes, bytes: number): void {
    this.word0 = code.word(0) & MASKS[0][bytes]!;
    this.word1 = bytes > 4 ? code.word(4) & MASKS[1][bytes]! : 0;
    this.word2 = bytes > 8 ? code.word(8) & MASKS[2][bytes]! : 0;
  }

  /** Where its entry is. */
  entry(mode: number): number {
    const others = Math.imul(this.word1, 0x85eb_ca6b) ^ Math.imul(this.word2 ^ mode, 0xc2b2_ae35);
    return hash(this.word0 ^ others, SLOT_BITS) * ENTRY.WORDS;
  }
}

export class InstructionCache {
  readonly #decode: Decode;
  readonly #entries = new Int32Array(ENTRY.WORDS << SLOT_BITS);
  /** How long an instruction was that began with a word of such a hash. */
  readonly #lengths = new Uint8Array(1 << LENGTH_BITS);
  readonly #key = new Key();

  /** @param decode what is done for an instruction that is not there */
  constructor(decode: Decode) {
    this.#decode = decode;
  }

  /** As `decode` does it. */
  decode(code: CodeBytes, out: UopWriter, mode: number, done: number): Flow {
    if ((mode & MODE.CODE_SIZE_MASK) !== MODE.CODE64 || code.pageOffset > LAST_START) {
      return this.#decode(code, out, mode, done);
    }
    const word = code.word(0);
    const jump = jumpLength(word);
    const length = jump === 0 ? this.#lengths[hash(word, LENGTH_BITS)]! : jump;
    this.#key.read(code, jump === 0 ? length : opcodeBytes(jump));
    const entry = this.#key.entry(mode);
    if (this.#isThis(entry, mode, length)) return this.#copy(entry, code, out, done, jump);
    return this.#add(code, out, mode, done, jump);
  }

  #isThis(entry: number, mode: number, length: number): boolean {
    const { word0, word1, word2 } = this.#key;
    const entries = this.#entries;
    return (
      (entries[entry + ENTRY.META]! & (META.KEY | META.KEPT)) ===
        (mode | (length << META.LENGTH) | META.KEPT) &&
      entries[entry] === word0 &&
      entries[entry + 1] === word1 &&
      entries[entry + 2] === word2
    );
  }

  #copy(entry: number, code: CodeBytes, out: UopWriter, done: number, jump: number): Flow {
    const meta = this.#entries[entry + ENTRY.META]!;
    const length = (meta >> META.LENGTH) & 15;
    const pc = code.pageOffset;
    const records = (meta >> META.COUNT) & 3;
    for (let n = 0; n < records; n++) {
      const from = entry + ENTRY.RECORDS + n * ENTRY.RECORD_WORDS;
      out.append(this.#entries, from, done, pc, pc + length);
    }
    if (jump !== 0) {
      const word = code.word(opcodeBytes(jump));
      const displacement = jump === 2 ? (word << 24) >> 24 : word;
      out.setImmediate((pc + length + displacement) | 0);
    }
    code.pageOffset = pc + length;
    return ((meta >> META.FLOW) & 3) as Flow;
  }

  /** Decodes it, and keeps it if that is possible. */
  #add(code: CodeBytes, out: UopWriter, mode: number, done: number, jump: number): Flow {
    const first = out.count;
    const start = code.pageOffset;
    code.placeMatters = false;
    const flow = this.#decode(code, out, mode, done);
    const end = code.pageOffset;
    const length = end - start;
    const records = out.count - first;
    // Of jumps it is known how their place matters.
    const isKnown = jump === 0 ? !code.placeMatters : records === 1 && length === jump;
    if (length > BYTES_MAX || records > RECORDS_MAX || !isKnown) return flow;
    code.pageOffset = start;
    if (jump === 0) this.#lengths[hash(code.word(0), LENGTH_BITS)] = length;
    this.#key.read(code, jump === 0 ? length : opcodeBytes(jump));
    code.pageOffset = end;
    const entry = this.#key.entry(mode);
    const { word0, word1, word2 } = this.#key;
    const meta = mode | (length << META.LENGTH) | (records << META.COUNT) | (flow << META.FLOW) | META.KEPT;
    this.#entries.set([word0, word1, word2, meta], entry);
    for (let n = 0; n < records; n++) {
      out.extract(first + n, this.#entries, entry + ENTRY.RECORDS + n * ENTRY.RECORD_WORDS);
    }
    return flow;
  }
}
