// Counts of explain on kernels small enough to count by hand.
import { testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import {
  add,
  arange,
  compile,
  div,
  type Explanation,
  exp,
  explain,
  less,
  matmul,
  mT,
  mul,
  neg,
  ones,
  pad,
  relu,
  slice,
  sub,
  sum,
  type Tensor,
  take,
  tensor,
} from "../index.ts";

const device = await testDevice();
const work = ({ flops, bytes }: Explanation): { flops: number; bytes: number } => ({ flops, bytes });
/** Floats, and whatever else has four bytes. */
const floats = (n: number): number => 4 * n;

describe("explain counts", () => {
  test("2 m n k operations of a product, and each element of its operands and result once", () => {
    const plan = explain(matmul, ones([3, 4, 6]), ones([6, 5]));
    expect(work(plan)).toEqual({ flops: 3 * 2 * 4 * 5 * 6, bytes: floats(3 * 4 * 6 + 6 * 5 + 3 * 4 * 5) });
    expect(plan.kernels[0]!.kind).toBe("matmul");
    expect(plan.kernels[0]!.variant).toMatch(/^matmul /);
  });

  test("a matrix and its transpose as one matrix", () => {
    expect(explain((x: Tensor) => matmul(x, mT(x)), ones([6, 8])).bytes).toBe(floats(6 * 8 + 6 * 6));
  });

  test("operations of an epilogue, wherever it runs", () => {
    const f = (x: Tensor, w: Tensor, b: Tensor): Tensor => add(mul(matmul(x, w), 2), b);
    expect(explain(f, ones([4, 6]), ones([6, 5]), ones([5])).flops).toBe(4 * 5 * (2 * 6 + 2));
  });

  test("arithmetic and transcendentals as one each, minima and signs as none", () => {
    expect(explain((x: Tensor) => exp(div(x, 3)), ones([8])).flops).toBe(16);
    expect(explain((x: Tensor) => relu(neg(x)), ones([8])).flops).toBe(0);
  });

  test("of a reduction its joins, and once a point what no reduced variable moves", () => {
    expect(work(explain((x: Tensor) => sum(x, { axis: 1 }), ones([6, 8])))).toEqual({ flops: 48, bytes: floats(54) });
    const f = (x: Tensor, b: Tensor): Tensor => sum(mul(x, add(b, 1)), { axis: 1 });
    expect(explain(f, ones([6, 8]), ones([6, 1])).flops).toBe(6 + 6 * 8 * 2);
  });

  test("a slice, not what it is a slice of", () => {
    const rows = (x: Tensor): Tensor => mul(slice(x, [2, 0], [4, 8]), 2);
    const columns = (x: Tensor): Tensor => mul(slice(x, [0, 1], [10, 3]), 2);
    expect(explain(rows, ones([10, 8])).bytes).toBe(floats(2 * 16));
    expect(explain(columns, ones([10, 8])).bytes).toBe(floats(2 * 20));
  });

  test("what is broadcast once, and neighbours that overlap once", () => {
    expect(explain((x: Tensor, b: Tensor) => add(x, b), ones([8, 16]), ones([16])).bytes).toBe(floats(2 * 128 + 16));
    const neighbours = (x: Tensor): Tensor => add(slice(x, [0], [9]), slice(x, [1], [10]));
    expect(explain(neighbours, ones([10])).bytes).toBe(floats(10 + 9));
  });

  test("the inside of a padded array", () => {
    expect(explain((x: Tensor) => pad(x, [[3, 3]]), ones([4])).bytes).toBe(floats(4 + 10));
  });

  test("the rows that are looked up, at most the table", () => {
    const ids = (n: number): Tensor => tensor(new Int32Array(n), { shape: [n] });
    expect(explain((x: Tensor, i: Tensor) => take(x, i), ones([100, 8]), ids(5)).bytes).toBe(floats(5 + 40 + 40));
    expect(explain((x: Tensor, i: Tensor) => take(x, i), ones([3, 8]), ids(5)).bytes).toBe(floats(5 + 24 + 40));
  });

  test("a donated tensor as read and written", () => {
    const step = compile((w: Tensor, g: Tensor) => sub(w, mul(g, 0.1)), { donate: [0] });
    expect(work(explain(step, ones([50]), ones([50])))).toEqual({ flops: 100, bytes: floats(150) });
  });

  test("booleans as the device holds them", () => {
    expect(explain((x: Tensor) => less(x, 0), ones([16])).bytes).toBe(
      floats(16) + 16 * (device.kind === "cpu" ? 1 : 4),
    );
  });

  test("the submits that a replay makes", async () => {
    const step = compile((x: Tensor) => Array.from({ length: 140 }).reduce((y: Tensor) => matmul(y, x), x));
    const x = ones([4, 4]);
    step(x);
    await device.settle();
    const { dispatches, submits } = explain(step, x);
    const before = device.stats();
    step(x);
    await device.settle();
    const after = device.stats();
    expect(after.dispatches - before.dispatches).toBe(dispatches);
    expect(after.submits - before.submits).toBe(submits);
    expect(dispatches).toBeGreaterThan(128);
  });

  test("JavaScript's time from the second call on", () => {
    const step = compile((x: Tensor) => mul(x, 2));
    const x = arange(8);
    step(x);
    expect(explain(step, x).javascriptMs).toBeUndefined();
    step(x);
    expect(explain(step, x).javascriptMs).toBeGreaterThanOrEqual(0);
  });
});
