// compiler/coalesce.ts: many small updates in one kernel.
//
// Kernels that compute the same expression over tensors of different sizes (the updates of 300 parameters) become one kernel
// over the concatenation of those tensors. A kernel binds few buffers, so the concatenation is one of memory: operand k of all
// members, a *family*, lies in one buffer, its arena, and every family has the same layout:
//
//   arena of p   | p0 |p1 |  p2   |        p' = f(p, g, scalars) at element x of the arenas is, for x in tensor i,
//   arena of g   | g0 |g1 |  g2   |        p_i' = f(p_i, g_i, scalars): one loop over all x; gaps are computed along.
//
// A family of donated parameters stays in its arena from call to call, and its updates take its place. A family of temporaries
// (gradients) is written there by its producers. A family of other inputs is copied there. What members read as windows of one
// node (gradients that are slices of one tensor) is read where it lies; windows.ts says how.
import { arenaAlignment } from "../device/device.ts";
import { createNode, type Node } from "../node.ts";
import { sizeOf } from "../shape.ts";
import { indexKey, linearIndex } from "./affine.ts";
import { type Draft, rootCoordinates } from "./draft.ts";
import { isLeaf, storedType } from "./store.ts";
import { ValueBuilder, variables, visitValues } from "./values.ts";
import { type Window, windowOf } from "./windows.ts";

// Elements of the largest tensor that shares a kernel: an AdamW update moves 28 bytes an element, so that 2^20 of them take
// 7 us at 4 TB/s (H200), what a dispatch costs. Larger ones gain nothing, and their gradients need not all live at once.
const LARGEST = 2 ** 20;
// Elements of the largest arena: 128 MiB, what every WebGPU device can bind.
const LARGEST_ARENA = 2 ** 25;

/** A buffer in which a family lies side by side. */
export interface Arena {
  /** Stands for the whole. */
  readonly owner: Node;
  /** Members, and the element at which each begins: inputs of the plan, or temporaries. */
  readonly members: ReadonlyMap<Node, number>;
  /** Outputs that take the place of the inputs, by input. Empty: the inputs are copied here for each run. */
  readonly heirs: ReadonlyMap<Node, Node>;
}

/** The drafts so far, as the merge pass knows them. */
export interface DraftGraph {
  readonly drafts: readonly Draft[];
  readonly loads: (node: Node) => boolean;
  readonly outputs: ReadonlySet<Node>;
  /** Donated leaves, and the output that would like the buffer of each. */
  readonly heirs: ReadonlyMap<Node, Node | undefined>;
  readonly placed: ReadonlyMap<Node, unknown>;
  readonly maxBindings: number;
  readonly readers: ReadonlyMap<Node, ReadonlySet<Draft>>;
  /** Whether draft `a` must run after draft `b`. */
  readonly needs: (a: Draft, b: Draft) => boolean;
  /** From here on it must. */
  readonly wait: (a: Draft, b: Draft) => void;
  /** Makes `b` part of `a`. */
  readonly merge: (a: Draft, b: Draft) => void;
}

/** Which element of an operand the draft's element x reads: "own", x of as many; "single", the only one; a number b, b + x of more. */
type Access = "own" | "single" | number;

/** A draft that could share a kernel with others of the same `text`. */
interface Candidate {
  readonly draft: Draft;
  readonly text: string;
  /** Nodes it reads, each at one place, in the order of the expression. */
  readonly operands: readonly Node[];
  readonly access: readonly Access[];
  /** For each root, the operand whose place it takes; undefined for a temporary, null where nobody needs the root. */
  readonly replaced: readonly (number | undefined | null)[];
}

/** Joins what can be joined. */
export function coalesce(graph: DraftGraph): Arena[] {
  const alike = new Map<string, Candidate[]>();
  for (const draft of graph.drafts) {
    const candidate = candidateOf(draft, graph);
    if (!candidate) continue;
    const list = alike.get(candidate.text);
    if (list) list.push(candidate);
    else alike.set(candidate.text, [candidate]);
  }
  const arenas: Arena[] = [];
  const used = new Set<Node>();
  for (const list of alike.values()) {
    // the same parameters give the same layout in every plan; a single element cannot lead, it has no index
    let rest = list.sort((a, b) => Math.min(b.draft.size, 2) - Math.min(a.draft.size, 2) || argument(a) - argument(b));
    while (rest.length > 1) {
      const group = joinable(rest, used, graph);
      const joined = group.length > 1 ? join(group, graph) : [];
      for (const { members } of joined) for (const n of members.keys()) used.add(n);
      arenas.push(...joined);
      rest = rest.filter((c) => c !== rest[0] && !group.includes(c));
    }
  }
  return arenas;
}

/** Position among the arguments of the first leaf that is replaced. */
function argument({ operands, replaced }: Candidate): number {
  const leaf = operands[replaced.find((k) => typeof k === "number")!]!.kind;
  return leaf.kind === "input" ? leaf.slot : -1;
}

function candidateOf(draft: Draft, graph: DraftGraph): Candidate | undefined {
  const { kind, size, roots, reductionSizes, spread } = draft;
  if (kind !== "loop" || size === 0 || size > LARGEST || reductionSizes.size > 0 || spread > 0) return undefined;
  if (![...draft.reads.keys()].some((n) => graph.heirs.has(n))) return undefined;
  const space = roots[0]!.node.shape;
  const own = indexKey(linearIndex(variables(space), space));
  const builder = new ValueBuilder(graph.loads, space.length);
  const values = [];
  for (const { node, target, place } of roots) {
    const at = rootCoordinates(space, node);
    if (target !== node || graph.placed.has(node) || storedType(node) === "f16" || indexKey(place(at)) !== own)
      return undefined;
    const value = builder.root(node, at);
    builder.define(node, value);
    values.push(value);
  }
  const operands: Node[] = [];
  const access: Access[] = [];
  const text: string[] = [];
  const number = new Map<number, number>();
  let fits = true;
  visitValues(values, (v) => {
    number.set(v.id, number.size);
    if (v.kind === "constant") text.push(`${v.dtype}=${Object.is(v.value, -0) ? "-0" : v.value}`);
    else if (v.kind === "op") text.push(`${v.op}:${v.dtype}(${v.args.map((a) => number.get(a.id)).join()})`);
    else if (v.kind === "load" && !v.mask) {
      const elements = sizeOf(v.source.shape);
      const { constant, terms } = v.index;
      const along = indexKey({ constant: 0, terms }) === own;
      const at = along && elements === size ? "own" : elements === 1 ? "single" : along ? constant : undefined;
      const k = operands.indexOf(v.source);
      fits &&= at !== undefined && (k < 0 || access[k] === at);
      if (k < 0 && at !== undefined) access[operands.push(v.source) - 1] = at;
      text.push(`${isLeaf(v.source) ? "leaf" : "value"}:${v.dtype}[${operands.indexOf(v.source)}]`);
    } else fits = false;
  });
  if (!fits) return undefined;

  const free = operands.map((n, k) => access[k] === "own" && graph.heirs.has(n) && !graph.outputs.has(n));
  const replaced: (number | undefined | null)[] = [];
  for (const { node } of roots) {
    if (!graph.outputs.has(node)) {
      replaced.push([...(graph.readers.get(node) ?? [])].some((d) => d !== draft) ? undefined : null);
      continue;
    }
    const wished = operands.findIndex((n, k) => free[k] && graph.heirs.get(n) === node);
    const k =
      wished >= 0
        ? wished
        : operands.findIndex((n, k) => free[k] && n.dtype === node.dtype && graph.heirs.get(n) === undefined);
    if (k < 0 || operands[k]!.dtype !== node.dtype) return undefined;
    free[k] = false;
    replaced.push(k);
  }
  if (!replaced.some((k) => typeof k === "number")) return undefined;
  values.forEach((v, j) => {
    text.push(`>${number.get(v.id)}:${replaced[j]}`);
  });
  return { draft, text: text.join(";"), operands, access, replaced };
}

/** A member's stored nodes, one for each family: what the lead reads as its own, then temporary results. */
function belongings({ operands, replaced, draft }: Candidate, lead: Candidate): Node[] {
  return [
    ...operands.filter((_, k) => lead.access[k] === "own"),
    ...draft.roots.flatMap((r, j) => (replaced[j] === undefined ? [r.node] : [])),
  ];
}

/** The first candidate and those that can run together with it. */
function joinable([lead, ...others]: readonly Candidate[], used: ReadonlySet<Node>, graph: DraftGraph): Candidate[] {
  const group: Candidate[] = [];
  const mine = new Set<Node>();
  let extent = 0;
  const windows = lead!.access.filter((at) => typeof at === "number").length;
  const temporaries = lead!.replaced.filter((k) => k === undefined).length;
  // each kind of window may need a table
  if (lead!.operands.length + temporaries + windows > graph.maxBindings) return group;
  const tryToAdd = (c: Candidate): void => {
    if (lead!.draft.size === 1 || extent + aligned(c.draft.size) > LARGEST_ARENA) return;
    if (!c.operands.every((n, k) => suits(lead!.access[k]!, c.access[k]!, n === lead!.operands[k]))) return;
    const own = belongings(c, lead!);
    if (new Set(own).size !== own.length || own.some((n) => used.has(n) || mine.has(n) || isElsewhere(n, graph)))
      return;
    const apart = (a: Draft, b: Draft): boolean => !graph.needs(a, b) && !graph.needs(b, a);
    if (!group.every((m) => apart(m.draft, c.draft))) return;
    // whoever else reads what is replaced must be able to run before all of the group
    const readers = heirsOf(c).flatMap(([leaf]) => [...graph.readers.get(leaf)!].filter((d) => d !== c.draft));
    const members = [...group, c];
    if (readers.some((r) => members.some((m) => m.draft === r || graph.needs(r, m.draft)))) return;
    group.push(c);
    extent += aligned(c.draft.size);
    for (const n of own) mine.add(n);
    for (const r of readers) for (const m of group) graph.wait(m.draft, r);
  };
  for (const c of [lead!, ...others]) tryToAdd(c);
  return group;
}

/** Whether a member may read an operand as `at` where the lead reads its own as `lead`; a single element may be anything. */
const suits = (lead: Access, at: Access, same: boolean): boolean =>
  lead === "own" ? at === "own" : same && (lead === "single" || typeof at === "number");

const aligned = (size: number): number => Math.ceil(size / arenaAlignment) * arenaAlignment;

/** Whether a node has its memory somewhere already: in a concat, or with the caller. */
const isElsewhere = (node: Node, { placed, outputs }: DraftGraph): boolean =>
  placed.has(node) || node.kind.kind === "concat" || outputs.has(node);

function join(group: readonly Candidate[], { merge }: DraftGraph): Arena[] {
  const [lead] = group as [Candidate];
  const { draft } = lead;
  const heirs = new Map(group.flatMap(heirsOf));
  const echoes = new Set(group.slice(1).flatMap((m) => m.draft.roots));
  const families = belongings(lead, lead).map(() => new Map<Node, number>());
  const begins: number[] = [];
  let extent = 0;
  for (const member of group) {
    begins.push(extent);
    belongings(member, lead).forEach((node, f) => {
      families[f]!.set(node, extent);
    });
    extent += aligned(member.draft.size);
  }
  for (const member of group.slice(1)) merge(draft, member.draft);
  const windows = new Map<Node, Window>();
  lead.operands.forEach((source, k) => {
    if (typeof lead.access[k] !== "number") return;
    const slices = group.map(({ access }, i) => ({ from: access[k] as number, to: begins[i]! }));
    const window = windowOf(slices, extent, source.device);
    if (window) windows.set(source, window);
  });
  draft.together = { members: group.length, extent, echoes, windows };
  return families.map((members) => {
    const { dtype, device } = [...members.keys()][0]!;
    const owner = createNode({ kind: "concat", axis: 0 }, [], [extent], dtype, device);
    return { owner, members, heirs: new Map([...heirs].filter(([leaf]) => members.has(leaf))) };
  });
}

/** Which root takes whose place. */
const heirsOf = ({ draft, operands, replaced }: Candidate): [Node, Node][] =>
  draft.roots.flatMap(({ node }, j): [Node, Node][] => {
    const k = replaced[j];
    return typeof k === "number" ? [[operands[k]!, node]] : [];
  });
