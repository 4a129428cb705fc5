/** A guest's Linux kernel: its symbols and types, and what is in them now. */
import type { MachineInspection } from '../engine/inspection.ts';
import { KernelTypes } from './btf.ts';
import { InspectError } from './errors.ts';
import { KernelSymbols } from './kallsyms.ts';
import { LinearMemory } from './memory.ts';

/** The image is within so much behind its entry for system calls, or before it. */
const IMAGE_BYTES_MAX = 96 << 20;
const ALIGNMENT = 0x20_0000n;
/** Of page tables that Meltdown's mitigation keeps for user space: those of the kernel are beside them. */
const USER_TABLES = 0x1000n;
const BTF_BYTES_MAX = 64 << 20;
const VERSION_BYTES_MAX = 64;

/** All symbols that anything here reads. */
export const SYMBOLS = [
  '__mutex_lock_interruptible_slowpath',
  '__mutex_lock_killable_slowpath',
  '__mutex_lock_slowpath',
  '__per_cpu_offset',
  '__preempt_count',
  '__schedule',
  '__start_BTF',
  '__stop_BTF',
  '__sys_connect_file',
  '_copy_to_iter',
  '_copy_to_user',
  '_etext',
  '_stext',
  'auxv_read',
  'blockdev_superblock',
  'compat_filldir',
  'compat_fillonedir',
  'current_task',
  'dentry_open',
  'do_execveat_common',
  'do_execveat_common.isra.0',
  'do_filp_open',
  'environ_read',
  'fd_install',
  'file_open_root',
  'filldir',
  'filldir64',
  'fillonedir',
  'finalize_exec',
  'init_cred',
  'init_pid_ns',
  'init_top_pgt',
  'iterate_dir',
  'kern_mount',
  'linux_banner',
  'map_files_d_revalidate',
  'mem_read',
  'msleep_interruptible',
  'native_queued_spin_lock_slowpath',
  'oom_adj_read',
  'oom_score_adj_read',
  'page_offset_base',
  'pagemap_read',
  'pcpu_hot',
  'percpu_down_write',
  'percpu_up_write',
  'pid_revalidate',
  'proc_attr_dir_lookup',
  'proc_coredump_filter_read',
  'proc_fs_type',
  'proc_loginuid_read',
  'proc_lookup',
  'proc_lookupfd',
  'proc_lookupfdinfo',
  'proc_map_files_lookup',
  'proc_misc_d_revalidate',
  'proc_net_d_revalidate',
  'proc_ns_dir_lookup',
  'proc_pid_attr_read',
  'proc_pid_cmdline_read',
  'proc_reg_read',
  'proc_reg_read_iter',
  'proc_root_lookup',
  'proc_sessionid_read',
  'proc_sys_lookup',
  'proc_sys_read',
  'proc_sys_revalidate',
  'proc_task_lookup',
  'proc_tgid_base_lookup',
  'proc_tgid_net_lookup',
  'proc_tid_base_lookup',
  'queued_read_lock_slowpath',
  'queued_write_lock_slowpath',
  'rwsem_down_read_slowpath',
  'rwsem_down_write_slowpath',
  'schedule',
  'seq_read',
  'seq_read_iter',
  'tid_fd_revalidate',
  'vfs_read',
] as const;
export type SymbolName = (typeof SYMBOLS)[number];

export class LinuxKernel {
  readonly memory: LinearMemory;
  readonly symbols: KernelSymbols;
  readonly types: KernelTypes;
  readonly machine: MachineInspection;
  /** Where SYSCALL enters it: another value is another kernel, or another boot. */
  readonly entry: bigint;

  /** Takes some tens of milliseconds. Throws InspectError when no kernel is there that can be read. */
  constructor(machine: MachineInspection) {
    this.machine = machine;
    this.entry = machine.lstar;
    if (this.entry === 0n) throw new InspectError('the guest has no kernel that is up');
    const image = imageOf(machine);
    this.symbols = new KernelSymbols(image);
    this.symbols.find(SYMBOLS);
    // The kernel's own tables, which no process brings along. They are where the image is.
    const top = this.#physicalOf(image, this.symbol('init_top_pgt'));
    this.memory = new LinearMemory(machine, BigInt(top));
    const [start, stop] = [this.symbol('__start_BTF'), this.symbol('__stop_BTF')];
    if (stop - start > BTF_BYTES_MAX || stop <= start)
      throw new InspectError('the description of types is damaged');
    this.types = new KernelTypes(this.memory.read(start, Number(stop - start)));
  }

  /** Throws InspectError when the kernel has no such symbol. */
  symbol(name: SymbolName): bigint {
    const address = this.symbols.address(name);
    if (address === undefined) throw new InspectError(`this kernel has no ${name}`);
    return address;
  }

  /** Is its version, as `uname -r` begins, this one or a later one? */
  isAtLeast(major: number, minor: number): boolean {
    const banner = this.memory.text(this.symbol('linux_banner'), VERSION_BYTES_MAX);
    const [, ownMajor = 0, ownMinor = 0] = (/^Linux version (\d+)\.(\d+)/.exec(banner) ?? []).map(Number);
    return ownMajor > major || (ownMajor === major && ownMinor >= minor);
  }

  has(name: SymbolName): boolean {
    return this.symbols.address(name) !== undefined;
  }

  /** The address of a variable of the first CPU. */
  perCpu(name: SymbolName): bigint {
    return BigInt.asUintN(64, this.symbol(name) + this.memory.u64(this.symbol('__per_cpu_offset')));
  }

  /** The address of a field. */
  field(struct: string, field: string, base: bigint): bigint {
    return base + BigInt(this.types.offset(struct, field));
  }
  u32(struct: string, field: string, base: bigint): number {
    return this.memory.u32(this.field(struct, field, base));
  }
  i32(struct: string, field: string, base: bigint): number {
    return this.memory.i32(this.field(struct, field, base));
  }
  u64(struct: string, field: string, base: bigint): bigint {
    return this.memory.u64(this.field(struct, field, base));
  }

  /** Structs on a list (include/linux/list.h), from the one after `head`: at most `max`, should the list be broken. */
  *list(head: bigint, struct: string, link: string, max: number): Generator<bigint> {
    const offset = BigInt(this.types.offset(struct, link));
    let at = this.memory.u64(head);
    for (let i = 0; i < max && at !== head && at !== 0n; i++) {
      yield at - offset;
      at = this.memory.u64(at);
    }
  }

  #physicalOf(image: Buffer, linear: bigint): number {
    const { ram, lstar, cr3 } = this.machine;
    const known = translate(this.machine, cr3, lstar);
    const physical = known + Number(linear - lstar);
    const inRam = image.byteOffset - ram.byteOffset;
    if (this.machine.ramOffset(physical, 4096) < inRam)
      throw new InspectError('the kernel is not in one piece');
    return physical;
  }
}

/** Under either of a process's two sets of page tables the entry is mapped. */
function translate(machine: MachineInspection, cr3: bigint, linear: bigint): number {
  const physical =
    new LinearMemory(machine, cr3).physical(linear) ??
    new LinearMemory(machine, cr3 & ~USER_TABLES).physical(linear);
  if (physical === undefined) throw new InspectError("the kernel's entry for system calls is not mapped");
  return physical;
}

/** The kernel's image: it is in one piece in physical memory, from some megabytes before its entry on. */
function imageOf(machine: MachineInspection): Buffer {
  const entry = translate(machine, machine.cr3, machine.lstar);
  const start = Number(BigInt(Math.max(0, entry - IMAGE_BYTES_MAX / 2)) & ~(ALIGNMENT - 1n));
  const { ram } = machine;
  const from = machine.ramOffset(start, 4096);
  if (from < 0) throw new InspectError('the kernel is not in RAM');
  const length = Math.min(IMAGE_BYTES_MAX * 1.5, ram.byteLength - from);
  return Buffer.from(ram.buffer, ram.byteOffset + from, length);
}
