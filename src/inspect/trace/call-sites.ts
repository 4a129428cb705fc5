/** Where functions of a guest's kernel are called: what follows CALL rel32 (Intel SDM volume 2, CALL: E8) in its code. */
import type { LinuxKernel } from '../kernel.ts';

const CALL = 0xe8;
const CALL_BYTES = 5;
const CODE_BYTES_MAX = 64 << 20;
/** Of one function: the others' returns are not seen. */
const SITES_MAX = 12;

/** Addresses that the functions return to, by function. Takes some tens of milliseconds. */
export function returnSites(kernel: LinuxKernel, functions: readonly bigint[]): Map<bigint, bigint[]> {
  const start = kernel.symbol('_stext');
  const length = Math.min(CODE_BYTES_MAX, Number(kernel.symbol('_etext') - start));
  const code = kernel.memory.readSome(start, Math.max(0, length));
  const sites = new Map<bigint, bigint[]>();
  const targets = new Map<number, bigint[]>();
  for (const address of functions) {
    const found: bigint[] = [];
    sites.set(address, found);
    targets.set(Number(address - start), found);
  }
  for (
    let at = code.indexOf(CALL);
    at >= 0 && at + CALL_BYTES <= code.length;
    at = code.indexOf(CALL, at + 1)
  ) {
    const next = at + CALL_BYTES;
    const found = targets.get(next + code.readInt32LE(at + 1));
    if (found !== undefined && found.length < SITES_MAX) found.push(start + BigInt(next));
  }
  return sites;
}
