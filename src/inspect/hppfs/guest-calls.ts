/**
 * Has a guest's kernel call functions of its own, from a trace point at the entry of another function: it returns to that entry,
 * where the point is reached once more. Nothing of this is in the guest's code; what is on the stack is below what the kernel uses.
 */
import { type MachineIntervention, REGISTER } from '../../engine/inspection.ts';
import { InspectError } from '../errors.ts';
import type { LinuxKernel } from '../kernel.ts';

const { RAX, RCX, RDI, RDX, RSI, RSP } = REGISTER;
/** Registers of a function's first arguments (System V ABI for AMD64). */
const ARGUMENTS = [RDI, RSI, RDX] as const;
const PAGE = 4096n;
const EIO = -5n;

/** The CPU was sent elsewhere. */
export type Moved = boolean;

interface Call {
  readonly rsp: bigint;
  then(result: bigint): Moved;
}

export class GuestCalls {
  readonly #kernel: LinuxKernel;
  readonly #machine: MachineIntervention;
  /** By the stack pointer that they come back with: each is of a task of its own. */
  readonly #calls = new Map<bigint, Call>();

  constructor(kernel: LinuxKernel, machine: MachineIntervention) {
    this.#kernel = kernel;
    this.#machine = machine;
  }

  /** Calls that have not come back. */
  get pending(): number {
    return this.#calls.size;
  }

  /** The arguments of the function whose entry the CPU is at. */
  arguments(): [bigint, bigint, bigint, bigint] {
    const { register } = this.#machine;
    return [register(RDI), register(RSI), register(RDX), register(RCX)];
  }

  /** One of them. */
  argument(n: 0 | 1 | 2): bigint {
    return this.#machine.register(ARGUMENTS[n]);
  }

  /** Goes on with the call that comes back here; undefined when the function is entered by its caller. */
  resume(): Moved | undefined {
    if (this.#calls.size === 0) return undefined;
    const back = this.#machine.register(RSP);
    const call = this.#calls.get(back);
    if (call === undefined) return undefined;
    this.#calls.delete(back);
    this.#machine.setRegister(RSP, call.rsp);
    try {
      return call.then(this.#machine.register(RAX));
    } catch (error) {
      // What a hostile kernel has made of its memory. The function's arguments are lost: it must not be entered.
      if (!(error instanceof InspectError || error instanceof RangeError)) throw error;
      return this.return(EIO);
    }
  }

  /**
   * @param entry of the function whose trace point this is
   * @param data goes to the stack for the time of the call: `args` is told its address
   * @param then is called when the function has returned, with RAX; the registers that a function may change are lost
   */
  call(
    entry: bigint,
    callee: bigint,
    args: (data: bigint) => readonly bigint[],
    data: Uint8Array,
    then: (result: bigint) => Moved,
  ): Moved {
    const rsp = this.#machine.register(RSP);
    const at = (rsp - BigInt(data.length)) & ~15n;
    const frame = at - 8n;
    this.write(at, data);
    this.writeU64(frame, entry);
    const values = args(at);
    for (const [n, register] of [RDI, RSI, RDX, RCX].entries()) {
      this.#machine.setRegister(register, values[n] ?? 0n);
    }
    this.#machine.setRegister(RSP, frame);
    this.#machine.setRip(callee);
    this.#calls.set(frame + 8n, { rsp, then });
    return true;
  }

  /** Returns from the function whose entry the CPU is at. */
  return(result: bigint): Moved {
    const rsp = this.#machine.register(RSP);
    this.#machine.setRip(this.#kernel.memory.u64(rsp));
    this.#machine.setRegister(RSP, rsp + 8n);
    this.#machine.setRegister(RAX, result);
    return true;
  }

  writeU64(linear: bigint, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
    this.write(linear, bytes);
  }

  /** Throws InspectError where nothing is mapped. */
  write(linear: bigint, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const at = BigInt.asUintN(64, linear + BigInt(done));
      const length = Math.min(bytes.length - done, Number(PAGE - (at % PAGE)));
      const physical = this.#kernel.memory.physical(at);
      if (physical === undefined) throw new InspectError(`nothing is mapped at 0x${at.toString(16)}`);
      this.#machine.write(physical, bytes.subarray(done, done + length));
      done += length;
    }
  }
}
