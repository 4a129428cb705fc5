/**
 * What the board offers a device, and what a device offers the board. Devices know only this file,
 * `guest-memory.ts` and `backends.ts`; they never see the CPU, the decoder or the interpreter.
 */
import type { GuestMemory } from './guest-memory.ts';

/** A range of I/O ports or of physical memory that a device answers. Offsets are relative to the range. */
export interface IoRegion {
  readonly name: string;
  /** Reads 1, 2 or 4 bytes (little-endian, zero-extended) at `offset`. 8-byte accesses arrive as two of 4. */
  read(offset: number, size: number): number;
  /** Writes the low 1, 2 or 4 bytes of `value`, which is an unsigned 32-bit number. */
  write(offset: number, size: number, value: number): void;
}

/** An I/O space: port I/O (64 Ki) or physical memory. Overlaps are an error; unclaimed reads give all ones. */
export interface IoSpace {
  /** Adds a region; returns a function that removes it again. */
  map(base: number, length: number, region: IoRegion): () => void;
}

/** A level-triggered or edge-triggered input of an interrupt controller. */
export interface IrqLine {
  /** Sets the level. Edge-triggered inputs fire on the change from false to true. */
  set(level: boolean): void;
}

/** Monotonic time since the machine was made, and the timers that run on it. */
export interface Clock {
  /** Nanoseconds since the machine started; a double, exact to 2 ns beyond 104 days. */
  nowNs(): number;
  /** Wall clock, milliseconds since 1970 (UTC). */
  wallMs(): number;
  /** Calls `fire` once at or soon after `atNs`; returns a handle that cancels it. */
  at(atNs: number, fire: () => void): TimerHandle;
}

export interface TimerHandle {
  cancel(): void;
}

/** Why a machine ended or is to be reset; or what its guest has told. */
export type MachineEvent =
  | { readonly kind: 'power-off' }
  | { readonly kind: 'reset' }
  /** The guest's kernel has panicked; the machine runs on. */
  | { readonly kind: 'panicked' }
  /** The guest has not reset its watchdog in time; the machine runs on. */
  | { readonly kind: 'hung' }
  | { readonly kind: 'debug-exit'; readonly status: number };

/** Everything a device may use of the board it is plugged into. */
export interface Board {
  readonly ports: IoSpace;
  readonly mmio: IoSpace;
  readonly memory: GuestMemory;
  readonly clock: Clock;
  /** Global system interrupts 0…23: the IOAPIC's inputs, 0…15 also the PICs'. */
  irq(gsi: number): IrqLine;
  /** A message-signalled interrupt: a 32-bit write of `data` to physical `address` (0xfee…). */
  msi(address: number, data: number): void;
  /** Reports that the machine is to end or be reset; takes effect at the end of the current instruction. */
  raise(event: MachineEvent): void;
  /** Fills `into` with entropy from the host. */
  entropy(into: Uint8Array): void;
}

/** A device as the machine holds it. */
export interface Device {
  readonly name: string;
  /** Back to power-on state; called on a machine reset. */
  reset(): void;
  /** Releases host resources. */
  close?(): void;
}
