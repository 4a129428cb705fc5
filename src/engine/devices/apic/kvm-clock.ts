/**
 * KVM paravirtual clock: Linux Documentation/virt/kvm/x86/msr.rst. The TSC runs at 1 GHz and counts
 * the machine's nanoseconds, so a page written once stays right
 * until the guest sets its TSC.
 */
import type { Clock } from '../../machine/bus.ts';
import type { GuestMemory } from '../../machine/guest-memory.ts';
import type { CpuRegisters } from './lapic.ts';

const MSR_WALL_CLOCK_OLD = 0x11;
const MSR_SYSTEM_TIME_OLD = 0x12;
const MSR_WALL_CLOCK = 0x4b56_4d00;
const MSR_SYSTEM_TIME = 0x4b56_4d01;

const TSC_STABLE = 1;
const WALL_BYTES = 12;
const TIME_BYTES = 32;
/** An even version: the structure is complete. */
const VERSION = 2;

export class KvmClock {
  readonly #clock: Clock;
  readonly #memory: GuestMemory;
  readonly #cpu: Pick<CpuRegisters, 'tscOffset'>;
  #wallMsr = 0n;
  #timeMsr = 0n;

  constructor(clock: Clock, memory: GuestMemory, cpu: Pick<CpuRegisters, 'tscOffset'>) {
    this.#clock = clock;
    this.#memory = memory;
    this.#cpu = cpu;
  }

  reset(): void {
    this.#wallMsr = this.#timeMsr = 0n;
  }

  /** Undefined: not an MSR of this clock. */
  readMsr(index: number): bigint | undefined {
    if (index === MSR_WALL_CLOCK || index === MSR_WALL_CLOCK_OLD) return this.#wallMsr;
    if (index === MSR_SYSTEM_TIME || index === MSR_SYSTEM_TIME_OLD) return this.#timeMsr;
    return undefined;
  }

  /** False raises #GP: not an MSR of this clock, or an address that is not RAM. */
  writeMsr(index: number, value: bigint): boolean {
    if (index === MSR_WALL_CLOCK || index === MSR_WALL_CLOCK_OLD) {
      this.#wallMsr = value;
      return this.#writeWall(Number(value));
    }
    if (index === MSR_SYSTEM_TIME || index === MSR_SYSTEM_TIME_OLD) {
      this.#timeMsr = value;
      return (value & 1n) === 0n || this.#writeTime(Number(value & ~1n));
    }
    return false;
  }

  /** struct pvclock_wall_clock: the wall clock at system time 0. */
  #writeWall(gpa: number): boolean {
    if (this.#memory.ramOffset(gpa, WALL_BYTES) < 0) return false;
    const bootMs = this.#clock.wallMs() - this.#clock.nowNs() / 1e6;
    const bytes = new DataView(new ArrayBuffer(WALL_BYTES));
    bytes.setUint32(0, VERSION, true);
    bytes.setUint32(4, Math.floor(bootMs / 1000), true);
    bytes.setUint32(8, Math.floor((bootMs % 1000) * 1e6), true);
    this.#memory.write(gpa, new Uint8Array(bytes.buffer));
    return true;
  }

  /** struct pvclock_vcpu_time_info: time = ((tsc - what it was at time 0) << 1) × 2^31 >> 32. */
  #writeTime(gpa: number): boolean {
    if (this.#memory.ramOffset(gpa, TIME_BYTES) < 0) return false;
    const bytes = new DataView(new ArrayBuffer(TIME_BYTES));
    bytes.setUint32(0, VERSION, true);
    bytes.setBigUint64(8, BigInt.asUintN(64, this.#cpu.tscOffset), true);
    bytes.setUint32(24, 0x8000_0000, true);
    bytes.setInt8(28, 1);
    bytes.setUint8(29, TSC_STABLE);
    this.#memory.write(gpa, new Uint8Array(bytes.buffer));
    return true;
  }
}
