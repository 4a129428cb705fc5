/**
 * Orders a region's blocks for WebAssembly's structured control flow: reverse postorder, dominators, loop
 * headers and merge nodes (N. Ramsey, "Beyond Relooper", ICFP 2022). Edges that make the graph irreducible
 * are reported so that they leave the region instead.
 */
import type { FlowGraph } from './flow-graph.ts';

export interface Structure {
  /** Position in reverse postorder, by block start. */
  readonly order: ReadonlyMap<number, number>;
  /** Children in the dominator tree, by block start. */
  readonly children: ReadonlyMap<number, readonly number[]>;
  readonly loopHeaders: ReadonlySet<number>;
  /** Blocks with two or more forward edges. */
  readonly merges: ReadonlySet<number>;
  /** Is this edge part of the structure? False: leave the region. */
  allows(from: number, to: number): boolean;
}

function reversePostorder(graph: FlowGraph): number[] {
  const seen = new Set<number>([graph.entry]);
  const out: number[] = [];
  const stack: { at: number; next: number }[] = [{ at: graph.entry, next: 0 }];
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const successors = graph.blocks.get(top.at)!.successors;
    if (top.next < successors.length) {
      const to = successors[top.next++];
      if (!seen.has(to)) {
        seen.add(to);
        stack.push({ at: to, next: 0 });
      }
    } else {
      out.push(top.at);
      stack.pop();
    }
  }
  return out.reverse();
}

/** Immediate dominators by Cooper, Harvey and Kennedy's iteration, as positions in reverse postorder. */
function immediateDominators(order: readonly number[], predecessors: readonly number[][]): Int32Array {
  const dominator = new Int32Array(order.length).fill(-1);
  dominator[0] = 0;
  const meet = (x: number, y: number): number => {
    let a = x;
    let b = y;
    while (a !== b) {
      while (a > b) a = dominator[a];
      while (b > a) b = dominator[b];
    }
    return a;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (let n = 1; n < order.length; n++) {
      let best = -1;
      for (const p of predecessors[n]) if (dominator[p] >= 0) best = best < 0 ? p : meet(p, best);
      if (best !== dominator[n]) {
        dominator[n] = best;
        changed = true;
      }
    }
  }
  return dominator;
}

export function structure(graph: FlowGraph): Structure {
  let dropped = new Set<string>();
  // Dropping an irreducible edge changes dominators: repeat until there is none.
  for (;;) {
    const attempt = analyse(graph, dropped);
    if (attempt.irreducible.length === 0) return attempt.result;
    dropped = new Set([...dropped, ...attempt.irreducible]);
  }
}

const edge = (from: number, to: number): string => `${from}>${to}`;

function analyse(
  graph: FlowGraph,
  dropped: ReadonlySet<string>,
): { result: Structure; irreducible: readonly string[] } {
  const allowed = (from: number): number[] =>
    graph.blocks.get(from)!.successors.filter((to) => !dropped.has(edge(from, to)));
  const blocks = new Map(
    [...graph.blocks].map(([start, block]) => [start, { ...block, successors: allowed(start) }]),
  );
  const order = reversePostorder({ ...graph, blocks });
  const position = new Map(order.map((start, n) => [start, n]));
  const predecessors: number[][] = order.map(() => []);
  order.forEach((from, n) => {
    for (const to of blocks.get(from)!.successors) predecessors[position.get(to)!].push(n);
  });
  const dominator = immediateDominators(order, predecessors);
  const dominates = (a: number, b: number): boolean => {
    let at = b;
    while (at > a) at = dominator[at];
    return at === a;
  };
  const loopHeaders = new Set<number>();
  const merges = new Set<number>();
  const irreducible: string[] = [];
  predecessors.forEach((from, n) => {
    let forward = 0;
    for (const p of from) {
      if (p < n) forward += 1;
      else if (dominates(n, p)) loopHeaders.add(order[n]);
      else irreducible.push(edge(order[p], order[n]));
    }
    if (forward > 1) merges.add(order[n]);
  });
  const children = new Map<number, number[]>(order.map((start) => [start, []]));
  for (let n = 1; n < order.length; n++) children.get(order[dominator[n]])!.push(order[n]);
  const allows = (from: number, to: number): boolean => position.has(to) && !dropped.has(edge(from, to));
  return { result: { order: position, children, loopHeaders, merges, allows }, irreducible };
}
