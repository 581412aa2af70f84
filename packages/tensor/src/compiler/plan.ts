// compiler/plan.ts: from wanted nodes to launches: lower, schedule, assign buffers, write each kernel down.
import type { Device, Launch } from "../device/device.ts";
import type { StoredType } from "../dtype.ts";
import { invariant } from "../errors.ts";
import { type Node, topologicalOrder } from "../node.ts";
import { addIndex, affineStrides, constantIndex, type Index, linearIndex, reshapeCoordinates } from "./affine.ts";
import { assignBuffers, type BufferPlan, type Slot } from "./buffers.ts";
import { collapse } from "./collapse.ts";
import { type Draft, type Root, rootCoordinates, spreadShape } from "./draft.ts";
import type { Binding, FusedOperand, KernelSpec, MatrixOperand, Reduction, Store, Value } from "./kernel.ts";
import { lower } from "./lower.ts";
import { defaultSettings, type Schedule, type SchedulerSettings, schedule } from "./schedule.ts";
import { affineView, isLeaf, storedType } from "./store.ts";
import { resultValue, ValueBuilder, variables, visitValues } from "./values.ts";
import { lookUp, type Window } from "./windows.ts";

/** Everything that a realisation or a replay needs; holds shapes and slots, never the graph. */
export interface Plan {
  readonly slots: readonly Slot[];
  readonly launches: readonly Launch[];
  /** Slot of each wanted node; a leaf's slot where a wanted node is a leaf. */
  readonly outputs: readonly number[];
  /** For each leaf, whether an output took its buffer. */
  readonly reusedLeaves: readonly boolean[];
  /** One for each launch, for `explain`. */
  readonly kernels: readonly KernelSpec[];
}

/** What to plan. */
export interface PlanRequest {
  readonly device: Device;
  /** Inputs of the plan in order; every leaf below `outputs` must be among them. */
  readonly leaves: readonly Node[];
  readonly outputs: readonly Node[];
  /** Leaves that may be overwritten, with the index of the output that would best take over. */
  readonly donated?: ReadonlyMap<Node, number | undefined>;
  readonly settings?: Partial<SchedulerSettings>;
}

export function makePlan({ device, leaves, outputs, donated = new Map(), settings: given = {} }: PlanRequest): Plan {
  const settings = { ...defaultSettings, ...given };
  const { roots: wanted, written } = lower(outputs, device, settings);
  const fusedContiguous = (node: Node): boolean => {
    const k = node.kind;
    invariant(k.kind === "fused", "only fused nodes have kernels");
    const kernel =
      device.kind === "cpu" ? k.op.cpu?.(node.inputs, k.params, device) : k.op.webgpu?.(node.inputs, k.params, device);
    return kernel?.contiguous ?? false;
  };
  const heirs = new Map([...donated].map(([leaf, i]) => [leaf, i === undefined ? undefined : wanted[i]]));
  const scheduled = schedule(wanted, device.traits, settings, fusedContiguous, heirs, written);
  const buffers = assignBuffers(scheduled, leaves, wanted, heirs, settings);
  const kernels: KernelSpec[] = [];
  const launches: Launch[] = [];
  for (const draft of scheduled.drafts) {
    if (draft.size === 0 && draft.kind !== "fused") continue;
    const { spec, slots } = writeKernel(draft, scheduled, buffers);
    if (spec.bindings.every((b) => b.access === "read")) continue;
    for (const part of device.partsOf(spec)) {
      kernels.push(part);
      launches.push({ executable: device.prepare(part), slots });
    }
  }
  return {
    slots: buffers.slots,
    launches,
    outputs: wanted.map((n) => buffers.place.get(n)!.slot),
    reusedLeaves: leaves.map((n) => buffers.reusedLeaves.has(n)),
    kernels,
  };
}

/** Collects the buffers of one kernel: one binding a slot. */
class Bindings {
  readonly slots: number[] = [];
  private readonly access: Binding["access"][] = [];
  private readonly types: StoredType[] = [];
  private readonly sizes: number[] = [];
  private readonly buffers: BufferPlan;
  /** Arenas that are bound as wholes: of others the kernel binds the parts that it needs, so that its code holds no offsets. */
  private readonly wholes: ReadonlySet<number>;

  constructor(buffers: BufferPlan, draft: Draft) {
    this.buffers = buffers;
    const { inArena } = buffers;
    const slotsOf = (nodes: Iterable<Node>): number[] => [...nodes].flatMap((n) => inArena.get(n)?.slot ?? []);
    const read = slotsOf(draft.reads.keys());
    const written = slotsOf(draft.roots.map((r) => r.target));
    // a kernel may not read one part of a buffer and write another
    const mixed = read.filter((slot) => written.includes(slot));
    this.wholes = new Set(draft.together ? [...read, ...written] : mixed);
  }

  use(node: Node, access: "read" | "write"): { binding: number; offset: number } {
    const home = this.buffers.inArena.get(node);
    const place = home && this.wholes.has(home.slot) ? home : this.buffers.place.get(node);
    invariant(place, `a ${node.kind.kind} node has no memory`);
    let binding = this.slots.indexOf(place.slot);
    if (binding < 0) {
      binding = this.slots.push(place.slot) - 1;
      this.sizes[binding] = place.size;
      this.types[binding] = storedType(node);
      this.access[binding] = access;
    } else if (this.access[binding] !== access) this.access[binding] = "readwrite";
    invariant(this.types[binding] === storedType(node), "a kernel's buffer holds elements of one type");
    return { binding, offset: place.offset };
  }

  list(): Binding[] {
    return this.slots.map((_, i) => ({
      dtype: this.types[i]!,
      size: Math.max(1, this.sizes[i]!),
      access: this.access[i]!,
    }));
  }
}

const shifted = (index: Index, offset: number): Index =>
  offset === 0 ? index : addIndex(index, constantIndex(offset));

/** Names the buffers of values: loads of nodes become loads of bindings. */
function bind(values: readonly Value<Node>[], bindings: Bindings): Map<number, Value<number>> {
  const bound = new Map<number, Value<number>>();
  const indexOf = (index: Index): Index => {
    if (index.terms.every((t) => t.atom.kind === "variable")) return index;
    return {
      constant: index.constant,
      terms: index.terms.map(({ atom, coefficient }) => ({
        coefficient,
        atom:
          atom.kind === "value"
            ? { ...atom, value: bound.get(atom.value.id)! }
            : atom.kind === "variable"
              ? atom
              : { ...atom, of: indexOf(atom.of) },
      })),
    };
  };
  visitValues(values, (v) => {
    switch (v.kind) {
      case "load": {
        const { binding, offset } = bindings.use(v.source, "read");
        bound.set(v.id, {
          ...v,
          source: binding,
          index: shifted(indexOf(v.index), offset),
          mask: v.mask && bound.get(v.mask.id)!,
        });
        break;
      }
      case "op":
        bound.set(v.id, { ...v, args: v.args.map((a) => bound.get(a.id)!) });
        break;
      case "index":
        bound.set(v.id, { ...v, index: indexOf(v.index) });
        break;
      default:
        bound.set(v.id, v);
    }
  });
  return bound;
}

function writeKernel(
  draft: Draft,
  scheduled: Schedule,
  buffers: BufferPlan,
): { spec: KernelSpec; slots: readonly number[] } {
  const bindings = new Bindings(buffers, draft);
  if (draft.kind === "fused") return { spec: fusedKernel(draft, scheduled, bindings), slots: bindings.slots };
  const space = draft.roots[0]!.node.shape;
  const builder = new ValueBuilder(scheduled.loads, space.length);
  const stores: Store<Node>[] = [];
  const spreadStores: Store<Node>[] = [];
  const labels: string[] = [];
  const write = ({ node, target, place }: Root, at: readonly Index[], into: Store<Node>[]): void => {
    const isProduct = node.kind.kind === "matmul" && target === node;
    const value = isProduct
      ? resultValue(0, "f32")
      : target !== node && scheduled.stored.has(node)
        ? builder.read(node, at, undefined)
        : builder.root(node, at);
    if (target === node) builder.define(node, value);
    labels.push(labelOf(node));
    if (scheduled.needed.has(target)) into.push({ target, index: place(at), value });
  };
  for (const root of draft.roots) {
    if (root.spread || draft.together?.echoes.has(root)) continue;
    write(root, rootCoordinates(space, root.node), stores);
  }
  const beside = draft.spread > 0 ? spreadShape(draft) : [];
  const { firstVariable, at: inRow } = builder.open(beside);
  const inSpace = [...variables(space), ...inRow];
  for (const root of draft.roots)
    if (root.spread) write(root, reshapeCoordinates(inSpace, [...space, ...beside], root.node.shape), spreadStores);
  const roots = [...builder.reductions, ...stores, ...spreadStores].map((x) => x.value);
  const product = draft.kind === "matmul" ? draft.roots.find((r) => r.node.kind.kind === "matmul")!.node : undefined;
  const operands = product?.inputs.map((n) => matrixOperand(n, scheduled, bindings));
  const bound = bind(roots, bindings);
  const windows = new Map<number, { window: Window; binding: number }>();
  visitValues(roots, (v) => {
    const window = v.kind === "load" && v.index.terms.length > 0 && draft.together?.windows.get(v.source);
    if (window) windows.set(v.id, { window, binding: bindings.use(window.table, "read").binding });
  });
  const bindStore = ({ target, index, value }: Store<Node>): Store<number> => {
    const { binding, offset } = bindings.use(target, "write");
    return { target: binding, index: shifted(index, offset), value: bound.get(value.id)! };
  };
  const boundStores = stores.map(bindStore);
  const spread = spreadStores.length > 0 && { firstVariable, shape: beside, stores: spreadStores.map(bindStore) };
  const label = [...new Set(labels)].join("+");
  if (product) {
    const traits = product.kind;
    invariant(traits.kind === "matmul", "a matmul draft computes a product");
    const { precision, symmetric } = traits;
    const batch = product.shape.slice(0, -2);
    const [m, n] = product.shape.slice(-2) as [number, number];
    const k = product.inputs[0]!.shape.at(-1)!;
    const [a, b] = operands as [MatrixOperand, MatrixOperand];
    return {
      spec: {
        kind: "matmul",
        label,
        precision,
        symmetric,
        batch,
        m,
        n,
        k,
        a,
        b,
        stores: boundStores,
        bindings: bindings.list(),
      },
      slots: bindings.slots,
    };
  }
  const reductions = builder.reductions.map((r): Reduction<number> => ({ ...r, value: bound.get(r.value.id)! }));
  // the first of a group lies at the beginning of every arena: its loop, made longer, does the work of all
  const { together } = draft;
  const spec = collapse(
    {
      kind: "loop",
      label: together ? `${label} of ${together.members}` : label,
      shape: space,
      reductions,
      stores: boundStores,
      ...(spread && { spread }),
      bindings: bindings.list(),
    },
    together?.extent,
  );
  return { spec: lookUp(spec, windows), slots: bindings.slots };
}

function matrixOperand(node: Node, { stored }: Schedule, bindings: Bindings): MatrixOperand {
  const view = affineView(node, (n) => stored.has(n));
  invariant(view, "operands of matmul are strided");
  const { binding, offset } = bindings.use(view.base, "read");
  const strides = view.strides;
  return {
    binding,
    offset: offset + view.offset,
    batchStrides: strides.slice(0, -2),
    rowStride: strides.at(-2)!,
    columnStride: strides.at(-1)!,
  };
}

function fusedKernel(draft: Draft, { stored }: Schedule, bindings: Bindings): KernelSpec {
  const node = draft.roots[0]!.node.inputs[0]!;
  const k = node.kind;
  invariant(k.kind === "fused", "a fused draft computes a fused node");
  const inputs = node.inputs.map((n): FusedOperand => {
    const view = affineView(n, (x) => stored.has(x));
    invariant(view, "operands of fused ops are strided");
    const { binding, offset } = bindings.use(view.base, "read");
    return { binding, offset: offset + view.offset, strides: view.strides, shape: n.shape };
  });
  const outputs = k.outputs.map(({ shape }, i): FusedOperand => {
    const root = draft.roots.find((r) => r.node.kind.kind === "pick" && r.node.kind.output === i);
    invariant(root, "every output of a fused op is picked");
    const { binding, offset } = bindings.use(root.node, "write");
    const affine = affineStrides(linearIndex(variables(shape), shape), shape.length)!;
    return { binding, offset, strides: affine.strides, shape };
  });
  return {
    kind: "fused",
    label: k.op.name,
    op: k.op,
    params: k.params,
    inputSpecs: node.inputs.map(({ shape, dtype }) => ({ shape, dtype })),
    inputs,
    outputs,
    bindings: bindings.list(),
  };
}

function labelOf(node: Node): string {
  const k = node.kind;
  switch (k.kind) {
    case "map":
      return k.expr.op;
    case "reduce":
      return k.reduce;
    case "pick":
      return "fused";
    default:
      return k.kind;
  }
}

/** Leaves below the roots, each once. */
export function leavesOf(roots: readonly Node[]): Node[] {
  return topologicalOrder(roots).filter(isLeaf);
}
