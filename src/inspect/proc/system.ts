/** Files of /proc about the system as a whole. */
import type { LinuxKernel } from '../kernel.ts';

/** Load averages are fixed-point numbers (include/linux/sched/loadavg.h). */
const LOAD_SHIFT = 11n;
const LOAD_ROUNDING = (1n << LOAD_SHIFT) / 200n;
const PAGE_KIB = 4n;
const NANOSECONDS = 1_000_000_000n;
/** A clock that is as far ahead of its last update has another source than the time-stamp counter. */
const AHEAD_MAX = 3600n * NANOSECONDS;
const LIST_MAX = 10_000;
const NAME_BYTES = 64;
const MODULE_STATES = ['Live', 'Loading', 'Unloading', 'Unloading'];
/** A module's own reference (kernel/module/internal.h). */
const MODULE_REFERENCE_BASE = 1;
const FS_REQUIRES_DEVICE = 1;

const centi = (nanoseconds: bigint): string => {
  const hundredths = nanoseconds / 10_000_000n;
  return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, '0')}`;
};

export function utsName(kernel: LinuxKernel, field: string): string {
  return `${kernel.memory.text(kernel.field('uts_namespace', `name.${field}`, kernel.symbol('init_uts_ns')), NAME_BYTES + 1)}\n`;
}

/** Time since boot, as the timekeeper has it (kernel/time/timekeeping.c), and the time that the CPU was idle. */
export function uptime(kernel: LinuxKernel): string {
  const keeper = kernel.symbol('tk_core') + BigInt(keeperOffset(kernel));
  const get = (field: string): bigint => kernel.u64('timekeeper', field, keeper);
  const shift = BigInt(kernel.u32('timekeeper', 'tkr_mono.shift', keeper));
  const multiplier = BigInt(kernel.u32('timekeeper', 'tkr_mono.mult', keeper));
  const ahead = BigInt.asIntN(64, kernel.machine.tsc - get('tkr_mono.cycle_last'));
  const cycles = ahead > 0n && ahead < AHEAD_MAX ? ahead : 0n;
  const since = (cycles * multiplier + get('tkr_mono.xtime_nsec')) >> shift;
  const boot = BigInt.asIntN(64, get('tkr_mono.base') + get('offs_boot')) + since;
  const tick = kernel.perCpu('tick_cpu_sched');
  const idle = ['idle_sleeptime', 'iowait_sleeptime'].map((field) => kernel.u64('tick_sched', field, tick));
  return `${centi(boot)} ${centi(idle[0]! + idle[1]!)}\n`;
}

/** Until 6.12 the struct around it has no name: a sequence counter of four bytes is before it. */
function keeperOffset({ types }: LinuxKernel): number {
  return types.has('tk_data', 'timekeeper') ? types.offset('tk_data', 'timekeeper') : 8;
}

export function loadAverage(kernel: LinuxKernel): string {
  const averages = [0n, 8n, 16n].map((at) => {
    const value = kernel.memory.u64(kernel.symbol('avenrun') + at) + LOAD_ROUNDING;
    const fraction = ((value & ((1n << LOAD_SHIFT) - 1n)) * 100n) >> LOAD_SHIFT;
    return `${value >> LOAD_SHIFT}.${String(fraction).padStart(2, '0')}`;
  });
  const running = kernel.u32('rq', 'nr_running', kernel.perCpu('runqueues'));
  const threads = kernel.memory.i32(kernel.symbol('nr_threads'));
  const next = kernel.u32('pid_namespace', 'idr.idr_next', kernel.symbol('init_pid_ns'));
  return `${averages.join(' ')} ${running}/${threads} ${next - 1}\n`;
}

/** Counters of pages, by the kernel's names. */
const NODE_COUNTERS = [
  ['Active(anon)', 'NR_ACTIVE_ANON'],
  ['Inactive(anon)', 'NR_INACTIVE_ANON'],
  ['Active(file)', 'NR_ACTIVE_FILE'],
  ['Inactive(file)', 'NR_INACTIVE_FILE'],
  ['Dirty', 'NR_FILE_DIRTY'],
  ['Writeback', 'NR_WRITEBACK'],
  ['AnonPages', 'NR_ANON_MAPPED'],
  ['Mapped', 'NR_FILE_MAPPED'],
  ['Shmem', 'NR_SHMEM'],
  ['SReclaimable', 'NR_SLAB_RECLAIMABLE_B'],
  ['SUnreclaim', 'NR_SLAB_UNRECLAIMABLE_B'],
] as const;

/** Cached has the buffers too: how many those are is spread over all block devices. */
export function memoryInfo(kernel: LinuxKernel): string {
  const counter = (table: 'vm_node_stat' | 'vm_zone_stat', enumeration: string, name: string) => {
    const index = kernel.types.enumValue(enumeration, name);
    if (index === undefined) return undefined;
    const value = BigInt.asIntN(64, kernel.memory.u64(kernel.symbol(table) + BigInt(index) * 8n));
    return value < 0n ? 0n : value;
  };
  const rows: [string, bigint | undefined][] = [
    ['MemTotal', kernel.memory.u64(kernel.symbol('_totalram_pages'))],
    ['MemFree', counter('vm_zone_stat', 'zone_stat_item', 'NR_FREE_PAGES')],
    ['Cached', counter('vm_node_stat', 'node_stat_item', 'NR_FILE_PAGES')],
    ...NODE_COUNTERS.map(([name, item]): [string, bigint | undefined] => [
      name,
      counter('vm_node_stat', 'node_stat_item', item),
    ]),
  ];
  return rows
    .filter((row): row is [string, bigint] => row[1] !== undefined)
    .map(([name, pages]) => `${`${name}:`.padEnd(15)}${String(pages * PAGE_KIB).padStart(9)} kB\n`)
    .join('');
}

export function modules(kernel: LinuxKernel): string {
  const lines: string[] = [];
  for (const module of kernel.list(kernel.symbol('modules'), 'module', 'list', LIST_MAX)) {
    const name = moduleName(kernel, module);
    const references = kernel.i32('module', 'refcnt', module) - MODULE_REFERENCE_BASE;
    const users: string[] = [];
    const head = kernel.field('module', 'source_list', module);
    for (const use of kernel.list(head, 'module_use', 'source_list', LIST_MAX)) {
      users.push(`${moduleName(kernel, kernel.u64('module_use', 'source', use))},`);
    }
    const state = MODULE_STATES[kernel.u32('module', 'state', module)] ?? 'Live';
    const { size, base } = moduleSpace(kernel, module);
    const address = `0x${base.toString(16).padStart(16, '0')}`;
    lines.push(`${name} ${size} ${references} ${users.join('') || '-'} ${state} ${address}\n`);
  }
  return lines.join('');
}

function moduleName(kernel: LinuxKernel, module: bigint): string {
  return kernel.memory.text(kernel.field('module', 'name', module), NAME_BYTES);
}

/** Until 6.3 a module has two areas, since then one for each kind of its contents. */
function moduleSpace(kernel: LinuxKernel, module: bigint): { readonly size: number; readonly base: bigint } {
  if (kernel.types.has('module', 'core_layout')) {
    const parts = ['core_layout', 'init_layout'].map((layout) =>
      kernel.u32('module', `${layout}.size`, module),
    );
    return { size: parts[0]! + parts[1]!, base: kernel.u64('module', 'core_layout.base', module) };
  }
  const kinds = kernel.types.enumValue('mod_mem_type', 'MOD_MEM_NUM_TYPES') ?? 0;
  const bytes = BigInt(kernel.types.size('module_memory'));
  const first = kernel.field('module', 'mem', module);
  let size = 0;
  for (let i = 0n; i < BigInt(kinds); i++) size += kernel.u32('module_memory', 'size', first + i * bytes);
  return { size, base: kernel.u64('module_memory', 'base', first) };
}

export function fileSystems(kernel: LinuxKernel): string {
  const lines: string[] = [];
  let at = kernel.memory.u64(kernel.symbol('file_systems'));
  for (let i = 0; i < LIST_MAX && at !== 0n; i++) {
    const name = kernel.memory.text(kernel.u64('file_system_type', 'name', at), NAME_BYTES);
    const flags = kernel.u32('file_system_type', 'fs_flags', at);
    lines.push(`${(flags & FS_REQUIRES_DEVICE) === 0 ? 'nodev' : ''}\t${name}\n`);
    at = kernel.u64('file_system_type', 'next', at);
  }
  return lines.join('');
}
