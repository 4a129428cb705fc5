/** Who runs now in a guest, read as fast as that can be: places of fields are looked up once. */
import type { TraceRecord } from '../contracts/ports.ts';
import type { LinuxKernel } from './kernel.ts';
import { currentTaskAt } from './tasks.ts';

const COMM_BYTES = 16;

export class CurrentTask {
  readonly #kernel: LinuxKernel;
  /** Of the first CPU's pointer to it. */
  readonly #pointer: bigint;
  readonly #comm: bigint;
  readonly #tgid: bigint;
  readonly #parent: bigint;
  readonly #cred: bigint;
  readonly #uid: bigint;
  readonly #euid: bigint;

  constructor(kernel: LinuxKernel) {
    const offset = (struct: string, field: string): bigint => BigInt(kernel.types.offset(struct, field));
    this.#kernel = kernel;
    this.#pointer = currentTaskAt(kernel);
    this.#comm = offset('task_struct', 'comm');
    this.#tgid = offset('task_struct', 'tgid');
    this.#parent = offset('task_struct', 'real_parent');
    this.#cred = offset('task_struct', 'cred');
    this.#uid = offset('cred', 'uid');
    this.#euid = offset('cred', 'euid');
  }

  /** Of its task_struct. */
  get address(): bigint {
    return this.#kernel.memory.u64(this.#pointer);
  }

  who(): Pick<TraceRecord, 'pid' | 'ppid' | 'uid' | 'euid' | 'comm'> {
    const { memory } = this.#kernel;
    const task = this.address;
    const parent = memory.u64(task + this.#parent);
    const cred = memory.u64(task + this.#cred);
    return {
      pid: memory.i32(task + this.#tgid),
      ppid: memory.i32(parent + this.#tgid),
      uid: memory.u32(cred + this.#uid),
      euid: memory.u32(cred + this.#euid),
      comm: memory.text(task + this.#comm, COMM_BYTES),
    };
  }
}
