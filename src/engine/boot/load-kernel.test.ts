import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { GuestMemory } from '../machine/guest-memory.ts';
import { testMemory } from '../machine/testing/test-board.ts';
import { BootError } from './errors.ts';
import type { KernelSource } from './kernel-source.ts';
import { loadKernel } from './load-kernel.ts';
import { LOW } from './memory-map.ts';

const MIB = 1 << 20;
const CODE = Uint8Array.of(0xf4, 0xeb, 0xfd, 0x90);
const ENTRY = 0x20_0010;

function source(kernel: Uint8Array, extra: Partial<KernelSource> = {}): KernelSource {
  return {
    kernel,
    commandLine: 'console=ttyS0',
    rsdp: 0xe_0000,
    entropy: (into) => void into.fill(7),
    ...extra,
  };
}

/** An executable with one segment at 2 MiB: CODE in the file, 64 bytes in memory. */
function elf64(note?: Uint8Array): Uint8Array {
  const file = new Uint8Array(0x400);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setBigUint64(24, BigInt(ENTRY), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, note === undefined ? 1 : 2, true);
  const header = (at: number, fields: readonly number[]): void => {
    const [type, offset, physical, fileBytes, memoryBytes] = fields as [
      number,
      number,
      number,
      number,
      number,
    ];
    view.setUint32(at, type, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 24, BigInt(physical), true);
    view.setBigUint64(at + 32, BigInt(fileBytes), true);
    view.setBigUint64(at + 40, BigInt(memoryBytes), true);
  };
  header(64, [1, 0x200, 2 * MIB, CODE.length, 64]);
  file.set(CODE, 0x200);
  if (note !== undefined) {
    header(120, [4, 0x300, 0, note.length, note.length]);
    file.set(note, 0x300);
  }
  return file;
}

function bzImage(payload: Uint8Array): Uint8Array {
  const setup = 1024;
  const payloadOffset = 0x300;
  const file = new Uint8Array(setup + payloadOffset + payload.length);
  const view = new DataView(file.buffer);
  view.setUint8(0x1f1, 1);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint16(0x200, 0x66eb, true);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, 0x20f, true);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint16(0x236, 1, true);
  view.setUint32(0x238, 2047, true);
  view.setUint32(0x248, payloadOffset, true);
  view.setUint32(0x24c, payload.length, true);
  view.setBigUint64(0x258, BigInt(2 * MIB), true);
  view.setUint32(0x260, MIB, true);
  file.set(payload, setup + payloadOffset);
  return file;
}

/** A payload as the kernel's build makes it: packed data, then the unpacked size. */
const withSize = (packed: Uint8Array): Uint8Array => Uint8Array.from([...packed, 0, 4, 0, 0]);

const readCode = (memory: GuestMemory): Uint8Array => memory.readable(2 * MIB, CODE.length).slice();

function failure(load: () => unknown): BootError {
  try {
    load();
  } catch (error) {
    if (error instanceof BootError) return error;
    throw error;
  }
  throw new Error('it was loaded');
}

test.each([
  ['gzip', gzipSync(elf64())],
  ['zstd', zstdCompressSync(elf64())],
])('a bzImage with %s is unpacked and entered in 64-bit mode at its own start', (_name, packed) => {
  const memory = testMemory();
  const initrd = new Uint8Array(5000).fill(0x11);
  const entry = loadKernel(memory, source(bzImage(withSize(packed)), { initrd }));
  expect(entry).toMatchObject({
    mode: 'long64',
    rip: BigInt(ENTRY),
    registers: { rsi: BigInt(LOW.BOOT_PARAMS) },
  });
  expect(readCode(memory)).toEqual(CODE);
  expect(memory.readU32(LOW.BOOT_PARAMS + 0x202)).toBe(0x5372_6448);
  const ramdisk = memory.readU32(LOW.BOOT_PARAMS + 0x218);
  expect(memory.readU32(LOW.BOOT_PARAMS + 0x21c)).toBe(initrd.length);
  expect(ramdisk % 4096).toBe(0);
  expect(memory.readable(ramdisk, 4)).toEqual(Uint8Array.of(0x11, 0x11, 0x11, 0x11));
  expect(memory.readU64(LOW.BOOT_PARAMS + 0x70)).toBe(0xe_0000);
  const commandLine = memory.readU32(LOW.BOOT_PARAMS + 0x228);
  expect(new TextDecoder().decode(memory.readable(commandLine, 14).slice())).toBe('console=ttyS0\0');
});

test('the memory map covers RAM and leaves the gaps out', () => {
  const memory = testMemory();
  loadKernel(memory, source(bzImage(withSize(gzipSync(elf64())))));
  const count = memory.readable(LOW.BOOT_PARAMS + 0x1e8, 1)[0]!;
  const entries = Array.from({ length: count }, (_, i) => {
    const at = LOW.BOOT_PARAMS + 0x2d0 + i * 20;
    return [memory.readU64(at), memory.readU64(at + 8), memory.readU32(at + 16)];
  });
  expect(entries.filter(([, , type]) => type === 1)).toEqual([
    [0, 0x9_fc00, 1],
    [MIB, 7 * MIB, 1],
  ]);
});

test('the page tables map the first 4 GiB to itself, and the GDT has code and data', () => {
  const memory = testMemory();
  const entry = loadKernel(memory, source(bzImage(withSize(gzipSync(elf64())))));
  const follow = (table: number, index: number): number => memory.readU64(table + index * 8);
  const level3 = follow(Number(entry.cr3), 0) & ~0xfff;
  const level2 = follow(level3, 3) & ~0xfff;
  expect(follow(level2, 511)).toBe(0xffe0_0000 + 0x83);
  expect(entry.gdt?.limit).toBe(31);
  const gdt = Number(entry.gdt?.base);
  expect(memory.readU32(gdt + 0x14) >>> 8).toBe(0xaf9b);
});

test('a payload in a format that is not known unpacks itself', () => {
  const memory = testMemory();
  const image = bzImage(withSize(deflateSync(elf64())));
  expect(loadKernel(memory, source(image)).rip).toBe(BigInt(2 * MIB + 0x200));
  expect(memory.readable(2 * MIB + 0x300, 2)).toEqual(image.slice(1024 + 0x300, 1024 + 0x302));
});

test('a PVH kernel is entered in 32-bit mode with its start info', () => {
  const note = new Uint8Array(24);
  const view = new DataView(note.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, 8, true);
  view.setUint32(8, 18, true);
  note.set([0x58, 0x65, 0x6e, 0], 12);
  view.setUint32(16, ENTRY, true);
  const memory = testMemory();
  const entry = loadKernel(memory, source(elf64(note), { initrd: new Uint8Array(100) }));
  expect(entry.mode).toBe('protected32');
  expect(entry.rip).toBe(BigInt(ENTRY));
  const info = Number(entry.registers?.rbx);
  expect(memory.readU32(info)).toBe(0x336e_c578);
  expect(memory.readU32(info + 12)).toBe(1);
  const modules = memory.readU64(info + 16);
  expect(memory.readU64(modules + 8)).toBe(100);
  expect(memory.readU64(info + 32)).toBe(0xe_0000);
  expect(memory.readU64(memory.readU64(info + 40) + 8)).toBe(0x9_fc00);
});

/** A multiboot kernel that gives its addresses: header at 2 MiB, then CODE. */
function multiboot(flags: number): Uint8Array {
  const file = new Uint8Array(64);
  const words = [
    0x1bad_b002,
    flags,
    -(0x1bad_b002 + flags) >>> 0,
    2 * MIB,
    2 * MIB,
    0,
    2 * MIB + 128,
    2 * MIB + 32,
  ];
  file.set(new Uint8Array(Uint32Array.from(words).buffer));
  file.set(CODE, 32);
  return file;
}

test('a multiboot kernel gets its magic number and memory information', () => {
  const memory = testMemory();
  const entry = loadKernel(memory, source(multiboot(0x1_0003), { initrd: new Uint8Array(10) }));
  expect(entry).toMatchObject({
    mode: 'protected32',
    rip: BigInt(2 * MIB + 32),
    registers: { rax: 0x2bad_b002n },
  });
  const info = Number(entry.registers?.rbx);
  expect(memory.readU32(info + 4)).toBe(639);
  expect(memory.readU32(info + 8)).toBe(7 * 1024);
  const module = memory.readU32(info + 24);
  expect(memory.readU32(module + 4) - memory.readU32(module)).toBe(10);
  const map = memory.readU32(info + 48);
  expect(memory.readU32(map)).toBe(20);
  expect(memory.readU32(map + 20)).toBe(1);
});

test('a multiboot kernel that needs what is not there is refused', () => {
  expect(failure(() => loadKernel(testMemory(), source(multiboot(0x1_0008)))).code).toBe('bad_kernel');
});

test('what is no kernel is refused with what would be one', () => {
  const error = failure(() => loadKernel(testMemory(), source(new Uint8Array(4096))));
  expect(error.code).toBe('bad_kernel');
  expect(error.message).toMatch(/no kernel.*bzImage/);
  expect(failure(() => loadKernel(testMemory(), source(elf64()))).message).toMatch(/PVH/);
  expect(failure(() => loadKernel(testMemory(), source(new Uint8Array(0)))).code).toBe('bad_kernel');
});

test('truncated images are refused at every length', () => {
  const image = bzImage(withSize(gzipSync(elf64())));
  for (const length of [0x300, 1024, image.length - 1]) {
    expect(failure(() => loadKernel(testMemory(), source(image.subarray(0, length)))).code).toBe(
      'bad_kernel',
    );
  }
  for (let length = 4; length < 0x204; length += 16) {
    expect(failure(() => loadKernel(testMemory(), source(elf64().subarray(0, length)))).code).toBe(
      'bad_kernel',
    );
  }
});

test('damaged compressed data is refused', () => {
  const image = bzImage(withSize(gzipSync(elf64())));
  image.fill(0x55, 1024 + 0x300 + 20);
  expect(failure(() => loadKernel(testMemory(), source(image))).message).toMatch(/damaged/);
});

test('too little memory is told with how much is needed', () => {
  const kernel = bzImage(withSize(gzipSync(elf64())));
  const error = failure(() => loadKernel(testMemory(2 * MIB), source(kernel)));
  expect(error.code).toBe('memory_too_small');
  expect(error.message).toMatch(/needs 3 MiB/);
  const initrd = new Uint8Array(6 * MIB);
  expect(failure(() => loadKernel(testMemory(), source(kernel, { initrd }))).message).toMatch(/needs 9 MiB/);
});

test('a command line that the kernel would cut is refused', () => {
  const commandLine = 'x'.repeat(3000);
  const kernel = bzImage(withSize(gzipSync(elf64())));
  expect(failure(() => loadKernel(testMemory(), source(kernel, { commandLine }))).message).toMatch(
    /at most 2047/,
  );
});
