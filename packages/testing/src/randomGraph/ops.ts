// randomGraph/ops.ts: the operations that random graphs are made of, each with how to choose its arguments and how to run it.

import type { DType, Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import type { Random } from "../random.ts";

/** A value of the graph so far, as the chooser sees it. */
export interface Value {
  readonly index: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** No element is larger in magnitude (roughly): keeps graphs away from overflow. */
  readonly bound: number;
}

/** Numbers that belong to an operation: axes, sizes, literals. */
export type Attributes = Readonly<Record<string, number | string | readonly number[]>>;

/** Arguments that were chosen, and how large the result can become. */
export interface Choice {
  readonly args: readonly Value[];
  readonly attributes?: Attributes;
  readonly bound?: number;
}

/** One operation of random graphs. */
export interface GraphOp {
  /** How often it is tried, relative to the others; default 1. */
  readonly weight?: number;
  /** True where a small change of a float argument may change the result a lot: left out when precisions are compared. */
  readonly jumps?: boolean;
  /** Chooses arguments among the values, or undefined where nothing fits. */
  readonly choose: (r: Random, values: readonly Value[]) => Choice | undefined;
  readonly run: (args: readonly Tensor[], attributes: Attributes) => Tensor;
}

const some = (r: Random, values: readonly Value[], ok: (v: Value) => boolean): Value | undefined => {
  const fitting = values.filter(ok);
  // later values are more interesting: they have history
  return fitting.length === 0
    ? undefined
    : fitting[Math.max(r.integer(0, fitting.length), r.integer(0, fitting.length))];
};
const float = (v: Value): boolean => v.dtype === "f32";
const integer = (v: Value): boolean => v.dtype === "i32";
const number = (name: string, a: Attributes): number => a[name] as number;
const list = (name: string, a: Attributes): readonly number[] => a[name] as readonly number[];
const sizeOf = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1);
const fits = (v: Value, w: Value): boolean => {
  for (let i = 1; i <= Math.min(v.shape.length, w.shape.length); i++) {
    const a = v.shape.at(-i)!;
    const b = w.shape.at(-i)!;
    if (a !== b && a !== 1 && b !== 1) return false;
  }
  return true;
};

const unary = (run: (x: Tensor) => Tensor, bound: (b: number) => number, extra: Partial<GraphOp> = {}): GraphOp => ({
  choose: (r, values) => {
    const x = some(r, values, float);
    return x && { args: [x], bound: bound(x.bound) };
  },
  run: ([x]) => run(x!),
  ...extra,
});

const binary = (
  type: (v: Value) => boolean,
  run: (x: Tensor, y: Tensor) => Tensor,
  bound: (a: number, b: number) => number,
  extra: Partial<GraphOp> = {},
): GraphOp => ({
  choose: (r, values) => {
    const x = some(r, values, type);
    const y = x && some(r, values, (v) => v.dtype === x.dtype && fits(v, x));
    return y && { args: r.chance(0.5) ? [x, y] : [y, x], bound: bound(x.bound, y.bound) };
  },
  run: ([x, y]) => run(x!, y!),
  ...extra,
});

const reduction = (
  run: (x: Tensor, axis: number) => Tensor,
  grows: boolean,
  extra: Partial<GraphOp> = {},
): GraphOp => ({
  choose: (r, values) => {
    const x = some(r, values, (v) => (float(v) || (integer(v) && extra.jumps !== true)) && v.shape.length > 0);
    if (!x) return undefined;
    const axis = r.integer(0, x.shape.length);
    return { args: [x], attributes: { axis }, bound: grows ? x.bound * x.shape[axis]! : x.bound };
  },
  run: ([x], a) => run(x!, number("axis", a)),
  ...extra,
});

/** A float reduction only: softmax and its like. */
const floatReduction = (run: (x: Tensor, axis: number) => Tensor, bound: (b: number) => number): GraphOp => ({
  choose: (r, values) => {
    const x = some(r, values, (v) => float(v) && v.shape.length > 0);
    return x && { args: [x], attributes: { axis: r.integer(0, x.shape.length) }, bound: bound(x.bound) };
  },
  run: ([x], a) => run(x!, number("axis", a)),
});

const view = (
  choose: (r: Random, x: Value) => Attributes | undefined,
  run: (x: Tensor, a: Attributes) => Tensor,
  weight = 1,
): GraphOp => ({
  weight,
  choose: (r, values) => {
    const x = some(r, values, (v) => v.shape.length > 0);
    const attributes = x && choose(r, x);
    return attributes && { args: [x], attributes, bound: x.bound };
  },
  run: ([x], a) => run(x!, a),
});

function shuffled(r: Random, n: number): number[] {
  const out = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = r.integer(0, i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

/** A random shape with the given number of elements. */
function factored(r: Random, size: number): number[] {
  const shape: number[] = [];
  let rest = size;
  while (rest > 1 && shape.length < 3) {
    const divisors = Array.from({ length: rest }, (_, i) => i + 1).filter((d) => rest % d === 0 && d > 1);
    const d = r.pick(divisors);
    shape.push(d);
    rest /= d;
  }
  if (rest > 1) shape.push(rest);
  if (r.chance(0.2)) shape.splice(r.integer(0, shape.length + 1), 0, 1);
  return shape;
}

/** Indices that stay inside an axis: |i| mod n. */
const inside = (i: Tensor, n: number): Tensor => t.mod(t.abs(i), n);

const elementwise: Record<string, GraphOp> = {
  add: binary(float, t.add, (a, b) => a + b, { weight: 3 }),
  sub: binary(float, t.sub, (a, b) => a + b, { weight: 2 }),
  mul: binary(float, t.mul, (a, b) => a * b, { weight: 3 }),
  maximum: binary(float, t.maximum, Math.max),
  minimum: binary(float, t.minimum, Math.max),
  quotient: binary(
    float,
    (x, y) => t.div(x, t.add(t.square(y), 1)),
    (a) => a,
  ),
  scale: {
    choose: (r, values) => {
      const x = some(r, values, float);
      return (
        x && {
          args: [x],
          attributes: { by: r.pick([-1.5, -0.5, 0.25, 0.75]), plus: r.pick([-1, 0, 0.5]) },
          bound: x.bound * 1.5 + 1,
        }
      );
    },
    run: ([x], a) => t.add(t.mul(x!, number("by", a)), number("plus", a)),
  },
  tanh: unary(t.tanh, () => 1, { weight: 2 }),
  sin: unary(t.sin, () => 1),
  sigmoid: unary(t.sigmoid, () => 1),
  gelu: unary(
    (x) => t.gelu(x),
    (b) => b,
  ),
  expOfMinusAbs: unary(
    (x) => t.exp(t.neg(t.abs(x))),
    () => 1,
  ),
  sqrtOfSquarePlusOne: unary(
    (x) => t.sqrt(t.add(t.square(x), 1)),
    (b) => b + 1,
  ),
  stopGradient: unary(t.stopGradient, (b) => b),
  floor: unary(
    (x) => t.floor(t.mul(x, 2)),
    (b) => 2 * b + 1,
    { jumps: true },
  ),
  where: {
    weight: 2,
    choose: (r, values) => {
      const c = some(r, values, (v) => v.dtype === "bool");
      const x = c && some(r, values, (v) => float(v) && fits(v, c));
      const y = x && some(r, values, (v) => float(v) && fits(v, c) && fits(v, x));
      return y && { args: [c!, x, y], bound: Math.max(x.bound, y.bound) };
    },
    run: ([c, x, y]) => t.where(c!, x!, y!),
  },
};

const reductions: Record<string, GraphOp> = {
  sum: reduction((x, axis) => t.sum(x, { axis }), true, { weight: 2 }),
  sumKept: reduction((x, axis) => t.sum(x, { axis, keepDims: true }), true),
  max: reduction((x, axis) => t.max(x, { axis }), false),
  min: reduction((x, axis) => t.min(x, { axis, keepDims: true }), false),
  mean: floatReduction(
    (x, axis) => t.mean(x, { axis }),
    (b) => b,
  ),
  logsumexp: floatReduction(
    (x, axis) => t.logsumexp(x, { axis }),
    (b) => b + 5,
  ),
  softmax: floatReduction(
    (x, axis) => t.softmax(x, { axis }),
    () => 1,
  ),
  sumAll: {
    choose: (r, values) => {
      const x = some(r, values, float);
      return x && { args: [x], bound: x.bound * sizeOf(x.shape) };
    },
    run: ([x]) => t.sum(x!),
  },
  argmax: {
    jumps: true,
    choose: (r, values) => {
      const x = some(r, values, (v) => v.dtype !== "bool" && v.shape.length > 0);
      return x && { args: [x], attributes: { axis: r.integer(0, x.shape.length) }, bound: 20 };
    },
    run: ([x], a) => t.argmax(x!, { axis: number("axis", a) }),
  },
  topK: {
    jumps: true,
    choose: (r, values) => {
      const x = some(r, values, (v) => float(v) && v.shape.length > 0);
      return x && { args: [x], attributes: { k: r.integer(1, x.shape.at(-1)! + 1) }, bound: x.bound };
    },
    run: ([x], a) => t.topK(x!, number("k", a)).values,
  },
};

const views: Record<string, GraphOp> = {
  reshape: view(
    (r, x) => ({ shape: factored(r, sizeOf(x.shape)) }),
    (x, a) => t.reshape(x, list("shape", a)),
    2,
  ),
  transpose: view(
    (r, x) => (x.shape.length < 2 ? undefined : { perm: shuffled(r, x.shape.length) }),
    (x, a) => t.transpose(x, list("perm", a)),
    2,
  ),
  slice: view(
    (r, x) => {
      const starts = x.shape.map((d) => (r.chance(0.5) ? 0 : r.integer(0, d)));
      return { starts, ends: x.shape.map((d, i) => r.integer(starts[i]! + 1, d + 1)) };
    },
    (x, a) => t.slice(x, list("starts", a), list("ends", a)),
    2,
  ),
  flip: view(
    (r, x) => ({ axis: r.integer(0, x.shape.length) }),
    (x, a) => t.flip(x, number("axis", a)),
  ),
  pad: view(
    (r, x) => ({ before: x.shape.map(() => r.integer(0, 2)), after: x.shape.map(() => r.integer(0, 2)) }),
    (x, a) =>
      t.pad(
        x,
        list("before", a).map((b, i) => [b, list("after", a)[i]!] as const),
      ),
  ),
  broadcastTo: view(
    (r, x) => ({
      shape: [...(r.chance(0.5) ? [r.integer(2, 4)] : []), ...x.shape.map((d) => (d === 1 ? r.integer(1, 4) : d))],
    }),
    (x, a) => t.broadcastTo(x, list("shape", a)),
  ),
  expandDims: view(
    (r, x) => ({ axis: r.integer(0, x.shape.length + 1) }),
    (x, a) => t.expandDims(x, number("axis", a)),
  ),
  splitPiece: view(
    (r, x) => {
      const axis = r.integer(0, x.shape.length);
      const d = x.shape[axis]!;
      return d < 2 ? undefined : { axis, sizes: [1, d - 1], piece: r.integer(0, 2) };
    },
    (x, a) => t.split(x, list("sizes", a), number("axis", a))[number("piece", a)]!,
  ),
};

const products: Record<string, GraphOp> = {
  matmul: {
    weight: 2,
    choose: (r, values) => {
      const a = some(r, values, (v) => float(v) && v.shape.length >= 2);
      const b =
        a &&
        some(
          r,
          values,
          (v) =>
            float(v) &&
            v.shape.length >= 2 &&
            v.shape.at(-2) === a.shape.at(-1) &&
            (v.shape.length === 2 || a.shape.length === 2),
        );
      return b && { args: [a, b], bound: a.bound * b.bound * a.shape.at(-1)! };
    },
    run: ([a, b]) => t.matmul(a!, b!),
  },
  matmulTransposed: {
    choose: (r, values) => {
      const a = some(r, values, (v) => float(v) && v.shape.length >= 2);
      return a && { args: [a], attributes: { side: r.integer(0, 2) }, bound: a.bound ** 2 * 6 };
    },
    run: ([a], attributes) =>
      number("side", attributes) === 0 ? t.matmul(a!, t.mT(a!), { symmetric: true }) : t.matmul(t.mT(a!), a!),
  },
  concat: {
    weight: 3,
    choose: (r, values) => {
      const x = some(r, values, (v) => v.shape.length > 0);
      if (!x) return undefined;
      const axis = r.integer(0, x.shape.length);
      const ok = (v: Value): boolean =>
        v.dtype === x.dtype &&
        v.shape.length === x.shape.length &&
        v.shape.every((d, i) => i === axis || d === x.shape[i]);
      const parts = [x, some(r, values, ok)!, ...(r.chance(0.3) ? [some(r, values, ok)!] : [])];
      return { args: parts, attributes: { axis }, bound: Math.max(...parts.map((p) => p.bound)) };
    },
    run: (parts, a) => t.concat(parts, number("axis", a)),
  },
  stack: {
    choose: (r, values) => {
      const x = some(r, values, () => true)!;
      const y = some(r, values, (v) => v.dtype === x.dtype && v.shape.join() === x.shape.join())!;
      return {
        args: [x, y],
        attributes: { axis: r.integer(0, x.shape.length + 1) },
        bound: Math.max(x.bound, y.bound),
      };
    },
    run: ([x, y], a) => t.stack([x!, y!], number("axis", a)),
  },
};

const indexing: Record<string, GraphOp> = {
  take: {
    weight: 2,
    choose: (r, values) => {
      const x = some(r, values, (v) => v.shape.length > 0);
      const i = some(r, values, (v) => integer(v) && v.shape.length <= 2);
      return x && i && { args: [x, i], attributes: { axis: r.integer(0, x.shape.length) }, bound: x.bound };
    },
    run: ([x, i], a) => t.take(x!, inside(i!, x!.shape[number("axis", a)]!), number("axis", a)),
  },
  takeAlongAxis: {
    choose: (r, values) => {
      const i = some(r, values, (v) => integer(v) && v.shape.length > 0);
      if (!i) return undefined;
      const axis = r.integer(0, i.shape.length);
      const x = some(
        r,
        values,
        (v) => v.shape.length === i.shape.length && v.shape.every((d, k) => k === axis || d === i.shape[k]),
      );
      return x && { args: [x, i], attributes: { axis }, bound: x.bound };
    },
    run: ([x, i], a) => t.takeAlongAxis(x!, inside(i!, x!.shape[number("axis", a)]!), number("axis", a)),
  },
  scatterAdd: {
    choose: (r, values) => {
      const x = some(r, values, (v) => float(v) && v.shape.length > 0);
      const i =
        x &&
        some(
          r,
          values,
          (v) =>
            integer(v) &&
            v.shape.length <= x.shape.length &&
            v.shape.every((d, k) => d === 1 || d === x.shape.at(k - v.shape.length)),
        );
      return (
        i && {
          args: [i, x],
          attributes: { axis: r.integer(0, x.shape.length), size: r.integer(1, 6) },
          bound: x.bound * 6,
        }
      );
    },
    run: ([i, x], a) => t.scatterAdd(inside(i!, number("size", a)), x!, number("axis", a), number("size", a)),
  },
  oneHot: {
    choose: (r, values) => {
      const i = some(r, values, (v) => integer(v) && v.shape.length <= 2);
      return i && { args: [i], attributes: { depth: r.integer(2, 6) }, bound: 1 };
    },
    run: ([i], a) => t.oneHot(inside(i!, number("depth", a)), number("depth", a)),
  },
};

const wholeNumbers: Record<string, GraphOp> = {
  addIntegers: binary(integer, t.add, (a, b) => a + b),
  mulIntegers: binary(
    integer,
    (x, y) => t.mod(t.mul(x, y), 1009),
    () => 1009,
  ),
  bitwiseXor: binary(integer, t.bitwiseXor, (a, b) => 2 * Math.max(a, b)),
  arange: {
    choose: (r, values) => {
      const x = some(r, values, (v) => v.shape.length > 0)!;
      return { args: [x], attributes: { axis: r.integer(0, x.shape.length) }, bound: 20 };
    },
    run: ([x], a) => t.iota(x!.shape, number("axis", a), { device: x!.device }),
  },
  lessIntegers: binary(integer, t.less, () => 1),
  equalIntegers: binary(integer, t.equal, () => 1),
  less: binary(float, t.less, () => 1, { jumps: true }),
  logicalAnd: binary(
    (v) => v.dtype === "bool",
    t.logicalAnd,
    () => 1,
  ),
  logicalNot: {
    choose: (r, values) => {
      const x = some(r, values, (v) => v.dtype === "bool");
      return x && { args: [x], bound: 1 };
    },
    run: ([x]) => t.logicalNot(x!),
  },
  castToFloat: {
    choose: (r, values) => {
      const x = some(r, values, (v) => v.dtype === "i32" || v.dtype === "bool");
      return x && { args: [x], bound: x.bound };
    },
    run: ([x]) => t.cast(x!, "f32"),
  },
  castToInteger: {
    jumps: true,
    choose: (r, values) => {
      const x = some(r, values, float);
      return x && { args: [x], bound: x.bound * 3 };
    },
    run: ([x]) => t.cast(t.mul(x!, 3), "i32"),
  },
  causalMask: {
    choose: (r, values) => {
      const x = some(r, values, (v) => v.shape.length >= 1 && v.shape.at(-1)! < 8);
      return x && { args: [x], bound: 1 };
    },
    run: ([x]) => t.causalMask(x!.shape.at(-1)!, { device: x!.device }),
  },
};

/** All operations by name. */
export const graphOps: Readonly<Record<string, GraphOp>> = {
  ...elementwise,
  ...reductions,
  ...views,
  ...products,
  ...indexing,
  ...wholeNumbers,
};
