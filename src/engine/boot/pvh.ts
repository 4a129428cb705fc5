/**
 * PVH direct boot: xen/include/public/arch-x86/hvm/start_info.h and docs/misc/pvh.pandoc in Xen.
 * The kernel is an ELF file with a note that gives its 32-bit entry.
 */
import type { EntryState } from '../cpu.ts';
import type { GuestMemory } from '../machine/guest-memory.ts';
import type { ElfImage } from './elf.ts';
import { BootError } from './errors.ts';
import type { KernelSource } from './kernel-source.ts';
import { writeCommandLine } from './linux.ts';
import { loadElf } from './load-elf.ts';
import { e820, LOW, lowRamEnd, placeHigh } from './memory-map.ts';

const NOTE_PHYS32_ENTRY = 18;
const START_MAGIC = 0x336e_c578;
const START_BYTES = 56;
const MODULE_BYTES = 32;
const MAP_ENTRY_BYTES = 24;

/** The entry that the ELF's note gives; undefined without one. */
export function pvhEntry(elf: ElfImage): number | undefined {
  const note = elf.notes.find(({ name, type }) => name === 'Xen' && type === NOTE_PHYS32_ENTRY);
  if (note === undefined || note.description.length < 4) return undefined;
  return new DataView(note.description.buffer, note.description.byteOffset).getUint32(0, true);
}

/** Loads a PVH kernel. Throws BootError. */
export function loadPvh(memory: GuestMemory, source: KernelSource, elf: ElfImage, entry: number): EntryState {
  const end = loadElf(memory, source.kernel, elf);
  const initrd = source.initrd ?? new Uint8Array(0);
  const initrdBase = placeHigh(initrd.length, end, lowRamEnd(memory.ramBytes));
  if (initrdBase < 0) {
    throw new BootError(
      'memory_too_small',
      'the initrd does not fit beside the kernel: give the machine more memory',
    );
  }
  memory.write(initrdBase, initrd);
  writeCommandLine(memory, source.commandLine, LOW.COMMAND_LINE_MAX - 1);
  writeStartInfo(memory, source, initrdBase, initrd.length);
  return { mode: 'protected32', rip: BigInt(entry), registers: { rbx: BigInt(LOW.BOOT_PARAMS) } };
}

function writeStartInfo(
  memory: GuestMemory,
  source: KernelSource,
  initrd: number,
  initrdBytes: number,
): void {
  const map = e820(memory.ramBytes);
  const modules = LOW.BOOT_PARAMS + START_BYTES;
  const table = modules + MODULE_BYTES;
  const bytes = new Uint8Array(START_BYTES + MODULE_BYTES + map.length * MAP_ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  const u64 = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  view.setUint32(0, START_MAGIC, true);
  view.setUint32(4, 1, true);
  view.setUint32(12, initrdBytes > 0 ? 1 : 0, true);
  u64(16, modules);
  u64(24, LOW.COMMAND_LINE);
  u64(32, source.rsdp);
  u64(40, table);
  view.setUint32(48, map.length, true);
  u64(START_BYTES, initrd);
  u64(START_BYTES + 8, initrdBytes);
  map.forEach((entry, index) => {
    const at = START_BYTES + MODULE_BYTES + index * MAP_ENTRY_BYTES;
    u64(at, entry.base);
    u64(at + 8, entry.length);
    view.setUint32(at + 16, entry.type, true);
  });
  memory.write(LOW.BOOT_PARAMS, bytes);
}
