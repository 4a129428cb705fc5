/** Files of /proc that are made from the kernel's own data, each as the kernel itself prints it (fs/proc). */
import type { LinuxKernel } from '../kernel.ts';
import { findProcess, type Task } from '../tasks.ts';
import { maps } from './maps.ts';
import { mounts } from './mounts.ts';
import { fileSystems, loadAverage, memoryInfo, modules, uptime, utsName } from './system.ts';

/** Undefined: there is no such file. */
type Contents = string | Buffer | undefined;
export const ELSEWHERE_ONLY = Symbol('only in the guest');

const SYSTEM: Readonly<Record<string, (kernel: LinuxKernel) => Contents>> = {
  cmdline: (kernel) => `${kernel.memory.text(kernel.memory.u64(kernel.symbol('saved_command_line')))}\n`,
  filesystems: fileSystems,
  loadavg: loadAverage,
  meminfo: memoryInfo,
  modules,
  mounts: (kernel) => ofFirst(kernel, mounts),
  uptime,
  version: (kernel) => kernel.memory.text(kernel.symbol('linux_banner')),
  'sys/kernel/domainname': (kernel) => utsName(kernel, 'domainname'),
  'sys/kernel/hostname': (kernel) => utsName(kernel, 'nodename'),
  'sys/kernel/osrelease': (kernel) => utsName(kernel, 'release'),
  'sys/kernel/ostype': (kernel) => utsName(kernel, 'sysname'),
  'sys/kernel/version': (kernel) => utsName(kernel, 'version'),
};

const PROCESS: Readonly<Record<string, (task: Task, kernel: LinuxKernel) => string | Buffer>> = {
  cmdline: (task) => task.strings('arg'),
  comm: (task) => `${task.comm}\n`,
  environ: (task) => task.strings('env'),
  maps,
  mounts,
  status,
};

/** What Linux has besides, and what would have to be guessed or gathered from all over the kernel. */
const ELSEWHERE = new Set(
  `buddyinfo consoles cpuinfo crypto devices diskstats dma execdomains fb interrupts iomem ioports kallsyms kcore
keys kmsg kpagecount kpageflags locks misc mtrr pagetypeinfo partitions schedstat self slabinfo softirqs stat swaps
sysrq-trigger thread-self timer_list vmallocinfo vmstat zoneinfo auxv cgroup cwd exe fd fdinfo io limits mem mountinfo
net ns numa_maps oom_score pagemap root sched smaps smaps_rollup stack statm syscall task wchan`.split(/\s+/),
);

/** The names of the files; PID stands for a process's number. */
export const PROC_FILES = [...Object.keys(SYSTEM), ...Object.keys(PROCESS).map((name) => `PID/${name}`)];

export function readProc(kernel: LinuxKernel, file: string): Contents | typeof ELSEWHERE_ONLY {
  const [, pid, name = ''] = /^(\d+)\/(.*)$/.exec(file) ?? [];
  if (pid === undefined && Object.hasOwn(SYSTEM, file)) return SYSTEM[file]!(kernel);
  const task = pid === undefined ? undefined : findProcess(kernel, Number(pid));
  if (task !== undefined && Object.hasOwn(PROCESS, name)) return PROCESS[name]!(task, kernel);
  const first = (task === undefined ? file : name).split('/')[0] ?? '';
  return ELSEWHERE.has(first) ? ELSEWHERE_ONLY : undefined;
}

/** What a link of /proc by way of `self` leads to: that of the first process. */
function ofFirst(kernel: LinuxKernel, file: (task: Task, kernel: LinuxKernel) => Buffer): Contents {
  const first = findProcess(kernel, 1);
  return first === undefined ? undefined : file(first, kernel);
}

/** The lines of it that say who the process is. */
function status(task: Task): string {
  const ids = (kind: 'uid' | 'gid'): string => task.ids(kind).join('\t');
  return [
    `Name:\t${task.comm}`,
    `State:\t${task.state}`,
    `Tgid:\t${task.tgid}`,
    `Pid:\t${task.pid}`,
    `PPid:\t${task.pid === 0 ? 0 : task.parent.tgid}`,
    `Uid:\t${ids('uid')}`,
    `Gid:\t${ids('gid')}`,
    `Threads:\t${task.threads}`,
    '',
  ].join('\n');
}
