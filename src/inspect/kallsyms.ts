/**
 * The kernel's own table of symbols (kernel/kallsyms.c), found in its image in memory. Names are compressed: each byte
 * stands for one of 256 tokens. The order of the tables has changed over time (scripts/kallsyms.c): up to 6.3 the
 * addresses come before the names, later after the tokens.
 */
import { InspectError } from './errors.ts';

/** Tokens that stand for themselves, as every kernel's symbols have digits: that is what is looked for. */
const DIGITS = Buffer.from([...'0123456789'].map((digit) => `${digit}\0`).join(''), 'latin1');
const TOKENS = 256;
const TOKEN_INDEX_BYTES = TOKENS * 2;
const SYMBOLS_PER_MARKER = 256;
/** The longest name, compressed. */
const NAME_BYTES_MAX = 512;
/** Of a kernel worth the name. */
const MARKERS_MIN = 16;
const SYMBOLS_MAX = 1 << 20;
const NAMES_BYTES_MAX = 32 << 20;

const align8 = (offset: number): number => (offset + 7) & ~7;

export interface KernelSymbol {
  readonly name: string;
  readonly address: bigint;
  /** Up to the next symbol; 0 for the last one. */
  readonly size: number;
}

export class KernelSymbols {
  readonly #image: Buffer;
  readonly #tokens: readonly string[];
  readonly #markers: number;
  readonly #names: number;
  readonly #offsets: number;
  readonly #base: bigint;
  readonly count: number;
  readonly #found = new Map<string, bigint>();
  /** Addresses in order, of those that are relative to the base. */
  #sorted: { readonly offset: number; readonly index: number }[] | undefined;

  /** @param image the kernel's image in memory. Throws InspectError when it has no such tables. */
  constructor(image: Buffer) {
    this.#image = image;
    const tokens = findTokens(image);
    this.#tokens = tokens.texts;
    const { names, count, markers } = findNames(image, tokens.start);
    this.#markers = markers;
    this.#names = names;
    this.count = count;
    const { offsets, base } = findOffsets(image, names, count, align8(tokens.indexAt + TOKEN_INDEX_BYTES));
    this.#offsets = offsets;
    this.#base = base;
  }

  /** Looks addresses up, all in one pass over the table. */
  find(names: Iterable<string>): void {
    const wanted = new Set(names);
    for (let index = 0, at = this.#names; index < this.count; index++) {
      const { length, from } = nameLength(this.#image, at);
      const name = this.#expand(from, length);
      if (wanted.has(name) && !this.#found.has(name)) this.#found.set(name, this.#address(index));
      at = from + length;
    }
  }

  /** Of one that `find` has looked for. */
  address(name: string): bigint | undefined {
    return this.#found.get(name);
  }

  /** The symbol that an address is in. */
  at(address: bigint): KernelSymbol | undefined {
    const sorted = this.#sortedOffsets();
    const offset = Number(address - this.#base);
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle]!.offset <= offset) low = middle + 1;
      else high = middle;
    }
    const found = sorted[low - 1];
    if (found === undefined) return undefined;
    const next = sorted[low];
    return {
      name: this.#name(found.index),
      address: this.#base + BigInt(found.offset),
      size: next === undefined ? 0 : next.offset - found.offset,
    };
  }

  /** Negative ones are relative to the base, others absolute: variables of each CPU (CONFIG_KALLSYMS_ABSOLUTE_PERCPU). */
  #address(index: number): bigint {
    const offset = this.#image.readInt32LE(this.#offsets + index * 4);
    return offset < 0 ? this.#base + BigInt(-1 - offset) : BigInt(offset);
  }

  #sortedOffsets(): { readonly offset: number; readonly index: number }[] {
    if (this.#sorted !== undefined) return this.#sorted;
    const sorted: { offset: number; index: number }[] = [];
    for (let index = 0; index < this.count; index++) {
      const offset = this.#image.readInt32LE(this.#offsets + index * 4);
      if (offset < 0) sorted.push({ offset: -1 - offset, index });
    }
    this.#sorted = sorted.sort((a, b) => a.offset - b.offset || a.index - b.index);
    return this.#sorted;
  }

  #name(index: number): string {
    let at =
      this.#names + this.#image.readUInt32LE(this.#markers + Math.floor(index / SYMBOLS_PER_MARKER) * 4);
    for (let skip = index % SYMBOLS_PER_MARKER; skip > 0; skip--) {
      const { length, from } = nameLength(this.#image, at);
      at = from + length;
    }
    const { length, from } = nameLength(this.#image, at);
    return this.#expand(from, length);
  }

  /** Without the letter of the type, which comes first. */
  #expand(from: number, length: number): string {
    let name = '';
    for (let at = from; at < from + length; at++) name += this.#tokens[this.#image[at]!];
    return name.slice(1);
  }
}

/** The length is one byte, or two when the first has its top bit set (since 6.1). */
function nameLength(image: Buffer, at: number): { readonly length: number; readonly from: number } {
  const first = image[at] ?? 0;
  if ((first & 0x80) === 0) return { length: first, from: at + 1 };
  return { length: (first & 0x7f) | ((image[at + 1] ?? 0) << 7), from: at + 2 };
}

function findTokens(image: Buffer) {
  for (let at = image.indexOf(DIGITS); at >= 0; at = image.indexOf(DIGITS, at + 1)) {
    const found = tokensAround(image, at);
    if (found !== undefined) return found;
  }
  throw new InspectError("the kernel's table of symbols is not in memory");
}

/** `zero`: where the token for "0" is, the 48th. */
function tokensAround(image: Buffer, zero: number) {
  let end = zero;
  for (let token = 0x30; token < TOKENS; token++) {
    const next = image.indexOf(0, end);
    if (next < 0 || next - end > NAME_BYTES_MAX) return undefined;
    end = next + 1;
  }
  const indexAt = align8(end);
  if (indexAt + TOKEN_INDEX_BYTES > image.length) return undefined;
  const start = zero - image.readUInt16LE(indexAt + 0x30 * 2);
  if (start < 0 || image.readUInt16LE(indexAt) !== 0) return undefined;
  const texts: string[] = [];
  for (let token = 0, at = start; token < TOKENS; token++) {
    if (image.readUInt16LE(indexAt + token * 2) !== at - start) return undefined;
    const stop = image.indexOf(0, at);
    texts.push(image.toString('latin1', at, stop));
    at = stop + 1;
  }
  return { start, indexAt, texts };
}

interface Names {
  readonly names: number;
  readonly count: number;
  readonly markers: number;
}

/** kallsyms_names, how many there are, and kallsyms_markers: where in the names each 256th begins. */
function findNames(image: Buffer, tokens: number): Names {
  const found = namesBeforeTokens(image, tokens) ?? namesBehindBase(image, tokens);
  if (found === undefined) throw new InspectError("the names of the kernel's symbols are not in memory");
  return found;
}

/** The markers end where the tokens begin, the names where the markers begin; both are aligned. */
function namesBeforeTokens(image: Buffer, tokens: number): Names | undefined {
  for (const end of [tokens, tokens - 4]) {
    let markers = end - 4;
    while (markers > 4 && image.readUInt32LE(markers) > image.readUInt32LE(markers - 4)) markers -= 4;
    const markerCount = (end - markers) / 4;
    if (markerCount <= MARKERS_MIN || image.readUInt32LE(markers) !== 0) continue;
    const latest = (markers - image.readUInt32LE(end - 4)) & ~7;
    for (let names = latest; names > latest - SYMBOLS_PER_MARKER * NAME_BYTES_MAX && names >= 8; names -= 8) {
      const count = image.readUInt32LE(names - 8);
      if (Math.ceil(count / SYMBOLS_PER_MARKER) !== markerCount) continue;
      if (skipNames(image, names, SYMBOLS_PER_MARKER) - names === image.readUInt32LE(markers + 4)) {
        return { names, count, markers };
      }
    }
  }
  return undefined;
}

/** In the old order there may be another table between markers and tokens; the base and the count are before the names. */
function namesBehindBase(image: Buffer, tokens: number): Names | undefined {
  for (let at = (tokens & ~7) - 8; at >= 8 && at > tokens - NAMES_BYTES_MAX; at -= 8) {
    const count = image.readUInt32LE(at);
    if (count < MARKERS_MIN * SYMBOLS_PER_MARKER || count > SYMBOLS_MAX || image.readUInt32LE(at + 4) !== 0)
      continue;
    if (!isBase(image.readBigUInt64LE(at - 8))) continue;
    const names = at + 8;
    const markers = align8(skipNames(image, names, count));
    if (markers + 8 > tokens || image.readUInt32LE(markers) !== 0) continue;
    if (skipNames(image, names, SYMBOLS_PER_MARKER) - names === image.readUInt32LE(markers + 4)) {
      return { names, count, markers };
    }
  }
  return undefined;
}

/** Where the name after `count` names begins. */
function skipNames(image: Buffer, names: number, count: number): number {
  let at = names;
  for (let i = 0; i < count; i++) {
    const { length, from } = nameLength(image, at);
    at = from + length;
  }
  return at;
}

/** The kernel's image is in the last 2 GiB of the address space, on a boundary of pages. */
function isBase(value: bigint): boolean {
  return value >= 0xffff_ffff_8000_0000n && (value & 0xfffn) === 0n;
}

/** kallsyms_offsets and kallsyms_relative_base. */
function findOffsets(image: Buffer, names: number, count: number, afterTokens: number) {
  const bytes = align8(count * 4);
  const places = [
    { offsets: afterTokens, base: afterTokens + bytes },
    { offsets: names - 16 - bytes, base: names - 16 },
  ];
  for (const { offsets, base } of places) {
    if (offsets < 0 || base + 8 > image.length) continue;
    const value = image.readBigUInt64LE(base);
    if (isBase(value)) return { offsets, base: value };
  }
  throw new InspectError("the addresses of the kernel's symbols are not in memory");
}
