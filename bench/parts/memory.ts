/** Memory of the emulator's process beyond what the guest has touched of its RAM, after boot and the compute suite. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { memoryMap } from '../../src/engine/layout.ts';
import { median } from '../figures.ts';
import { type Engine, MEMORY_MIB } from '../kit.ts';
import { NO_COMPILER, suiteInitrd } from './compute.ts';
import { inTurns, type Part } from './part.ts';

const DONE = 'SUITE-IS-DONE';
const MIB = 1 << 20;
const PAGE = 4096;
/** Bits of an entry of /proc/PID/pagemap: present, swapped (Documentation/admin-guide/mm/pagemap.rst). */
const RESIDENT = 1n << 63n;

interface Mapping {
  readonly start: number;
  readonly bytes: number;
}

/** The writable mapping that holds guest RAM: the largest with at least its size resident or not. */
function ramMapping(pid: number, engine: Engine): Mapping {
  const bytes = MEMORY_MIB * MIB;
  const mappings = [
    ...readFileSync(`/proc/${pid}/maps`, 'latin1').matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm),
  ].map(([, from, to]): Mapping => {
    const start = Number.parseInt(from!, 16);
    return { start, bytes: Number.parseInt(to!, 16) - start };
  });
  // QEMU's has exactly that size; ours holds what the engine keeps in front of it too.
  const ours = memoryMap(bytes, 0).ram + bytes;
  const found =
    engine === 'qemu'
      ? mappings.find((one) => one.bytes === bytes)
      : mappings.filter((one) => one.bytes >= ours).sort((a, b) => a.bytes - b.bytes)[0];
  if (found === undefined) throw new Error(`no mapping of ${engine} holds guest RAM`);
  return found.bytes === bytes ? found : { start: found.start + found.bytes - bytes, bytes };
}

/** Bytes of a mapping that are in memory. */
function residentBytes(pid: number, { start, bytes }: Mapping): number {
  const entries = new BigUint64Array(bytes / PAGE);
  const file = openSync(`/proc/${pid}/pagemap`, 'r');
  readSync(file, entries, 0, entries.byteLength, (start / PAGE) * 8);
  closeSync(file);
  return entries.filter((entry) => (entry & RESIDENT) !== 0n).length * PAGE;
}

function beyondRam(pid: number, engine: Engine): number {
  const resident =
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) * 1024;
  return (resident - residentBytes(pid, ramMapping(pid, engine))) / MIB;
}

export const memory: Part = {
  name: 'memory',
  title: 'Memory',
  async run(context) {
    const { kit } = context;
    const initrd = suiteInitrd(kit, [], `$B echo ${DONE}; $B sleep 600`);
    if (initrd === undefined) return NO_COMPILER;
    const megabytes = { umlaut: [] as number[], qemu: [] as number[] };
    await inTurns(context, 'memory', async (engine) => {
      const { value } = await kit.until(engine, { initrd }, DONE, (pid) => beyondRam(pid, engine));
      megabytes[engine].push(value);
    });
    const figure = (list: readonly number[]): string => (list.length === 0 ? '–' : median(list).toFixed(0));
    return [
      'Resident memory of the emulator after boot and the compute suite, less the pages of guest RAM that the guest has touched.',
      '',
      '| | ours, MiB | QEMU TCG, MiB |',
      '|---|---:|---:|',
      `| beyond guest RAM | ${figure(megabytes.umlaut)} | ${figure(megabytes.qemu)} |`,
    ].join('\n');
  },
};
