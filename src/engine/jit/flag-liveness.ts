/** What the instructions of a region do to the flags, taken together. */
import { UOP } from '../layout.ts';
import { uopDefinitions } from '../uops/index.ts';
import type { CodeNode, FlowGraph } from './flow-graph.ts';
import type { FlagNeeds } from './lazy-flags.ts';
import { type OperandProfile, operandProfile } from './operand-profile.ts';

function profileOf(graph: FlowGraph, uop: number): OperandProfile {
  return operandProfile(uopDefinitions()[graph.uops.u16(uop, UOP.OP)]);
}

function* uopsOf(node: CodeNode): Generator<number> {
  for (const { firstUop, uopCount } of node.instructions) {
    for (let uop = firstUop; uop < firstUop + uopCount; uop++) yield uop;
  }
}

export function flagNeeds(graph: FlowGraph): FlagNeeds {
  let carry = false;
  let third = false;
  for (const node of graph.nodes.values()) {
    if (node.kind !== 'code') continue;
    for (const uop of uopsOf(node)) {
      const { flags } = profileOf(graph, uop);
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
  for (const uop of [...uopsOf(node)].reverse()) {
    const { flags, leaves } = profileOf(graph, uop);
    if (isOverwritten && flags.first === 'overwrites' && !leaves) dead.add(uop);
    if (leaves || flags.first === 'reads') isOverwritten = false;
    else if (flags.first === 'overwrites') isOverwritten = true;
  }
  return dead;
}
