/** Trees of processes' numbers, laid out by hand as a kernel has them. */
import { describe, expect, it } from 'vitest';
import type { LinuxKernel } from './kernel.ts';
import { findTask } from './tasks.ts';

const NAMESPACE = 0x1000n;
const OFFSET: Readonly<Record<string, number>> = {
  'pid_namespace.idr.idr_rt.xa_head': 8,
  'xa_node.shift': 0,
  'xa_node.slots': 40,
  'pid.tasks': 16,
  'task_struct.pid_links': 0x500,
};

/** Only what is read of a kernel's memory, and how often. */
function kernelWith(pids: readonly number[]): { readonly kernel: LinuxKernel; reads: () => number } {
  const words = new Map<bigint, bigint>();
  let [free, reads] = [0x10_0000n, 0];
  const node = (shift: number): bigint => {
    const at = free;
    free += 1024n;
    words.set(at, BigInt(shift));
    return at;
  };
  const top = Math.max(...pids);
  let shift = 0;
  while (top >> (shift + 6) > 0) shift += 6;
  const root = node(shift);
  words.set(NAMESPACE + 8n, root + 2n);
  for (const pid of pids) {
    let at = root;
    for (let level = shift; level > 0; level -= 6) {
      const slot = at + 40n + BigInt(((pid >> level) & 63) * 8);
      if (!words.has(slot)) words.set(slot, node(level - 6) + 2n);
      at = words.get(slot)! - 2n;
    }
    const struct = free;
    free += 64n;
    words.set(at + 40n + BigInt((pid & 63) * 8), struct);
    words.set(struct + 16n, BigInt(pid) * 0x10_0000n + 0x500n);
  }
  const field = (name: string, part: string, base: bigint): bigint =>
    base + BigInt(OFFSET[`${name}.${part}`]!);
  const u64 = (at: bigint): bigint => {
    reads++;
    return words.get(at) ?? 0n;
  };
  const kernel = {
    field,
    u64: (name: string, part: string, base: bigint) => u64(field(name, part, base)),
    types: { offset: (name: string, part: string) => OFFSET[`${name}.${part}`]! },
    memory: { u64, read: (at: bigint) => Uint8Array.of(Number(u64(at))) },
  };
  // INVARIANT: it is asked for nothing else.
  return { kernel: kernel as unknown as LinuxKernel, reads: () => reads };
}

const all = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 1);

describe('a task is found by its number', () => {
  it.each([[[1]], [[1, 63]], [[1, 64, 4095]], [[1, 4096, 32_767]], [all(5000)]])('among %j', (pids) => {
    const { kernel } = kernelWith(pids);
    for (const pid of pids) {
      expect(findTask(kernel, pid, NAMESPACE)?.address).toBe(BigInt(pid) * 0x10_0000n);
    }
    const others = [0, 2, 62, 65, 4094, 4097, 32_768, 262_144, 4_194_304, 2 ** 40].filter(
      (pid) => !pids.includes(pid),
    );
    for (const pid of others) expect(findTask(kernel, pid, NAMESPACE), `${pid}`).toBeUndefined();
  });

  it('in as many steps whether there are a hundred or five thousand of them', () => {
    const steps = (count: number): number => {
      const { kernel, reads } = kernelWith([...all(count), 32_767]);
      findTask(kernel, count, NAMESPACE);
      return reads();
    };
    expect(steps(5000)).toBe(steps(100));
    expect(steps(5000)).toBeLessThan(12);
  });

  it('in a tree that leads to itself, no more', () => {
    const { kernel } = kernelWith([1, 64]);
    const root = kernel.u64('pid_namespace', 'idr.idr_rt.xa_head', NAMESPACE);
    const looped = { ...kernel, memory: { u64: () => root, read: () => Uint8Array.of(6) } };
    expect(findTask(looped as unknown as LinuxKernel, 1, NAMESPACE)).toBeUndefined();
  });
});
