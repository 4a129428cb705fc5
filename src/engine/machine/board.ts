/** The mainboard: I/O spaces, clock and interrupt controllers that devices are plugged into. */
import { IOAPIC_BASE } from '../devices/apic/ioapic.ts';
import { KvmClock } from '../devices/apic/kvm-clock.ts';
import { LAPIC_BASE } from '../devices/apic/lapic.ts';
import type { CpuHooks } from '../cpu.ts';
import type { Board, IrqLine, MachineEvent } from './bus.ts';
import { MachineClock, type TimeSource } from './clock.ts';
import type { GuestMemory } from './guest-memory.ts';
import { Interrupts, type InterruptSink } from './interrupts.ts';
import { acceptsFixedMsr, readFixedMsr } from './fixed-msrs.ts';
import { AddressSpace } from './io-space.ts';

export interface BoardOptions {
  readonly memory: GuestMemory;
  readonly sink: InterruptSink;
  /** Told of power-off, reset and debug exit. */
  readonly onEvent: (event: MachineEvent) => void;
  /** Fills with random bytes. */
  readonly entropy: (into: Uint8Array) => void;
  readonly time?: TimeSource;
}

export class Mainboard implements Board {
  readonly ports = new AddressSpace('port');
  readonly mmio = new AddressSpace('address');
  readonly memory: GuestMemory;
  readonly clock: MachineClock;
  readonly interrupts: Interrupts;
  readonly #kvmClock: KvmClock;
  readonly #options: BoardOptions;

  constructor(options: BoardOptions) {
    this.#options = options;
    this.memory = options.memory;
    this.clock = new MachineClock(options.time);
    this.interrupts = new Interrupts(this.clock, options.sink);
    this.#kvmClock = new KvmClock(this.clock, options.memory, options.sink.cpu);
    this.interrupts.pic.plug(this.ports);
    this.mmio.map(LAPIC_BASE, 0x1000, this.interrupts.lapic.region);
    this.mmio.map(IOAPIC_BASE, 0x1000, this.interrupts.ioapic.region);
  }

  reset(): void {
    this.interrupts.reset();
    this.#kvmClock.reset();
  }

  irq(gsi: number): IrqLine {
    return this.interrupts.line(gsi);
  }

  msi(address: number, data: number): void {
    this.interrupts.msi(address, data);
  }

  raise(event: MachineEvent): void {
    this.#options.onEvent(event);
  }

  entropy(into: Uint8Array): void {
    this.#options.entropy(into);
  }

  /** What a CPU on this board calls. */
  get cpuHooks(): CpuHooks {
    const { ports, mmio, clock, interrupts } = this;
    const kvmClock = this.#kvmClock;
    return {
      readMmio: (physical, size) => mmio.read(physical, size),
      writeMmio: (physical, size, value) => mmio.write(physical, size, value),
      readPort: (port, size) => ports.read(port, size),
      writePort: (port, size, value) => ports.write(port, size, value),
      readMsr: (index) => interrupts.lapic.readMsr(index) ?? kvmClock.readMsr(index) ?? readFixedMsr(index),
      writeMsr: (index, value) =>
        interrupts.lapic.writeMsr(index, value) || kvmClock.writeMsr(index, value) || acceptsFixedMsr(index),
      tscNow: () => clock.nowNs(),
    };
  }
}
