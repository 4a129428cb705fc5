/** `umlaut boot --profile`: the hottest places of the guest, with the kernel's symbols where a System.map is given. */
import type { HotPlace } from '../engine/profiler.ts';

const SHOWN = 40;

/** Start addresses of functions in order, and their names. */
export interface Symbols {
  readonly addresses: readonly bigint[];
  readonly names: readonly string[];
}

/** Reads a System.map: lines of address, type and name. Only code counts (types t, T, w and W). */
export function parseSystemMap(text: string): Symbols {
  const list = [...text.matchAll(/^([0-9a-f]{8,16}) [tTwW] (\S+)$/gm)]
    .map((match) => ({ address: BigInt(`0x${match[1]}`), name: match[2]! }))
    .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  return { addresses: list.map(({ address }) => address), names: list.map(({ name }) => name) };
}

/** The function that an address is in; undefined for user space and what lies before all symbols. */
export function symbolOf({ addresses, names }: Symbols, rip: bigint): string | undefined {
  if (rip >> 63n === 0n) return undefined;
  let [low, high] = [0, addresses.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (addresses[middle]! <= rip) low = middle + 1;
    else high = middle;
  }
  return names[low - 1];
}

/** A table of functions and raw addresses, the hottest first. */
export function profileReport(places: readonly HotPlace[], symbols: Symbols): string {
  const total = places.reduce((sum, { instructions }) => sum + instructions, 0);
  const rows = new Map<string, { instructions: number; samples: number }>();
  for (const { rip, instructions, samples } of places) {
    const name = symbolOf(symbols, rip) ?? `0x${rip.toString(16).padStart(16, '0')}`;
    const row = rows.get(name) ?? { instructions: 0, samples: 0 };
    rows.set(name, { instructions: row.instructions + instructions, samples: row.samples + samples });
  }
  const hottest = [...rows].sort(([, a], [, b]) => b.instructions - a.instructions).slice(0, SHOWN);
  const lines = hottest.map(([name, { instructions, samples }]) => {
    const percent = total === 0 ? 0 : (100 * instructions) / total;
    return `${percent.toFixed(2).padStart(7)} ${String(samples).padStart(9)}  ${name}`;
  });
  return `percent   samples  place\n${lines.join('\n')}\n`;
}
