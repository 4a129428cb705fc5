/**
 * Where a guest spends its instructions: each time the CPU is left, the instructions since the last time count for the
 * place where it is. That is a thousand times a second and more; loops are left at their heads.
 */

/** A place in the guest and its share of all instructions. */
export interface HotPlace {
  readonly rip: bigint;
  readonly instructions: number;
  readonly samples: number;
}

export class Profiler {
  readonly #places = new Map<bigint, { instructions: number; samples: number }>();

  sample(rip: bigint, instructions: number): void {
    const place = this.#places.get(rip);
    if (place === undefined) this.#places.set(rip, { instructions, samples: 1 });
    else {
      place.instructions += instructions;
      place.samples += 1;
    }
  }

  get places(): readonly HotPlace[] {
    return [...this.#places].map(([rip, place]) => ({ rip, ...place }));
  }
}
