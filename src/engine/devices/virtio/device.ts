/** What a virtio device type is, apart from the transport: one row per type in `index.ts`. */
import type { Board } from '../../machine/bus.ts';
import type { Virtqueue } from './queue.ts';

/** What the transport offers a device. */
export interface VirtioHost {
  readonly board: Board;
  /** Queue by number. */
  queue(index: number): Virtqueue;
  /** Was the feature bit negotiated? */
  has(feature: number): boolean;
  /** The driver is up (DRIVER_OK) and the device works: rings may be used. */
  readonly live: boolean;
  /** Tells the driver that the device's configuration space has changed. */
  configChanged(): void;
  /** The driver broke a rule: the device stops and asks to be reset. */
  fail(reason: string): void;
}

/** The state of one device. Nothing here may throw because of what the guest does. */
export interface VirtioModel {
  /** Feature bits offered besides those of the transport. */
  readonly features: readonly number[];
  /** Largest size of each queue, powers of two. */
  readonly queueSizes: readonly number[];
  /** Chains may be in tables of their own (virtio 1.2, 2.7.5.3). Default: yes. */
  readonly indirect?: boolean;
  /** Device-specific configuration space as the guest reads it, little-endian. */
  readonly config: Uint8Array;
  /** The driver has set up everything. */
  activate?(): void;
  /** The driver has made buffers available in a queue. */
  notify(queueIndex: number): void;
  /** A write to the configuration space; without this it is read-only. */
  writeConfig?(offset: number, size: number, value: number): void;
  /**
   * Back to the state after power-on. A promise says that requests still use guest memory: the driver
   * sees the reset finished when it settles, and nothing is written to guest memory after that.
   */
  reset(): undefined | Promise<void>;
  close?(): void;
}

/** A device type. `Options` configures an instance, `Handle` is what the machine keeps of it. */
export interface VirtioDefinition<Options, Handle> {
  /** virtio-blk, … */
  readonly kind: string;
  /** Device type number, virtio 1.2 chapter 5. */
  readonly virtioId: number;
  /** PCI base class, subclass and programming interface. */
  readonly classCode: number;
  create(host: VirtioHost, options: Options): { readonly model: VirtioModel; readonly handle: Handle };
}

export function defineVirtioDevice<Options, Handle>(
  definition: VirtioDefinition<Options, Handle>,
): VirtioDefinition<Options, Handle> {
  return definition;
}

/** Events of the transport that every device counts. */
export interface VirtioCounters {
  /** Times the driver broke the protocol, after which the device needs a reset. */
  faults: number;
  /** Interrupts sent, by message or by pin. */
  interrupts: number;
}
