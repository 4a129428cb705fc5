/**
 * 9P transport device (virtio 1.2, 5.11 and device type 9): each chain is one request of the guest's v9fs, and room
 * for its reply. What requests mean the FileShare knows.
 */
import type { FileShare } from '../../backends.ts';
import type { Chain } from './chain.ts';
import { defineVirtioDevice, type VirtioHost, type VirtioModel } from './device.ts';

const FEATURE = { MOUNT_TAG: 0 } as const;
const REQUESTS = 0;
/** As many descriptors as Linux's driver lets one message have. */
const QUEUE_SIZE = 128;
const TAG_LENGTH_BYTES = 2;
/** The least room that a reply needs: one that says that something went wrong. */
const ERROR_REPLY_BYTES = 11;

export interface P9Options {
  readonly share: FileShare;
  /** What the guest mounts it by: ASCII. */
  readonly tag: string;
}

export interface P9Counters {
  requests: number;
  /** From the guest. */
  rxBytes: number;
  /** To the guest. */
  txBytes: number;
}

class P9Model implements VirtioModel {
  readonly features = [FEATURE.MOUNT_TAG];
  readonly queueSizes = [QUEUE_SIZE];
  readonly config: Uint8Array;
  readonly counters: P9Counters = { requests: 0, rxBytes: 0, txBytes: 0 };
  readonly #host: VirtioHost;
  readonly #share: FileShare;
  readonly #request: Uint8Array;
  /** Counts resets: a reply of an earlier life must not touch the guest. It is not waited for: a folder may hang. */
  #life = 0;

  constructor(host: VirtioHost, { share, tag }: P9Options) {
    this.#host = host;
    this.#share = share;
    this.#request = new Uint8Array(share.messageBytesMax);
    const name = new TextEncoder().encode(tag);
    this.config = new Uint8Array(TAG_LENGTH_BYTES + name.length);
    new DataView(this.config.buffer).setUint16(0, name.length, true);
    this.config.set(name, TAG_LENGTH_BYTES);
  }

  notify(): void {
    const queue = this.#host.queue(REQUESTS);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) this.#serve(chain);
    queue.publish();
  }

  reset(): undefined {
    this.#life++;
    this.#share.reset();
  }

  #serve(chain: Chain): void {
    const { readableBytes, writableBytes } = chain;
    if (readableBytes > this.#request.length || writableBytes < ERROR_REPLY_BYTES) {
      this.#host.fail('9P request that is too long, or without room for a reply');
      return;
    }
    const request = this.#request.subarray(0, readableBytes);
    chain.read(0, request);
    this.counters.requests++;
    this.counters.rxBytes += readableBytes;
    const life = this.#life;
    let isLate = false;
    this.#share.serve(request, writableBytes, (reply) => {
      if (life === this.#life) this.#reply(chain, reply, isLate);
    });
    isLate = true;
  }

  #reply(chain: Chain, reply: Uint8Array, isLate: boolean): void {
    chain.write(0, reply);
    this.counters.txBytes += reply.length;
    const queue = this.#host.queue(REQUESTS);
    queue.put(chain, reply.length);
    if (isLate) queue.publish();
  }
}

export const p9 = defineVirtioDevice<P9Options, { readonly counters: P9Counters }>({
  kind: 'virtio-9p',
  virtioId: 9,
  classCode: 0x018000,
  create(host, options) {
    const model = new P9Model(host, options);
    return { model, handle: { counters: model.counters } };
  },
});
