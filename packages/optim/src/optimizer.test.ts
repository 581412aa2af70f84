import {
  add,
  compile,
  explain,
  full,
  realise,
  ShapeError,
  sub,
  type Tensor,
  tensor,
  treePaths,
  ValueError,
  zeros,
} from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import { clipByGlobalNorm, globalNorm } from "./clipByGlobalNorm.ts";
import { transformGradients } from "./optimizer.ts";
import { oneMinusPower } from "./scaleByAdam.ts";
import { linear } from "./schedules.ts";
import { sgd } from "./sgd.ts";
import type { OptimizerState } from "./types.ts";

const device = await testDevice();

describe("optimizer.update(grads, state, params)", () => {
  test("names the parameter whose gradient or state does not fit", () => {
    const params = { a: zeros([2]), b: { c: zeros([3]) } };
    const rule = adamw({ learningRate: 1e-3 });
    const state = rule.init(params);
    expect(() => rule.update({ a: zeros([2]) }, state, params as never)).toThrow(
      new ValueError(
        'adamw: needs the gradient of "b.c"; pass a tree like the parameters, and a state from init(params)',
      ),
    );
    expect(() => rule.update({ a: zeros([2]), b: { c: zeros([4]) } }, state, params)).toThrow(
      new ShapeError('adamw: the gradient of "b.c" must have shape [3], got [4]'),
    );
    expect(() => rule.update(params, {}, params)).toThrow('adamw: the state has no "step"; make it with init(params)');
    expect(() => rule.update(params, { step: state.step }, params)).toThrow('scaleByAdam: needs the m of "a"');
    expect(() => rule.init({ a: zeros([2], { dtype: "i32" }) })).toThrow(
      'adamw: parameters must be f32, got i32 at "a"',
    );
    expect(() => rule.init({})).toThrow("adamw: needs at least one parameter, got none");
  });

  test("refuses hyperparameters out of range", () => {
    expect(() => sgd({ learningRate: -1 })).toThrow("learningRate must be a finite number of at least 0, got -1");
    expect(() => sgd({ learningRate: 1, nesterov: true })).toThrow("sgd: nesterov needs a momentum above 0, got 0");
    expect(() => adamw({ learningRate: 1, b2: 1 })).toThrow(
      "scaleByAdam: b2 must be at least 0 and less than 1, got 1",
    );
    expect(() => adamw({ learningRate: 1, weightDecay: Number.NaN })).toThrow("addDecayedWeights: weightDecay");
    const rule = sgd({ learningRate: tensor([1]) });
    const params = { a: zeros([2]) };
    expect(() => rule.update(params, rule.init(params), params)).toThrow(
      "scaleByLearningRate: learningRate must be a scalar, got shape [1]",
    );
  });

  test("accepts a number, a schedule and a tensor as learning rate, and one for this update", async () => {
    const params = { a: tensor([1]) };
    const grads = { a: tensor([1]) };
    const after = async (learningRate: Parameters<typeof sgd>[0]["learningRate"], extras = {}) => {
      const rule = sgd({ learningRate });
      return rule.update(grads, rule.init(params), params, extras).params.a;
    };
    await expect(await after(0.25)).toBeAllClose([0.75]);
    await expect(await after(tensor(0.25))).toBeAllClose([0.75]);
    await expect(await after(linear({ from: 0, to: 1, steps: 4 }))).toBeAllClose([0.75]);
    await expect(await after(0.25, { learningRate: tensor(0.5) })).toBeAllClose([0.5]);
  });

  test("follows its schedule and a rate passed in through 50 replays of a compiled step", async () => {
    const rule = sgd({ learningRate: linear({ from: 1, to: 0, steps: 100 }), momentum: 0.5 });
    type Step = { params: { a: Tensor }; state: OptimizerState; learningRate?: Tensor };
    const run = ({ params, state, learningRate }: Step) =>
      rule.update({ a: sub(params.a, 3) }, state, params, learningRate && { learningRate });
    const step = compile(run, { donate: ["params", "state"] });
    for (const given of [false, true]) {
      const start = async () => ({ params: await realise({ a: tensor([1, 2]) }), state: rule.init({ a: zeros([2]) }) });
      let compiled = await start();
      let plain = await start();
      for (let i = 0; i < 50; i++) {
        const extra = given ? { learningRate: tensor(0.5 / (i + 1)) } : {};
        compiled = step({ ...compiled, ...extra });
        plain = run({ ...plain, ...extra });
      }
      await expect(compiled.params.a).toBeAllClose(plain.params.a, { rtol: 1e-6, atol: 1e-7 });
    }
  });

  test("updates a tensor that stands at two paths once", async () => {
    const shared = tensor([1, 2]);
    const params = { embed: shared, head: { weight: shared } };
    const grads = { embed: tensor([1, 1]), head: { weight: tensor([1, 1]) } };
    const rule = adamw({ learningRate: 0.1 });
    const state = rule.init(params);
    expect(treePaths(state).map(([path]) => path)).toEqual(["scaleByAdam.m.embed", "scaleByAdam.v.embed", "step"]);
    const next = rule.update(grads, state, params);
    expect(next.params.embed).toBe(next.params.head.weight);
  });

  test("has realised its results when it returns", () => {
    const params = { a: tensor([1, 2]) };
    const rule = sgd({ learningRate: 0.1, momentum: 0.9 });
    const next = rule.update({ a: add(params.a, 1) }, rule.init(params), params);
    for (const [path, leaf] of treePaths<Tensor>(next)) expect(leaf.node.kind.kind, path).toBe("buffer");
  });
});

describe("globalNorm and clipByGlobalNorm", () => {
  test("globalNorm(tree) is the 2-norm of all elements; shared tensors count once", async () => {
    const a = tensor([
      [3, 0],
      [0, 0],
    ]);
    expect(await globalNorm({ a, b: [tensor([4])], again: a }).item()).toBeCloseTo(5, 6);
    expect(() => globalNorm({})).toThrow("globalNorm: needs at least one tensor, got none");
  });

  test("a long gradient is shortened, a short one untouched", async () => {
    const rule = transformGradients(clipByGlobalNorm(1), sgd({ learningRate: 1 }));
    const params = { a: tensor([0]), b: tensor([0]) };
    const long = rule.update({ a: tensor([30]), b: tensor([-40]) }, rule.init(params), params).params;
    await expect(long.a).toBeAllClose([-0.6]);
    await expect(long.b).toBeAllClose([0.8]);
    const short = rule.update({ a: tensor([0.3]), b: tensor([0]) }, rule.init(params), params).params;
    await expect(short.a).toBeAllClose([-0.3], { rtol: 1e-7, atol: 0 });
    expect(() => clipByGlobalNorm(0)).toThrow("clipByGlobalNorm: maxNorm must be a positive finite number, got 0");
  });
});

describe("oneMinusPower(b, t)", () => {
  test("is 1 - b^t to the last digits, for small and large t", async () => {
    const f64 = await oracleDevice();
    for (const b of [0, 0.5, 0.9, 0.95, 0.999]) {
      for (const t of [1, 2, 3, 10, 100, 1e4]) {
        const exact = -Math.expm1(t * Math.log(b));
        expect(await oneMinusPower(b, tensor(t, { device: f64 })).item(), `${b}^${t} in float64`).toBeCloseTo(
          exact,
          14,
        );
        const single = await oneMinusPower(b, tensor(t, { device })).item();
        expect(Math.abs(single / exact - 1), `${b}^${t} in float32`).toBeLessThan(1e-6);
      }
    }
  });
});

describe("AdamW over 100 tensors", () => {
  test("takes one dispatch, the scalars of the step riding along", async () => {
    type Tensors = Record<string, Tensor>;
    type Step = { params: Tensors; state: OptimizerState; grads: Tensors };
    const rule = adamw({ learningRate: linear({ from: 1, to: 0, steps: 100 }) });
    const step = compile(({ params, state, grads }: Step) => rule.update(grads, state, params), {
      donate: ["params", "state"],
    });
    const make = () =>
      realise(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`p${i}`, full([64 + 8 * (i % 4), 16], i)])));
    const grads = await make();
    let params = await make();
    let state = rule.init(params);
    expect(explain(step, { params, state, grads }).kernels.length).toBe(1);
    ({ params, state } = await realise(step({ params, state, grads })));
    const before = device.stats().dispatches;
    await realise(step({ params, state, grads }));
    expect(device.stats().dispatches - before).toBe(1);
  });
});
