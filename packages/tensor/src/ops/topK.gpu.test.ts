// The kernels of topK that this adapter would not choose, on rows around their workgroups' sizes.
import { hostArray, random, range, sharedTestDevice } from "@mc/testing";
import { expect, test } from "vitest";
import { defineFused } from "../fused.ts";
import { tensor } from "./create.ts";
import { topKFused, topKSizes } from "./indexing.ts";
import { topKThreads, topKWorkgroups } from "./topKKernels.ts";

const variants = { "a thread a row": topKThreads, "a workgroup a row": topKWorkgroups };

test.each(
  Object.entries(variants).flatMap(([name, kernel]) =>
    [
      [1, 1, 1],
      [3, 5, 5],
      [2, 63, 3],
      [2, 64, 2],
      [5, 65, 4],
      [2, 1030, 3],
    ].map(([rows, n, k]) => [rows!, n!, k!, name, kernel] as const),
  ),
)("topK of %i rows of %i, the first %i, by %s", async (rows, n, k, _, kernel) => {
  const device = await sharedTestDevice();
  const op = defineFused({ ...topKFused, webgpu: ([x], params) => kernel(topKSizes(x!, params)) });
  const r = random(n);
  const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0];
  const data = Float32Array.from({ length: rows * n }, () => (r.chance(0.2) ? r.pick(special) : r.integer(-9, 9)));
  const x = hostArray([rows, n], data);
  const key = (i: number, j: number): number => (Number.isNaN(x.at(i, j)) ? Number.POSITIVE_INFINITY : x.at(i, j));
  const expected = range(rows).flatMap((i) =>
    range(n)
      .sort((a, b) => key(i, b) - key(i, a) || a - b)
      .slice(0, k),
  );
  const [places] = op([tensor(data, { shape: [rows, n], device })], { k });
  expect([...(await places!.data())]).toEqual(expected);
});
