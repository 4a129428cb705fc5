/**
 * The common configuration structure as a register file (virtio 1.2, 4.1.4.3): device status, feature
 * negotiation and the set-up of queues, with the rules of 3.1 on what is accepted when.
 */
import { COMMON, FEATURE, NO_VECTOR, STATUS } from './common-config.ts';
import type { Virtqueue } from './queue.ts';

/** Status bits that the driver sets. */
const DRIVER_STATUS =
  STATUS.ACKNOWLEDGE | STATUS.DRIVER | STATUS.DRIVER_OK | STATUS.FEATURES_OK | STATUS.FAILED;

/** What the register file asks of the transport. */
export interface NegotiationOwner {
  /** The driver set DRIVER_OK. */
  driverOk(): void;
  /** The driver wrote 0 to the status register. Resolves or returns when the reset is complete. */
  deviceReset(): undefined | Promise<void>;
}

export class Negotiation {
  readonly queues: readonly Virtqueue[];
  readonly #vectors: number;
  readonly #owner: NegotiationOwner;
  /** Feature words: bits 0…31 and 32…63. */
  readonly #offered = new Uint32Array(2);
  readonly #accepted = new Uint32Array(2);
  status = 0;
  generation = 0;
  configVector: number = NO_VECTOR;
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;
  #resetting: Promise<void> | undefined;

  constructor(
    features: readonly number[],
    queues: readonly Virtqueue[],
    vectors: number,
    owner: NegotiationOwner,
  ) {
    for (const bit of [FEATURE.EVENT_IDX, FEATURE.VERSION_1, ...features]) {
      this.#offered[bit >> 5] |= 1 << (bit & 31);
    }
    this.queues = queues;
    this.#vectors = vectors;
    this.#owner = owner;
  }

  /** Was the feature negotiated? */
  has(feature: number): boolean {
    if ((this.status & STATUS.FEATURES_OK) === 0) return false;
    return (this.#accepted[feature >> 5] & (1 << (feature & 31))) !== 0;
  }

  /** Stops all queues: the driver has to reset the device. */
  needsReset(): void {
    this.status |= STATUS.NEEDS_RESET;
    for (const queue of this.queues) queue.halt();
  }

  /** Resets the device; the driver sees the old status until requests under way have ended. */
  reset(): void {
    for (const queue of this.queues) queue.reset();
    const pending = this.#owner.deviceReset();
    const done = pending?.then(() => {
      if (this.#resetting === done) this.#clear();
    });
    this.#resetting = done;
    if (done === undefined) this.#clear();
  }

  /** Resolves when no reset is under way. */
  async settled(): Promise<void> {
    while (this.#resetting !== undefined) await this.#resetting;
  }

  #clear(): void {
    this.#resetting = undefined;
    this.status = 0;
    this.configVector = NO_VECTOR;
    this.#accepted.fill(0);
    this.#deviceFeatureSelect = 0;
    this.#driverFeatureSelect = 0;
    this.#queueSelect = 0;
  }

  read(offset: number): number {
    switch (offset) {
      case COMMON.DEVICE_FEATURE_SELECT:
        return this.#deviceFeatureSelect;
      case COMMON.DEVICE_FEATURE:
        return this.#offered[this.#deviceFeatureSelect] ?? 0;
      case COMMON.DRIVER_FEATURE_SELECT:
        return this.#driverFeatureSelect;
      case COMMON.DRIVER_FEATURE:
        return this.#accepted[this.#driverFeatureSelect] ?? 0;
      case COMMON.CONFIG_MSIX_VECTOR:
        return this.configVector;
      case COMMON.NUM_QUEUES:
        return this.queues.length;
      case COMMON.DEVICE_STATUS:
        return this.status;
      case COMMON.CONFIG_GENERATION:
        return this.generation & 0xff;
      case COMMON.QUEUE_SELECT:
        return this.#queueSelect;
      default:
        return this.#readQueue(offset);
    }
  }

  write(offset: number, value: number): void {
    if (offset === COMMON.DEVICE_STATUS) {
      this.#writeStatus(value & 0xff);
      return;
    }
    if (this.#resetting !== undefined) return;
    switch (offset) {
      case COMMON.DEVICE_FEATURE_SELECT:
        this.#deviceFeatureSelect = value;
        break;
      case COMMON.DRIVER_FEATURE_SELECT:
        this.#driverFeatureSelect = value;
        break;
      case COMMON.DRIVER_FEATURE:
        if ((this.status & STATUS.FEATURES_OK) === 0 && this.#driverFeatureSelect < 2) {
          this.#accepted[this.#driverFeatureSelect] = value;
        }
        break;
      case COMMON.CONFIG_MSIX_VECTOR:
        this.configVector = this.#vector(value);
        break;
      case COMMON.QUEUE_SELECT:
        this.#queueSelect = value & 0xffff;
        break;
      default:
        this.#writeQueue(offset, value);
    }
  }

  #writeStatus(value: number): void {
    if (value === 0) {
      if (this.#resetting === undefined) this.reset();
      return;
    }
    if (this.#resetting !== undefined) return;
    const before = this.status;
    let next = (value & DRIVER_STATUS) | (before & STATUS.NEEDS_RESET);
    if ((next & ~before & STATUS.FEATURES_OK) !== 0 && !this.#featuresAcceptable()) {
      next &= ~STATUS.FEATURES_OK;
    }
    if ((next & STATUS.FEATURES_OK) === 0) next &= ~STATUS.DRIVER_OK;
    this.status = next;
    if ((next & ~before & STATUS.DRIVER_OK) !== 0) this.#owner.driverOk();
  }

  /** 2.2.2: a subset of what was offered; VERSION_1 because the device has no legacy interface (6.2). */
  #featuresAcceptable(): boolean {
    const [low, high] = this.#accepted;
    if ((low & ~this.#offered[0]) !== 0 || (high & ~this.#offered[1]) !== 0) return false;
    return (high & (1 << (FEATURE.VERSION_1 & 31))) !== 0;
  }

  /** A vector that the table does not have reads back as NO_VECTOR, which tells the driver (4.1.5.1.2). */
  #vector(value: number): number {
    const vector = value & 0xffff;
    return vector < this.#vectors ? vector : NO_VECTOR;
  }

  #readQueue(offset: number): number {
    const queue = this.queues[this.#queueSelect];
    if (queue === undefined) return offset === COMMON.QUEUE_MSIX_VECTOR ? NO_VECTOR : 0;
    switch (offset) {
      case COMMON.QUEUE_SIZE:
        return queue.size;
      case COMMON.QUEUE_MSIX_VECTOR:
        return queue.vector;
      case COMMON.QUEUE_ENABLE:
        return queue.enabled ? 1 : 0;
      case COMMON.QUEUE_NOTIFY_OFF:
        return queue.index;
      case COMMON.QUEUE_DESC:
        return low(queue.descriptorArea);
      case COMMON.QUEUE_DESC + 4:
        return high(queue.descriptorArea);
      case COMMON.QUEUE_DRIVER:
        return low(queue.driverArea);
      case COMMON.QUEUE_DRIVER + 4:
        return high(queue.driverArea);
      case COMMON.QUEUE_DEVICE:
        return low(queue.deviceArea);
      case COMMON.QUEUE_DEVICE + 4:
        return high(queue.deviceArea);
      default:
        return 0;
    }
  }

  #writeQueue(offset: number, value: number): void {
    const queue = this.queues[this.#queueSelect];
    if (queue === undefined) return;
    if (offset === COMMON.QUEUE_MSIX_VECTOR) {
      queue.vector = this.#vector(value);
      return;
    }
    // 4.1.4.3.2: an enabled queue's set-up does not change any more.
    if (queue.enabled || (this.status & STATUS.NEEDS_RESET) !== 0) return;
    switch (offset) {
      case COMMON.QUEUE_SIZE:
        if (value > 0 && value <= queue.sizeMax && (value & (value - 1)) === 0) queue.size = value;
        break;
      case COMMON.QUEUE_ENABLE:
        if (value === 1 && (this.status & STATUS.FEATURES_OK) !== 0) this.#enable(queue);
        break;
      case COMMON.QUEUE_DESC:
        queue.descriptorArea = withLow(queue.descriptorArea, value);
        break;
      case COMMON.QUEUE_DESC + 4:
        queue.descriptorArea = withHigh(queue.descriptorArea, value);
        break;
      case COMMON.QUEUE_DRIVER:
        queue.driverArea = withLow(queue.driverArea, value);
        break;
      case COMMON.QUEUE_DRIVER + 4:
        queue.driverArea = withHigh(queue.driverArea, value);
        break;
      case COMMON.QUEUE_DEVICE:
        queue.deviceArea = withLow(queue.deviceArea, value);
        break;
      case COMMON.QUEUE_DEVICE + 4:
        queue.deviceArea = withHigh(queue.deviceArea, value);
        break;
    }
  }

  #enable(queue: Virtqueue): void {
    queue.enable({
      indirect: this.has(FEATURE.INDIRECT_DESC),
      eventIndex: this.has(FEATURE.EVENT_IDX),
    });
  }
}

const HIGH = 0x1_0000_0000;
const low = (value: number): number => value % HIGH;
const high = (value: number): number => Math.floor(value / HIGH);
const withLow = (value: number, word: number): number => high(value) * HIGH + word;
const withHigh = (value: number, word: number): number => word * HIGH + low(value);
