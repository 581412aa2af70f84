// The grouped products: what they mean, their gradients, and every kernel that could compute them.
import { checkGrads } from "@mc/autograd";
import {
  type Device,
  DTypeError,
  defineFused,
  type FusedOp,
  key,
  mT,
  mul,
  normal,
  realise,
  ShapeError,
  sliceAxis,
  type Tensor,
  tensor,
  transpose,
} from "@mc/tensor";
import { build, type HostArray, hostArray, hostDevice, oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { groupedBlocks } from "./groupedBlocks.ts";
import { groupedMatmul, groupedMatmulFused, groupedOuter, groupedOuterFused } from "./groupedMatmul.ts";
import { matmulProblem, outerProblem } from "./groupedProblem.ts";
import { matmulSizes, outerSizes } from "./groupedSizes.ts";
import { type GroupedTile, groupedTiles } from "./groupedTiles.ts";

let device: Device;
let oracle: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
  oracle = await oracleDevice();
});

interface Ops {
  readonly product: typeof groupedMatmul;
  readonly outer: typeof groupedOuter;
}
type Kernel = (problem: ReturnType<typeof matmulProblem>) => ReturnType<typeof groupedBlocks>;
const forced = (kernel: Kernel): Ops => {
  const product = defineFused({
    ...groupedMatmulFused,
    webgpu: ([x, w, offsets]) => kernel(matmulProblem(matmulSizes(x!, w!, offsets!))),
  });
  const outer = defineFused({
    ...groupedOuterFused,
    webgpu: ([a, b, offsets]) => kernel(outerProblem(outerSizes(a!, b!, offsets!))),
  });
  return { product: (...xs) => product(xs, null)[0]!, outer: (...xs) => outer(xs, null)[0]! };
};
const reference = (op: FusedOp<null>) => {
  const plain = defineFused({ ...op, cpu: undefined, webgpu: undefined });
  return (...xs: Tensor[]) => plain(xs, null)[0]!;
};
// tiles of GPUs, and small ones of their kind: a software driver takes seconds to compile the large ones
const tiles: Record<string, GroupedTile> = {
  "small tiles": { rows: 8, columns: 8, depth: 4, threadRows: 4, threadColumns: 4 },
  "small tiles of several quads a thread": { rows: 16, columns: 16, depth: 4, threadRows: 8, threadColumns: 8 },
  "tiles of 32 rows": { rows: 32, columns: 64, depth: 16, threadRows: 4, threadColumns: 4 },
};
const variants: Record<string, Ops> = {
  "the chosen kernels": { product: groupedMatmul, outer: groupedOuter },
  "plain ops": { product: reference(groupedMatmulFused), outer: reference(groupedOuterFused) },
  ...(hostDevice === "webgpu" && {
    "blocks without barriers": forced(groupedBlocks),
    ...Object.fromEntries(
      Object.entries(tiles).map(([name, tile]) => [name, forced((problem) => groupedTiles(problem, tile))]),
    ),
  }),
};

/** Rows of each group, K and N. */
const table: [name: string, sizes: number[], inner: number, columns: number][] = [
  ["one row", [1], 1, 1],
  ["groups without rows", [0, 3, 0, 0, 6, 0], 5, 7],
  ["all rows in one group", [0, 37, 0], 16, 8],
  ["one group", [9], 20, 3],
  ["groups off the tile", [0, 31, 33, 0, 1, 70], 19, 66],
  ["no rows", [0, 0], 4, 3],
];

const offsetsOf = (sizes: readonly number[]): number[] =>
  range(sizes.length + 1).map((e) => sizes.slice(0, e).reduce((a, b) => a + b, 0));
const draw = (seed: number, shape: number[], on: Device): Tensor => normal(key(seed, { device: on }), shape);

/** The operands: as they are, or as views whose strides are others. */
function operands(sizes: readonly number[], inner: number, columns: number, on: Device, views: boolean) {
  const offsets = tensor(offsetsOf(sizes), { dtype: "i32", device: on });
  const rows = offsetsOf(sizes).at(-1)!;
  const [x, w, dy] = [
    draw(1, [rows, inner], on),
    draw(2, [sizes.length, columns, inner], on),
    draw(3, [rows, columns], on),
  ];
  if (!views) return { x, w, dy, offsets };
  const transposed = (t: Tensor): Tensor => mT(mul(mT(t), 1));
  const wide = transpose(mul(transpose(w, [2, 0, 1]), 1), [1, 2, 0]);
  const padded = draw(3, [rows, columns + 2], on);
  return { x: transposed(x), w: wide, dy: sliceAxis(padded, 1, 1, columns + 1), offsets };
}

describe.each(Object.entries(variants))("grouped products by %s", (name, { product, outer }) => {
  const tiled = name in tiles;
  const cases = tiled ? table.filter(([about]) => about === "groups off the tile") : table;
  test.each(cases)("equal loops over the rows: %s", async (_, sizes, inner, columns) => {
    for (const views of tiled ? [false] : [false, true]) {
      const { x, w, dy, offsets } = operands(sizes, inner, columns, device, views);
      const actual = await realise([product(x, w, offsets), product(dy, mT(w), offsets), outer(dy, x, offsets)]);
      const host = async (t: Tensor): Promise<HostArray> => hostArray(t.shape, await t.data());
      const [hx, hw, hdy] = await Promise.all([host(x), host(w), host(dy)]);
      const expected = loops(offsetsOf(sizes), hx, hw, hdy);
      for (const [i, e] of expected.entries()) {
        expect(actual[i]!.shape).toEqual(e.shape);
        await expect(actual[i]!, `output ${i}`).toBeAllClose([...(e.data as Float64Array)], { rtol: 1e-4, atol: 1e-5 });
      }
    }
  });
});

/** y, dx and dw, row by row. */
function loops(bounds: readonly number[], x: HostArray, w: HostArray, dy: HostArray): HostArray[] {
  const groupOf = (r: number): number => bounds.findLastIndex((b) => b <= r);
  const sum = (n: number, f: (i: number) => number): number =>
    Array.from({ length: n }, (_, i) => f(i)).reduce((a, b) => a + b, 0);
  const [, columns, inner] = w.shape as [number, number, number];
  return [
    build(dy.shape, (r, n) => sum(inner, (k) => x.at(r, k) * w.at(groupOf(r), n, k))),
    build(x.shape, (r, k) => sum(columns, (n) => dy.at(r, n) * w.at(groupOf(r), n, k))),
    build(w.shape, (e, n, k) =>
      sum(bounds[e + 1]! - bounds[e]!, (r) => dy.at(bounds[e]! + r, n) * x.at(bounds[e]! + r, k)),
    ),
  ];
}

describe("gradients of the grouped products", () => {
  const sizes = [0, 3, 0, 4];
  const on = (f: (a: Tensor, b: Tensor, offsets: Tensor) => Tensor, second: "w" | "dy") => async () => {
    const { x, w, dy, offsets } = operands(sizes, 3, 2, oracle, false);
    await checkGrads((a, b) => f(a, b, offsets), second === "w" ? [x, w] : [x, dy], { order: 2 });
  };
  test("groupedMatmul has the gradient of central differences, to second order", () => on(groupedMatmul, "w")());
  test("groupedOuter has the gradient of central differences, to second order", () => on(groupedOuter, "dy")());
});

test("the grouped products say what is wrong with their arguments", () => {
  const offsets = tensor([0, 1, 2], { dtype: "i32" });
  const [x, w] = [tensor([[1], [2]]), tensor([[[1]], [[2]]])];
  expect(() => groupedMatmul(x, w, sliceAxis(offsets, 0, 0, 2))).toThrow(
    "groupedMatmul: offsets must be [E + 1] for w [E, N, K], got x [2, 1], w [2, 1, 1], offsets [2]",
  );
  expect(() => groupedMatmul(x, tensor([[[1, 2]]]), offsets)).toThrow(ShapeError);
  expect(() => groupedMatmul(x, w, tensor([0, 1, 2]))).toThrow(DTypeError);
  expect(() => groupedMatmul(tensor([[1], [2]], { dtype: "i32" }), w, offsets)).toThrow(DTypeError);
  expect(() => groupedOuter(x, tensor([[1]]), offsets)).toThrow(ShapeError);
  expect(() => groupedOuter(x, x, tensor([0], { dtype: "i32" }))).toThrow(ShapeError);
});
