/** What the interrupt controllers and clocks read of a CPU's state in linear memory. */
import type { CpuRegisters } from '../devices/apic/lapic.ts';
import { STATE } from '../layout.ts';

export class StateRegisters implements CpuRegisters {
  readonly #state: DataView;

  /** @param state the CPU's state, from `layout.CPU` on */
  constructor(state: DataView) {
    this.#state = state;
  }

  get cr8(): number {
    return this.#state.getUint8(STATE.CR8) & 15;
  }
  set cr8(value: number) {
    this.#state.setUint8(STATE.CR8, value & 15);
  }

  get tscOffset(): bigint {
    return this.#state.getBigInt64(STATE.TSC_OFFSET, true);
  }
}
