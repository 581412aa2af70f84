// The router against loops over tokens.
import { checkGrads, grad } from "@mc/autograd";
import {
  add,
  type Device,
  key,
  mul,
  normal,
  realise,
  ShapeError,
  sum,
  type Tensor,
  tensor,
  ValueError,
} from "@mc/tensor";
import { oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { routeByLoops } from "./fixtures/loops.ts";
import { type RouterOptions, type RouterParams, router } from "./router.ts";

let device: Device;
let oracle: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
  oracle = await oracleDevice();
});

const [batch, length, features] = [2, 5, 4];
const table: [name: string, options: Omit<RouterOptions, "features">][] = [
  ["sigmoid scores and a bias (DeepSeek-V3)", { numExperts: 6, numExpertsPerToken: 2, scale: 2.5 }],
  ["sigmoid scores without bias", { numExperts: 6, numExpertsPerToken: 3, selectionBias: false, normalize: false }],
  ["groups, with a bias", { numExperts: 8, numExpertsPerToken: 3, numGroups: 4, groupsPerToken: 2 }],
  [
    "groups, without bias",
    { numExperts: 9, numExpertsPerToken: 2, numGroups: 3, groupsPerToken: 1, selectionBias: false },
  ],
  ["groups of one expert", { numExperts: 4, numExpertsPerToken: 2, numGroups: 4, groupsPerToken: 3 }],
  ["a softmax, renormalised (Mixtral)", { numExperts: 5, numExpertsPerToken: 2, scoring: "softmax" }],
  ["a softmax as it is (Qwen)", { numExperts: 5, numExpertsPerToken: 2, scoring: "softmax", normalize: false }],
  ["one expert", { numExperts: 1, numExpertsPerToken: 1 }],
  ["all experts", { numExperts: 4, numExpertsPerToken: 4, scoring: "softmax" }],
  [
    "every loss, sigmoid scores",
    { numExperts: 6, numExpertsPerToken: 2, sequenceBalance: 0.3, auxiliary: 0.2, zLoss: 0.1 },
  ],
  [
    "every loss, a softmax",
    { numExperts: 6, numExpertsPerToken: 2, scoring: "softmax", sequenceBalance: 0.3, auxiliary: 0.2, zLoss: 0.1 },
  ],
];

/** The same numbers on any device. */
async function drawn(options: Omit<RouterOptions, "features">, on: Device) {
  const draw = async (seed: number, shape: number[]): Promise<Tensor> => {
    const values = await normal(key(seed, { device: oracle }), shape).data();
    return tensor(Float32Array.from(values), { shape, device: on });
  };
  const { numExperts, scoring = "sigmoid", selectionBias = scoring === "sigmoid" } = options;
  const params: RouterParams = {
    weight: await draw(1, [numExperts, features]),
    ...(selectionBias && { bias: await draw(2, [numExperts]) }),
  };
  return { params, x: await draw(3, [batch, length, features]) };
}

describe.each(table)("a router with %s", (_, options) => {
  const layer = router({ features, ...options });

  test("equals loops over the tokens", async () => {
    for (const on of [device, oracle]) {
      const { params, x } = await drawn(options, on);
      const numbers = { weight: await params.weight.data(), bias: await params.bias?.data() };
      const expected = routeByLoops(await x.data(), numbers, batch, length, { features, ...options });
      const { experts, weights, loss, entropy } = await realise(layer.apply(params, x));
      const tolerance = on === oracle ? { rtol: 1e-12, atol: 1e-12 } : { rtol: 1e-4, atol: 1e-6 };
      expect([...(await experts.data())]).toEqual(expected.experts.flat());
      await expect(weights).toBeAllClose(expected.weights.flat(), tolerance);
      await expect(loss).toBeAllClose(expected.loss, tolerance);
      await expect(entropy).toBeAllClose(expected.entropy, tolerance);
    }
  });

  test("has the gradient of central differences in float64, and the same on the host's device", async () => {
    const { params, x } = await drawn(options, oracle);
    const outputs = (p: RouterParams, x: Tensor): Tensor[] => {
      const { weights, loss } = layer.apply(p, x);
      return [weights, loss];
    };
    await checkGrads((weight, x) => outputs({ ...params, weight }, x), [params.weight, x], { order: 2 });

    const gradients = async (on: Device) => {
      const scalar = (at: { params: RouterParams; x: Tensor }): Tensor => {
        const [weights, loss] = outputs(at.params, at.x) as [Tensor, Tensor];
        const factors = tensor(
          range(weights.size).map((i) => Math.cos(i)),
          { shape: weights.shape, device: on },
        );
        return add(sum(mul(weights, factors)), loss);
      };
      return realise(grad(scalar)(await drawn(options, on)));
    };
    const [actual, expected] = [await gradients(device), await gradients(oracle)];
    const tolerance = { rtol: 1e-4, atol: 1e-5 };
    await expect(actual.x).toBeAllClose(expected.x, tolerance);
    await expect(actual.params.weight).toBeAllClose(expected.params.weight, tolerance);
    if (params.bias) expect([...(await actual.params.bias!.data())]).toEqual(range(params.bias.size).map(() => 0));
  });
});

test("a router without losses has the loss 0, a constant", async () => {
  const layer = router({ features, numExperts: 4, numExpertsPerToken: 2 });
  const { params, x } = await drawn({ numExperts: 4, numExpertsPerToken: 2 }, device);
  const at = (weight: Tensor): Tensor => layer.apply({ ...params, weight }, x).loss;
  expect(await at(params.weight).item()).toBe(0);
  expect([...(await grad(at)(params.weight).data())]).toEqual(range(16).map(() => 0));
});

test("a router says what its parameters are for", () => {
  expect(router({ features: 4, numExperts: 4, numExpertsPerToken: 2 }).roles).toEqual({
    weight: { role: "router" },
    bias: { role: "buffer" },
  });
  const softmax = router({ features: 4, numExperts: 4, numExpertsPerToken: 2, scoring: "softmax" });
  expect(softmax.roles).toEqual({ weight: { role: "router" } });
  expect(Object.keys(softmax.init(key(1)))).toEqual(["weight"]);
});

test("a router says what is wrong with its options and its input", () => {
  const options = { features: 4, numExperts: 8, numExpertsPerToken: 3 };
  expect(() => router({ ...options, numExperts: 0 })).toThrow(ValueError);
  expect(() => router({ ...options, numGroups: 3 })).toThrow(
    "router: numGroups must divide numExperts, got 3 groups of 8 experts",
  );
  expect(() => router({ ...options, numGroups: 2, groupsPerToken: 3 })).toThrow(
    "router: groupsPerToken must be at most numGroups, got 3 of 2",
  );
  expect(() => router({ ...options, numGroups: 4, groupsPerToken: 1 })).toThrow(
    "router: numExpertsPerToken must be at most the 2 experts that a token may choose from, got 3",
  );
  const layer = router(options);
  expect(() => layer.apply(layer.init(key(1)), tensor([1, 2, 3, 4]))).toThrow(ShapeError);
});
