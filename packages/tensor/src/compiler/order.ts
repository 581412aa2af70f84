// compiler/order.ts: when each kernel runs. The order changes no value; it decides how much memory is in use at once.
import { invariant } from "../errors.ts";
import type { Node } from "../node.ts";
import { sizeOf } from "../shape.ts";
import type { Draft } from "./draft.ts";
import { isLeaf } from "./store.ts";

/** What the order depends on, beside the drafts. */
export interface OrderContext {
  /** The drafts that write each stored node. */
  readonly writers: ReadonlyMap<Node, ReadonlySet<Draft>>;
  /** When the user's program made a node: larger is later. */
  readonly written: ReadonlyMap<Node, number>;
  /** Donated leaves, and the output that would take over the buffer of each. */
  readonly heirs: ReadonlyMap<Node, Node | undefined>;
  /** The intermediate whose memory a stored node lies in; undefined for what has memory anyhow: leaves and outputs. */
  readonly intermediate: (node: Node) => Node | undefined;
}

/**
 * Order of execution: after everything that is read; otherwise as the program was written, so that the gradient of a layer's
 * weight comes with that of its input, and work that only a later kernel wants comes just before it. A kernel that frees more
 * than it takes runs as soon as it can: what it reads dies early.
 */
export function orderDrafts(drafts: readonly Draft[], context: OrderContext): Draft[] {
  const { writers, written } = context;
  const needs = new Map(drafts.map((d) => [d, needsOf(d, writers)]));
  readersFirst(drafts, needs, context);
  const waiters = new Map<Draft, Draft[]>();
  const waits = new Map<Draft, number>();
  for (const [draft, list] of needs) {
    waits.set(draft, list.size);
    for (const need of list) {
      const known = waiters.get(need);
      if (known) known.push(draft);
      else waiters.set(need, [draft]);
    }
  }
  const use = new MemoryUse(drafts, context);
  const ready = new Set(drafts.filter((d) => waits.get(d) === 0));
  const order = new Set<Draft>();
  const run = (draft: Draft): void => {
    order.add(draft);
    ready.delete(draft);
    use.run(draft);
    for (const waiter of waiters.get(draft) ?? []) {
      waits.set(waiter, waits.get(waiter)! - 1);
      if (waits.get(waiter) === 0) ready.add(waiter);
    }
  };
  const relief = (): Draft | undefined => {
    for (const draft of ready) if (use.growth(draft) < 0) return draft;
    return undefined;
  };

  const begin = new Map(
    drafts.map((d) => [d, Math.min(...d.roots.map((r) => written.get(r.node) ?? Number.POSITIVE_INFINITY))]),
  );
  const asWritten = [...drafts].sort((a, b) => {
    const [x, y] = [begin.get(a)!, begin.get(b)!];
    return x === y ? a.number - b.number : x - y;
  });
  for (const start of asWritten) {
    const stack: Draft[] = [start];
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const missing = order.has(top) ? undefined : [...needs.get(top)!].find((d) => !order.has(d));
      if (missing) stack.push(missing);
      else {
        stack.pop();
        if (order.has(top)) continue;
        run(top);
        for (let next = relief(); next; next = relief()) run(next);
      }
      invariant(stack.length <= drafts.length, "kernels wait for each other");
    }
  }
  return [...order];
}

/** The drafts that must have run before `draft`: those that write what it reads or waits for. */
export function needsOf(draft: Draft, writers: ReadonlyMap<Node, ReadonlySet<Draft>>): Set<Draft> {
  const needs = new Set<Draft>();
  for (const nodes of [draft.reads.keys(), draft.after])
    for (const node of nodes) for (const w of writers.get(node) ?? []) if (w !== draft) needs.add(w);
  return needs;
}

/**
 * Makes the writers of an output wait for all readers of the donated leaf whose buffer it would take over, where those do not
 * wait for it in turn: else the output needs a buffer of its own.
 */
function readersFirst(
  drafts: readonly Draft[],
  needs: ReadonlyMap<Draft, Set<Draft>>,
  { writers, heirs }: OrderContext,
): void {
  const readers = new Map<Node, Draft[]>([...heirs.keys()].map((leaf) => [leaf, []]));
  for (const draft of drafts) for (const node of draft.reads.keys()) readers.get(node)?.push(draft);
  const reaches = (from: Draft, to: Draft): boolean => {
    const seen = new Set([from]);
    for (const draft of seen) {
      if (draft === to) return true;
      for (const need of needs.get(draft)!) seen.add(need);
    }
    return false;
  };
  for (const [leaf, heir] of heirs) {
    for (const writer of (heir && writers.get(heir)) ?? [])
      for (const reader of readers.get(leaf)!) if (!reaches(reader, writer)) needs.get(writer)!.add(reader);
  }
}

/** For a node that a kernel computes: the stored nodes that the barriers on the way to what it loads wait for. */
export function barrierWaits(loads: (node: Node) => boolean): (node: Node) => ReadonlySet<Node> {
  const none: ReadonlySet<Node> = new Set();
  const union = (sets: readonly ReadonlySet<Node>[]): ReadonlySet<Node> => {
    const some = sets.filter((s) => s.size > 0);
    return some.length < 2 ? (some[0] ?? none) : new Set(some.flatMap((s) => [...s]));
  };
  const memo = (f: (node: Node) => ReadonlySet<Node>): ((node: Node) => ReadonlySet<Node>) => {
    const known = new Map<Node, ReadonlySet<Node>>();
    return (node) => {
      let set = known.get(node);
      if (!set) known.set(node, (set = f(node)));
      return set;
    };
  };
  const sources = memo((node) => {
    if (isLeaf(node)) return none;
    return loads(node) ? new Set([node]) : union(node.inputs.map(sources));
  });
  const waits = memo(({ kind, inputs }) => {
    const [read, after] = kind.kind === "barrier" ? [inputs.slice(0, 1), inputs.slice(1)] : [inputs, []];
    return union([...read.map((n) => (loads(n) ? none : waits(n))), ...after.map(sources)]);
  });
  return waits;
}

/** Follows which intermediates are in memory. */
class MemoryUse {
  /** The intermediates that a draft reads or writes. */
  private readonly touched = new Map<Draft, Node[]>();
  /** Drafts that have yet to touch an intermediate. */
  private readonly ahead = new Map<Node, number>();
  private readonly live = new Set<Node>();

  constructor(drafts: readonly Draft[], { intermediate }: OrderContext) {
    for (const draft of drafts) {
      const nodes = new Set<Node>();
      for (const node of [...draft.roots.map((r) => r.target), ...draft.reads.keys()]) {
        const owner = intermediate(node);
        if (owner) nodes.add(owner);
      }
      this.touched.set(draft, [...nodes]);
      for (const node of nodes) this.ahead.set(node, (this.ahead.get(node) ?? 0) + 1);
    }
  }

  /** Elements in use after the draft less those before it. */
  growth(draft: Draft): number {
    let growth = 0;
    for (const node of this.touched.get(draft)!) {
      if (!this.live.has(node)) growth += sizeOf(node.shape);
      if (this.ahead.get(node) === 1) growth -= sizeOf(node.shape);
    }
    return growth;
  }

  run(draft: Draft): void {
    for (const node of this.touched.get(draft)!) {
      this.live.add(node);
      this.ahead.set(node, this.ahead.get(node)! - 1);
    }
  }
}
