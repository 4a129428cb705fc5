/**
 * The room for decoded micro-ops and what goes with them, in segments that are filled one after the other. When all that
 * are open are full, the oldest is filled anew, which costs the blocks in it; compiled regions need none of them.
 *
 * How many are open depends on the guest: where too much of what is decoded was there not long ago, one more is opened.
 */
import type { MemoryMap } from '../layout.ts';

const SEGMENT_BYTES = 1 << 20;
/** Segments that are open from the start. */
const OPEN_MIN = 8;
/** Segments whose filling is remembered after it has gone. */
const GHOSTS = 4;
/** Places that are told apart: a megabyte holds some 3,500 blocks. */
const PLACES_BITS = 17;
/** With this share of blocks that come back, one more segment is opened; a tenth is what filters take wrongly for known. */
const RETURNING = 1 / 5;

/** Addresses from `start` on, before `end`. */
export interface AddressRange {
  readonly start: number;
  readonly end: number;
}

interface Segment extends AddressRange {
  /** Number of the present filling, 0 before the first; no two fillings have the same. */
  filling: number;
  /** Addresses of the headers in it. */
  headers: number[];
}

const placeOf = (ramOffset: number): number => Math.imul(ramOffset, 0x9e37_79b1) >>> (32 - PLACES_BITS);

export class UopArena {
  readonly #segments: readonly Segment[];
  /** The filling that a block from a place in RAM was last in, 16 bits; places that have the same hash share one. */
  readonly #lastFilling = new Uint16Array(1 << PLACES_BITS);
  #current: Segment;
  #free: number;
  #open: number;
  #fillings = 0;
  /** Fillings that are there, and that have gone: the present ones are the latest. */
  #present = 0;
  #gone = 0;
  #blocks = 0;
  #returned = 0;

  /** @param blockBytes what a block may need at most */
  constructor({ uopArena, uopArenaEnd }: MemoryMap, blockBytes: number) {
    const bytes = uopArenaEnd - uopArena;
    const few = Math.min(4, Math.floor(bytes / (2 * blockBytes)));
    const count = Math.max(1, few, Math.floor(bytes / SEGMENT_BYTES));
    const size = Math.floor(bytes / count) & ~15;
    this.#segments = Array.from({ length: count }, (_, n) => ({
      start: uopArena + n * size,
      end: uopArena + (n + 1) * size,
      filling: 0,
      headers: [],
    }));
    this.#open = Math.min(count, OPEN_MIN);
    this.#current = this.#segments[0]!;
    this.#free = this.#current.start;
    this.clear();
  }

  /** Address of the first byte that is free. */
  get free(): number {
    return this.#free;
  }

  /** Bytes up to the end of the segment that is being filled. */
  get room(): number {
    return this.#current.end - this.#free;
  }

  /** Bytes that have been used of all segments, at most. */
  get bytes(): number {
    const used = this.#segments.filter(({ filling }) => filling !== 0);
    return used.reduce((sum, { start, end }) => sum + end - start, 0) - this.room;
  }

  /** All up to `end` is taken. */
  take(end: number): void {
    this.#free = (end + 15) & ~15;
  }

  /** A block's header was made in the room that was taken last. */
  noteHeader(header: number): void {
    this.#current.headers.push(header);
  }

  /**
   * A block was decoded from a RAM offset. What is in one of the present fillings already has not been forgotten by the
   * arena: the guest has written over it.
   */
  noteBlock(ramOffset: number): void {
    const place = placeOf(ramOffset);
    const age = (this.#fillings - this.#lastFilling[place]!) & 0xffff;
    const ghosts = Math.min(GHOSTS, this.#gone);
    if (age >= this.#present && age < this.#present + ghosts) this.#returned += 1;
    this.#lastFilling[place] = this.#fillings;
    this.#blocks += 1;
  }

  /**
   * Goes on in another segment. Before it is used, `forget` has to forget all that is in it, unless it is fresh.
   * @param forget is told of the headers that were made there
   */
  advance(forget: (range: AddressRange, headers: readonly number[]) => void): void {
    if (this.#returned > this.#blocks * RETURNING) {
      this.#open = Math.min(this.#segments.length, this.#open + 1);
    }
    this.#blocks = this.#returned = 0;
    const fresh = this.#segments.slice(0, this.#open).find(({ filling }) => filling === 0);
    if (fresh !== undefined) this.#begin(fresh);
    else {
      const victim = this.#oldest();
      forget(victim, victim.headers);
      this.#present -= 1;
      this.#gone += 1;
      this.#begin(victim);
    }
  }

  #oldest(): Segment {
    const filled = this.#segments.filter(({ filling }) => filling !== 0);
    return filled.reduce((oldest, segment) => (segment.filling < oldest.filling ? segment : oldest));
  }

  /** Forgets all fillings; they must have been forgotten by everybody else. */
  clear(): void {
    for (const segment of this.#segments) segment.filling = 0;
    this.#present = this.#gone = this.#fillings = 0;
    this.#lastFilling.fill(0);
    this.#blocks = this.#returned = 0;
    this.#begin(this.#segments[0]!);
  }

  #begin(segment: Segment): void {
    segment.filling = ++this.#fillings;
    this.#present += 1;
    segment.headers = [];
    this.#current = segment;
    this.#free = segment.start;
  }
}
