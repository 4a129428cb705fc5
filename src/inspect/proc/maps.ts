/** /proc/PID/maps (fs/proc/task_mmu.c). Kernels before 6.1, which keep what is mapped in another tree, are not read. */
import { InspectError } from '../errors.ts';
import type { LinuxKernel } from '../kernel.ts';
import type { Task } from '../tasks.ts';
import { escaped, isUnlinked, pathOf, type Place, placeAt, rootOf } from './paths.ts';

const AREAS_MAX = 1 << 18;
const DEPTH_MAX = 32;
const NAME_MAX = 256;
/** Columns before a name: 25 + 6 × 8 - 1. */
const NAME_COLUMN = 72;
const PERMISSIONS = [
  [1n, 'r'],
  [2n, 'w'],
  [4n, 'x'],
] as const;
const VM_MAYSHARE = 0x80n;
/** Of vsyscall_mode (arch/x86/entry/vsyscall). */
const VSYSCALL_NONE = 2;
const PAGE_SHIFT = 12n;
const MINOR_BITS = 20;

/** A tree's entries that are nodes have such low bits, and their type above them (include/linux/maple_tree.h, xarray.h). */
const INTERNAL_MASK = 3n;
const INTERNAL = 2n;
const INTERNAL_MIN = 4096n;
const NODE_MASK = 0xffn;
const TYPE_SHIFT = 3n;
const TYPE_MASK = 0xfn;
const NODE = { LEAF: 1n, RANGE: 2n, ALLOCATING: 3n } as const;
const SLOTS = { maple_range_64: 16, maple_arange_64: 10 } as const;

export function maps(task: Task, kernel: LinuxKernel): Buffer {
  const { mm } = task;
  if (mm === undefined) return Buffer.alloc(0);
  const root = rootOf(kernel, task);
  const lines = [...areasOf(kernel, mm)].map((area) => lineOf(kernel, mm, root, area));
  return Buffer.from(lines.join('') + gateLine(kernel), 'latin1');
}

function areasOf(kernel: LinuxKernel, mm: bigint): bigint[] {
  if (!kernel.types.has('mm_struct', 'mm_mt'))
    throw new InspectError('this kernel has no maple tree of areas');
  const areas: bigint[] = [];
  walk(kernel, kernel.u64('mm_struct', 'mm_mt.ma_root', mm), 0, areas);
  return areas;
}

const isInternal = (entry: bigint): boolean => (entry & INTERNAL_MASK) === INTERNAL;

/** The entries of a node in order: a pivot of 0 behind the first says that its slot is the last. */
function walk(kernel: LinuxKernel, entry: bigint, depth: number, areas: bigint[]): void {
  if (depth > DEPTH_MAX || areas.length > AREAS_MAX) throw new InspectError('the tree of areas is damaged');
  if (!isInternal(entry) || entry < INTERNAL_MIN) {
    if (entry !== 0n && !isInternal(entry)) areas.push(entry);
    return;
  }
  const node = entry & ~NODE_MASK;
  const type = (entry >> TYPE_SHIFT) & TYPE_MASK;
  const struct = type === NODE.ALLOCATING ? 'maple_arange_64' : 'maple_range_64';
  const [pivots, slots] = [kernel.field(struct, 'pivot', node), kernel.field(struct, 'slot', node)];
  const count = SLOTS[struct];
  for (let i = 0; i < count; i++) {
    const at = BigInt(i * 8);
    const pivot = i < count - 1 ? kernel.memory.u64(pivots + at) : 0n;
    const slot = kernel.memory.u64(slots + at);
    if (type === NODE.LEAF) {
      if (slot !== 0n && !isInternal(slot)) areas.push(slot);
    } else if (slot !== 0n) walk(kernel, slot, depth + 1, areas);
    if (pivot === 0n && i > 0) return;
  }
}

const permissionsOf = (flags: bigint): string =>
  PERMISSIONS.map(([bit, letter]) => ((flags & bit) === 0n ? '-' : letter)).join('');

const hex = (value: bigint | number, digits: number): string => value.toString(16).padStart(digits, '0');

function lineOf(kernel: LinuxKernel, mm: bigint, root: Place, area: bigint): string {
  const get = (field: string): bigint => kernel.u64('vm_area_struct', field, area);
  const [start, end, flags, file] = ['vm_start', 'vm_end', 'vm_flags', 'vm_file'].map(get);
  const head = `${hex(start!, 8)}-${hex(end!, 8)} ${permissionsOf(flags!)}${(flags! & VM_MAYSHARE) === 0n ? 'p' : 's'}`;
  if (file === 0n) return complete(`${head} 00000000 00:00 0 `, specialName(kernel, mm, area));
  const inode = kernel.u64('file', 'f_inode', file!);
  const device = kernel.u32('super_block', 's_dev', kernel.u64('inode', 'i_sb', inode));
  const number = kernel.u64('inode', 'i_ino', inode);
  const numbers = `${hex(device >>> MINOR_BITS, 2)}:${hex(device & ((1 << MINOR_BITS) - 1), 2)} ${number}`;
  const place = placeAt(kernel, 'file', 'f_path', file!);
  const deleted = isUnlinked(kernel, place.dentry) ? ' (deleted)' : '';
  const path = `${escaped(pathOf(kernel, root, place).text, '\n')}${deleted}`;
  return complete(`${head} ${hex(get('vm_pgoff') << PAGE_SHIFT, 8)} ${numbers} `, path);
}

function complete(line: string, name: string | undefined): string {
  return name === undefined ? `${line}\n` : `${line.padEnd(NAME_COLUMN)} ${name}\n`;
}

/** Of an area without a file. */
function specialName(kernel: LinuxKernel, mm: bigint, area: bigint): string | undefined {
  const get = (field: string): bigint => kernel.u64('vm_area_struct', field, area);
  const own = (field: string): bigint => kernel.u64('mm_struct', field, mm);
  if (get('vm_ops') === kernel.symbol('special_mapping_vmops')) {
    const name = kernel.u64('vm_special_mapping', 'name', get('vm_private_data'));
    return kernel.memory.text(name, NAME_MAX);
  }
  const [start, end] = [get('vm_start'), get('vm_end')];
  if (start <= own('brk') && end >= own('start_brk')) return '[heap]';
  if (start <= own('start_stack') && end >= own('start_stack')) return '[stack]';
  const named = kernel.types.has('vm_area_struct', 'anon_name') ? get('anon_name') : 0n;
  if (named === 0n) return undefined;
  return `[anon:${kernel.memory.text(kernel.field('anon_vma_name', 'name', named), NAME_MAX)}]`;
}

/** The page of vsyscalls, which is in every process, unless the kernel is told to have none. */
function gateLine(kernel: LinuxKernel): string {
  if (!kernel.has('vsyscall_mode') || kernel.memory.u32(kernel.symbol('vsyscall_mode')) === VSYSCALL_NONE)
    return '';
  const gate = kernel.symbol('gate_vma');
  const get = (field: string): bigint => kernel.u64('vm_area_struct', field, gate);
  return complete(
    `${hex(get('vm_start'), 8)}-${hex(get('vm_end'), 8)} ${permissionsOf(get('vm_flags'))}p 00000000 00:00 0 `,
    '[vsyscall]',
  );
}
