/** Multiboot 1: the Multiboot Specification 0.6.96. */
import type { EntryState } from '../cpu.ts';
import type { GuestMemory } from '../machine/guest-memory.ts';
import { isElf, parseElf } from './elf.ts';
import { BootError, mebibytes } from './errors.ts';
import type { KernelSource } from './kernel-source.ts';
import { writeCommandLine } from './linux.ts';
import { loadElf } from './load-elf.ts';
import { e820, LOW, lowRamEnd, placeHigh } from './memory-map.ts';

const HEADER_MAGIC = 0x1bad_b002;
const LOADED_MAGIC = 0x2bad_b002n;
/** The header lies in this much of the file's start. */
const SEARCH_BYTES = 8192;
/** Header flags: bits 0–15 the loader must understand. */
const HAS_ADDRESSES = 0x1_0000;
const MUST_UNDERSTAND = 0xffff;
/** Aligned modules, memory information, and a video mode, for which there is no information to give. */
const UNDERSTOOD = 0x7;
/** Info flags. */
const INFO = { MEMORY: 1, COMMAND_LINE: 4, MODULES: 8, MEMORY_MAP: 0x40, LOADER_NAME: 0x200 } as const;
const INFO_BYTES = 120;
const MODULE_BYTES = 16;
const MAP_ENTRY_BYTES = 24;
const LOADER_NAME = 'umlaut\0';

interface Header {
  readonly at: number;
  readonly flags: number;
}

/** Finds the header; undefined when there is none. */
export function multibootHeader(file: Uint8Array): Header | undefined {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = 0; at + 12 <= Math.min(file.length, SEARCH_BYTES); at += 4) {
    if (view.getUint32(at, true) !== HEADER_MAGIC) continue;
    const flags = view.getUint32(at + 4, true);
    if (((HEADER_MAGIC + flags + view.getUint32(at + 8, true)) & 0xffff_ffff) === 0) return { at, flags };
  }
  return undefined;
}

/** Loads a multiboot kernel; the initrd becomes its only module. Throws BootError. */
export function loadMultiboot(memory: GuestMemory, source: KernelSource, header: Header): EntryState {
  if ((header.flags & MUST_UNDERSTAND & ~UNDERSTOOD) !== 0) {
    throw new BootError(
      'bad_kernel',
      `the multiboot kernel needs features 0x${(header.flags & MUST_UNDERSTAND).toString(16)}: page-aligned modules (1) and memory information (2) are supported`,
    );
  }
  const { entry, end } =
    (header.flags & HAS_ADDRESSES) !== 0
      ? loadByAddresses(memory, source.kernel, header)
      : loadMultibootElf(memory, source.kernel);
  const module = source.initrd ?? new Uint8Array(0);
  const moduleBase = placeHigh(module.length, end, lowRamEnd(memory.ramBytes));
  if (moduleBase < 0) {
    throw new BootError(
      'memory_too_small',
      'the initrd does not fit beside the kernel: give the machine more memory',
    );
  }
  memory.write(moduleBase, module);
  writeCommandLine(memory, source.commandLine, LOW.COMMAND_LINE_MAX - 1);
  writeInfo(memory, moduleBase, module.length);
  return {
    mode: 'protected32',
    rip: BigInt(entry),
    registers: { rax: LOADED_MAGIC, rbx: BigInt(LOW.BOOT_PARAMS) },
  };
}

function loadMultibootElf(memory: GuestMemory, file: Uint8Array): { entry: number; end: number } {
  if (!isElf(file)) {
    throw new BootError(
      'bad_kernel',
      'the multiboot kernel is neither an ELF file nor gives its load addresses',
    );
  }
  const elf = parseElf(file);
  return { entry: elf.entry, end: loadElf(memory, file, elf) };
}

/** The header's address fields (the "a.out kludge"). */
function loadByAddresses(
  memory: GuestMemory,
  file: Uint8Array,
  { at }: Header,
): { entry: number; end: number } {
  if (at + 32 > file.length) throw new BootError('bad_kernel', 'the multiboot header is cut off');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const [headerAddress, load, loadEnd, bssEnd, entry] = [12, 16, 20, 24, 28].map((field) =>
    view.getUint32(at + field, true),
  ) as [number, number, number, number, number];
  const start = at - (headerAddress - load);
  const length = loadEnd === 0 ? file.length - start : loadEnd - load;
  if (load < LOW.EXTENDED || start < 0 || length < 0 || headerAddress < load) {
    throw new BootError('bad_kernel', 'the addresses in the multiboot header make no sense');
  }
  if (start + length > file.length) throw new BootError('bad_kernel', 'the multiboot kernel is cut off');
  const end = Math.max(load + length, bssEnd);
  if (end > lowRamEnd(memory.ramBytes)) {
    throw new BootError(
      'memory_too_small',
      `the kernel reaches up to ${mebibytes(end)} and the machine has ${mebibytes(memory.ramBytes)}: give it more memory`,
    );
  }
  const target = memory.writable(load, end - load);
  target.fill(0);
  target.set(file.subarray(start, start + length));
  memory.written(load, end - load);
  return { entry, end };
}

function writeInfo(memory: GuestMemory, moduleBase: number, moduleBytes: number): void {
  const map = e820(memory.ramBytes);
  const modules = LOW.BOOT_PARAMS + INFO_BYTES;
  const table = modules + MODULE_BYTES;
  const loaderName = table + map.length * MAP_ENTRY_BYTES;
  const bytes = new Uint8Array(loaderName - LOW.BOOT_PARAMS + LOADER_NAME.length);
  const view = new DataView(bytes.buffer);
  const u32 = (at: number, value: number): void => view.setUint32(at, value, true);
  u32(0, INFO.MEMORY | INFO.COMMAND_LINE | INFO.MODULES | INFO.MEMORY_MAP | INFO.LOADER_NAME);
  u32(4, Math.floor(LOW.CONVENTIONAL_END / 1024));
  u32(8, Math.floor((lowRamEnd(memory.ramBytes) - LOW.EXTENDED) / 1024));
  u32(16, LOW.COMMAND_LINE);
  u32(20, moduleBytes > 0 ? 1 : 0);
  u32(24, modules);
  u32(44, map.length * MAP_ENTRY_BYTES);
  u32(48, table);
  u32(64, loaderName);
  u32(INFO_BYTES, moduleBase);
  u32(INFO_BYTES + 4, moduleBase + moduleBytes);
  u32(INFO_BYTES + 8, LOW.COMMAND_LINE);
  map.forEach((entry, index) => {
    const at = INFO_BYTES + MODULE_BYTES + index * MAP_ENTRY_BYTES;
    u32(at, MAP_ENTRY_BYTES - 4);
    view.setBigUint64(at + 4, BigInt(entry.base), true);
    view.setBigUint64(at + 12, BigInt(entry.length), true);
    u32(at + 20, entry.type);
  });
  bytes.set(new TextEncoder().encode(LOADER_NAME), loaderName - LOW.BOOT_PARAMS);
  memory.write(LOW.BOOT_PARAMS, bytes);
}
