/**
 * Orders a region's nodes for WebAssembly's structured control flow: reverse postorder, dominators, loop headers
 * and merge nodes (N. Ramsey, "Beyond Relooper", ICFP 2022).
 *
 * Edges that make the graph irreducible go by a dispatcher: a loop around everything, at whose head a table
 * branches to the node that a local names. A region with several entries begins with it.
 */
import { type FlowGraph, successorsOf } from './flow-graph.ts';

/** Id of the dispatcher. */
export const DISPATCHER = -1;

export interface Structure {
  /** Where control begins: the dispatcher if there is one, else the only entry. */
  readonly root: number;
  /** Position in reverse postorder, by node. */
  readonly order: ReadonlyMap<number, number>;
  /** Children in the dominator tree, by node. */
  readonly children: ReadonlyMap<number, readonly number[]>;
  readonly loopHeaders: ReadonlySet<number>;
  /** Nodes that are branched to forwards from several places, or by the dispatcher's table. */
  readonly merges: ReadonlySet<number>;
  /** Nodes that the dispatcher branches to, the entries first. */
  readonly dispatched: readonly number[];
  /** Whether an edge goes by the dispatcher. */
  isDispatched(from: number, to: number): boolean;
}

type Successors = (node: number) => readonly number[];

function reversePostorder(root: number, successors: Successors): number[] {
  const seen = new Set<number>([root]);
  const out: number[] = [];
  const stack = [{ at: root, to: successors(root), next: 0 }];
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    if (top.next < top.to.length) {
      const to = top.to[top.next++];
      if (!seen.has(to)) {
        seen.add(to);
        stack.push({ at: to, to: successors(to), next: 0 });
      }
    } else {
      out.push(top.at);
      stack.pop();
    }
  }
  return out.reverse();
}

/** Immediate dominators by Cooper, Harvey and Kennedy's iteration, as positions in reverse postorder. */
function immediateDominators(count: number, predecessors: readonly number[][]): Int32Array {
  const dominator = new Int32Array(count).fill(-1);
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
    for (let n = 1; n < count; n++) {
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
  const dispatched = new Map<number, Set<number>>();
  // An edge that goes by the dispatcher changes dominators: repeat until no edge has to.
  for (;;) {
    const attempt = analyse(graph, dispatched);
    if (attempt.irreducible.length === 0) return attempt.result;
    for (const [from, to] of attempt.irreducible) {
      const sources = dispatched.get(to) ?? new Set();
      dispatched.set(to, sources.add(from));
    }
  }
}

/** @param dispatched nodes that the dispatcher branches to, with the nodes that go there by it */
function analyse(
  graph: FlowGraph,
  dispatched: ReadonlyMap<number, ReadonlySet<number>>,
): { result: Structure; irreducible: readonly (readonly [number, number])[] } {
  const entries = graph.entries.map(({ node }) => node);
  const table = [...entries, ...[...dispatched.keys()].filter((to) => !entries.includes(to))];
  const isDispatched = (from: number, to: number): boolean => dispatched.get(to)?.has(from) ?? false;
  const successors = new Map<number, readonly number[]>([[DISPATCHER, table]]);
  for (const [id, node] of graph.nodes) {
    const to = successorsOf(node).map((target) => (isDispatched(id, target) ? DISPATCHER : target));
    successors.set(id, to);
  }
  const root = table.length > 1 || dispatched.size > 0 ? DISPATCHER : entries[0];
  const order = reversePostorder(root, (node) => successors.get(node)!);
  const position = new Map(order.map((node, n) => [node, n]));
  const predecessors: number[][] = order.map(() => []);
  order.forEach((from, n) => {
    for (const to of successors.get(from)!) predecessors[position.get(to)!].push(n);
  });
  const dominator = immediateDominators(order.length, predecessors);
  const dominates = (a: number, b: number): boolean => {
    let at = b;
    while (at > a) at = dominator[at];
    return at === a;
  };
  const loopHeaders = new Set<number>();
  const merges = new Set<number>(root === DISPATCHER ? table : []);
  const irreducible: [number, number][] = [];
  predecessors.forEach((from, n) => {
    let forward = 0;
    for (const p of from) {
      if (p < n) forward += 1;
      else if (dominates(n, p)) loopHeaders.add(order[n]);
      else irreducible.push([order[p], order[n]]);
    }
    if (forward > 1) merges.add(order[n]);
  });
  const children = new Map<number, number[]>(order.map((node) => [node, []]));
  for (let n = 1; n < order.length; n++) children.get(order[dominator[n]])!.push(order[n]);
  const result = { root, order: position, children, loopHeaders, merges, dispatched: table, isDispatched };
  return { result, irreducible };
}
