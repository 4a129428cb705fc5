/** Answers questions about a guest's kernel; reads its symbols and types once for each boot. */
import { AppError } from '../contracts/errors.ts';
import type { MachineInspection } from '../engine/inspection.ts';
import { openDiskSlots } from './disks.ts';
import { InspectError } from './errors.ts';
import { LinuxKernel } from './kernel.ts';
import { ELSEWHERE_ONLY, PROC_FILES, readProc } from './proc/files.ts';
import { stackText } from './stack.ts';
import { findProcess } from './tasks.ts';

export class Inspector {
  readonly #machine: MachineInspection;
  #kernel: LinuxKernel | undefined;

  constructor(machine: MachineInspection) {
    this.#machine = machine;
  }

  /** A file of the guest's /proc. AppErrors: `not_found`; `unsupported` for one that cannot be made from outside. */
  proc(file: string): Uint8Array {
    const contents = this.#ask((kernel) => readProc(kernel, file));
    if (contents === ELSEWHERE_ONLY) {
      throw new AppError('unsupported', `/proc/${file.slice(0, 80)} cannot be read from outside`, {
        field: 'file',
        remedy: `use one of ${PROC_FILES.join(', ')}`,
      });
    }
    if (contents !== undefined) return Buffer.from(contents);
    throw new AppError('not_found', `the guest has no /proc/${file.slice(0, 80)}`, {
      field: 'file',
      remedy: `use one of ${PROC_FILES.join(', ')}`,
    });
  }

  /** The kernel stack of a process, as text. AppErrors: `not_found`, `unsupported`. */
  stack(pid: number): string {
    const text = this.#ask((kernel) => {
      const task = findProcess(kernel, pid);
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
