/** Gives memory of a guest's back to the host: it reads as zeros afterwards, and costs nothing until it is touched again. */
import koffi from 'koffi';

const MADV_DONTNEED = 4;

let madvise: ((bytes: Uint8Array, length: number, advice: number) => number) | undefined;

/** `bytes`: whole pages of an anonymous mapping, as WebAssembly's memories are. False when the host does not take them. */
export function releaseMemory(bytes: Uint8Array): boolean {
  madvise ??= koffi.load('libc.so.6').func('int madvise(uint8_t *address, size_t length, int advice)');
  return madvise(bytes, bytes.length, MADV_DONTNEED) === 0;
}
