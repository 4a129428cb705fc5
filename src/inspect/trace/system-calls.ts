/** What a process has asked its kernel for, found from where the kernel is with it: its registers are at the end of its kernel stack. */
import type { LinuxKernel } from '../kernel.ts';
import type { GuestWords } from './guest-words.ts';

/** THREAD_SIZE without KASAN, which stacks are aligned to as well (arch/x86/include/asm/page_64_types.h). */
const STACK_BYTES = 16_384;
/** TOP_OF_KERNEL_STACK_PADDING, without FRED and with it (arch/x86/include/asm/thread_info.h). */
const PADDINGS = [0, 16];
/** CS of 64-bit programs: __USER_CS. */
const USER_CS = 0x33;
/** Members of struct pt_regs with a system call's first arguments (System V ABI for AMD64, appendix A). */
const ARGUMENTS = ['di', 'si', 'dx'] as const;

export class SystemCalls {
  /** Of the system call, when `find` has found one. */
  number = 0;
  readonly #guest: GuestWords;
  readonly #bytes: number;
  readonly #cs: number;
  readonly #number: number;
  readonly #arguments: readonly number[];
  #high = 0;
  #low = 0;

  constructor(kernel: LinuxKernel, guest: GuestWords) {
    const offset = (field: string): number => kernel.types.offset('pt_regs', field);
    this.#guest = guest;
    this.#bytes = offset('ss') + 8;
    this.#cs = offset('cs');
    this.#number = offset('orig_ax');
    this.#arguments = ARGUMENTS.map(offset);
  }

  /** That of a 64-bit program whose kernel stack an address is in. */
  find(high: number, low: number): boolean {
    const end = (low & -STACK_BYTES) + STACK_BYTES;
    this.#high = high;
    for (const padding of PADDINGS) {
      this.#low = (end - padding - this.#bytes) >>> 0;
      const cs = this.#guest.behind(high, this.#low, this.#cs, 8);
      const number = this.#guest.behind(high, this.#low, this.#number, 8);
      if (cs < 0 || number < 0) return false;
      this.number = this.#guest.word(number);
      if (this.#guest.word(cs) === USER_CS) return true;
    }
    return false;
  }

  /** Where in RAM an argument is, by its place; -1 when it is not there. */
  argument(place: number): number {
    return this.#guest.behind(this.#high, this.#low, this.#arguments[place]!, 8);
  }
}
