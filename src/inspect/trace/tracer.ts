/**
 * A log of what programs of a guest do, taken from outside: trace points in the guest's kernel, at functions that every way
 * of doing a thing leads through and that have names and addresses in the kernel's own memory, and where those functions return to:
 * there is what came of it. The guest's memory is as it was: nothing in it tells of the log.
 */
import type { TraceKind, TraceRecord } from '../../contracts/ports.ts';
import { type MachineIntervention, REGISTER } from '../../engine/inspection.ts';
import type { LinuxKernel } from '../kernel.ts';
import type { KernelPoint, KernelPoints, PointOwner } from '../kernel-points.ts';
import { returnSites } from './call-sites.ts';
import { Capture, keyOf, SEEN } from './capture.ts';
import { CurrentTask } from './current-task.ts';
import { ARGUMENTS_MAX, TraceDecoder } from './decoder.ts';
import { directMapOf, GuestWords } from './guest-words.ts';
import { SystemCalls } from './system-calls.ts';

const PATH_BYTES_MAX = 4096;
const ARGUMENT_BYTES_MAX = 4096;
/** Of all of a program's. */
const ARGUMENTS_BYTES_MAX = 128 << 10;
const ADDRESS_BYTES_MAX = 128;
const ERRNO_MAX = 4095;
const ALL_ONES = 0xffff_ffff;
const { RAX, RDI, RDX, RSI, RSP } = REGISTER;

/** Those that give the file a descriptor, with `fd_install`. */
const OPENERS = ['do_sys_openat2', 'io_openat2'];
const EXEC_FUNCTIONS = ['do_execveat_common.isra.0', 'do_execveat_common'] as const;
/** execve and execveat by their numbers (arch/x86/entry/syscalls/syscall_64.tbl): which of their arguments is the path. */
const EXEC_CALLS: ReadonlyMap<number, number> = new Map([
  [59, 0],
  [322, 1],
]);

export class Tracer implements PointOwner {
  /** Calls that found no room since the last `tell`. */
  #dropped = 0;
  readonly #points: KernelPoints;
  readonly #machine: MachineIntervention;
  readonly #onSeen: (isUrgent: boolean) => void;
  readonly #onRecord: (record: TraceRecord) => void;
  #kinds: readonly TraceKind[] = [];
  #current: { readonly capture: Capture; readonly decoder: TraceDecoder } | undefined;

  /** @param onSeen there is something to tell, once until `tell`; and once more, when there is not much room left (urgent) */
  constructor(
    machine: MachineIntervention,
    points: KernelPoints,
    onSeen: (isUrgent: boolean) => void,
    onRecord: (record: TraceRecord) => void,
  ) {
    this.#machine = machine;
    this.#points = points;
    this.#onSeen = onSeen;
    this.#onRecord = onRecord;
  }

  /** What is told from now on, as soon as the guest's kernel is up. */
  set(kinds: readonly TraceKind[]): void {
    this.tell();
    this.#kinds = kinds;
    this.#points.set(this, kinds.length > 0);
    if (kinds.length === 0) this.#current = undefined;
  }

  /** Tells what has been seen. */
  tell(): void {
    const current = this.#current;
    if (current === undefined) return;
    current.decoder.decode(current.capture.take());
    this.#dropped += current.capture.dropped;
    current.capture.dropped = 0;
  }

  /** How many calls found no room since it was asked last. */
  takeDropped(): number {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }

  points(kernel: LinuxKernel): KernelPoint[] {
    this.tell();
    const capture = new Capture(this.#onSeen);
    const kernelTracer = new KernelTracer(kernel, this.#machine, capture);
    const points = this.#kinds.flatMap((kind) => kernelTracer.points(kind));
    this.#current = { capture, decoder: new TraceDecoder(this.#onRecord) };
    return points;
  }
}

/** Puts down what is seen of one kernel, from its boot to its end. */
class KernelTracer {
  readonly #kernel: LinuxKernel;
  readonly #registers: Uint32Array;
  readonly #capture: Capture;
  readonly #guest: GuestWords;
  readonly #current: CurrentTask;
  readonly #sites = new Map<bigint, readonly bigint[]>();

  constructor(kernel: LinuxKernel, machine: MachineIntervention, capture: Capture) {
    this.#kernel = kernel;
    this.#registers = machine.words;
    this.#capture = capture;
    this.#guest = new GuestWords(kernel.machine, directMapOf(kernel));
    this.#current = new CurrentTask(kernel, this.#guest);
    const exec = this.#execFunction();
    const functions = [kernel.symbol('do_filp_open'), kernel.symbol('__sys_connect_file')];
    for (const [address, sites] of returnSites(kernel, exec === undefined ? functions : [...functions, exec]))
      this.#sites.set(address, sites);
  }

  points(kind: TraceKind): KernelPoint[] {
    if (kind === 'open') return this.#opens();
    return kind === 'connect' ? this.#connects() : this.#execs();
  }

  #execFunction(): bigint | undefined {
    const name = EXEC_FUNCTIONS.find((one) => this.#kernel.has(one));
    return name === undefined ? undefined : this.#kernel.symbol(name);
  }

  /** do_filp_open(int dfd, struct filename *, const struct open_flags *): open in all its forms, io_uring's among them. */
  #opens(): KernelPoint[] {
    const kernel = this.#kernel;
    const entry = kernel.symbol('do_filp_open');
    const sites = this.#sites.get(entry) ?? [];
    const nameAt = kernel.types.offset('filename', 'name');
    const flagsAt = kernel.types.offset('open_flags', 'open_flag');
    const guest = this.#guest;
    const capture = this.#capture;
    const atEntry = this.#point(entry, SEEN.OPEN, () => {
      const name = this.#pointedBy(RSI, nameAt, 8);
      const flags = this.#pointedBy(RDX, flagsAt, 4);
      if (name < 0 || flags < 0 || !this.#begun(sites)) return false;
      capture.word(guest.word(flags));
      capture.open();
      capture.text(guest, guest.word(name + 4), guest.word(name), PATH_BYTES_MAX);
      capture.close();
      return true;
    });
    const atReturn = (site: bigint): KernelPoint => {
      const getsDescriptor = OPENERS.includes(kernel.symbols.at(site)?.name.replace(/\..*/, '') ?? '');
      return this.#point(site, SEEN.OPENED, () => {
        capture.number(this.#key(RSP));
        capture.word(this.#error());
        capture.byte(getsDescriptor ? 1 : 0);
        capture.number(this.#key(RAX));
        return true;
      });
    };
    const atInstall = this.#point(kernel.symbol('fd_install'), SEEN.INSTALLED, () => {
      capture.number(this.#key(RSI));
      capture.word(this.#low(RDI));
      return true;
    });
    return [atEntry, ...sites.map(atReturn), ...(sites.length > 0 ? [atInstall] : [])];
  }

  /** __sys_connect_file(struct file *, struct sockaddr_storage *, int length, int flags) */
  #connects(): KernelPoint[] {
    const entry = this.#kernel.symbol('__sys_connect_file');
    const sites = this.#sites.get(entry) ?? [];
    const capture = this.#capture;
    const atEntry = this.#point(entry, SEEN.CONNECT, () => {
      if (!this.#begun(sites)) return false;
      const length = Math.max(2, Math.min(this.#low(RDX), ADDRESS_BYTES_MAX));
      capture.open();
      capture.bytes(this.#guest, this.#high(RSI), this.#low(RSI), length);
      capture.close();
      return true;
    });
    const atReturn = (site: bigint): KernelPoint =>
      this.#point(site, SEEN.CONNECTED, () => {
        capture.number(this.#key(RSP));
        capture.word(this.#low(RAX));
        return true;
      });
    return [atEntry, ...sites.map(atReturn)];
  }

  /**
   * finalize_exec(struct linux_binprm *): the new program's memory is made, and nothing of it has run. Those that fail come to the
   * end of do_execveat_common, with the program that wanted it as it was.
   */
  #execs(): KernelPoint[] {
    const kernel = this.#kernel;
    const capture = this.#capture;
    const guest = this.#guest;
    const nameAt = kernel.types.offset('linux_binprm', 'filename');
    const success = this.#point(kernel.symbol('finalize_exec'), SEEN.EXEC, () => {
      const name = this.#pointedBy(RDI, nameAt, 8);
      capture.word(0);
      if (name < 0 || !this.#current.who(capture)) return false;
      capture.open();
      capture.text(guest, guest.word(name + 4), guest.word(name), PATH_BYTES_MAX);
      capture.close();
      capture.open();
      this.#current.arguments(capture, ARGUMENTS_BYTES_MAX);
      capture.close();
      return true;
    });
    const common = this.#execFunction();
    const sites = common === undefined ? [] : (this.#sites.get(common) ?? []);
    return sites.length === 0 ? [success] : [success, ...this.#failedExecs(sites)];
  }

  #failedExecs(sites: readonly bigint[]): KernelPoint[] {
    const calls = new SystemCalls(this.#kernel, this.#guest);
    return sites.map((site) =>
      this.#silentPoint(site, () => {
        const result = this.#low(RAX) | 0;
        if (result < 0) this.#see(SEEN.EXEC, () => this.#wanted(calls, result));
      }),
    );
  }

  /** What a system call's caller has asked for, out of its memory. */
  #wanted(calls: SystemCalls, result: number): boolean {
    const capture = this.#capture;
    const guest = this.#guest;
    if (!calls.find(this.#high(RSP), this.#low(RSP))) return false;
    const first = EXEC_CALLS.get(calls.number);
    capture.word(result);
    if (first === undefined || !this.#current.who(capture)) return false;
    const [path, list] = [calls.argument(first), calls.argument(first + 1)];
    capture.open();
    capture.text(guest, guest.word(path + 4), guest.word(path), PATH_BYTES_MAX);
    capture.close();
    capture.open();
    this.#strings(guest.word(list + 4), guest.word(list));
    capture.close();
    return true;
  }

  /** Those that a list of pointers leads to, each with a NUL. */
  #strings(high: number, low: number): void {
    if (high === 0 && low === 0) return;
    for (let n = 0; n < ARGUMENTS_MAX; n++) {
      const pointer = this.#guest.behind(high, low, n * 8, 8);
      if (pointer < 0) return;
      const [textHigh, textLow] = [this.#guest.word(pointer + 4), this.#guest.word(pointer)];
      if (textHigh === 0 && textLow === 0) return;
      this.#capture.text(this.#guest, textHigh, textLow, ARGUMENT_BYTES_MAX);
      this.#capture.byte(0);
    }
  }

  #point(address: bigint, seen: (typeof SEEN)[keyof typeof SEEN], put: () => boolean): KernelPoint {
    return this.#silentPoint(address, () => this.#see(seen, put));
  }

  #silentPoint(address: bigint, reached: () => void): KernelPoint {
    return {
      address,
      reached: () => {
        reached();
        return false;
      },
    };
  }

  /** @param put puts it down; false where the guest has not what is to be put down */
  #see(seen: (typeof SEEN)[keyof typeof SEEN], put: () => boolean): void {
    this.#capture.begin(seen);
    if (put()) this.#capture.end();
    else this.#capture.giveUp();
  }

  /** A function is entered: by what it will be known when it returns, if it is known where to, and who calls it. */
  #begun(sites: readonly bigint[]): boolean {
    const low = this.#low(RSP) + 8;
    const carry = low > ALL_ONES ? 1 : 0;
    this.#capture.number(keyOf(this.#high(RSP) + carry, low >>> 0));
    this.#capture.byte(sites.length > 0 ? 1 : 0);
    return this.#current.who(this.#capture);
  }

  #low(register: number): number {
    return this.#registers[register * 2]!;
  }
  #high(register: number): number {
    return this.#registers[register * 2 + 1]!;
  }
  #key(register: number): number {
    return keyOf(this.#high(register), this.#low(register));
  }

  /** The errno that RAX is in place of a pointer (include/linux/err.h), negative, or 0. */
  #error(): number {
    const low = this.#low(RAX) | 0;
    return this.#high(RAX) === ALL_ONES && low < 0 && low >= -ERRNO_MAX ? low : 0;
  }

  /** Where in RAM a field is of what a register points to. */
  #pointedBy(register: number, offset: number, bytes: number): number {
    return this.#guest.behind(this.#high(register), this.#low(register), offset, bytes);
  }
}
