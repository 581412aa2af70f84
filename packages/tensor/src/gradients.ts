// gradients.ts: what flows back through each kind of node, written in tensor code, so that gradients have gradients.
import { invariant } from "./errors.ts";
import { createNode, type Node } from "./node.ts";
import { iota, zeros } from "./ops/create.ts";
import { add, equal, mul, where } from "./ops/elementwise.ts";
import { scatterAdd } from "./ops/indexing.ts";
import { matmul } from "./ops/matmul.ts";
import { sum } from "./ops/reduce.ts";
import { broadcastTo, flip, mT, pad, reshape, slice, transpose } from "./ops/view.ts";
import { derivatives, type Expr, scalar, substitute } from "./scalar.ts";
import { Tensor } from "./tensor.ts";

/** Gradients of a node's inputs; undefined where none flows. */
export type InputGradients = readonly (Tensor | undefined)[];

/** Walks back from `outputs` to `inputs`; autograd provides it, the gradient of a fused op's reference needs it. */
export type VjpWalker = (
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
) => (Tensor | undefined)[];

/**
 * Cotangents of `node`'s inputs, given that of `node` (for a fused node: one for each output).
 * `needed(i)` says whether anyone wants input i.
 */
export function inputGradients(
  node: Node,
  cotangents: readonly (Tensor | undefined)[],
  needed: (input: number) => boolean,
  walk: VjpWalker,
): InputGradients {
  const k = node.kind;
  const x = (i: number): Tensor => new Tensor(node.inputs[i]!);
  const g = cotangents[0];
  if (k.kind === "fused") {
    const inputs = node.inputs.map((n) => new Tensor(n));
    const outputs = k.outputs.map(
      (spec, output) => new Tensor(createNode({ kind: "pick", output }, [node], spec.shape, spec.dtype)),
    );
    if (k.op.vjp) return k.op.vjp({ inputs, outputs, cotangents, params: k.params });
    const variables = inputs.map((t) => new Tensor(createNode({ kind: "variable" }, [t.node], t.shape, t.dtype)));
    return walk(k.op.reference(variables, k.params), variables, cotangents);
  }
  if (k.kind === "checkpoint") {
    const wanted = node.inputs.flatMap((_, i) => (i < node.inputs.length - k.results && needed(i) ? [i] : []));
    const after = cotangents.flatMap((c) => (c ? [c.node] : []));
    const held = node.inputs
      .slice(0, k.given)
      .map((n) => createNode({ kind: "barrier" }, [n, ...after], n.shape, n.dtype));
    const values = k.recompute(held).map((n) => new Tensor(n));
    const bars = walk(
      values,
      wanted.map((i) => new Tensor(held[i] ?? node.inputs[i]!)),
      cotangents,
    );
    return node.inputs.map((_, i) => bars[wanted.indexOf(i)]);
  }
  if (!g) return [];
  switch (k.kind) {
    case "map":
      return mapGradients(node, k.expr, g, needed);
    case "reshape":
      return [reshape(g, x(0).shape)];
    case "permute": {
      const inverse = new Array<number>(k.perm.length);
      k.perm.forEach((p, i) => {
        inverse[p] = i;
      });
      return [transpose(g, inverse)];
    }
    case "expand": {
      const from = x(0).shape;
      return [sum(g, { axis: from.flatMap((d, i) => (d === 1 && node.shape[i] !== 1 ? [i] : [])), keepDims: true })];
    }
    case "slice":
      return [
        pad(
          g,
          x(0).shape.map((d, i) => [k.starts[i]!, d - k.starts[i]! - node.shape[i]!] as const),
        ),
      ];
    case "flip":
      return [flip(g, k.axes)];
    case "pad":
      return [
        slice(
          g,
          k.before,
          k.before.map((b, i) => b + x(0).shape[i]!),
        ),
      ];
    case "gather":
      return [scatterAdd(x(1), g, k.axis, x(0).shape[k.axis]!), undefined];
    case "reduce": {
      const from = x(0).shape;
      const kept = from.map((d, i) => (k.axes.includes(i) ? 1 : d));
      if (k.reduce === "sum") return [broadcastTo(reshape(g, kept), from)];
      if (k.reduce === "argmax") return [];
      // the place of the extremum is found by index: comparing recomputed floats would not be sound
      invariant(k.axes.length === 1, "max and min reduce one axis");
      const axis = k.axes[0]!;
      const place = extremePlace(k.reduce, x(0), axis);
      const hit = equal(iota(from, axis, { device: g.device }), broadcastTo(reshape(place, kept), from));
      return [where(hit, broadcastTo(reshape(g, kept), from), 0)];
    }
    case "matmul": {
      // C = A B:  dA = dC B^T,  dB = A^T dC, neither of them symmetric where C is
      const options = k.precision === "f32" ? ({ precision: "f32" } as const) : {};
      return [
        needed(0) ? matmul(g, mT(x(1)), options) : undefined,
        needed(1) ? matmul(mT(x(0)), g, options) : undefined,
      ];
    }
    case "concat": {
      let start = 0;
      return node.inputs.map((input) => {
        const at = start;
        start += input.shape[k.axis]!;
        return slice(
          g,
          g.shape.map((_, i) => (i === k.axis ? at : 0)),
          g.shape.map((d, i) => (i === k.axis ? start : d)),
        );
      });
    }
    case "variable":
    case "barrier":
      return [g];
    case "buffer":
    case "input":
    case "constant":
    case "iota":
    case "stop":
      return [];
    case "half":
    case "pick":
      throw new Error(`internal: the walker does not see ${k.kind}; please report this`);
  }
}

function extremePlace(kind: "max" | "min", x: Tensor, axis: number): Tensor {
  const from = kind === "max" ? x : mul(x, -1);
  return new Tensor(
    createNode(
      { kind: "reduce", reduce: "argmax", axes: [axis] },
      [from.node],
      x.shape.filter((_, i) => i !== axis),
      "i32",
    ),
  );
}

/** L = f(y), y = expr(x_0, ...):  dx_i = dy * d expr / dx_i, one map a needed input, over the inputs, y and dy. */
function mapGradients(node: Node, expr: Expr, g: Tensor, needed: (input: number) => boolean): InputGradients {
  if (node.dtype !== "f32") return [];
  const n = node.inputs.length;
  const partials = derivatives(expr, n, scalar.arg(n, "f32"));
  return partials.map((partial, i) => {
    if (!partial || !needed(i)) return undefined;
    const total = scalar.mul(scalar.arg(n + 1, "f32"), partial);
    return mapOver([...node.inputs, node, g.node], total, node.shape);
  });
}

/** A map over just the inputs that the expression reads. */
function mapOver(inputs: readonly Node[], expr: Expr, shape: readonly number[]): Tensor {
  const used: Node[] = [];
  const at = new Map<number, Expr>();
  const renamed = substitute(expr, (arg) => {
    let known = at.get(arg.index!);
    if (!known) {
      used.push(inputs[arg.index!]!);
      known = scalar.arg(used.length - 1, arg.dtype);
      at.set(arg.index!, known);
    }
    return known;
  });
  if (renamed.op === "arg") return new Tensor(used[renamed.index!]!);
  return new Tensor(createNode({ kind: "map", expr: renamed }, used, shape, expr.dtype));
}

/** Sum of two cotangents, either of which may be missing. */
export const accumulate = (a: Tensor | undefined, b: Tensor | undefined): Tensor | undefined =>
  a && b ? add(a, b) : (a ?? b);

/** Zeros where nothing flowed back. */
export const zeroGradient = (x: Tensor): Tensor => zeros(x.shape, { device: x.device });
