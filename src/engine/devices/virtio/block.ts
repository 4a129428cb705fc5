/**
 * Block device (virtio 1.2, 5.2) over a BlockBackend. Requests run concurrently and complete in any
 * order; data moves between backend and guest memory without a copy.
 */
import type { BlockBackend, MaybePromise } from '../../backends.ts';
import {
  BLOCK_STATUS,
  parseRanges,
  RANGE_SECTORS_MAX,
  RANGES_MAX,
  SECTOR_BYTES,
  type SectorRange,
} from './block-ranges.ts';
import type { Chain } from './chain.ts';
import { defineVirtioDevice, type VirtioHost, type VirtioModel } from './device.ts';

const FEATURE = {
  SEG_MAX: 2,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;
const TYPE = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
const CONFIG = {
  CAPACITY: 0,
  SEG_MAX: 12,
  BLK_SIZE: 20,
  PHYSICAL_BLOCK_EXP: 24,
  MIN_IO_SIZE: 26,
  OPT_IO_SIZE: 28,
  WRITEBACK: 32,
  NUM_QUEUES: 34,
  MAX_DISCARD_SECTORS: 36,
  MAX_DISCARD_SEG: 40,
  DISCARD_SECTOR_ALIGNMENT: 44,
  MAX_WRITE_ZEROES_SECTORS: 48,
  MAX_WRITE_ZEROES_SEG: 52,
  WRITE_ZEROES_MAY_UNMAP: 56,
  BYTES: 60,
} as const;
/** Without tables of descriptors a request of 256 KiB, page by page, takes up to 66 of them. */
const QUEUE_SIZE = 512;
/** Pages of 1 MiB: as much as is moved at once. */
const SEG_MAX = 256;
const HEADER_BYTES = 16;
const STATUS_BYTES = 1;
const ID_BYTES = 20;
/** Most data that one request moves. */
const REQUEST_BYTES_MAX = 0x1000_0000;
/** Physical blocks of 4 KiB: 2^3 sectors. */
const PHYSICAL_BLOCK_EXP = 3;

export interface BlockOptions {
  readonly backend: BlockBackend;
  /** Shown by the guest as the disk's serial number; cut to 20 bytes of Latin-1. */
  readonly serial: string;
}

export interface BlockCounters {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
  flushes: number;
  discards: number;
  /** Requests that ended with VIRTIO_BLK_S_IOERR. */
  errors: number;
}

export interface BlockHandle {
  readonly counters: BlockCounters;
  /** What the backend last failed with. */
  lastError(): unknown;
  /** The backend has another size: the guest is told. */
  resized(): void;
}

/** A request that the backend has not finished. `status` is what the guest gets if it succeeds. */
type Outcome = MaybePromise<number>;

class BlockModel implements VirtioModel, BlockHandle {
  readonly features: readonly number[];
  readonly queueSizes = [QUEUE_SIZE];
  /** Most requests are done when the driver has told of them, so the ring is never full; allocating a table costs a guest 4 % of a request. */
  readonly indirect = false;
  readonly config = new Uint8Array(CONFIG.BYTES);
  readonly counters: BlockCounters = {
    reads: 0,
    readBytes: 0,
    writes: 0,
    writtenBytes: 0,
    flushes: 0,
    discards: 0,
    errors: 0,
  };
  readonly #host: VirtioHost;
  readonly #backend: BlockBackend;
  readonly #id: Uint8Array;
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #status = new Uint8Array(STATUS_BYTES);
  #inFlight = 0;
  /** Counts resets: a request of an earlier life must not touch the guest. */
  #life = 0;
  #idle: PromiseWithResolvers<void> | undefined;
  #publishing = false;
  #lastError: unknown;

  constructor(host: VirtioHost, { backend, serial }: BlockOptions) {
    this.#host = host;
    this.#backend = backend;
    this.#id = new Uint8Array(ID_BYTES);
    for (let i = 0; i < Math.min(serial.length, ID_BYTES); i++) this.#id[i] = serial.charCodeAt(i);
    const readWrite = [FEATURE.DISCARD, FEATURE.WRITE_ZEROES];
    const common = [FEATURE.SEG_MAX, FEATURE.BLK_SIZE, FEATURE.FLUSH, FEATURE.TOPOLOGY, FEATURE.CONFIG_WCE];
    this.features = [
      ...common,
      ...(backend.readOnly ? [FEATURE.RO] : backend.noDiscard === true ? [] : readWrite),
    ];
    this.#fillConfig();
  }

  lastError(): unknown {
    return this.#lastError;
  }

  resized(): void {
    this.#fillCapacity();
    this.#host.configChanged();
  }

  notify(): void {
    const queue = this.#host.queue(0);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) this.#start(chain);
    queue.publish();
  }

  /** Only the cache mode can be written (5.2.4). */
  writeConfig(offset: number, _size: number, value: number): void {
    if (offset === CONFIG.WRITEBACK) this.config[offset] = value & 1;
  }

  reset(): undefined | Promise<void> {
    this.#life++;
    this.config[CONFIG.WRITEBACK] = 1;
    if (this.#inFlight === 0) return undefined;
    this.#idle ??= Promise.withResolvers();
    return this.#idle.promise;
  }

  #fillConfig(): void {
    this.#fillCapacity();
    const view = new DataView(this.config.buffer);
    view.setUint32(CONFIG.SEG_MAX, SEG_MAX, true);
    view.setUint32(CONFIG.BLK_SIZE, SECTOR_BYTES, true);
    view.setUint8(CONFIG.PHYSICAL_BLOCK_EXP, PHYSICAL_BLOCK_EXP);
    view.setUint16(CONFIG.MIN_IO_SIZE, 1 << PHYSICAL_BLOCK_EXP, true);
    view.setUint32(CONFIG.OPT_IO_SIZE, 0, true);
    view.setUint8(CONFIG.WRITEBACK, 1);
    view.setUint16(CONFIG.NUM_QUEUES, 1, true);
    view.setUint32(CONFIG.MAX_DISCARD_SECTORS, RANGE_SECTORS_MAX, true);
    view.setUint32(CONFIG.MAX_DISCARD_SEG, RANGES_MAX, true);
    view.setUint32(CONFIG.DISCARD_SECTOR_ALIGNMENT, 1 << PHYSICAL_BLOCK_EXP, true);
    view.setUint32(CONFIG.MAX_WRITE_ZEROES_SECTORS, RANGE_SECTORS_MAX, true);
    view.setUint32(CONFIG.MAX_WRITE_ZEROES_SEG, RANGES_MAX, true);
    view.setUint8(CONFIG.WRITE_ZEROES_MAY_UNMAP, 1);
  }

  #fillCapacity(): void {
    const sectors = BigInt(Math.floor(this.#backend.sizeBytes / SECTOR_BYTES));
    new DataView(this.config.buffer).setBigUint64(CONFIG.CAPACITY, sectors, true);
  }

  #start(chain: Chain): void {
    if (chain.read(0, this.#header) < HEADER_BYTES || chain.writableBytes < STATUS_BYTES) {
      this.#host.fail('block request without header or status');
      return;
    }
    let outcome: Outcome;
    try {
      outcome = this.#run(chain);
    } catch (error) {
      outcome = this.#failed(error);
    }
    if (typeof outcome === 'number') this.#complete(chain, outcome);
    else this.#await(chain, outcome);
  }

  #await(chain: Chain, outcome: Promise<number>): void {
    const life = this.#life;
    this.#inFlight++;
    outcome
      .catch((error: unknown) => this.#failed(error))
      .then((status) => {
        this.#inFlight--;
        if (life === this.#life) {
          this.#complete(chain, status);
          this.#publishSoon();
        }
        if (this.#inFlight === 0) {
          this.#idle?.resolve();
          this.#idle = undefined;
        }
      });
  }

  /** One interrupt for all requests that end in the same turn of the event loop. */
  #publishSoon(): void {
    if (this.#publishing) return;
    this.#publishing = true;
    queueMicrotask(() => {
      this.#publishing = false;
      this.#host.queue(0).publish();
    });
  }

  #failed(error: unknown): number {
    this.#lastError = error;
    return BLOCK_STATUS.IOERR;
  }

  #complete(chain: Chain, status: number): void {
    if (status === BLOCK_STATUS.IOERR) this.counters.errors++;
    const dataBytes = chain.writableBytes - STATUS_BYTES;
    chain.written(dataBytes);
    this.#status[0] = status;
    chain.write(dataBytes, this.#status);
    this.#host.queue(0).put(chain, chain.writableBytes);
  }

  #run(chain: Chain): Outcome {
    const offset =
      (this.#headerView.getUint32(8, true) + this.#headerView.getUint32(12, true) * 0x1_0000_0000) *
      SECTOR_BYTES;
    const dataIn = chain.writableBytes - STATUS_BYTES;
    const dataOut = chain.readableBytes - HEADER_BYTES;
    switch (this.#headerView.getUint32(0, true)) {
      case TYPE.IN:
        return this.#read(chain, offset, dataIn);
      case TYPE.OUT:
        return this.#write(chain, offset, dataOut);
      case TYPE.FLUSH:
        return this.#flush();
      case TYPE.GET_ID:
        chain.write(0, this.#id.subarray(0, Math.min(ID_BYTES, dataIn)));
        return BLOCK_STATUS.OK;
      case TYPE.DISCARD:
        return this.#ranges(chain, dataOut, false);
      case TYPE.WRITE_ZEROES:
        return this.#ranges(chain, dataOut, true);
      default:
        return BLOCK_STATUS.UNSUPP;
    }
  }

  #inRange(offset: number, bytes: number): boolean {
    if (bytes % SECTOR_BYTES !== 0 || bytes > REQUEST_BYTES_MAX) return false;
    return offset + bytes <= this.#backend.sizeBytes;
  }

  #read(chain: Chain, offset: number, bytes: number): Outcome {
    if (!this.#inRange(offset, bytes)) return BLOCK_STATUS.IOERR;
    this.counters.reads++;
    this.counters.readBytes += bytes;
    return finish(this.#backend.read(offset, chain.writableViews(0, bytes)));
  }

  #write(chain: Chain, offset: number, bytes: number): Outcome {
    if (this.#backend.readOnly || !this.#inRange(offset, bytes)) return BLOCK_STATUS.IOERR;
    this.counters.writes++;
    this.counters.writtenBytes += bytes;
    return this.#durable(this.#backend.write(offset, chain.readableViews(HEADER_BYTES)));
  }

  #flush(): Outcome {
    this.counters.flushes++;
    return finish(this.#backend.flush());
  }

  #ranges(chain: Chain, bytes: number, zero: boolean): Outcome {
    if (this.#backend.readOnly) return BLOCK_STATUS.IOERR;
    const ranges = parseRanges(chain, HEADER_BYTES, bytes, this.#backend.sizeBytes, zero);
    if (typeof ranges === 'number') return ranges;
    this.counters.discards++;
    return this.#durable(applyRanges(this.#backend, ranges, zero));
  }

  /** In write-through mode, or if the driver cannot flush (5.2.6.2), a write is done when it is durable. */
  #durable(written: MaybePromise<void>): Outcome {
    const writeBack = this.#host.has(FEATURE.FLUSH) && this.config[CONFIG.WRITEBACK] === 1;
    if (writeBack) return finish(written);
    if (written instanceof Promise) return written.then(() => finish(this.#backend.flush()));
    return finish(this.#backend.flush());
  }
}

function finish(result: MaybePromise<void>): Outcome {
  return result instanceof Promise ? result.then(() => BLOCK_STATUS.OK) : BLOCK_STATUS.OK;
}

async function applyRanges(
  backend: BlockBackend,
  ranges: readonly SectorRange[],
  zero: boolean,
): Promise<void> {
  for (const { offset, bytes, mayUnmap } of ranges) {
    if (zero) await backend.writeZeroes(offset, bytes, mayUnmap);
    else await backend.discard(offset, bytes);
  }
}

export const block = defineVirtioDevice<BlockOptions, BlockHandle>({
  kind: 'virtio-blk',
  virtioId: 2,
  classCode: 0x010000,
  create(host, options) {
    const model = new BlockModel(host, options);
    return { model, handle: model };
  },
});
