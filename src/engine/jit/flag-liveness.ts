/** What the instructions of a region do to the flags, taken together. */
import { blocksOf, type CodeNode, type FlowGraph } from './flow-graph.ts';
import type { FlagNeeds } from './lazy-flags.ts';
import { profileOf } from './operand-profile.ts';

export function flagNeeds(graph: FlowGraph): FlagNeeds {
  let carry = false;
  let third = false;
  for (const node of blocksOf(graph)) {
    for (const uop of node.uops) {
      const { flags } = profileOf(graph.uops, uop);
      carry ||= flags.carry;
      third ||= flags.third;
    }
  }
  return { carry, third };
}

/** Micro-ops of a block whose flags are overwritten before anything can read them or leave the region. */
export function uopsOfDeadFlags(graph: FlowGraph, node: CodeNode): ReadonlySet<number> {
  const dead = new Set<number>();
  let isOverwritten = false;
  for (let n = node.uops.length - 1; n >= 0; n--) {
    const uop = node.uops[n]!;
    const { flags, leaves } = profileOf(graph.uops, uop);
    if (isOverwritten && flags.first === 'overwrites' && !leaves) dead.add(uop);
    if (leaves || flags.first === 'reads') isOverwritten = false;
    else if (flags.first === 'overwrites') isOverwritten = true;
  }
  return dead;
}
