// The mixture of experts against loops over tokens, its gradients, and what it promises of determinism and cost.
import { checkGrads, grad } from "@mc/autograd";
import { muon } from "@mc/optim";
import {
  add,
  compile,
  type Device,
  explain,
  key,
  mul,
  normal,
  ones,
  realise,
  reshape,
  ShapeError,
  sliceAxis,
  sum,
  type Tensor,
  tensor,
  treeMap,
  treePaths,
  zeros,
} from "@mc/tensor";
import { oracleDevice, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { mixtureByLoops } from "./fixtures/loops.ts";
import { type MoeOptions, type MoeParams, mixtureOfExperts } from "./mixtureOfExperts.ts";

let device: Device;
let oracle: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
  oracle = await oracleDevice();
});

const [batch, length] = [2, 5];
const sizes = { features: 4, intermediateSize: 3 };
const table: [name: string, options: MoeOptions][] = [
  [
    "DeepSeek-V3's router and shared experts",
    { ...sizes, numExperts: 6, numExpertsPerToken: 2, numSharedExperts: 2, scale: 2.5 },
  ],
  ["groups of experts", { ...sizes, numExperts: 8, numExpertsPerToken: 3, numGroups: 4, groupsPerToken: 2 }],
  ["a softmax, renormalised (Mixtral)", { ...sizes, numExperts: 5, numExpertsPerToken: 2, scoring: "softmax" }],
  [
    "a softmax as it is, a shared expert (Qwen)",
    { ...sizes, numExperts: 5, numExpertsPerToken: 2, scoring: "softmax", normalize: false, numSharedExperts: 1 },
  ],
  ["more experts than assignments", { ...sizes, numExperts: 24, numExpertsPerToken: 2 }],
  ["one expert", { ...sizes, numExperts: 1, numExpertsPerToken: 1 }],
  ["all experts for every token", { ...sizes, numExperts: 4, numExpertsPerToken: 4 }],
  [
    "every balance loss",
    { ...sizes, numExperts: 6, numExpertsPerToken: 2, sequenceBalance: 0.3, auxiliary: 0.2, zLoss: 0.1 },
  ],
];

/** Random parameters and tokens: the same numbers on any device. */
async function drawn(options: MoeOptions, on: Device): Promise<{ params: MoeParams; x: Tensor }> {
  const like = async (shape: readonly number[], seed: number): Promise<Tensor> => {
    const values = await normal(key(seed, { device: oracle }), [...shape]).data();
    return tensor(Float32Array.from(values), { shape: [...shape], device: on });
  };
  const initial = mixtureOfExperts(options).init(key(1, { device: oracle }));
  let seed = 10;
  const filled = new Map<Tensor, Tensor>();
  for (const [, leaf] of treePaths<Tensor>(initial)) filled.set(leaf, await like(leaf.shape, seed++));
  return {
    params: treeMap((leaf: Tensor) => filled.get(leaf)!, initial) as MoeParams,
    x: await like([batch, length, options.features], 2),
  };
}

async function numbersOf({ router, experts, shared }: MoeParams) {
  return {
    router: { weight: await router.weight.data(), bias: await router.bias?.data() },
    experts: { gateUp: await experts.gateUp.data(), down: await experts.down.data() },
    shared: shared && { gateUp: await shared.gateUp.weight.data(), down: await shared.down.weight.data() },
  };
}

/** A scalar that depends on everything that has a gradient, in several proportions. */
const scalarOf = (layer: ReturnType<typeof mixtureOfExperts>, params: MoeParams, x: Tensor): Tensor => {
  const { output, routing } = layer.apply(params, x);
  const factors = tensor(
    range(output.size).map((i) => Math.cos(i)),
    { shape: output.shape, device: x.device },
  );
  return add(sum(mul(output, factors)), routing.loss);
};

describe.each(table)("a mixture with %s", (_, options) => {
  const layer = mixtureOfExperts(options);

  test("equals loops over the tokens", async () => {
    for (const on of [device, oracle]) {
      const { params, x } = await drawn(options, on);
      const expected = mixtureByLoops(await x.data(), await numbersOf(params), batch, length, options);
      const { output, routing } = await realise(layer.apply(params, x));
      const tolerance = on === oracle ? { rtol: 1e-12, atol: 1e-12 } : { rtol: 1e-4, atol: 1e-5 };
      expect(output.shape).toEqual(x.shape);
      await expect(output).toBeAllClose(expected.output, tolerance);
      await expect(routing.loss).toBeAllClose(expected.loss, tolerance);
      await expect(routing.entropy).toBeAllClose(expected.entropy, tolerance);
      expect([...(await routing.experts.data())]).toEqual(expected.experts.flat());
      expect([...(await routing.load.data())]).toEqual(expected.load);
      expect(await routing.dropped.item()).toBe(0);
    }
  });

  test("has the gradient of central differences in float64, and the same on the host's device", async () => {
    const { params, x } = await drawn(options, oracle);
    const { router, experts, shared } = params;
    const parts = [x, router.weight, experts.gateUp, experts.down];
    if (shared) parts.push(shared.gateUp.weight, shared.down.weight);
    await checkGrads(
      (x, weight, gateUp, down, sharedUp, sharedDown) =>
        scalarOf(
          layer,
          {
            router: { ...router, weight: weight! },
            experts: { gateUp: gateUp!, down: down! },
            ...(shared && { shared: { gateUp: { weight: sharedUp! }, down: { weight: sharedDown! } } }),
          },
          x!,
        ),
      parts,
      { order: 2, eps: 1e-5, tolerance: 1e-5 },
    );

    const gradients = async (on: Device) =>
      realise(
        grad((at: { params: MoeParams; x: Tensor }) => scalarOf(layer, at.params, at.x))(await drawn(options, on)),
      );
    const expected = new Map(treePaths<Tensor>(await gradients(oracle)));
    for (const [path, actual] of treePaths<Tensor>(await gradients(device)))
      await expect(actual, path).toBeAllClose(expected.get(path)!, { rtol: 1e-3, atol: 1e-4 });
  });
});

describe("experts without tokens", () => {
  const options = { ...sizes, numExperts: 5, numExpertsPerToken: 1 };
  const layer = mixtureOfExperts(options);
  /** All tokens choose expert 3. */
  const crowded = async (): Promise<{ params: MoeParams; x: Tensor }> => {
    const { params, x } = await drawn(options, device);
    return { params: { ...params, router: { ...params.router, bias: tensor([0, 0, 0, 9, 0]) } }, x };
  };
  const expert = async (stack: Tensor, e: number): Promise<number[]> => [
    ...(await reshape(sliceAxis(stack, 0, e, e + 1), [-1]).data()),
  ];

  test("all tokens on one expert: the others have a gradient of exactly zero", async () => {
    const { params, x } = await crowded();
    expect([...(await layer.apply(params, x).routing.load.data())]).toEqual([0, 0, 0, batch * length, 0]);
    const { experts } = grad((p: MoeParams) => scalarOf(layer, p, x))(params);
    for (const e of range(5)) {
      const values = [...(await expert(experts.gateUp, e)), ...(await expert(experts.down, e))];
      if (e === 3) expect(values.some((v) => v !== 0)).toBe(true);
      else expect(values).toEqual(values.map(() => 0));
    }
  });

  test("Muon changes an expert without tokens by weight decay only", async () => {
    const { params, x } = await crowded();
    const optimizer = muon({ learningRate: 0.5, weightDecay: 0.25, roles: layer.roles });
    const grads = grad((p: MoeParams) => scalarOf(layer, p, x))(params);
    const { params: after } = optimizer.update(grads, optimizer.init(params), params);
    for (const name of ["gateUp", "down"] as const) {
      const decayed = mul(params.experts[name], 1 - 0.5 * 0.25);
      await expect(sliceAxis(after.experts[name], 0, 0, 3)).toBeAllClose(sliceAxis(decayed, 0, 0, 3));
      const [used, unused] = [await expert(after.experts[name], 3), await expert(decayed, 3)];
      expect(used.some((v, i) => Math.abs(v - unused[i]!) > 1e-3)).toBe(true);
    }
    expect(await after.router.bias!.toArray()).toEqual([0, 0, 0, 9, 0]);
  });
});

test("output and gradients are the same bits in 20 runs", async () => {
  const options = { features: 8, intermediateSize: 8, numExperts: 6, numExpertsPerToken: 3, numSharedExperts: 1 };
  const layer = mixtureOfExperts(options);
  const params = layer.init(key(3));
  const x = await realise(normal(key(4), [2, 20, 8]));
  const step = compile((p: MoeParams, x: Tensor) => ({
    output: layer.apply(p, x).output,
    grads: grad((at: { p: MoeParams; x: Tensor }) => scalarOf(layer, at.p, at.x))({ p, x }),
  }));
  const bits = async (): Promise<string> => {
    const leaves = treePaths<Tensor>(step(params, x));
    const data = await Promise.all(leaves.map(([, leaf]) => leaf.data()));
    return data.map((d) => new Uint32Array(d.buffer, d.byteOffset, d.byteLength / 4).join()).join("|");
  };
  const first = await bits();
  for (let run = 1; run < 20; run++) expect((await bits()) === first, `run ${run}`).toBe(true);
});

test("the arithmetic follows k and not the number of experts", () => {
  const flops = [4, 8, 16, 32].map((numExperts) => {
    const layer = mixtureOfExperts({ features: 128, intermediateSize: 128, numExperts, numExpertsPerToken: 2 });
    const params = treeMap(
      (leaf: Tensor) => zeros(leaf.shape, { device: oracle }),
      layer.init(key(1, { device: oracle })),
    );
    const x = zeros([1, 1024, 128], { device: oracle });
    const loss = (at: { params: MoeParams; x: Tensor }): Tensor => sum(layer.apply(at.params, at.x).output);
    const plan = explain(grad(loss), { params: params as MoeParams, x });
    // six products with 3 D F weights for each of N k rows in all: forward, and twice as much backward
    expect(plan.flops).toBeGreaterThan(6 * 1024 * 2 * 3 * 128 * 128);
    return plan.flops;
  });
  for (const count of flops) expect(count / flops[0]!).toBeLessThan(1.2);
});

test("no plan of a mixture holds a table of tokens by experts by features", () => {
  const options = { features: 16, intermediateSize: 16, numExperts: 8, numExpertsPerToken: 2 };
  const layer = mixtureOfExperts(options);
  const plan = explain(
    (p: MoeParams, x: Tensor) => layer.apply(p, x).output,
    layer.init(key(1)),
    ones([1, 64, options.features]),
  );
  for (const { bindings } of plan.kernels)
    for (const { size } of bindings) expect(size).toBeLessThan(64 * 8 * options.features);
});

test("a mixture says what its parameters are for, and how they begin", async () => {
  const layer = mixtureOfExperts({
    ...sizes,
    numExperts: 4,
    numExpertsPerToken: 2,
    numSharedExperts: 2,
    std: 0.5,
    outputStd: 0.1,
  });
  const blocks = (rows: number) => [
    { start: 0, rows },
    { start: rows, rows },
  ];
  expect(layer.roles).toEqual({
    "router.weight": { role: "router" },
    "router.bias": { role: "buffer" },
    "experts.gateUp": { role: "experts", blocks: blocks(3) },
    "experts.down": { role: "experts" },
    "shared.gateUp.weight": { role: "matrix", blocks: blocks(6) },
    "shared.down.weight": { role: "matrix" },
  });
  const params = layer.init(key(1));
  const shapes = treePaths<Tensor>(params).map(([path, leaf]) => [path, leaf.shape]);
  expect(Object.fromEntries(shapes)).toEqual({
    "router.weight": [4, 4],
    "router.bias": [4],
    "experts.gateUp": [4, 6, 4],
    "experts.down": [4, 4, 3],
    "shared.gateUp.weight": [12, 4],
    "shared.down.weight": [4, 6],
  });
  const deviation = async (t: Tensor): Promise<number> => Math.hypot(...(await t.data())) / Math.sqrt(t.size);
  expect(await deviation(params.experts.gateUp)).toBeCloseTo(0.5, 0);
  expect(await deviation(params.experts.down)).toBeLessThan(0.2);
  expect(() => layer.apply(params, ones([2, 5, 7]))).toThrow(ShapeError);
});
