/**
 * Memory balloon (virtio 1.2, 5.5): the host asks for pages, the guest gives such as it can do without, and gets them back.
 * Pages in the balloon cost the host nothing.
 */
import type { Chain } from './chain.ts';
import { defineVirtioDevice, type VirtioHost, type VirtioModel } from './device.ts';

export const BALLOON_PAGE_BYTES = 4096;
const CONFIG = { NUM_PAGES: 0, ACTUAL: 4, BYTES: 8 } as const;
const QUEUE = { INFLATE: 0, DEFLATE: 1 } as const;
const QUEUE_SIZE = 128;
/** Page numbers in one buffer: Linux sends up to 256. */
const PAGES_MAX = 1024;

export interface BalloonOptions {
  /** The guest has given a range of its memory away: what is in it is of no use to it. Both in bytes. */
  release(address: number, length: number): void;
}

export interface BalloonHandle {
  /** How many bytes the guest shall give away. */
  setTarget(bytes: number): void;
  /** How many it has given away. */
  readonly bytes: number;
}

class BalloonModel implements VirtioModel, BalloonHandle {
  readonly features: readonly number[] = [];
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config = new Uint8Array(CONFIG.BYTES);
  readonly #view = new DataView(this.config.buffer);
  readonly #host: VirtioHost;
  readonly #options: BalloonOptions;
  readonly #numbers = new Uint8Array(PAGES_MAX * 4);

  constructor(host: VirtioHost, options: BalloonOptions) {
    this.#host = host;
    this.#options = options;
  }

  setTarget(bytes: number): void {
    this.#view.setUint32(CONFIG.NUM_PAGES, Math.floor(bytes / BALLOON_PAGE_BYTES), true);
    this.#host.configChanged();
  }

  get bytes(): number {
    return this.#view.getUint32(CONFIG.ACTUAL, true) * BALLOON_PAGE_BYTES;
  }

  /** The driver says how many pages it has given away. */
  writeConfig(offset: number, size: number, value: number): void {
    if (offset === CONFIG.ACTUAL && size === 4) this.#view.setUint32(CONFIG.ACTUAL, value, true);
  }

  notify(queueIndex: number): void {
    const queue = this.#host.queue(queueIndex);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      // What comes back needs nothing: the host gives memory where it is touched.
      if (queueIndex === QUEUE.INFLATE) this.#inflate(chain);
      queue.put(chain, 0);
    }
    queue.publish();
  }

  /** The target stays: a guest that boots again is asked again. */
  reset(): undefined {
    this.#view.setUint32(CONFIG.ACTUAL, 0, true);
  }

  /** Neighbouring pages are released together. */
  #inflate(chain: Chain): void {
    const count = Math.floor(chain.read(0, this.#numbers) / 4);
    const numbers = new DataView(this.#numbers.buffer);
    const pages = Array.from({ length: count }, (_, index) => numbers.getUint32(index * 4, true)).sort(
      (a, b) => a - b,
    );
    let first = 0;
    for (let index = 1; index <= count; index++) {
      if (index < count && pages[index]! <= pages[index - 1]! + 1) continue;
      const length = pages[index - 1]! - pages[first]! + 1;
      this.#options.release(pages[first]! * BALLOON_PAGE_BYTES, length * BALLOON_PAGE_BYTES);
      first = index;
    }
  }
}

export const balloon = defineVirtioDevice<BalloonOptions, BalloonHandle>({
  kind: 'virtio-balloon',
  virtioId: 5,
  classCode: 0x00ff00,
  create(host, options) {
    const model = new BalloonModel(host, options);
    return { model, handle: model };
  },
});
