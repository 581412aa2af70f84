// kernels/products.ts: matrix products in every shape class.
import { key, matmul, mT, normal, type Tensor, take } from "@mc/tensor";
import { type Case, type Check, caseName } from "../lib/case.ts";
import { indexTensor, places, readAt, relativeError } from "../lib/sample.ts";

interface Product {
  readonly name: string;
  readonly batch?: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** The left operand lies as [k, m]. */
  readonly transposeA?: boolean;
  /** The right operand lies as [n, k]. */
  readonly transposeB?: boolean;
  /** X X^T of one X, half of which is computed. */
  readonly symmetric?: boolean;
  readonly against?: string;
}

/** [m, k] x [k, n], the operands stored as they are or transposed. */
function product({ name, batch, m, n, k, transposeA = false, transposeB = false, symmetric, against }: Product): Case {
  const lead = batch === undefined ? [] : [batch];
  const count = batch ?? 1;
  if (symmetric) return symmetricProduct(name, lead, m, k);
  const view = (x: Tensor, transposed: boolean): Tensor => (transposed ? mT(x) : x);
  return {
    name,
    shape: [...lead, m, n, k],
    inputs: () => [
      normal(key(1), [...lead, ...(transposeA ? [k, m] : [m, k])]),
      normal(key(2), [...lead, ...(transposeB ? [n, k] : [k, n])]),
    ],
    run: (a, b) => matmul(view(a!, transposeA), view(b!, transposeB)),
    flops: 2 * count * m * n * k,
    bytes: 4 * count * (m * k + k * n + m * n),
    products: true,
    check: productCheck(count, transposeA, transposeB),
    ...(against !== undefined && { against }),
  };
}

/** X X^T, X of [m, k]. */
function symmetricProduct(name: string, lead: readonly number[], m: number, k: number): Case {
  const [count = 1] = lead;
  const check = productCheck(count, false, true);
  return {
    name,
    shape: [...lead, m, m, k],
    inputs: () => [normal(key(1), [...lead, m, k])],
    run: (x) => matmul(x!, mT(x!), { symmetric: true }),
    flops: count * m * (m + 1) * k,
    bytes: 4 * count * (m * k + m * m),
    products: true,
    check: (call) => check({ ...call, inputs: [call.inputs[0]!, call.inputs[0]!] }),
  };
}

/** Compares 16 rows by 16 columns, of the first and the last matrix of a batch, with dot products in doubles. */
function productCheck(batch: number, transposeA: boolean, transposeB: boolean): Check {
  return async ({ inputs: [a, b], outputs: [out] }) => {
    const [m, n] = out!.shape.slice(-2) as [number, number];
    const k = a!.shape.at(transposeA ? -2 : -1)!;
    const [rows, columns] = [places(m, 16), places(n, 16)];
    const matrix = (x: Tensor, z: number): Tensor => (x.ndim === 2 ? x : take(x, indexTensor([z], x.device)));
    let worst = 0;
    for (const z of places(batch, 2)) {
      const left = await readAt(matrix(a!, z), rows, transposeA ? -1 : -2);
      const right = await readAt(matrix(b!, z), columns, transposeB ? -2 : -1);
      const actual = await readAt(take(matrix(out!, z), indexTensor(rows, out!.device), -2), columns, -1);
      const expected = rows.flatMap((_, i) =>
        columns.map((_, j) => {
          let sum = 0;
          for (let q = 0; q < k; q++)
            sum +=
              left[transposeA ? q * rows.length + i : i * k + q]! *
              right[transposeB ? j * k + q : q * columns.length + j]!;
          return sum;
        }),
      );
      worst = Math.max(worst, relativeError(actual, expected));
    }
    return worst;
  };
}

const modes = [
  { name: "matmul A^T B", transposeA: true },
  { name: "matmul A B^T", transposeB: true },
  { name: "matmul A^T B^T", transposeA: true, transposeB: true },
] as const;

/** n cubed, in the four modes where `all`. */
const square = (n: number, all: boolean, against?: number): Case[] =>
  [{ name: "matmul" }, ...(all ? modes : [])].map((mode) =>
    product({
      ...mode,
      m: n,
      n,
      k: n,
      ...(against !== undefined && { against: caseName(mode.name, [against, against, against]) }),
    }),
  );

/** Forward (X W^T), gradient of the input (dY W) and of the weight (dY^T X) of a linear layer [features] -> [out]. */
const linear = (layer: string, tokens: number, features: number, out: number): Case[] => [
  product({ name: `${layer} forward`, m: tokens, n: out, k: features, transposeB: true }),
  product({ name: `${layer} dX`, m: tokens, n: features, k: out }),
  product({ name: `${layer} dW`, m: out, n: features, k: tokens, transposeA: true }),
];

/** The products of GPT-2 124M and of its gradients, with as many tokens. */
function gpt2(tokens: number, width: number, vocabulary: number): Case[] {
  return [
    ...linear("gpt2 qkv", tokens, width, 3 * width),
    ...linear("gpt2 proj", tokens, width, width),
    ...linear("gpt2 fc", tokens, width, 4 * width),
    ...linear("gpt2 proj2", tokens, 4 * width, width),
    ...linear("gpt2 head", tokens, width, vocabulary),
  ];
}

/** The products of Newton-Schulz: single squares, and the batches that the hidden matrices of GPT-2 124M make. */
const newtonSchulzProducts = (): Case[] => [
  ...[1024, 2048, 4096].map((n) => product({ name: "newton-schulz X X^T", m: n, n, k: n, symmetric: true })),
  product({ name: "newton-schulz X X^T", batch: 48, m: 768, n: 768, k: 768, symmetric: true }),
  product({ name: "newton-schulz X X^T", batch: 24, m: 768, n: 768, k: 3072, symmetric: true }),
  product({ name: "newton-schulz B X", batch: 48, m: 768, n: 768, k: 768 }),
  product({ name: "newton-schulz B X", batch: 24, m: 768, n: 3072, k: 768 }),
];

/** Products that one tile size cannot serve; `share` makes them smaller for slow devices. */
function classes(share: number): Case[] {
  const s = (n: number): number => Math.ceil(n * share);
  return [
    product({ name: "matmul small", batch: s(384), m: 64, n: 64, k: 64 }),
    product({ name: "matmul heads", batch: s(96), m: s(1024), n: s(1024), k: 64, transposeB: true }),
    product({ name: "matmul batched", batch: s(24), m: s(768), n: s(768), k: s(3072), transposeB: true }),
    product({ name: "matmul tall", m: s(16384), n: 64, k: s(1024) }),
    product({ name: "matmul wide", m: 64, n: s(16384), k: s(1024) }),
    product({ name: "matmul split-K", m: 64, n: 64, k: s(65536) }),
    product({ name: "matmul split-K A^T", m: s(320), n: s(320), k: s(8192), transposeA: true }),
    product({ name: "matmul row vector", m: 1, n: s(4096), k: s(4096) }),
    product({ name: "matmul row vector B^T", m: 1, n: s(50257), k: s(768), transposeB: true }),
    product({ name: "matmul column vector", m: s(4096), n: 1, k: s(4096) }),
    product({ name: "matmul few rows", m: 8, n: s(4096), k: s(4096) }),
  ];
}

/** All products; `small`: for devices that compute a few GFLOP/s. */
export function products(small: boolean): Case[] {
  if (small)
    return [
      ...square(128, true),
      ...square(256, true),
      ...square(250, true, 256),
      ...gpt2(128, 48, 1009),
      ...classes(1 / 16),
    ];
  return [
    ...square(512, false),
    ...[1024, 2048, 4096].flatMap((n) => square(n, true)),
    ...square(1000, false, 1024),
    ...square(2049, true, 2048),
    ...square(4095, true, 4096),
    ...square(4097, true, 4096),
    ...gpt2(8192, 768, 50257),
    ...newtonSchulzProducts(),
    ...classes(1),
  ];
}
