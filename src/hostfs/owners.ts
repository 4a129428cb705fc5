/** Whose files are whose: user and group ids of the guest and of the host. */
import type { IdRange } from '../contracts/machine.ts';

/** What an id without a counterpart is shown as: nobody, nogroup. */
export const OVERFLOW_ID = 65_534;

export class IdMap {
  readonly #ranges: readonly IdRange[];

  /** As /proc/PID/uid_map: ids outside of all ranges have no counterpart. */
  constructor(ranges: readonly IdRange[]) {
    this.#ranges = ranges;
  }

  toGuest(id: number): number {
    for (const { guest, host, count } of this.#ranges) {
      if (id >= host && id < host + count) return guest + (id - host);
    }
    return OVERFLOW_ID;
  }

  /** Undefined: the host has nobody of this id. */
  toHost(id: number): number | undefined {
    for (const { guest, host, count } of this.#ranges) {
      if (id >= guest && id < guest + count) return host + (id - guest);
    }
    return undefined;
  }
}
