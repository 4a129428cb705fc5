/**
 * What a start touches of Node's own program is twice as much as what goes on to be used, and Linux maps 64 KB around each
 * page: 51 MB are resident after a guest's boot, of which 23 MB are not touched again. The kernel can have such pages back at any time, but
 * does so only when it is short of memory, and until then they look like memory that the VMs need.
 */
import { readFileSync } from 'node:fs';
import { MADV_DONTNEED, madvise } from './libc.ts';

/** A line of /proc/PID/smaps that begins a mapping: read-only, of a file. */
const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+ +(\/.*)$/m;
/** Pages that differ from the file, as relocations do, would be lost. */
const UNCHANGED = /^Private_Dirty: +0 kB$/m;

/**
 * Lets go of the pages of the running program; what is touched again is mapped again, from the page cache. Nothing happens
 * elsewhere than on Linux with glibc.
 */
export function dropProgramPages(): void {
  let mappings: string[];
  try {
    mappings = readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  } catch {
    return;
  }
  for (const mapping of mappings) {
    const [, from, to, file] = MAPPING.exec(mapping) ?? [];
    if (file !== process.execPath || !UNCHANGED.test(mapping)) continue;
    const start = Number.parseInt(from!, 16);
    madvise(start, Number.parseInt(to!, 16) - start, MADV_DONTNEED);
  }
}
