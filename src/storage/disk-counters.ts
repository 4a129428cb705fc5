/** What a disk has done for its guest. */
import type { DiskStats } from '../contracts/ports.ts';

export type RequestKind = 'read' | 'write' | 'flush' | 'discard' | 'write-zeroes';

interface Sum {
  requests: number;
  bytes: number;
  ms: number;
}

const sum = (): Sum => ({ requests: 0, bytes: 0, ms: 0 });

export class DiskCounters {
  readonly #sums: Readonly<Record<RequestKind, Sum>> = {
    read: sum(),
    write: sum(),
    flush: sum(),
    discard: sum(),
    'write-zeroes': sum(),
  };
  errors = 0;

  /** A request has come. */
  begin(kind: RequestKind, bytes: number): void {
    const { [kind]: counted } = this.#sums;
    counted.requests++;
    counted.bytes += bytes;
  }

  /** It has ended, well or not. */
  end(kind: RequestKind, ms: number): void {
    this.#sums[kind].ms += ms;
  }

  snapshot(): Omit<DiskStats, 'device' | 'throttled' | 'throttledSeconds' | 'inFlight' | 'held'> {
    const { read, write, flush, discard, 'write-zeroes': zero } = this.#sums;
    return {
      reads: read.requests,
      readBytes: read.bytes,
      readSeconds: read.ms / 1000,
      writes: write.requests,
      writtenBytes: write.bytes,
      writeSeconds: write.ms / 1000,
      flushes: flush.requests,
      flushSeconds: flush.ms / 1000,
      discards: discard.requests,
      discardedBytes: discard.bytes,
      discardSeconds: discard.ms / 1000,
      zeroes: zero.requests,
      zeroedBytes: zero.bytes,
      zeroSeconds: zero.ms / 1000,
      errors: this.errors,
    };
  }
}
