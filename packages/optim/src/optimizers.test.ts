// Every optimizer against small targets whose gradients are known: a new optimizer is one more row.
import {
  compile,
  matmul,
  mT,
  mul,
  realise,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  treeFromPaths,
  treeLeaves,
  treeMap,
  treePaths,
  zeros,
} from "@mc/tensor";
import { testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import { chain } from "./chain.ts";
import { clipByGlobalNorm } from "./clipByGlobalNorm.ts";
import { muon } from "./muon.ts";
import { optimizer, transformGradients } from "./optimizer.ts";
import type { Roles } from "./roles.ts";
import { scaleByLearningRate } from "./scaleByLearningRate.ts";
import { warmupCosine } from "./schedules.ts";
import { sgd } from "./sgd.ts";
import { trace } from "./trace.ts";
import type { Optimizer, OptimizerState } from "./types.ts";

await testDevice();

const roles: Roles = { w: { role: "matrix" }, b: { role: "bias" } };
const steps = 60;
const rate = warmupCosine({ peak: 0.15, warmupSteps: 5, totalSteps: steps, final: 0 });

const optimizers: { name: string; optimizer: Optimizer }[] = [
  { name: "sgd", optimizer: sgd({ learningRate: 0.1 }) },
  { name: "sgd with momentum", optimizer: sgd({ learningRate: rate, momentum: 0.8 }) },
  { name: "sgd with nesterov", optimizer: sgd({ learningRate: 0.03, momentum: 0.8, nesterov: true }) },
  { name: "adamw", optimizer: adamw({ learningRate: rate, weightDecay: 0 }) },
  { name: "adamw with amsgrad", optimizer: adamw({ learningRate: rate, weightDecay: 1e-4, amsgrad: true }) },
  { name: "muon", optimizer: muon({ learningRate: rate, weightDecay: 0, roles }) },
  {
    name: "muon with heavy-ball and hybrid",
    optimizer: muon({
      learningRate: rate,
      weightDecay: 0,
      momentum: 0.8,
      nesterov: false,
      newtonSchulz: "hybrid",
      roles,
    }),
  },
  {
    name: "muon with polar express and the original scale",
    optimizer: muon({ learningRate: rate, weightDecay: 0, newtonSchulz: "polar-express", scale: "original", roles }),
  },
  {
    name: "adamw behind a clip",
    optimizer: transformGradients(clipByGlobalNorm(0.5), adamw({ learningRate: rate, weightDecay: 0 })),
  },
  {
    name: "a chain of one's own",
    optimizer: optimizer("own", chain(trace({ momentum: 0.5 }), scaleByLearningRate(rate))),
  },
];

type Params = { w: Tensor; b: Tensor };
interface Target {
  readonly name: string;
  readonly start: () => Params;
  readonly loss: (params: Params) => Tensor;
  readonly grads: (params: Params) => Params;
}

const goal = () => ({
  w: tensor([
    [0.5, -0.3, 0.2],
    [0.1, 0.4, -0.6],
  ]),
  b: tensor([0.3, -0.2]),
});
const factor = () =>
  tensor([
    [1.2, 0.3, -0.2],
    [0, 0.9, 0.4],
    [0.1, 0, 1.1],
  ]);
const targets: Target[] = [
  {
    // |w - w*|^2 / 2 + |b - b*|^2 / 2
    name: "a parabola",
    start: () => ({ w: zeros([2, 3]), b: zeros([2]) }),
    loss: (p) =>
      treeLeaves<Tensor>(treeMap((x: Tensor, y: Tensor) => mul(sum(square(sub(x, y))), 0.5), p, goal())).reduce(
        (a, b) => sub(a, mul(b, -1)),
      ),
    grads: (p) => treeMap((x: Tensor, y: Tensor) => sub(x, y), p, goal()) as Params,
  },
  {
    // |(w - w*) F|^2 / 2 + |b - b*|^2 / 2, with gradient (w - w*) F F^T
    name: "a matrix parabola",
    start: () => ({ w: zeros([2, 3]), b: zeros([2]) }),
    loss: (p) =>
      mul(sub(sum(square(matmul(sub(p.w, goal().w), factor()))), mul(sum(square(sub(p.b, goal().b))), -1)), 0.5),
    grads: (p) => ({ w: matmul(matmul(sub(p.w, goal().w), factor()), mT(factor())), b: sub(p.b, goal().b) }),
  },
];

describe.each(optimizers)("$name", ({ optimizer }) => {
  test.each(targets)("comes to rest on $name", async ({ start, loss, grads }) => {
    const step = compile(
      ({ params, state }: { params: Params; state: OptimizerState }) => optimizer.update(grads(params), state, params),
      { donate: ["params", "state"] },
    );
    let params = await realise(start());
    const before = await loss(params).item();
    let state = optimizer.init(params);
    for (let i = 0; i < steps; i++) ({ params, state } = step({ params, state }));
    expect(await loss(params).item()).toBeLessThan(before * 0.05);
    expect(await state.step.item()).toBe(steps);
  });

  test("compiled equals uncompiled", async () => {
    const [{ start, grads }] = targets as [Target];
    const step = compile(({ params, state }: { params: Params; state: OptimizerState }) =>
      optimizer.update(grads(params), state, params),
    );
    let compiled = { params: await realise(start()), state: optimizer.init(start()) };
    let plain = { params: await realise(start()), state: optimizer.init(start()) };
    for (let i = 0; i < 4; i++) {
      compiled = step(compiled);
      plain = optimizer.update(grads(plain.params), plain.state, plain.params);
    }
    for (const [path, leaf] of treePaths<Tensor>(plain)) {
      const other = new Map(treePaths<Tensor>(compiled)).get(path) as Tensor;
      await expect(other, path).toBeAllClose(leaf, { rtol: 1e-5, atol: 1e-6 });
    }
  });

  test("goes on to the bit from a state that was saved and restored under its names", async () => {
    const [{ start, grads }] = targets as [Target];
    let params = await realise(start());
    let state = optimizer.init(params);
    for (let i = 0; i < 3; i++) ({ params, state } = optimizer.update(grads(params), state, params));
    const entries = await Promise.all(
      treePaths<Tensor>(state).map(async ([path, t]) => [path, await t.data(), t.shape, t.dtype] as const),
    );
    const restored = Object.fromEntries(
      entries.map(([path, data, shape, dtype]) => [path, tensor(data, { shape, dtype })]),
    );
    const straight = optimizer.update(grads(params), state, params);
    for (const saved of [restored, treeFromPaths(Object.entries(restored)) as OptimizerState]) {
      const onwards = optimizer.update(grads(params), saved, params);
      for (const name of ["w", "b"] as const)
        await expect(onwards.params[name]).toBeAllClose(straight.params[name], { rtol: 0, atol: 0 });
      expect(treePaths(onwards.state).map(([path]) => path)).toEqual(treePaths(straight.state).map(([path]) => path));
    }
  });
});
