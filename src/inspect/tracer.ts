/**
 * A log of what programs of a guest do, taken from outside: trace points in the guest's kernel, at functions that every way
 * of doing a thing leads through and that have names and addresses in the kernel's own memory, and where those functions return to:
 * there is what came of it. The guest's memory is as it was: nothing in it tells of the log.
 */
import type { TraceKind, TraceRecord } from '../contracts/ports.ts';
import { type MachineIntervention, REGISTER } from '../engine/inspection.ts';
import { returnSites } from './call-sites.ts';
import type { LinuxKernel, SymbolName } from './kernel.ts';
import type { KernelPoint, KernelPoints, PointOwner } from './kernel-points.ts';
import { CurrentTask } from './current-task.ts';
import { socketAddress } from './socket-address.ts';
import { Task } from './tasks.ts';

const PATH_BYTES_MAX = 4096;
const ARGUMENTS_MAX = 256;
const ARGUMENT_BYTES_MAX = 4096;
const ADDRESS_BYTES_MAX = 128;
const ERRNO_MAX = 4095n;
/** Calls that have not returned, of one kind; those of tasks that hang longest are told without their result. */
const PENDING_MAX = 4096;
const { RAX, RDI, RDX, RSI, RSP } = REGISTER;

/** Those that give the file a descriptor, with `fd_install`. */
const OPENERS = ['do_sys_openat2', 'io_openat2'];
const EXEC_FUNCTIONS = ['do_execveat_common.isra.0', 'do_execveat_common'] as const;
const EXEC_CALLS = [
  ['__x64_sys_execve', 0],
  ['__x64_sys_execveat', 1],
] as const satisfies readonly (readonly [SymbolName, number])[];
/** Members of struct pt_regs with a system call's first arguments. */
const ARGUMENTS = ['di', 'si', 'dx'] as const;

type Draft = { -readonly [Key in keyof TraceRecord]: TraceRecord[Key] };

export class Tracer implements PointOwner {
  readonly #points: KernelPoints;
  readonly #machine: MachineIntervention;
  readonly #onRecord: (record: TraceRecord) => void;
  #kinds: readonly TraceKind[] = [];

  constructor(machine: MachineIntervention, points: KernelPoints, onRecord: (record: TraceRecord) => void) {
    this.#machine = machine;
    this.#points = points;
    this.#onRecord = onRecord;
  }

  /** What is told from now on, as soon as the guest's kernel is up. */
  set(kinds: readonly TraceKind[]): void {
    this.#kinds = kinds;
    this.#points.set(this, kinds.length > 0);
  }

  points(kernel: LinuxKernel): KernelPoint[] {
    const kernelTracer = new KernelTracer(kernel, this.#machine, this.#onRecord);
    return this.#kinds.flatMap((kind) => kernelTracer.points(kind));
  }
}

/** Of one kernel, from its boot to its end. */
class KernelTracer {
  readonly #kernel: LinuxKernel;
  readonly #machine: MachineIntervention;
  readonly #onRecord: (record: TraceRecord) => void;
  readonly #current: CurrentTask;
  readonly #sites = new Map<bigint, readonly bigint[]>();

  constructor(kernel: LinuxKernel, machine: MachineIntervention, onRecord: (record: TraceRecord) => void) {
    this.#kernel = kernel;
    this.#machine = machine;
    this.#onRecord = onRecord;
    this.#current = new CurrentTask(kernel);
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
    const pending = new Pending(this.#onRecord);
    /** By their struct file, until they have a descriptor. */
    const opened = new Pending(this.#onRecord);
    const sites = this.#sites.get(entry) ?? [];
    const atReturn = (site: bigint): KernelPoint => {
      const getsDescriptor = OPENERS.includes(kernel.symbols.at(site)?.name.replace(/\..*/, '') ?? '');
      return this.#point(site, () => {
        const record = pending.take(this.#machine.register(RSP));
        if (record === undefined) return;
        const file = this.#machine.register(RAX);
        const error = errno(file);
        if (error === undefined && getsDescriptor) opened.add(file, record);
        else this.#tell(record, error);
      });
    };
    const atEntry = this.#point(entry, () => {
      const name = this.#machine.register(RSI);
      const path = kernel.memory.text(kernel.u64('filename', 'name', name), PATH_BYTES_MAX);
      const flags = kernel.u32('open_flags', 'open_flag', this.#machine.register(RDX));
      this.#begun(pending, sites, { ...this.#record('open'), path, flags });
    });
    const atInstall = this.#point(kernel.symbol('fd_install'), () => {
      const record = opened.take(this.#machine.register(RSI));
      if (record !== undefined) this.#tell(record, Number(BigInt.asIntN(32, this.#machine.register(RDI))));
    });
    return [atEntry, ...sites.map(atReturn), ...(sites.length > 0 ? [atInstall] : [])];
  }

  /** __sys_connect_file(struct file *, struct sockaddr_storage *, int length, int flags) */
  #connects(): KernelPoint[] {
    const entry = this.#kernel.symbol('__sys_connect_file');
    const pending = new Pending(this.#onRecord);
    const sites = this.#sites.get(entry) ?? [];
    const atEntry = this.#point(entry, () => {
      const bytes = Math.min(Number(this.#machine.register(RDX) & 0xffff_ffffn), ADDRESS_BYTES_MAX);
      const address = this.#kernel.memory.read(this.#machine.register(RSI), Math.max(2, bytes));
      this.#begun(pending, sites, { ...this.#record('connect'), ...socketAddress(address) });
    });
    const atReturn = (site: bigint): KernelPoint =>
      this.#point(site, () => {
        const record = pending.take(this.#machine.register(RSP));
        if (record !== undefined) this.#tell(record, intResult(this.#machine.register(RAX)));
      });
    return [atEntry, ...sites.map(atReturn)];
  }

  /**
   * finalize_exec(struct linux_binprm *): the new program's memory is made, and nothing of it has run. Those that fail come to the
   * end of do_execveat_common, with the program that wanted it as it was.
   */
  #execs(): KernelPoint[] {
    const kernel = this.#kernel;
    const success = this.#point(kernel.symbol('finalize_exec'), () => {
      const binary = this.#machine.register(RDI);
      const path = kernel.memory.text(kernel.u64('linux_binprm', 'filename', binary), PATH_BYTES_MAX);
      const strings = new Task(kernel, this.#current.address).arguments.toString('utf8').split('\0');
      const record = {
        ...this.#record('exec'),
        path,
        arguments: strings.slice(0, -1).slice(0, ARGUMENTS_MAX),
      };
      this.#tell(record, 0);
    });
    const common = this.#execFunction();
    const sites = common === undefined ? [] : (this.#sites.get(common) ?? []);
    if (sites.length === 0) return [success];
    /** System calls by the task that makes them: where their registers are, and which of them has the path. */
    const calls = new Map<bigint, readonly [registers: bigint, argument: number]>();
    const begun = EXEC_CALLS.filter(([name]) => kernel.has(name)).map(([name, argument]) =>
      this.#point(kernel.symbol(name), () => {
        if (calls.size >= PENDING_MAX) calls.clear();
        calls.set(this.#current.address, [this.#machine.register(RDI), argument]);
      }),
    );
    const ended = sites.map((site) =>
      this.#point(site, () => {
        const call = calls.get(this.#current.address);
        calls.delete(this.#current.address);
        const result = intResult(this.#machine.register(RAX));
        if (call !== undefined && result < 0)
          this.#tell({ ...this.#record('exec'), ...this.#wanted(...call) }, result);
      }),
    );
    return [success, ...begun, ...ended];
  }

  /** What a system call's caller has asked for, out of its memory. */
  #wanted(registers: bigint, argument: number): Pick<TraceRecord, 'path' | 'arguments'> {
    const { memory } = new Task(this.#kernel, this.#current.address);
    if (memory === undefined) return {};
    const given = (n: number): bigint => this.#kernel.u64('pt_regs', ARGUMENTS[n]!, registers);
    const list = given(argument + 1);
    const strings: string[] = [];
    for (let n = 0; n < ARGUMENTS_MAX && list !== 0n; n++) {
      const bytes = memory.readSome(list + BigInt(n * 8), 8);
      const at = bytes.length < 8 ? 0n : bytes.readBigUInt64LE();
      if (at === 0n) break;
      strings.push(memory.text(at, ARGUMENT_BYTES_MAX));
    }
    return { path: memory.text(given(argument), PATH_BYTES_MAX), arguments: strings };
  }

  #point(address: bigint, reached: () => void): KernelPoint {
    return {
      address,
      reached: () => {
        reached();
        return false;
      },
    };
  }

  /** Told when its function returns; at once when it is not known where to. */
  #begun(pending: Pending, sites: readonly bigint[], record: Draft): void {
    const rsp = this.#machine.register(RSP);
    if (sites.length > 0) pending.add(rsp + 8n, record);
    else this.#tell(record, undefined);
  }

  #record(kind: TraceKind): Draft {
    return { time: Date.now(), kind, ...this.#current.who() };
  }

  #tell(record: Draft, result: number | undefined): void {
    this.#onRecord(result === undefined ? record : { ...record, result });
  }
}

/** Records of calls that have not come to their end, by what they will be known by then. */
class Pending {
  readonly #records = new Map<bigint, Draft>();
  readonly #onRecord: (record: TraceRecord) => void;

  constructor(onRecord: (record: TraceRecord) => void) {
    this.#onRecord = onRecord;
  }

  /** One that was known by the same did not come to its end where that could be seen. */
  add(key: bigint, record: Draft): void {
    this.#giveUp(key);
    this.#records.set(key, record);
    if (this.#records.size > PENDING_MAX) this.#giveUp(this.#records.keys().next().value!);
  }

  take(key: bigint): Draft | undefined {
    const record = this.#records.get(key);
    if (record !== undefined) this.#records.delete(key);
    return record;
  }

  #giveUp(key: bigint): void {
    const record = this.take(key);
    if (record !== undefined) this.#onRecord(record);
  }
}

/** Of a pointer that may be a negative errno (include/linux/err.h). */
function errno(pointer: bigint): number | undefined {
  const value = BigInt.asIntN(64, pointer);
  return value < 0n && value >= -ERRNO_MAX ? Number(value) : undefined;
}

function intResult(rax: bigint): number {
  return Number(BigInt.asIntN(32, rax));
}
