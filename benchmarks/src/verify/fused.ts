// verify/fused.ts: ops with kernels of their own, at odd sizes.
import { valueAndGrad, vjp } from "@mc/autograd";
import { attention, crossEntropy, groupedMatmul } from "@mc/nn";
import { scatterAdd, type Tensor, topK } from "@mc/tensor";
import { attentionOracle } from "../lib/attentionOracle.ts";
import { fill, index, type Operand, type Proof, real, whole } from "./cases.ts";

/** Attention, cross entropy, scatter-add, top-k and grouped products. */
export const fusedProofs = (): Proof[] => [
  ...[
    [1, 2, 67, 32],
    [2, 1, 130, 64],
    [1, 1, 33, 20],
  ].flatMap((sizes) => attentionProofs(sizes as [number, number, number, number])),
  crossEntropyProof(19, 1013),
  scatterProof(203, 12, 31),
  topKProof(37, 65, 5),
  groupedProof([0, 17, 64, 1, 50], 36, 44),
];

function attentionProofs([batch, heads, tokens, features]: readonly [number, number, number, number]): Proof[] {
  const shape = [batch, heads, tokens, features];
  const [q, k, v, dO] = [1, 2, 3, 4].map((seed) => real(seed, shape)) as [Operand, Operand, Operand, Operand];
  const size = tokens * features;
  const oracle = () =>
    Array.from({ length: batch * heads }, (_, h) => {
      const part = (x: Operand): Float64Array => x.data.subarray(h * size, (h + 1) * size);
      return attentionOracle(part(q), part(k), part(v), tokens, features, part(dO));
    });
  const forward = (...[q, k, v]: Tensor[]): Tensor => attention(q!, k!, v!).output;
  return [
    {
      name: "attention forward",
      shape,
      operands: [q, k, v],
      run: forward,
      expected: () => oracle().flatMap(({ o }) => Array.from(o)),
      tolerance: 1e-5,
    },
    {
      name: "attention gradients",
      shape,
      operands: [q, k, v, dO],
      run: (...[q, k, v, dO]) => vjp(forward, q!, k!, v!).pullback(dO!),
      expected: () => {
        const all = oracle();
        return [all.map((h) => h.dq), all.map((h) => h.dk), all.map((h) => h.dv)].flat().flatMap((d) => Array.from(d));
      },
      tolerance: 1e-5,
    },
  ];
}

function crossEntropyProof(rows: number, classes: number): Proof {
  const [logits, labels] = [real(1, [rows, classes]), index(2, [rows], classes)];
  return {
    name: "cross entropy and gradient",
    shape: [rows, classes],
    operands: [logits, labels],
    run: (x, y) => {
      const { value, grads } = valueAndGrad((x: Tensor) => crossEntropy(x, y!))(x!);
      return [value, grads];
    },
    expected: () => {
      const sums = Array.from({ length: rows }, (_, r) =>
        logits.data.subarray(r * classes, (r + 1) * classes).reduce((s, v) => s + Math.exp(v), 0),
      );
      const loss =
        sums.reduce((s, all, r) => s + Math.log(all) - logits.data[r * classes + labels.data[r]!]!, 0) / rows;
      const gradient = fill(
        [rows, classes],
        (r, c) => (Math.exp(logits.data[r * classes + c]!) / sums[r]! - (c === labels.data[r] ? 1 : 0)) / rows,
      );
      return [loss, ...gradient];
    },
    tolerance: 1e-6,
  };
}

function scatterProof(tokens: number, width: number, size: number): Proof {
  const [at, x] = [index(1, [tokens, 1], size), whole(2, [tokens, width])];
  return {
    name: "scatter-add",
    shape: [tokens, width, size],
    operands: [at, x],
    run: (i, src) => scatterAdd(i!, src!, 0, size),
    expected: () => {
      const out = new Float64Array(size * width);
      for (let t = 0; t < tokens; t++)
        for (let f = 0; f < width; f++) out[at.data[t]! * width + f]! += x.data[t * width + f]!;
      return out;
    },
  };
}

function topKProof(rows: number, n: number, k: number): Proof {
  const x = whole(3, [rows, n]);
  const best = (r: number): { value: number; place: number }[] =>
    Array.from(x.data.subarray(r * n, (r + 1) * n), (value, place) => ({ value, place }))
      .sort((a, b) => b.value - a.value || a.place - b.place)
      .slice(0, k);
  const all = () => Array.from({ length: rows }, (_, r) => best(r)).flat();
  return {
    name: "top-k",
    shape: [rows, n, k],
    operands: [x],
    run: (t) => {
      const { values, indices } = topK(t!, k);
      return [values, indices];
    },
    expected: () => [...all().map((e) => e.value), ...all().map((e) => e.place)],
  };
}

/** Rows in groups of these sizes, each group with its own weight [out, features]. */
function groupedProof(groups: readonly number[], features: number, out: number): Proof {
  const rows = groups.reduce((s, g) => s + g, 0);
  const [x, w] = [whole(1, [rows, features]), whole(2, [groups.length, out, features])];
  const ends = groups.map((_, i) => groups.slice(0, i + 1).reduce((s, g) => s + g, 0));
  const offsets: Operand = { shape: [groups.length + 1], data: Float64Array.from([0, ...ends]), dtype: "i32" };
  return {
    name: "grouped product",
    shape: [rows, out, features],
    operands: [x, w, offsets],
    run: (a, b, o) => groupedMatmul(a!, b!, o!),
    expected: () =>
      fill([rows, out], (i, j) => {
        const group = ends.findIndex((end) => i < end);
        let sum = 0;
        for (let f = 0; f < features; f++) sum += x.data[i * features + f]! * w.data[(group * out + j) * features + f]!;
        return sum;
      }),
  };
}
