/** QEMU's pvpanic (docs/specs/pvpanic): guests with its driver tell here that they have panicked. ACPI id QEMU0001. */
import type { Board, Device } from '../../machine/bus.ts';

export const PVPANIC_PORT = 0x505;

/** Bits of the port: reading gives those that the device knows. */
const PANICKED = 1 << 0;
const CRASH_LOADED = 1 << 1;

/** Told once until the next reset: a guest that writes on and on does not flood its host. */
export class PvPanic implements Device {
  readonly name = 'pvpanic';
  #told = false;

  constructor(board: Board) {
    board.ports.map(PVPANIC_PORT, 1, {
      name: this.name,
      read: () => PANICKED | CRASH_LOADED,
      write: (_offset, _size, value) => {
        if ((value & (PANICKED | CRASH_LOADED)) === 0 || this.#told) return;
        this.#told = true;
        board.raise({ kind: 'panicked' });
      },
    });
  }

  reset(): void {
    this.#told = false;
  }
}
