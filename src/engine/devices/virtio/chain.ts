/** A descriptor chain that the driver has made available: first what the device reads, then what it writes. */
import type { GuestMemory } from '../../machine/guest-memory.ts';

/** Longest chain taken, indirect descriptors included. */
export const SEGMENTS_MAX = 1024;

/**
 * Chains are recycled: a device may keep one until it gives it back to its queue, not longer.
 * The buffers are known to be RAM.
 */
export class Chain {
  /** Index of the first descriptor, which names the chain in the used ring. */
  head = 0;
  /** The queue's reset count when the chain was taken: one from before a reset must not be given back. */
  epoch = 0;
  readableBytes = 0;
  writableBytes = 0;
  readonly #memory: GuestMemory;
  readonly #addresses: number[] = [];
  readonly #lengths: number[] = [];
  #segments = 0;
  /** Number of segments that the device reads; they come first. */
  #readable = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Empties the chain for use with another head. */
  begin(head: number, epoch: number): void {
    this.head = head;
    this.epoch = epoch;
    this.readableBytes = 0;
    this.writableBytes = 0;
    this.#segments = 0;
    this.#readable = 0;
  }

  /** Appends a buffer; returns why it cannot be appended, undefined if it was. */
  append(gpa: number, length: number, writable: boolean): string | undefined {
    if (length === 0) return undefined;
    const last = this.#segments - 1;
    if (last >= 0 && this.#joins(last, gpa, length, writable)) {
      this.#lengths[last] += length;
    } else {
      if (this.#segments === SEGMENTS_MAX) return `chain of more than ${SEGMENTS_MAX} buffers`;
      if (this.#memory.ramOffset(gpa, length) < 0) return 'buffer outside RAM';
      if (!writable && this.writableBytes > 0) return 'readable buffer after a writable one';
      this.#addresses[this.#segments] = gpa;
      this.#lengths[this.#segments] = length;
      this.#segments++;
    }
    if (writable) {
      this.writableBytes += length;
    } else {
      this.readableBytes += length;
      this.#readable = this.#segments;
    }
    return undefined;
  }

  /** Whether a buffer goes on where segment `last` ends, in RAM and in direction: fewer views, and longer ones. */
  #joins(last: number, gpa: number, length: number, writable: boolean): boolean {
    const start = this.#addresses[last];
    const before = this.#lengths[last];
    if (start + before !== gpa || writable !== this.writableBytes > 0) return false;
    return this.#memory.ramOffset(start, before + length) >= 0;
  }

  /** Views of the readable bytes from `offset` on. */
  readableViews(offset: number): Uint8Array[] {
    return this.#views(0, this.#readable, offset, this.readableBytes - offset);
  }

  /** Views of `length` writable bytes from `offset` on; tell `written` when the data is there. */
  writableViews(offset: number, length: number): Uint8Array[] {
    return this.#views(this.#readable, this.#segments, offset, length);
  }

  /** Copies readable bytes from `offset` on; returns how many there were, at most `into.length`. */
  read(offset: number, into: Uint8Array): number {
    let copied = 0;
    for (let i = 0, start = 0; i < this.#readable && copied < into.length; start += this.#lengths[i++]) {
      const skip = offset + copied - start;
      if (skip >= this.#lengths[i]) continue;
      const bytes = Math.min(this.#lengths[i] - skip, into.length - copied);
      this.#memory.read(this.#addresses[i] + skip, into, copied, bytes);
      copied += bytes;
    }
    return copied;
  }

  /** Copies bytes into the writable part at `offset`; returns how many fitted. */
  write(offset: number, from: Uint8Array): number {
    let copied = 0;
    for (let i = this.#readable, start = 0; i < this.#segments && copied < from.length; ) {
      const skip = offset + copied - start;
      start += this.#lengths[i];
      if (skip < this.#lengths[i]) {
        const bytes = Math.min(this.#lengths[i] - skip, from.length - copied);
        this.#memory.write(this.#addresses[i] + skip, from, copied, bytes);
        copied += bytes;
      }
      i++;
    }
    return copied;
  }

  /** Tells the engine that the first `length` writable bytes were written through views. */
  written(length: number): void {
    for (let i = this.#readable, left = length; i < this.#segments && left > 0; i++) {
      this.#memory.written(this.#addresses[i], Math.min(this.#lengths[i], left));
      left -= this.#lengths[i];
    }
  }

  #views(first: number, end: number, offset: number, length: number): Uint8Array[] {
    const views: Uint8Array[] = [];
    for (let i = first, skip = offset, left = length; i < end && left > 0; i++) {
      const segment = this.#lengths[i];
      if (skip >= segment) {
        skip -= segment;
        continue;
      }
      const bytes = Math.min(segment - skip, left);
      views.push(this.#memory.writable(this.#addresses[i] + skip, bytes));
      left -= bytes;
      skip = 0;
    }
    return views;
  }
}
