/**
 * The guest's side, for tests: finds a virtio function through configuration ports, negotiates, sets up
 * rings in guest memory and queues requests, as a driver would, knowing the devices only by the specification.
 */
import type { FakeBoard } from './fake-board.ts';

/** PCI configuration space of a slot through ports 0xcf8 and 0xcfc. */
export class ConfigSpace {
  readonly #board: FakeBoard;
  readonly #slot: number;

  constructor(board: FakeBoard, slot: number) {
    this.#board = board;
    this.#slot = slot;
  }

  read(offset: number, size: number): number {
    this.#select(offset);
    return this.#board.ports.read(0xcfc + (offset & 3), size);
  }

  write(offset: number, size: number, value: number): void {
    this.#select(offset);
    this.#board.ports.write(0xcfc + (offset & 3), size, value);
  }

  /** Offsets of the capabilities, in the order of the list. */
  capabilities(): number[] {
    const found: number[] = [];
    for (let at = this.read(0x34, 1); at !== 0 && found.length < 48; at = this.read(at + 1, 1))
      found.push(at);
    return found;
  }

  #select(offset: number): void {
    this.#board.ports.write(0xcf8, 4, (0x8000_0000 | (this.#slot << 11) | (offset & 0xfc)) >>> 0);
  }
}

/** A buffer of a request; the test reads what the device wrote with `bytes`. */
export interface Buffer {
  readonly gpa: number;
  readonly length: number;
  readonly writable: boolean;
}

export interface DriverOptions {
  /** Bits to accept besides VERSION_1; everything offered if not given. */
  readonly features?: readonly number[];
  readonly msix?: boolean;
  readonly queueSize?: number;
}

/** The driver's side of one queue. */
export class DriverQueue {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly #driver: Driver;
  readonly #index: number;
  #nextDescriptor = 0;
  #seenUsed = 0;

  constructor(driver: Driver, index: number, size: number) {
    this.#driver = driver;
    this.#index = index;
    this.size = size;
    this.descriptors = driver.allocate(size * 16);
    this.available = driver.allocate(6 + size * 2);
    this.used = driver.allocate(6 + size * 8);
  }

  get memory() {
    return this.#driver.board.memory;
  }

  /** Writes a descriptor of the table at `table`. */
  describe(table: number, index: number, gpa: number, length: number, flags: number, next: number): void {
    const at = table + index * 16;
    this.memory.writeU32(at, gpa % 0x1_0000_0000);
    this.memory.writeU32(at + 4, Math.floor(gpa / 0x1_0000_0000));
    this.memory.writeU32(at + 8, length);
    this.memory.writeU16(at + 12, flags);
    this.memory.writeU16(at + 14, next);
  }

  /** Queues a chain without notifying; returns its head. */
  add(buffers: readonly Buffer[], indirect = false): number {
    const head = this.#nextDescriptor;
    const table = indirect ? this.#driver.allocate(buffers.length * 16) : this.descriptors;
    for (const [i, { gpa, length, writable }] of buffers.entries()) {
      const last = i === buffers.length - 1;
      const at = indirect ? i : (head + i) % this.size;
      this.describe(table, at, gpa, length, (writable ? 2 : 0) | (last ? 0 : 1), (at + 1) % this.size);
    }
    if (indirect) this.describe(this.descriptors, head, table, buffers.length * 16, 4, 0);
    this.#nextDescriptor = (head + (indirect ? 1 : buffers.length)) % this.size;
    this.expose(head);
    return head;
  }

  /** Makes a head available. */
  expose(head: number): void {
    const index = this.memory.readU16(this.available + 2);
    this.memory.writeU16(this.available + 4 + (index % this.size) * 2, head);
    this.memory.writeU16(this.available + 2, (index + 1) & 0xffff);
  }

  /** Writes the queue's notification register. */
  notify(): void {
    this.#driver.notify(this.#index);
  }

  /** Queues a chain and notifies. */
  submit(buffers: readonly Buffer[], indirect = false): number {
    const head = this.add(buffers, indirect);
    this.notify();
    return head;
  }

  /** Used elements that have appeared since the last call. */
  takeUsed(): { id: number; length: number }[] {
    const elements: { id: number; length: number }[] = [];
    for (const end = this.memory.readU16(this.used + 2); this.#seenUsed !== end; ) {
      const at = this.used + 4 + (this.#seenUsed % this.size) * 8;
      elements.push({ id: this.memory.readU32(at), length: this.memory.readU32(at + 4) });
      this.#seenUsed = (this.#seenUsed + 1) & 0xffff;
    }
    return elements;
  }

  /** `used_event`: the used index whose publication should interrupt. */
  setUsedEvent(index: number): void {
    this.memory.writeU16(this.available + 4 + this.size * 2, index);
  }

  /** `avail_event`: the available index at which the device wants a notification. */
  availEvent(): number {
    return this.memory.readU16(this.used + 4 + this.size * 8);
  }
}

const MSI_ADDRESS = 0xfee0_0000;

export class Driver {
  readonly board: FakeBoard;
  readonly config: ConfigSpace;
  readonly queues: DriverQueue[] = [];
  /** Physical addresses of the structures, by `cfg_type`. */
  readonly structures = new Map<number, number>();
  #nextPage: number;
  #notifyMultiplier = 0;

  /** @param base RAM from here on is the driver's to use */
  constructor(board: FakeBoard, slot: number, base = 0x10_0000) {
    this.board = board;
    this.config = new ConfigSpace(board, slot);
    this.#nextPage = base;
    for (const at of this.config.capabilities()) {
      if (this.config.read(at, 1) !== 0x09) continue;
      const type = this.config.read(at + 3, 1);
      const bar = this.config.read(0x10 + this.config.read(at + 4, 1) * 4, 4) & ~15;
      this.structures.set(type, (bar >>> 0) + this.config.read(at + 8, 4));
      if (type === 2) this.#notifyMultiplier = this.config.read(at + 16, 4);
    }
  }

  /** Aligned RAM that nothing else uses. */
  allocate(bytes: number): number {
    const at = this.#nextPage;
    this.#nextPage += Math.ceil(bytes / 4096) * 4096;
    return at;
  }

  /** A buffer that the device reads. */
  readable(bytes: Uint8Array): Buffer {
    const gpa = this.allocate(bytes.length);
    this.board.memory.write(gpa, bytes);
    return { gpa, length: bytes.length, writable: false };
  }

  /** A buffer that the device writes. */
  writable(length: number): Buffer {
    return { gpa: this.allocate(length), length, writable: true };
  }

  /** Content of a buffer. */
  bytes({ gpa, length }: Buffer): Uint8Array {
    return this.board.memory.readable(gpa, length).slice();
  }

  common(offset: number, size: number): number {
    return this.board.mmio.read(this.structures.get(1)! + offset, size);
  }

  setCommon(offset: number, size: number, value: number): void {
    this.board.mmio.write(this.structures.get(1)! + offset, size, value);
  }

  get status(): number {
    return this.common(0x14, 1);
  }

  set status(value: number) {
    this.setCommon(0x14, 1, value);
  }

  deviceConfig(offset: number, size: number): number {
    return this.board.mmio.read(this.structures.get(4)! + offset, size);
  }

  isr(): number {
    return this.board.mmio.read(this.structures.get(3)!, 1);
  }

  notify(queue: number): void {
    this.board.mmio.write(this.structures.get(2)! + queue * this.#notifyMultiplier, 2, queue);
  }

  offered(): number[] {
    const bits: number[] = [];
    for (let word = 0; word < 2; word++) {
      this.setCommon(0, 4, word);
      const features = this.common(4, 4);
      for (let bit = 0; bit < 32; bit++) if ((features & (1 << bit)) !== 0) bits.push(word * 32 + bit);
    }
    return bits;
  }

  accept(bits: readonly number[]): void {
    for (let word = 0; word < 2; word++) {
      const features = bits.filter((b) => b >> 5 === word).reduce((sum, b) => sum + 2 ** (b & 31), 0);
      this.setCommon(8, 4, word);
      this.setCommon(12, 4, features);
    }
  }

  /** Up to FEATURES_OK; returns whether the device agreed. */
  negotiate(features?: readonly number[]): boolean {
    this.config.write(0x04, 2, 0x6);
    this.status = 0;
    this.status = 1;
    this.status = 3;
    this.accept(features === undefined ? this.offered() : [...features, 32]);
    this.status = 11;
    return (this.status & 8) !== 0;
  }

  /** Sets up a queue and, with MSI-X, its vector. */
  setupQueue(index: number, size?: number, vector = 0xffff): DriverQueue {
    this.setCommon(0x16, 2, index);
    if (size !== undefined) this.setCommon(0x18, 2, size);
    const queue = new DriverQueue(this, index, this.common(0x18, 2));
    for (const [offset, area] of [
      [0x20, queue.descriptors],
      [0x28, queue.available],
      [0x30, queue.used],
    ]) {
      this.setCommon(offset, 4, area);
      this.setCommon(offset + 4, 4, 0);
    }
    this.setCommon(0x1a, 2, vector);
    this.setCommon(0x1c, 2, 1);
    this.queues[index] = queue;
    return queue;
  }

  /** Capability offset of MSI-X. */
  msixCapability(): number {
    return this.config.capabilities().find((at) => this.config.read(at, 1) === 0x11)!;
  }

  /** Physical address of the MSI-X table. */
  msixTable(): number {
    const bar = this.config.read(this.msixCapability() + 4, 4) & 7;
    return (this.config.read(0x10 + bar * 4, 4) & ~15) >>> 0;
  }

  /** Programs a vector to send `data`. */
  setVector(vector: number, data: number, masked = false): void {
    const entry = this.msixTable() + vector * 16;
    for (const [i, word] of [MSI_ADDRESS, 0, data, masked ? 1 : 0].entries()) {
      this.board.mmio.write(entry + i * 4, 4, word);
    }
  }

  /** The whole initialization; vector 0 is for configuration changes, n + 1 for queue n, data 0x40 + vector. */
  start({ features, msix = true, queueSize }: DriverOptions = {}): this {
    if (!this.negotiate(features)) throw new Error('the device did not accept the features');
    const count = this.common(0x12, 2);
    if (msix) {
      const control = this.msixCapability() + 2;
      this.config.write(control, 2, 0x8000);
      for (let vector = 0; vector <= count; vector++) this.setVector(vector, 0x40 + vector);
      this.setCommon(0x10, 2, 0);
    }
    for (let i = 0; i < count; i++) this.setupQueue(i, queueSize, msix ? i + 1 : 0xffff);
    this.status = 15;
    return this;
  }

  /** Data of the messages received since the last call. */
  takeMessages(): number[] {
    return this.board.messages.splice(0).map(({ data }) => data);
  }
}
