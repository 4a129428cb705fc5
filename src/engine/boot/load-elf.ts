/** Copies an ELF image's segments into guest memory. */
import type { GuestMemory } from '../machine/guest-memory.ts';
import type { ElfImage } from './elf.ts';
import { BootError, mebibytes } from './errors.ts';
import { LOW, lowRamEnd } from './memory-map.ts';

/** Loads all segments; returns the end of the highest. Throws BootError if they do not fit into RAM. */
export function loadElf(memory: GuestMemory, file: Uint8Array, elf: ElfImage): number {
  const end = elf.segments.reduce(
    (most, segment) => Math.max(most, segment.physical + segment.memoryBytes),
    0,
  );
  if (elf.segments.length === 0) throw new BootError('bad_kernel', 'the ELF file has nothing to load');
  if (end > lowRamEnd(memory.ramBytes)) {
    throw new BootError(
      'memory_too_small',
      `the kernel reaches up to ${mebibytes(end)} and the machine has ${mebibytes(memory.ramBytes)}: give it more memory`,
    );
  }
  for (const segment of elf.segments) {
    if (segment.physical < LOW.EXTENDED) {
      throw new BootError(
        'bad_kernel',
        `the kernel wants memory at 0x${segment.physical.toString(16)}; only addresses from 1 MiB on can be loaded`,
      );
    }
    const target = memory.writable(segment.physical, segment.memoryBytes);
    target.fill(0, segment.fileBytes);
    target.set(file.subarray(segment.offset, segment.offset + segment.fileBytes));
    memory.written(segment.physical, segment.memoryBytes);
  }
  return end;
}
