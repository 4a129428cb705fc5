/** Recognizes a kernel's format and loads it. */
import type { EntryState } from '../cpu.ts';
import type { GuestMemory } from '../machine/guest-memory.ts';
import { isElf, parseElf } from './elf.ts';
import { BootError, mebibytes } from './errors.ts';
import type { KernelSource } from './kernel-source.ts';
import { isBzImage, loadLinux } from './linux.ts';
import { loadMultiboot, multibootHeader } from './multiboot.ts';
import { loadPvh, pvhEntry } from './pvh.ts';

/** Below this not even the loader's own structures and ACPI tables have room. */
const MEMORY_MIN = 2 << 20;

/** Loads the kernel into memory and says how to enter it. Throws BootError. */
export function loadKernel(memory: GuestMemory, source: KernelSource): EntryState {
  if (memory.ramBytes < MEMORY_MIN) {
    throw new BootError(
      'memory_too_small',
      `the machine has ${mebibytes(memory.ramBytes)} of memory: give it at least ${mebibytes(MEMORY_MIN)}`,
    );
  }
  const { kernel } = source;
  if (isBzImage(kernel)) return loadLinux(memory, source);
  const multiboot = multibootHeader(kernel);
  if (multiboot !== undefined) return loadMultiboot(memory, source, multiboot);
  if (isElf(kernel)) {
    const elf = parseElf(kernel);
    const entry = pvhEntry(elf);
    if (entry !== undefined) return loadPvh(memory, source, elf, entry);
    throw new BootError(
      'bad_kernel',
      'the ELF file has neither a PVH entry note nor a multiboot header: give a bzImage, a PVH kernel or a multiboot kernel',
    );
  }
  throw new BootError(
    'bad_kernel',
    'the file is no kernel: give a Linux bzImage (vmlinuz), an ELF kernel with a PVH note or a multiboot kernel',
  );
}
