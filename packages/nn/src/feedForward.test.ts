import { build, domains, type HostArray, testOp } from "@mc/testing";
import { expect, test } from "vitest";
import { geluMlp, swigluMlp } from "./feedForward.ts";

/** x W^T + b, in loops. */
const linear = (x: HostArray, w: HostArray, b: HostArray): HostArray =>
  build([x.shape[0]!, w.shape[0]!], (i, o) => {
    let sum = b.at(o);
    for (let p = 0; p < x.shape[1]!; p++) sum += x.at(i, p) * w.at(o, p);
    return sum;
  });
const five = [domains.anyNumber, domains.anyNumber, domains.anyNumber, domains.anyNumber, domains.anyNumber];

testOp("swigluMlp(x) is down(silu(gate(x)) * up(x)), the gate's rows first", {
  op: (x, w1, b1, w2, b2) =>
    swigluMlp({ features: 4, intermediateSize: 6, bias: true }).apply(
      { gateUp: { weight: w1!, bias: b1! }, down: { weight: w2!, bias: b2! } },
      x!,
    ),
  inputs: five,
  shapes: (n) => [[n, 4], [12, 4], [12], [4, 6], [4]],
  sizes: [1, 65],
  reference: (x, w1, b1, w2, b2) => {
    const both = linear(x, w1, b1);
    const silu = (v: number) => v / (1 + Math.exp(-v));
    return linear(
      build([x.shape[0]!, 6], (i, f) => silu(both.at(i, f)) * both.at(i, f + 6)),
      w2,
      b2,
    );
  },
  gradient: 2,
  gradientTolerance: 1e-3,
});

testOp("geluMlp(x) is down(gelu(up(x)))", {
  op: (x, w1, b1, w2, b2) =>
    geluMlp({ features: 4, intermediateSize: 6, bias: true, approximate: "tanh" }).apply(
      { up: { weight: w1!, bias: b1! }, down: { weight: w2!, bias: b2! } },
      x!,
    ),
  inputs: five,
  shapes: (n) => [[n, 4], [6, 4], [6], [4, 6], [4]],
  sizes: [1, 65],
  reference: (x, w1, b1, w2, b2) => {
    const up = linear(x, w1, b1);
    const gelu = (v: number) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
    return linear(
      build(up.shape, (i, f) => gelu(up.at(i, f))),
      w2,
      b2,
    );
  },
  gradient: 2,
  gradientTolerance: 1e-3,
});

test("an MLP says that gate and up are two matrices", () => {
  const { roles } = swigluMlp({ features: 4, intermediateSize: 6 });
  expect(roles).toEqual({
    "gateUp.weight": {
      role: "matrix",
      blocks: [
        { start: 0, rows: 6 },
        { start: 6, rows: 6 },
      ],
    },
    "down.weight": { role: "matrix" },
  });
  expect(Object.keys(geluMlp({ features: 4, intermediateSize: 6, bias: true }).roles)).toEqual([
    "up.weight",
    "up.bias",
    "down.weight",
    "down.bias",
  ]);
});
