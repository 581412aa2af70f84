// scatterAdd with any number of threads a column: the same bits, whoever owns a place.
import { random, sharedTestDevice } from "@mc/testing";
import { expect, test } from "vitest";
import { defineFused } from "../fused.ts";
import { tensor } from "./create.ts";
import { scatterAddFused } from "./indexing.ts";
import { scatterAddThreads } from "./scatterAddKernels.ts";

test.each([1, 2, 3, 7, 64, undefined])(
  "scatterAdd by %s threads a column adds in the order of the source",
  async (parts) => {
    const device = await sharedTestDevice();
    const op = defineFused({
      ...scatterAddFused,
      webgpu: ([, src], params) => scatterAddThreads(src!.shape, params, parts),
    });
    const [rows, columns, size] = [90, 5, 7];
    const r = random(1);
    const index = Int32Array.from({ length: rows * columns }, () => r.integer(-1, size + 1));
    const source = Float32Array.from({ length: rows * columns }, () => Math.fround(r.normal()));
    const expected = new Float32Array(size * columns);
    index.forEach((v, i) => {
      if (v >= 0 && v < size) expected[v * columns + (i % columns)]! += source[i]!;
    });
    const [out] = op(
      [tensor(index, { shape: [rows, columns], device }), tensor(source, { shape: [rows, columns], device })],
      { axis: 0, size },
    );
    expect([...(await out!.data())]).toEqual([...expected]);
  },
);
