/** LZMA2 (xz-file-format 1.1.0, section 5.3.1) and LZMA as specified by the LZMA SDK's lzma-specification.txt. */

const PROBABILITY_BITS = 11;
const INITIAL_PROBABILITY = 1 << (PROBABILITY_BITS - 1);
const MOVE_BITS = 5;
const TOP = 1 << 24;
const STATES = 12;
const POSITION_STATES = 16;
const LENGTH_STATES = 4;
const MATCH_MIN = 2;

/** Places of the probability models in one array. */
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POSITION_STATES;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POSITION_SLOT = IS_REP0_LONG + STATES * POSITION_STATES;
const POSITION_SPECIAL = POSITION_SLOT + LENGTH_STATES * 64;
const ALIGN = POSITION_SPECIAL + 128;
/** A length coder: choice, choice 2, low[16][8], mid[16][8], high[256]. */
const LENGTH_CODER = 2 + POSITION_STATES * 8 * 2 + 256;
const LENGTH = ALIGN + 16;
const REP_LENGTH = LENGTH + LENGTH_CODER;
const LITERAL = REP_LENGTH + LENGTH_CODER;
/** lc + lp is at most 4 in LZMA2. */
const LITERAL_CODERS = 16;
const MODELS = LITERAL + 0x300 * LITERAL_CODERS;

class Decoder {
  readonly #models = new Uint16Array(MODELS);
  #in: Uint8Array;
  #at: number;
  #range = 0;
  #code = 0;
  #out = new Uint8Array(1 << 20);
  #length = 0;
  readonly #maxBytes: number;
  #state = 0;
  #rep0 = 0;
  #rep1 = 0;
  #rep2 = 0;
  #rep3 = 0;
  #literalContextBits = 0;
  #literalPositionMask = 0;
  #positionMask = 0;

  constructor(packed: Uint8Array, start: number, maxBytes: number) {
    this.#in = packed;
    this.#at = start;
    this.#maxBytes = maxBytes;
  }

  run(): { out: Uint8Array; end: number } {
    for (;;) {
      const control = this.#byte();
      if (control === 0) return { out: this.#out.subarray(0, this.#length), end: this.#at };
      if (control >= 0x80) this.#lzmaChunk(control);
      else if (control <= 2) this.#storedChunk();
      else throw new RangeError('LZMA2 control byte is damaged');
    }
  }

  #byte(): number {
    const byte = this.#in[this.#at++];
    if (byte === undefined) throw new RangeError('LZMA2 data ends early');
    return byte;
  }
  #u16(): number {
    return (this.#byte() << 8) | this.#byte();
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed > this.#maxBytes) throw new RangeError('LZMA2 data unpacks to more than the kernel declares');
    if (needed <= this.#out.length) return;
    const larger = new Uint8Array(Math.max(needed, this.#out.length * 2));
    larger.set(this.#out.subarray(0, this.#length));
    this.#out = larger;
  }

  #storedChunk(): void {
    const size = this.#u16() + 1;
    this.#reserve(size);
    if (this.#at + size > this.#in.length) throw new RangeError('LZMA2 data ends early');
    this.#out.set(this.#in.subarray(this.#at, this.#at + size), this.#length);
    this.#at += size;
    this.#length += size;
  }

  #lzmaChunk(control: number): void {
    const size = ((control & 0x1f) << 16) + this.#u16() + 1;
    const packedSize = this.#u16() + 1;
    const reset = (control >>> 5) & 3;
    if (reset >= 2) this.#setProperties(this.#byte());
    if (reset >= 1) this.#resetState();
    const end = this.#at + packedSize;
    this.#byte();
    this.#range = -1;
    this.#code = (this.#u16() << 16) | this.#u16();
    this.#reserve(size);
    this.#decode(this.#length + size);
    if (this.#at > end) throw new RangeError('LZMA2 chunk reads beyond its end');
    this.#at = end;
  }

  #setProperties(byte: number): void {
    const literalContext = byte % 9;
    const rest = Math.floor(byte / 9);
    const literalPosition = rest % 5;
    if (literalContext + literalPosition > 4) throw new RangeError('LZMA2 properties are damaged');
    this.#literalContextBits = literalContext;
    this.#literalPositionMask = (1 << literalPosition) - 1;
    this.#positionMask = (1 << Math.floor(rest / 5)) - 1;
  }

  #resetState(): void {
    this.#state = this.#rep0 = this.#rep1 = this.#rep2 = this.#rep3 = 0;
    this.#models.fill(INITIAL_PROBABILITY);
  }

  #bit(index: number): number {
    const models = this.#models;
    const probability = models[index]!;
    const bound = Math.imul(this.#range >>> PROBABILITY_BITS, probability);
    let bit: number;
    if (this.#code >>> 0 < bound >>> 0) {
      this.#range = bound;
      models[index] = probability + ((2048 - probability) >>> MOVE_BITS);
      bit = 0;
    } else {
      this.#range = (this.#range - bound) | 0;
      this.#code = (this.#code - bound) | 0;
      models[index] = probability - (probability >>> MOVE_BITS);
      bit = 1;
    }
    if (this.#range >>> 0 < TOP) {
      this.#range <<= 8;
      this.#code = (this.#code << 8) | (this.#in[this.#at++] ?? 0);
    }
    return bit;
  }

  #direct(bits: number): number {
    let value = 0;
    for (let i = 0; i < bits; i++) {
      this.#range >>>= 1;
      const isBelow = this.#code >>> 0 < this.#range >>> 0;
      if (!isBelow) this.#code = (this.#code - this.#range) | 0;
      value = (value << 1) | (isBelow ? 0 : 1);
      if (this.#range >>> 0 < TOP) {
        this.#range <<= 8;
        this.#code = (this.#code << 8) | (this.#in[this.#at++] ?? 0);
      }
    }
    return value;
  }

  #tree(base: number, bits: number): number {
    let node = 1;
    for (let i = 0; i < bits; i++) node = (node << 1) | this.#bit(base + node);
    return node - (1 << bits);
  }

  #reverseTree(base: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(base + node);
      node = (node << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  #decode(limit: number): void {
    while (this.#length < limit) {
      const positionState = this.#length & this.#positionMask;
      if (this.#bit(IS_MATCH + this.#state * POSITION_STATES + positionState) === 0) {
        this.#literal();
        continue;
      }
      const length = this.#matchLength(positionState);
      if (length > 0) this.#copy(length, limit);
    }
  }

  #literal(): void {
    const out = this.#out;
    const previous = this.#length > 0 ? out[this.#length - 1]! : 0;
    const context =
      ((this.#length & this.#literalPositionMask) << this.#literalContextBits) +
      (previous >>> (8 - this.#literalContextBits));
    const base = LITERAL + 0x300 * context;
    let symbol = 1;
    if (this.#state >= 7) {
      if (this.#rep0 >= this.#length) throw new RangeError('LZMA distance out of range');
      let match = out[this.#length - this.#rep0 - 1]!;
      while (symbol < 0x100) {
        const matchBit = (match >>> 7) & 1;
        match <<= 1;
        const bit = this.#bit(base + ((1 + matchBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (matchBit !== bit) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(base + symbol);
    out[this.#length++] = symbol;
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  /** Decodes a match or repeat into rep0 and returns its length; 0 when it was a single repeated byte. */
  #matchLength(positionState: number): number {
    const state = this.#state;
    if (this.#bit(IS_REP + state) === 0) {
      this.#rep3 = this.#rep2;
      this.#rep2 = this.#rep1;
      this.#rep1 = this.#rep0;
      this.#state = state < 7 ? 7 : 10;
      const length = this.#codedLength(LENGTH, positionState);
      this.#rep0 = this.#distance(length);
      return length;
    }
    if (this.#bit(IS_REP_G0 + state) === 0) {
      if (this.#bit(IS_REP0_LONG + state * POSITION_STATES + positionState) === 0) {
        this.#state = state < 7 ? 9 : 11;
        this.#copy(1, this.#length + 1);
        return 0;
      }
    } else {
      this.#rotateRepeats(state);
    }
    this.#state = state < 7 ? 8 : 11;
    return this.#codedLength(REP_LENGTH, positionState);
  }

  #rotateRepeats(state: number): void {
    let distance: number;
    if (this.#bit(IS_REP_G1 + state) === 0) {
      distance = this.#rep1;
    } else {
      if (this.#bit(IS_REP_G2 + state) === 0) {
        distance = this.#rep2;
      } else {
        distance = this.#rep3;
        this.#rep3 = this.#rep2;
      }
      this.#rep2 = this.#rep1;
    }
    this.#rep1 = this.#rep0;
    this.#rep0 = distance;
  }

  #codedLength(coder: number, positionState: number): number {
    if (this.#bit(coder) === 0) return MATCH_MIN + this.#tree(coder + 2 + positionState * 8, 3);
    if (this.#bit(coder + 1) === 0) {
      return MATCH_MIN + 8 + this.#tree(coder + 2 + POSITION_STATES * 8 + positionState * 8, 3);
    }
    return MATCH_MIN + 16 + this.#tree(coder + 2 + POSITION_STATES * 16, 8);
  }

  #distance(length: number): number {
    const lengthState = Math.min(length - MATCH_MIN, LENGTH_STATES - 1);
    const slot = this.#tree(POSITION_SLOT + lengthState * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >>> 1) - 1;
    const high = (2 | (slot & 1)) << bits;
    if (slot < 14) return high + this.#reverseTree(POSITION_SPECIAL + high - slot, bits);
    return high + (this.#direct(bits - 4) << 4) + this.#reverseTree(ALIGN, 4);
  }

  #copy(length: number, limit: number): void {
    const out = this.#out;
    const from = this.#length - this.#rep0 - 1;
    if (from < 0 || this.#length + length > limit) throw new RangeError('LZMA match out of range');
    for (let i = 0; i < length; i++) out[this.#length + i] = out[from + i]!;
    this.#length += length;
  }
}

/** Unpacks the chunks from `start` on; `end` is the offset after them. Throws RangeError on damaged data. */
export function unpackLzma2(
  packed: Uint8Array,
  start: number,
  maxBytes: number,
): { out: Uint8Array; end: number } {
  return new Decoder(packed, start, maxBytes).run();
}
