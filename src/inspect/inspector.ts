/** Answers questions about a guest's kernel; reads its symbols and types once for each boot. */
import { AppError } from '../contracts/errors.ts';
import { type MachineInspection, type Replica, ReplicaError } from '../engine/inspection.ts';
import { openDiskSlots } from './disks.ts';
import { InspectError } from './errors.ts';
import { LinuxKernel } from './kernel.ts';
import { readProc, unreadable } from './proc.ts';
import { stackText } from './stack.ts';
import { findTask } from './tasks.ts';

export class Inspector {
  readonly #machine: MachineInspection;
  readonly #replica: () => Replica;
  #kernel: LinuxKernel | undefined;

  /** @param replica of the machine, made when it is first asked for */
  constructor(machine: MachineInspection, replica: () => Replica) {
    this.#machine = machine;
    this.#replica = replica;
  }

  /** A file of the guest's /proc, see `readProc`. AppErrors: `not_found`, `unsupported`. */
  proc(file: string): Uint8Array {
    return this.#ask((kernel) => {
      try {
        return readProc(kernel, this.#replica(), file);
      } catch (error) {
        throw error instanceof ReplicaError ? unreadable(file, error.message) : error;
      }
    });
  }

  /** The kernel stack of a process, as text. AppErrors: `not_found`, `unsupported`. */
  stack(pid: number): string {
    const text = this.#ask((kernel) => {
      const task = findTask(kernel, pid);
      return task === undefined ? undefined : stackText(kernel, task);
    });
    if (text === undefined)
      throw new AppError('not_found', `the guest has no process ${pid}`, { field: 'pid' });
    return text;
  }

  /** PCI slots of disks that the guest has open. AppError `unsupported`. */
  openDiskSlots(): Set<number> {
    return this.#ask(openDiskSlots);
  }

  /** The kernel that runs now. AppError `unsupported` for one that cannot be read. */
  kernel(): LinuxKernel {
    return this.#ask((kernel) => kernel);
  }

  #ask<Answer>(question: (kernel: LinuxKernel) => Answer): Answer {
    try {
      if (this.#kernel?.entry !== this.#machine.lstar) this.#kernel = new LinuxKernel(this.#machine);
      return question(this.#kernel);
    } catch (error) {
      // What a hostile kernel has in its tables may lead anywhere.
      if (!(error instanceof InspectError || error instanceof RangeError)) throw error;
      throw new AppError('unsupported', `the guest's kernel cannot be read from outside: ${error.message}`, {
        remedy:
          'wait until it is up; it must be Linux with CONFIG_KALLSYMS_ALL and CONFIG_DEBUG_INFO_BTF, as Debian’s is',
        cause: error,
      });
    }
  }
}
