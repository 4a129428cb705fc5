/**
 * Trace points in a guest's kernel: at functions that have names and addresses in the kernel's own memory. Whoever wants some is
 * asked for them as soon as a kernel is up, and again after each boot.
 */
import type { MachineInspection, MachineIntervention } from '../engine/inspection.ts';
import { InspectError } from './errors.ts';
import { LinuxKernel } from './kernel.ts';

/** How often it is looked whether a kernel has come up; a kernel that cannot be read is looked at less and less often. */
const POLL_MS = 20;
const POLL_MS_MAX = 5000;

/** What a machine offers. */
export interface TracedMachine {
  readonly view: MachineInspection;
  readonly intervention: MachineIntervention;
  trace(ramOffsets: readonly number[], onPoint: (number: number) => boolean): void;
}

export interface KernelPoint {
  readonly address: bigint;
  /** The CPU is there. True when it was sent elsewhere. InspectErrors and RangeErrors are for what a hostile kernel has in its memory. */
  reached(): boolean;
}

export interface PointOwner {
  /** Throws InspectError when this kernel has not what it takes. */
  points(kernel: LinuxKernel): KernelPoint[];
}

export class KernelPoints {
  readonly #machine: TracedMachine;
  readonly #owners = new Set<PointOwner>();
  #timer: NodeJS.Timeout | undefined;
  #pollMs = POLL_MS;
  /** The kernel whose functions have the points. */
  #kernel: LinuxKernel | undefined;
  #hasPoints = false;

  constructor(machine: TracedMachine) {
    this.#machine = machine;
  }

  /** The owner's points are as it says from now on. With no owners, the machine runs as if there were no such thing. */
  set(owner: PointOwner, wanted: boolean): void {
    if (wanted) this.#owners.add(owner);
    else if (!this.#owners.delete(owner)) return;
    this.#renew();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The guest has booted again: its new kernel may be where the old one was. */
  rebooted(): void {
    this.#kernel = undefined;
    if (this.#owners.size > 0) this.#renew();
  }

  #renew(): void {
    this.#pollMs = POLL_MS;
    if (this.#hasPoints) this.#machine.trace([], () => false);
    this.#hasPoints = false;
    const kernel = this.#kernel;
    if (this.#owners.size === 0) this.close();
    else if (kernel !== undefined && kernel.entry === this.#machine.view.lstar) this.#place(kernel);
    else this.#look();
  }

  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), this.#pollMs);
    const { view } = this.#machine;
    if (view.lstar === 0n || this.#kernel?.entry === view.lstar) return;
    try {
      this.#kernel = undefined;
      this.#place(new LinuxKernel(view));
      this.#pollMs = POLL_MS;
    } catch (error) {
      // It is not yet in its place, or no kernel that describes itself.
      if (!isAboutGuest(error)) throw error;
      this.#pollMs = Math.min(POLL_MS_MAX, this.#pollMs * 2);
    }
  }

  #place(kernel: LinuxKernel): void {
    const points = [...this.#owners].flatMap((owner) => owner.points(kernel));
    const offsets = points.map(({ address }) => {
      const physical = kernel.memory.physical(address);
      const offset = physical === undefined ? -1 : kernel.machine.ramOffset(physical, 1);
      if (offset < 0) throw new InspectError(`0x${address.toString(16)} is not in RAM`);
      return offset;
    });
    this.#kernel = kernel;
    this.#hasPoints = true;
    this.#machine.trace(offsets, (number) => {
      try {
        return points[number]!.reached();
      } catch (error) {
        if (!isAboutGuest(error)) throw error;
        return false;
      }
    });
  }
}

function isAboutGuest(error: unknown): boolean {
  return error instanceof InspectError || error instanceof RangeError;
}
