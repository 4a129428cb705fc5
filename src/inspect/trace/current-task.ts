/** Who runs now in a guest. */
import type { LinuxKernel } from '../kernel.ts';
import { currentTaskAt } from '../tasks.ts';
import type { Capture } from './capture.ts';
import { COMM_BYTES } from './decoder.ts';
import type { GuestWords } from './guest-words.ts';

export class CurrentTask {
  /** Address of its task_struct, when `find` has found one. */
  high = 0;
  low = 0;
  readonly #guest: GuestWords;
  /** Where the first CPU has its address. */
  readonly #pointer: readonly [high: number, low: number];
  readonly #comm: number;
  readonly #tgid: number;
  readonly #parent: number;
  readonly #cred: number;
  readonly #uid: number;
  readonly #euid: number;
  readonly #mm: number;
  readonly #argumentsStart: number;
  readonly #argumentsEnd: number;
  readonly #taskBytes: number;

  constructor(kernel: LinuxKernel, guest: GuestWords) {
    const offset = (struct: string, field: string): number => kernel.types.offset(struct, field);
    const pointer = currentTaskAt(kernel);
    this.#guest = guest;
    this.#pointer = [Number(pointer >> 32n), Number(pointer & 0xffff_ffffn)];
    this.#comm = offset('task_struct', 'comm');
    this.#tgid = offset('task_struct', 'tgid');
    this.#parent = offset('task_struct', 'real_parent');
    this.#cred = offset('task_struct', 'cred');
    this.#uid = offset('cred', 'uid');
    this.#euid = offset('cred', 'euid');
    this.#mm = offset('task_struct', 'mm');
    this.#argumentsStart = offset('mm_struct', 'arg_start');
    this.#argumentsEnd = offset('mm_struct', 'arg_end');
    this.#taskBytes = Math.max(
      this.#comm + COMM_BYTES,
      ...[this.#tgid, this.#parent, this.#cred, this.#mm].map((field) => field + 8),
    );
  }

  /** Looks who it is; where its task_struct is in RAM, -1 when it is not there. */
  find(): number {
    const guest = this.#guest;
    const pointer = guest.at(this.#pointer[0], this.#pointer[1], 8);
    if (pointer < 0) return -1;
    this.low = guest.word(pointer);
    this.high = guest.word(pointer + 4);
    return guest.at(this.high, this.low, this.#taskBytes);
  }

  /** Puts down who does something at this moment, as `decoder.ts` reads it. False: it cannot be read. */
  who(capture: Capture): boolean {
    const guest = this.#guest;
    const task = this.find();
    if (task < 0) return false;
    const parent = guest.pointed(task + this.#parent, this.#tgid, 4);
    const uid = guest.pointed(task + this.#cred, this.#uid, 4);
    const euid = guest.pointed(task + this.#cred, this.#euid, 4);
    if (parent < 0 || uid < 0 || euid < 0) return false;
    capture.number(Date.now());
    capture.word(guest.word(task + this.#tgid));
    capture.word(guest.word(parent));
    capture.word(guest.word(uid));
    capture.word(guest.word(euid));
    capture.copy(guest.ram, task + this.#comm, COMM_BYTES);
    return true;
  }

  /** Puts down its arguments as they are in its memory, each with a NUL. */
  arguments(capture: Capture, bytesMax: number): void {
    const guest = this.#guest;
    const task = this.find();
    if (task < 0) return;
    const start = guest.pointed(task + this.#mm, this.#argumentsStart, 8);
    const end = guest.pointed(task + this.#mm, this.#argumentsEnd, 8);
    if (start < 0 || end < 0) return;
    const low = guest.word(start);
    // They are within 4 GiB.
    const bytes = (guest.word(end) - low) >>> 0;
    capture.bytes(guest, guest.word(start + 4), low, Math.min(bytes, bytesMax));
  }
}
