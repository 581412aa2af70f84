// verify/products.ts: products at sizes off every tile, in all four transpose modes, with offsets, batches and epilogues.
import { add, matmul, maximum, mT, mul, slice, type Tensor } from "@mc/tensor";
import { fill, type Operand, type Proof, real, whole } from "./cases.ts";

interface Shape {
  readonly name: string;
  /** Batch of the left and of the right operand; 1 is broadcast. */
  readonly batch?: readonly [readonly number[], readonly number[]];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Operands are the inner parts of larger arrays whose border is NaN, this wide before and one wide after. */
  readonly border?: number;
  /** max(product / 2 + c, 1/2) in the same kernel. */
  readonly epilogue?: boolean;
  /** Fractions instead of whole numbers: then the order of additions shows, and so does the precision of the operands. */
  readonly fractions?: boolean;
}

// tiles are 16 to 128 wide, and 16 or 32 deep: sizes below, on, just above and between their multiples
const shapes: readonly Shape[] = [
  { name: "product", m: 1, n: 65, k: 130 },
  { name: "product", m: 3, n: 64, k: 63 },
  { name: "product", m: 17, n: 7, k: 65 },
  { name: "product", m: 130, n: 63, k: 64 },
  { name: "product", m: 129, n: 257, k: 191 },
  { name: "product", m: 128, n: 256, k: 64 },
  { name: "product of much", m: 65, n: 33, k: 2051 },
  { name: "product of fractions", m: 70, n: 66, k: 515, fractions: true },
  { name: "product inside a border", m: 33, n: 67, k: 35, border: 3 },
  { name: "product inside an aligned border", m: 64, n: 72, k: 36, border: 4 },
  { name: "batch", batch: [[3], [3]], m: 33, n: 34, k: 35 },
  {
    name: "batch, broadcast",
    batch: [
      [2, 1],
      [1, 3],
    ],
    m: 36,
    n: 68,
    k: 20,
  },
  { name: "batch inside a border", batch: [[2], [2]], m: 20, n: 36, k: 28, border: 5 },
  { name: "epilogue", m: 66, n: 100, k: 50, epilogue: true },
  { name: "epilogue of a batch", batch: [[3], [3]], m: 34, n: 36, k: 40, epilogue: true },
];

// groups of eight elements lie side by side: what operands stored in f16 need
const eights: readonly Shape[] = [
  { name: "product", m: 136, n: 72, k: 104 },
  { name: "product", m: 264, n: 520, k: 64 },
  { name: "product of much", m: 72, n: 40, k: 2056 },
  { name: "batch, broadcast", batch: [[3], [1]], m: 40, n: 264, k: 88 },
  { name: "epilogue of a batch", batch: [[2], [2]], m: 72, n: 104, k: 40, epilogue: true },
];

const modes = [
  { mode: "A B", ta: false, tb: false },
  { mode: "A B^T", ta: false, tb: true },
  { mode: "A^T B", ta: true, tb: false },
  { mode: "A^T B^T", ta: true, tb: true },
] as const;

/** Every shape in every mode; `half`: operands are rounded to half precision. */
export const productProofs = (half: boolean): Proof[] =>
  shapes.flatMap((shape) => modes.map((mode) => productProof(shape, mode, half)));

/** Products whose operands are stored in f16, by loops and by other products. */
export const storedProofs = (): Proof[] => [
  ...eights.flatMap((shape) => modes.map((mode) => productProof(shape, mode, true))),
  chainProof(),
];

/** (A B) C and (A B)^T (A B): the first product is rounded where it is made. */
function chainProof(): Proof {
  const [m, k, n, l] = [136, 24, 72, 40];
  const [a, b, c] = [whole(1, [m, k]), whole(2, [k, n]), whole(3, [n, l])];
  const product = (x: Operand, y: Operand, transposed = false): Operand => {
    const [rows, inner] = transposed ? [x.shape[1]!, x.shape[0]!] : [x.shape[0]!, x.shape[1]!];
    const columns = y.shape[1]!;
    const at = (i: number, q: number): number => x.data[transposed ? q * rows + i : i * inner + q]!;
    const data = fill([rows, columns], (i, j) => {
      let sum = 0;
      for (let q = 0; q < inner; q++) sum += at(i!, q) * y.data[q * columns + j!]!;
      return sum;
    });
    return { shape: [rows, columns], data };
  };
  return {
    name: "product of a product",
    shape: [m, n, k],
    operands: [a, b, c],
    run: (x, y, z) => {
      const first = matmul(x!, y!);
      return [matmul(first, z!), matmul(mT(first), first, { symmetric: true })];
    },
    // sums of 24 products of at most 9, then of 136 squares of those: whole numbers that f16 and f32 hold
    expected: () => {
      const first = product(a, b);
      return [...product(first, c).data, ...product(first, first, true).data];
    },
  };
}

function productProof(
  { name, batch: [batchA, batchB] = [[], []], m, n, k, border = 0, epilogue, fractions }: Shape,
  { mode, ta, tb }: (typeof modes)[number],
  half: boolean,
): Proof {
  const make = fractions ? real : whole;
  const a = make(1, [...batchA, ...(ta ? [k, m] : [m, k])]);
  const b = make(2, [...batchB, ...(tb ? [n, k] : [k, n])]);
  const batch = batchA.map((d, i) => Math.max(d, batchB[i]!));
  const c = whole(3, [...batch, m, n]);
  const view = (x: Tensor, transposed: boolean, inner: readonly number[]): Tensor => {
    const part = border
      ? slice(
          x,
          inner.map(() => border),
          inner.map((d) => d + border),
        )
      : x;
    return transposed ? mT(part) : part;
  };
  return {
    name: `${name}, ${mode}`,
    shape: [...batch, m, n, k],
    operands: [...[a, b].map((x) => framed(x, border)), ...(epilogue ? [c] : [])],
    run: (left, right, addend) => {
      const out = matmul(view(left!, ta, a.shape), view(right!, tb, b.shape));
      return addend ? maximum(add(mul(out, 0.5), addend), 0.5) : out;
    },
    expected: () => {
      const at = (x: Operand, position: readonly number[], i: number, j: number): number => {
        const lead = x.shape.slice(0, -2);
        const [rows, cols] = x.shape.slice(-2) as [number, number];
        const z = lead.reduce((s, d, axis) => s * d + (d === 1 ? 0 : position[axis]!), 0);
        return x.data[(z * rows + i) * cols + j]!;
      };
      return fill([...batch, m, n], (...place) => {
        const [i, j] = place.slice(-2) as [number, number];
        let sum = 0;
        for (let q = 0; q < k; q++)
          sum += (ta ? at(a, place, q, i) : at(a, place, i, q)) * (tb ? at(b, place, j, q) : at(b, place, q, j));
        return epilogue ? Math.max(sum / 2 + at(c, place, i, j), 0.5) : sum;
      });
    },
    tolerance: fractions ? (half ? 2e-3 : 2e-6) : 0,
  };
}

/** The operand with `border` NaN before and one after it on every axis: a kernel that reads outside shows it. */
function framed(x: Operand, border: number): Operand {
  if (border === 0) return x;
  const shape = x.shape.map((d) => d + border + 1);
  const data = fill(shape, (...at) => {
    const inner = at.map((p) => p - border);
    if (inner.some((p, d) => p < 0 || p >= x.shape[d]!)) return Number.NaN;
    return x.data[inner.reduce((s, p, d) => s * x.shape[d]! + p, 0)]!;
  });
  return { shape, data };
}
