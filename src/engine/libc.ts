/**
 * Functions of glibc by which a process gives memory back; where there is no glibc they do nothing.
 *
 * They are found when this is loaded, and not when first called: koffi aborts the whole process if the thread in which it
 * looks for a function is ended meanwhile, as a VM's may be at any time once it runs. Calls are safe.
 */
import koffi from 'koffi';

/** asm-generic/mman-common.h */
export const MADV_DONTNEED = 4;

function find<F extends (...args: number[]) => number>(signature: string, otherwise: F): F {
  try {
    // INVARIANT: the signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    return koffi.load('libc.so.6').func(signature) as unknown as F;
  } catch {
    return otherwise;
  }
}

/** malloc_trim(3) */
export const mallocTrim = find('int malloc_trim(size_t pad)', (_pad: number): number => 0);

/** madvise(2) */
export const madvise = find(
  'int madvise(uintptr_t address, size_t bytes, int advice)',
  (_address: number, _bytes: number, _advice: number): number => -1,
);
