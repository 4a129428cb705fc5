/**
 * The device's side of a split virtqueue (virtio 1.2, 2.7), with indirect descriptors and event
 * indices. The ring is the guest's and may hold anything: what breaks the rules is reported once through
 * `QueueOwner.fail`, after which the queue stands still until it is reset.
 */
import type { GuestMemory } from '../../machine/guest-memory.ts';
import { Chain, SEGMENTS_MAX } from './chain.ts';
import { NO_VECTOR } from './common-config.ts';

const DESCRIPTOR_BYTES = 16;
const DESCRIPTOR = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
const AVAIL_NO_INTERRUPT = 1;
/** Positions in the available ring, in units of 16 bits. */
const AVAIL = { FLAGS: 0, INDEX: 1, RING: 2 } as const;
const USED = { INDEX: 1, RING_BYTES: 4, ELEMENT_BYTES: 8 } as const;
export const QUEUE_SIZE_MAX = 1024;

/** What a queue tells the device that has it. */
export interface QueueOwner {
  /** The driver broke a rule of the ring. */
  fail(reason: string): void;
  /** Used buffers were published and the driver wants to hear of it. */
  interrupt(queue: Virtqueue): void;
}

/** The parts of a queue's behaviour that feature negotiation decides. */
export interface QueueFeatures {
  readonly indirect: boolean;
  readonly eventIndex: boolean;
}

const EMPTY16 = new Uint16Array(0);
const EMPTY32 = new Uint32Array(0);

export class Virtqueue {
  readonly index: number;
  readonly sizeMax: number;
  /** Set by the driver before it enables the queue. */
  size: number;
  descriptorArea = 0;
  driverArea = 0;
  deviceArea = 0;
  /** MSI-X vector, NO_VECTOR for none. */
  vector: number = NO_VECTOR;
  enabled = false;

  readonly #memory: GuestMemory;
  readonly #view: DataView;
  readonly #owner: QueueOwner;
  readonly #free: Chain[] = [];
  #features: QueueFeatures = { indirect: false, eventIndex: false };
  /** RAM offset of the descriptor table. */
  #table = 0;
  #avail: Uint16Array = EMPTY16;
  #used16: Uint16Array = EMPTY16;
  #used32: Uint32Array = EMPTY32;
  #nextAvail = 0;
  /** Used index including elements that are written but not yet published. */
  #nextUsed = 0;
  #published = 0;
  /** Used index at the last decision about an interrupt. */
  #signalled = 0;
  #epoch = 0;

  constructor(index: number, sizeMax: number, memory: GuestMemory, owner: QueueOwner) {
    this.index = index;
    this.sizeMax = sizeMax;
    this.size = sizeMax;
    this.#memory = memory;
    this.#view = new DataView(memory.shared.buffer, memory.base, memory.ramBytes);
    this.#owner = owner;
  }

  /** Starts the queue with the areas and the size that the driver has set. */
  enable(features: QueueFeatures): void {
    const { size, descriptorArea, driverArea, deviceArea } = this;
    const memory = this.#memory;
    const usedBytes = USED.RING_BYTES + USED.ELEMENT_BYTES * size + 4;
    this.#table = memory.ramOffset(descriptorArea, size * DESCRIPTOR_BYTES);
    const avail = memory.ramOffset(driverArea, (AVAIL.RING + size + 1) * 2);
    const used = memory.ramOffset(deviceArea, usedBytes);
    if (this.#table < 0 || avail < 0 || used < 0) {
      this.#owner.fail(`queue ${this.index}: ring outside RAM`);
      return;
    }
    if (this.#table % 16 !== 0 || avail % 2 !== 0 || used % 4 !== 0) {
      this.#owner.fail(`queue ${this.index}: ring not aligned`);
      return;
    }
    const { buffer } = memory.shared;
    this.#avail = new Uint16Array(buffer, memory.base + avail, AVAIL.RING + size + 1);
    this.#used16 = new Uint16Array(buffer, memory.base + used, usedBytes / 2);
    this.#used32 = new Uint32Array(buffer, memory.base + used, usedBytes >> 2);
    this.#features = features;
    this.enabled = true;
  }

  /** Forgets everything; chains still out are dead. */
  reset(): void {
    this.halt();
    this.size = this.sizeMax;
    this.descriptorArea = 0;
    this.driverArea = 0;
    this.deviceArea = 0;
    this.vector = NO_VECTOR;
    this.#nextAvail = 0;
    this.#nextUsed = 0;
    this.#published = 0;
    this.#signalled = 0;
  }

  /** Stops the queue where it is: nothing more is taken from or put into the ring. */
  halt(): void {
    this.enabled = false;
    this.#epoch++;
  }

  /** The next available chain; undefined if there is none or the queue is not enabled. */
  pop(): Chain | undefined {
    if (!this.enabled || !this.#hasAvailable()) return undefined;
    const position = this.#nextAvail & (this.size - 1);
    const head = this.#avail[AVAIL.RING + position];
    const chain = this.#free.pop() ?? new Chain(this.#memory);
    chain.begin(head, this.#epoch);
    const error = this.#collect(chain, head);
    if (error !== undefined) {
      this.#owner.fail(`queue ${this.index}: ${error}`);
      return undefined;
    }
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    return chain;
  }

  /** Gives the chain popped last back to the driver's side, as if it had not been popped. */
  unpop(chain: Chain): void {
    if (chain.epoch !== this.#epoch) return;
    this.#nextAvail = (this.#nextAvail - 1) & 0xffff;
    this.#free.push(chain);
  }

  /**
   * Writes a used element, which the driver sees after `publish`.
   * @param writtenBytes how many writable bytes, from the first on, were written
   */
  put(chain: Chain, writtenBytes: number): void {
    if (chain.epoch !== this.#epoch) return;
    const position = this.#nextUsed & (this.size - 1);
    this.#used32[1 + position * 2] = chain.head;
    this.#used32[2 + position * 2] = writtenBytes;
    const offset = USED.RING_BYTES + position * USED.ELEMENT_BYTES;
    this.#memory.written(this.deviceArea + offset, USED.ELEMENT_BYTES);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    this.#free.push(chain);
  }

  /** Makes all elements written so far visible at once, and interrupts if the driver wants that. */
  publish(): void {
    if (!this.enabled || this.#published === this.#nextUsed) return;
    this.#published = this.#nextUsed;
    Atomics.store(this.#used16, USED.INDEX, this.#nextUsed);
    this.#memory.written(this.deviceArea, USED.RING_BYTES);
    if (this.#wantsInterrupt()) this.#owner.interrupt(this);
  }

  /** Is there something to pop? If not, asks the driver to notify when there is. */
  #hasAvailable(): boolean {
    if (this.#available() > 0) return this.enabled;
    if (!this.enabled || !this.#features.eventIndex) return false;
    const position = USED.RING_BYTES / 2 + (USED.ELEMENT_BYTES / 2) * this.size;
    Atomics.store(this.#used16, position, this.#nextAvail);
    this.#memory.written(this.deviceArea + position * 2, 2);
    return this.#available() > 0;
  }

  /** Number of chains waiting; fails the queue if the driver claims more than the ring holds. */
  #available(): number {
    const waiting = (Atomics.load(this.#avail, AVAIL.INDEX) - this.#nextAvail) & 0xffff;
    if (waiting <= this.size) return waiting;
    this.#owner.fail(`queue ${this.index}: available index runs ahead`);
    return 0;
  }

  /** 2.7.7: with event indices the driver names the used index whose publication it waits for. */
  #wantsInterrupt(): boolean {
    const before = this.#signalled;
    this.#signalled = this.#published;
    if (!this.#features.eventIndex) return (this.#avail[AVAIL.FLAGS] & AVAIL_NO_INTERRUPT) === 0;
    const event = Atomics.load(this.#avail, AVAIL.RING + this.size);
    return ((this.#published - event - 1) & 0xffff) < ((this.#published - before) & 0xffff);
  }

  /** Follows the chain that starts at `head`; returns what is wrong with it. */
  #collect(chain: Chain, head: number): string | undefined {
    const view = this.#view;
    let table = this.#table;
    let entries = this.size;
    let visited = 0;
    let index = head;
    let inIndirect = false;
    for (;;) {
      if (index >= entries) return 'descriptor index out of range';
      if (++visited > entries || visited > SEGMENTS_MAX) return 'descriptor chain loops or is too long';
      const at = table + index * DESCRIPTOR_BYTES;
      const gpa = view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
      const length = view.getUint32(at + 8, true);
      const flags = view.getUint16(at + 12, true);
      if ((flags & DESCRIPTOR.INDIRECT) !== 0) {
        if (inIndirect || !this.#features.indirect) return 'indirect descriptor not allowed here';
        if ((flags & DESCRIPTOR.NEXT) !== 0) return 'indirect descriptor with a successor';
        if (length === 0 || length % DESCRIPTOR_BYTES !== 0) return 'indirect table of odd size';
        table = this.#memory.ramOffset(gpa, length);
        if (table < 0) return 'indirect table outside RAM';
        entries = length / DESCRIPTOR_BYTES;
        inIndirect = true;
        visited = 0;
        index = 0;
        continue;
      }
      const error = chain.append(gpa, length, (flags & DESCRIPTOR.WRITE) !== 0);
      if (error !== undefined) return error;
      if ((flags & DESCRIPTOR.NEXT) === 0) return undefined;
      index = view.getUint16(at + 14, true);
    }
  }
}
