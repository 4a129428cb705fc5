/** Whether there is memory for another guest: the daemon and the other guests must survive it. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import { MEMORY_MIN_BYTES } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';

const MIB = 1024 * 1024;
/** Of a machine beside its guest's memory: its thread's heap and translated code. */
export const OVERHEAD_BYTES = 96 * MIB;
/** Left to the host and the daemon. */
const RESERVE_BYTES = 256 * MIB;
/** The engine's 32-bit linear memory, less what it needs beside the guest's RAM. */
export const MEMORY_MAX_BYTES = 3840 * MIB;

export interface HostMemory {
  /** What the operating system could hand out now. */
  availableBytes(): number;
  totalBytes(): number;
}

/** From /proc/meminfo, bounded by the control group that the daemon runs in. */
export const hostMemory: HostMemory = {
  availableBytes() {
    const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readMeminfo())?.[1];
    const free = kib === undefined ? os.freemem() : Number(kib) * 1024;
    return Math.min(free, process.availableMemory());
  },
  totalBytes() {
    const constrained = process.constrainedMemory();
    // 0, or a number beyond all memory, when there is no limit.
    return constrained > 0 ? Math.min(os.totalmem(), constrained) : os.totalmem();
  },
};

function readMeminfo(): string {
  try {
    return fs.readFileSync('/proc/meminfo', 'utf8');
  } catch {
    // Not Linux: os.freemem() is used.
    return '';
  }
}

export class Admission {
  readonly #host: HostMemory;
  readonly #limitBytes: number;
  readonly #committed = new Map<string, number>();

  /** `limitBytes`: all guests with their overhead; what is available now, less a reserve, when missing. */
  constructor(host: HostMemory = hostMemory, limitBytes?: number) {
    this.#host = host;
    this.#limitBytes = limitBytes ?? Math.max(host.availableBytes() - RESERVE_BYTES, 0);
  }

  get limitBytes(): number {
    return this.#limitBytes;
  }
  get committedBytes(): number {
    let sum = 0;
    for (const bytes of this.#committed.values()) sum += bytes;
    return sum;
  }
  /** Host memory that is free now. */
  get hostAvailableBytes(): number {
    return this.#host.availableBytes();
  }
  /** The largest guest that would be let in now. */
  get availableBytes(): number {
    const free = Math.min(
      this.#limitBytes - this.committedBytes,
      this.#host.availableBytes() - RESERVE_BYTES,
    );
    return Math.max(free - OVERHEAD_BYTES, 0);
  }

  /** AppErrors: `memory_too_small`, `memory_too_large`: it could never run here. */
  checkBounds(memoryBytes: number): void {
    const field = 'memory_bytes';
    if (memoryBytes < MEMORY_MIN_BYTES) {
      throw new AppError('memory_too_small', `${mib(memoryBytes)} is too little for a guest to boot`, {
        field,
        remedy: `give at least ${mib(MEMORY_MIN_BYTES)}`,
      });
    }
    const most = Math.min(
      MEMORY_MAX_BYTES,
      Math.max(this.#host.totalBytes() - RESERVE_BYTES - OVERHEAD_BYTES, 0),
    );
    if (memoryBytes > most) {
      const host = mib(this.#host.totalBytes());
      throw new AppError(
        'memory_too_large',
        `${mib(memoryBytes)} is more than a guest can have on this host of ${host}`,
        {
          field,
          remedy: `give at most ${mib(most)}`,
        },
      );
    }
  }

  /** Sets the memory aside until `release`. `memory_exhausted`, with the figures. */
  reserve(vmId: string, memoryBytes: number): void {
    this.checkBounds(memoryBytes);
    const wanted = memoryBytes + OVERHEAD_BYTES;
    const left = this.#limitBytes - this.committedBytes;
    const free = this.#host.availableBytes() - RESERVE_BYTES;
    if (wanted > left || wanted > free) {
      const detail =
        `the guest needs ${mib(wanted)} (${mib(OVERHEAD_BYTES)} of it for its machine); running guests have ` +
        `${mib(this.committedBytes)} of ${mib(this.#limitBytes)}, and the host has ${mib(Math.max(free, 0))} to give`;
      throw new AppError('memory_exhausted', detail, {
        field: 'memory_bytes',
        remedy: 'halt another VM, give this one less memory, or raise the limit',
      });
    }
    this.#committed.set(vmId, wanted);
  }

  release(vmId: string): void {
    this.#committed.delete(vmId);
  }
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}
