// verify/loops.ts: element-wise kernels and reductions at odd sizes and offsets.
import { add, argmax, max, mT, mul, slice, softmax, sub, sum, type Tensor } from "@mc/tensor";
import { fill, type Proof, real, whole } from "./cases.ts";

/** Element-wise work over strided, offset and broadcast operands. */
export function elementWiseProofs(): Proof[] {
  const proofs: Proof[] = [];
  for (const shape of [[1], [1003], [33, 61], [64, 64]] as const) {
    const [a, b] = [whole(1, shape), whole(2, shape)];
    proofs.push({
      name: "a b - a",
      shape,
      operands: [a, b],
      run: (x, y) => sub(mul(x!, y!), x!),
      expected: () => a.data.map((v, i) => v * b.data[i]! - v),
    });
  }
  const [rows, cols] = [37, 44];
  const x = whole(3, [rows, cols]);
  const bias = whole(4, [cols]);
  const at = (i: number, j: number): number => x.data[i * cols + j]!;
  const proof = (
    name: string,
    run: (x: Tensor, b: Tensor) => Tensor,
    shape: readonly number[],
    f: (i: number, j: number) => number,
  ) => proofs.push({ name, shape, operands: [x, bias], run: (t, b) => run(t!, b!), expected: () => fill(shape, f) });
  proof("bias of a row", add, [rows, cols], (i, j) => at(i, j) + bias.data[j]!);
  proof(
    "transposed",
    (t) => mul(mT(t), 2),
    [cols, rows],
    (i, j) => 2 * at(j, i),
  );
  for (const start of [1, 4])
    proof(
      `from column ${start}`,
      (t) => mul(slice(t, [1, start], [rows, cols]), 3),
      [rows - 1, cols - start],
      (i, j) => 3 * at(i + 1, j + start),
    );
  return proofs;
}

/** Reductions along each axis, of whole numbers, in one element, few and many. */
export function reduceProofs(): Proof[] {
  const proofs: Proof[] = [];
  for (const shape of [
    [7, 1003],
    [1003, 7],
    [300, 257],
    [1, 5000],
    [4100, 3],
    [5, 6, 131],
  ] as const) {
    const x = whole(5, shape);
    const [n, last] = [x.data.length, shape.at(-1)!];
    const rows = n / last;
    const row = (i: number): Float64Array => x.data.subarray(i * last, (i + 1) * last);
    const first = shape[0];
    const push = (name: string, run: (t: Tensor) => Tensor, expected: () => ArrayLike<number>) =>
      proofs.push({ name, shape, operands: [x], run: (t) => run(t!), expected });
    const each = (f: (r: Float64Array) => number) => () => Float64Array.from({ length: rows }, (_, i) => f(row(i)));
    const total = (r: ArrayLike<number>): number => Array.from(r).reduce((s, v) => s + v, 0);
    push(
      "sum of all",
      (t) => sum(t),
      () => [total(x.data)],
    );
    push("sum, last axis", (t) => sum(t, { axis: -1 }), each(total));
    push(
      "max, last axis",
      (t) => max(t, { axis: -1 }),
      each((r) => Math.max(...r)),
    );
    push(
      "argmax, last axis",
      (t) => argmax(t, { axis: -1 }),
      each((r) => r.indexOf(Math.max(...r))),
    );
    push(
      "sum, first axis",
      (t) => sum(t, { axis: 0 }),
      () => {
        const inner = n / first;
        return Float64Array.from({ length: inner }, (_, j) =>
          total(Array.from({ length: first }, (_, i) => x.data[i * inner + j]!)),
        );
      },
    );
  }
  const [rows, cols] = [65, 333];
  const x = real(6, [rows, cols]);
  proofs.push({
    name: "softmax",
    shape: [rows, cols],
    operands: [x],
    run: (t) => softmax(t!),
    expected: () => {
      const sums = Array.from({ length: rows }, (_, i) =>
        x.data.subarray(i * cols, (i + 1) * cols).reduce((s, v) => s + Math.exp(v), 0),
      );
      return x.data.map((v, i) => Math.exp(v) / sums[Math.floor(i / cols)]!);
    },
    tolerance: 1e-5,
  });
  return proofs;
}
