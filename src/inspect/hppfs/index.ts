/** Files of a guest's /proc that are the host's, or hidden (UML's hppfs), by trace points in the guest's kernel. */
import type { Replica } from '../../engine/inspection.ts';
import type { LinuxKernel } from '../kernel.ts';
import type { KernelPoint, KernelPoints, PointOwner, TracedMachine } from '../kernel-points.ts';
import { GuestCalls } from './guest-calls.ts';
import { ProcHiding } from './hiding.ts';
import { ProcReads } from './reads.ts';
import { type ProcRule, ProcRules } from './rules.ts';

export type { ProcContent, ProcRule } from './rules.ts';

const SETTLE_MS = 20;

export class ProcFiles implements PointOwner {
  readonly #machine: TracedMachine;
  readonly #points: KernelPoints;
  readonly #replica: () => Replica;
  readonly #failed: (path: string, error: unknown) => void;
  #rules = new ProcRules([]);
  /** Of the kernel that runs. */
  #current: { readonly kernel: LinuxKernel; readonly calls: GuestCalls } | undefined;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param replica of the machine, made when it is first asked for
   * @param failed hears of content that could not be made
   */
  constructor(
    machine: TracedMachine,
    points: KernelPoints,
    replica: () => Replica,
    failed: (path: string, error: unknown) => void,
  ) {
    this.#machine = machine;
    this.#points = points;
    this.#replica = replica;
    this.#failed = failed;
  }

  /** Takes the place of all rules before; at once, or as soon as a kernel is up. */
  set(rules: readonly ProcRule[]): void {
    this.#rules = new ProcRules(rules);
    this.#apply();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #apply(): void {
    clearTimeout(this.#timer);
    const wanted = this.#rules.hasHidden || this.#rules.hasContents;
    // Reads that are under way come back to where the points are.
    const isBusy = (this.#current?.calls.pending ?? 0) > 0;
    if (isBusy && !wanted) this.#timer = setTimeout(() => this.#apply(), SETTLE_MS);
    this.#points.set(this, wanted || isBusy);
  }

  points(kernel: LinuxKernel): KernelPoint[] {
    if (this.#current?.kernel !== kernel) {
      this.#current = { kernel, calls: new GuestCalls(kernel, this.#machine.intervention) };
    }
    const { calls } = this.#current;
    const reads = new ProcReads(kernel, calls, this.#rules, this.#replica, this.#failed).points();
    return this.#rules.hasHidden ? [...reads, ...new ProcHiding(kernel, calls, this.#rules).points()] : reads;
  }
}
