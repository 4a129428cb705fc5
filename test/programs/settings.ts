/** Processors that generated programs are tried on. */
import type { CpuOptions } from '../../src/engine/vcpu.ts';

/** A processor, and its room for micro-ops. */
export type ProgramOptions = CpuOptions & { readonly arenaBytes?: number };

/** What the others are compared with: it can stop behind each instruction. */
export const REFERENCE: ProgramOptions = { jitThreshold: 0, blockInstructions: 1 };

export const SETTINGS: Readonly<Record<string, ProgramOptions>> = {
  interpreter: { jitThreshold: 0 },
  'interpreter, small TLB': { jitThreshold: 0, tlbEntries: 16 },
  compiler: { jitThreshold: 1 },
  'compiler, small TLB': { jitThreshold: 1, tlbEntries: 16 },
  'compiler, room for a few regions': { jitThreshold: 1, jitCodeBytes: 16 << 10 },
  'compiler, room for few micro-ops': { jitThreshold: 1, arenaBytes: 80 << 10 },
  'interpreter, room for few micro-ops': { jitThreshold: 0, arenaBytes: 80 << 10 },
  'compiler, where warm': { jitThreshold: 40 },
  default: {},
};
