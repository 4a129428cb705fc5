/** Entropy device (virtio 1.2, 5.4). */
import { defineVirtioDevice } from './device.ts';

/** Most that one request gets: the driver asks again if it needs more. */
export const RNG_REPLY_BYTES_MAX = 1024;
const REQUESTS = 0;

export interface RngCounters {
  requests: number;
  bytes: number;
}

export const rng = defineVirtioDevice<undefined, { readonly counters: RngCounters }>({
  kind: 'virtio-rng',
  virtioId: 4,
  classCode: 0x00ff00,
  create(host) {
    const counters: RngCounters = { requests: 0, bytes: 0 };
    // Not guest memory itself: the host's random source does not write to shared memory.
    const scratch = new Uint8Array(RNG_REPLY_BYTES_MAX);
    const model = {
      features: [],
      queueSizes: [8],
      config: new Uint8Array(0),
      notify() {
        const queue = host.queue(REQUESTS);
        for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
          const reply = scratch.subarray(0, Math.min(chain.writableBytes, RNG_REPLY_BYTES_MAX));
          host.board.entropy(reply);
          chain.write(0, reply);
          counters.requests++;
          counters.bytes += reply.length;
          queue.put(chain, reply.length);
        }
        queue.publish();
      },
      reset: () => undefined,
    };
    return { model, handle: { counters } };
  },
});
