/** A board for device tests: RAM, I/O spaces, and a record of the interrupts that devices raise. */
import { memoryMap } from '../../../layout.ts';
import type { Board, Clock, IoRegion, IoSpace, MachineEvent } from '../../../machine/bus.ts';
import { GuestMemory } from '../../../machine/guest-memory.ts';

const RAM_BYTES = 0x40_0000;

class FakeSpace implements IoSpace {
  readonly #ranges: { base: number; length: number; region: IoRegion }[] = [];

  map(base: number, length: number, region: IoRegion): () => void {
    const overlap = this.#ranges.some((r) => base < r.base + r.length && r.base < base + length);
    if (overlap) throw new Error(`overlap at 0x${base.toString(16)}`);
    const range = { base, length, region };
    this.#ranges.push(range);
    return () => this.#ranges.splice(this.#ranges.indexOf(range), 1);
  }

  read(address: number, size: number): number {
    const range = this.#find(address);
    return range?.region.read(address - range.base, size) ?? 2 ** (size * 8) - 1;
  }

  write(address: number, size: number, value: number): void {
    const range = this.#find(address);
    range?.region.write(address - range.base, size, value);
  }

  #find(address: number) {
    return this.#ranges.find((r) => address >= r.base && address < r.base + r.length);
  }
}

/** Timers fire when the test says so. */
class FakeClock implements Clock {
  readonly due: (() => void)[] = [];
  nowNs = (): number => 0;
  wallMs = (): number => 0;
  at(_atNs: number, fire: () => void) {
    this.due.push(fire);
    return { cancel: () => void this.due.splice(this.due.indexOf(fire), 1) };
  }
  /** Fires what is due now, not what that adds. */
  run(): void {
    for (const fire of this.due.splice(0)) fire();
  }
}

export interface FakeBoard extends Board {
  readonly ports: FakeSpace;
  readonly mmio: FakeSpace;
  readonly clock: FakeClock;
  readonly levels: Map<number, boolean>;
  readonly messages: { address: number; data: number }[];
  readonly events: MachineEvent[];
  /** All of RAM. */
  readonly bytes: Uint8Array;
}

export function fakeBoard(): FakeBoard {
  const map = memoryMap(RAM_BYTES, 0x10000);
  const pages = map.end / 65536;
  const shared = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const memory = new GuestMemory(shared, map, () => {});
  const levels = new Map<number, boolean>();
  const messages: { address: number; data: number }[] = [];
  const events: MachineEvent[] = [];
  return {
    ports: new FakeSpace(),
    mmio: new FakeSpace(),
    memory,
    clock: new FakeClock(),
    levels,
    messages,
    events,
    bytes: memory.writable(0, RAM_BYTES),
    irq: (gsi) => ({ set: (level) => void levels.set(gsi, level) }),
    msi: (address, data) => void messages.push({ address, data }),
    raise: (event) => void events.push(event),
    entropy: (into) => void into.fill(0xa5),
  };
}
