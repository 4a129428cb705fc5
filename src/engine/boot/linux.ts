/**
 * Linux bzImage by the 64-bit boot protocol: Linux Documentation/arch/x86/boot.rst and zero-page.rst.
 *
 * Where the payload's compression is known, it is unpacked on the host and the kernel is entered at
 * its own start (a second saved per boot, and more with xz); otherwise the image unpacks itself.
 */
import type { EntryState } from '../cpu.ts';
import type { GuestMemory } from '../machine/guest-memory.ts';
import { decompress, release } from './decompress.ts';
import { isElf, parseElf } from './elf.ts';
import { BootError, mebibytes } from './errors.ts';
import type { KernelSource } from './kernel-source.ts';
import { loadElf } from './load-elf.ts';
import { GDT_LIMIT, writeGdt, writeIdentityPageTables } from './long-mode.ts';
import { E820, e820, LOW, lowRamEnd, placeHigh } from './memory-map.ts';

/** Offsets in the image and in struct boot_params. */
const HEADER = {
  ACPI_RSDP: 0x70,
  E820_COUNT: 0x1e8,
  START: 0x1f1,
  SETUP_SECTORS: 0x1f1,
  BOOT_FLAG: 0x1fe,
  JUMP_LENGTH: 0x201,
  MAGIC: 0x202,
  VERSION: 0x206,
  LOADER_TYPE: 0x210,
  LOAD_FLAGS: 0x211,
  CODE32_START: 0x214,
  RAMDISK_IMAGE: 0x218,
  RAMDISK_SIZE: 0x21c,
  HEAP_END: 0x224,
  COMMAND_LINE: 0x228,
  INITRD_MAX: 0x22c,
  ALIGNMENT: 0x230,
  XLOADFLAGS: 0x236,
  COMMAND_LINE_MAX: 0x238,
  PAYLOAD_OFFSET: 0x248,
  PAYLOAD_LENGTH: 0x24c,
  SETUP_DATA: 0x250,
  PREFERRED_ADDRESS: 0x258,
  INIT_SIZE: 0x260,
  E820_TABLE: 0x2d0,
} as const;
const MAGIC_HDRS = 0x5372_6448;
const LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 0x01;
const CAN_USE_HEAP = 0x80;
const XLF_KERNEL_64 = 1;
const VERSION_64BIT = 0x20c;
const SETUP_RNG_SEED = 9;
const SEED_BYTES = 32;
const ENTRY_64_OFFSET = 0x200;

export const isBzImage = (file: Uint8Array): boolean =>
  file.length > 0x268 &&
  new DataView(file.buffer, file.byteOffset).getUint32(HEADER.MAGIC, true) === MAGIC_HDRS;

interface Image {
  readonly header: DataView;
  readonly setupBytes: number;
  /** Protected-mode part: what is loaded when the image unpacks itself. */
  readonly body: Uint8Array;
  readonly loadAddress: number;
  /** Bytes of memory that the kernel needs from the load address on. */
  readonly initSize: number;
}

function parseImage(file: Uint8Array): Image {
  const header = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const version = header.getUint16(HEADER.VERSION, true);
  if (version < VERSION_64BIT || (header.getUint16(HEADER.XLOADFLAGS, true) & XLF_KERNEL_64) === 0) {
    throw new BootError(
      'bad_kernel',
      'the bzImage has no 64-bit entry: use an x86-64 kernel, version 3.8 or later',
    );
  }
  const setupBytes = ((header.getUint8(HEADER.SETUP_SECTORS) || 4) + 1) * 512;
  const body = file.subarray(setupBytes);
  const payloadEnd =
    header.getUint32(HEADER.PAYLOAD_OFFSET, true) + header.getUint32(HEADER.PAYLOAD_LENGTH, true);
  if (payloadEnd > body.length) {
    throw new BootError(
      'bad_kernel',
      `the bzImage is truncated: ${setupBytes + payloadEnd} bytes are expected and it has ${file.length}; copy it again`,
    );
  }
  return {
    header,
    setupBytes,
    body,
    loadAddress: Number(header.getBigUint64(HEADER.PREFERRED_ADDRESS, true)),
    initSize: header.getUint32(HEADER.INIT_SIZE, true),
  };
}

/** Loads a bzImage with its initrd and command line. Throws BootError. */
export function loadLinux(memory: GuestMemory, source: KernelSource): EntryState {
  const image = parseImage(source.kernel);
  const end = image.loadAddress + image.initSize;
  const initrdBytes = source.initrd?.length ?? 0;
  const limit = lowRamEnd(memory.ramBytes);
  if (end + initrdBytes > limit) {
    throw new BootError(
      'memory_too_small',
      `the kernel needs ${mebibytes(end + initrdBytes)} of memory with its initrd and the machine has ${mebibytes(memory.ramBytes)}: give it more`,
    );
  }
  const rip = loadUnpacked(memory, image) ?? loadPacked(memory, image);
  const initrdMax = Math.min(limit, image.header.getUint32(HEADER.INITRD_MAX, true) + 1);
  const initrd = placeInitrd(memory, source.initrd, end, initrdMax);
  writeCommandLine(memory, source.commandLine, image.header.getUint32(HEADER.COMMAND_LINE_MAX, true));
  writeBootParams(memory, image, source, initrd);
  writeGdt(memory);
  writeIdentityPageTables(memory);
  return {
    mode: 'long64',
    rip: BigInt(rip),
    registers: { rsi: BigInt(LOW.BOOT_PARAMS) },
    cr3: BigInt(LOW.PAGE_TABLES),
    gdt: { base: BigInt(LOW.GDT), limit: GDT_LIMIT },
  };
}

/** Unpacks the kernel proper into place and returns its entry; undefined where the format is not known. */
function loadUnpacked(memory: GuestMemory, image: Image): number | undefined {
  const offset = image.header.getUint32(HEADER.PAYLOAD_OFFSET, true);
  const length = image.header.getUint32(HEADER.PAYLOAD_LENGTH, true);
  if (length === 0) return undefined;
  const vmlinux = decompress(image.body.subarray(offset, offset + length), image.initSize * 2);
  if (vmlinux === undefined) return undefined;
  try {
    if (!isElf(vmlinux)) return undefined;
    const elf = parseElf(vmlinux);
    // A kernel that is not linked at the preferred address has to be relocated by its own code.
    if (elf.bits !== 64 || elf.segments[0]?.physical !== image.loadAddress) return undefined;
    loadElf(memory, vmlinux, elf);
    return elf.entry;
  } finally {
    release(vmlinux);
  }
}

function loadPacked(memory: GuestMemory, image: Image): number {
  memory.write(image.loadAddress, image.body);
  return image.loadAddress + ENTRY_64_OFFSET;
}

function placeInitrd(
  memory: GuestMemory,
  initrd: Uint8Array | undefined,
  floor: number,
  limit: number,
): { base: number; length: number } {
  if (initrd === undefined || initrd.length === 0) return { base: 0, length: 0 };
  const base = placeHigh(initrd.length, floor, limit);
  if (base < 0) {
    throw new BootError(
      'memory_too_small',
      `the initrd of ${mebibytes(initrd.length)} does not fit beside the kernel: give the machine more memory`,
    );
  }
  memory.write(base, initrd);
  return { base, length: initrd.length };
}

/** Writes the command line at LOW.COMMAND_LINE. Throws BootError when it is longer than `max` bytes. */
export function writeCommandLine(memory: GuestMemory, commandLine: string, max: number): number {
  const bytes = new TextEncoder().encode(`${commandLine}\0`);
  if (bytes.length - 1 > Math.min(max, LOW.COMMAND_LINE_MAX - 1)) {
    throw new BootError(
      'bad_kernel',
      `the kernel command line has ${bytes.length - 1} bytes and this kernel takes at most ${max}: shorten it`,
    );
  }
  memory.write(LOW.COMMAND_LINE, bytes);
  return bytes.length;
}

function writeBootParams(
  memory: GuestMemory,
  image: Image,
  source: KernelSource,
  initrd: { base: number; length: number },
): void {
  const params = new Uint8Array(4096);
  const headerEnd = HEADER.MAGIC + image.header.getUint8(HEADER.JUMP_LENGTH);
  params.set(source.kernel.subarray(HEADER.START, headerEnd), HEADER.START);
  const view = new DataView(params.buffer);
  view.setBigUint64(HEADER.ACPI_RSDP, BigInt(source.rsdp), true);
  view.setUint8(HEADER.LOADER_TYPE, LOADER_UNDEFINED);
  view.setUint8(HEADER.LOAD_FLAGS, LOADED_HIGH | CAN_USE_HEAP);
  view.setUint32(HEADER.CODE32_START, image.loadAddress, true);
  view.setUint16(HEADER.HEAP_END, 0xfe00, true);
  view.setUint32(HEADER.RAMDISK_IMAGE, initrd.base, true);
  view.setUint32(HEADER.RAMDISK_SIZE, initrd.length, true);
  view.setUint32(HEADER.COMMAND_LINE, LOW.COMMAND_LINE, true);
  view.setBigUint64(HEADER.SETUP_DATA, BigInt(LOW.SETUP_DATA), true);
  const entries = e820(memory.ramBytes);
  view.setUint8(HEADER.E820_COUNT, entries.length);
  entries.forEach((entry, index) => {
    const at = HEADER.E820_TABLE + index * 20;
    view.setBigUint64(at, BigInt(entry.base), true);
    view.setBigUint64(at + 8, BigInt(entry.length), true);
    view.setUint32(at + 16, entry.type === E820.RAM ? E820.RAM : E820.RESERVED, true);
  });
  memory.write(LOW.BOOT_PARAMS, params);
  writeSeed(memory, source);
}

/** struct setup_data with entropy: the guest's random numbers are good from its first instruction on. */
function writeSeed(memory: GuestMemory, source: KernelSource): void {
  const bytes = new Uint8Array(16 + SEED_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, SETUP_RNG_SEED, true);
  view.setUint32(12, SEED_BYTES, true);
  source.entropy(bytes.subarray(16));
  memory.write(LOW.SETUP_DATA, bytes);
}
