// Updates of many small tensors: one kernel over buffers that they share, with the values that each alone would get.
import { grad } from "@mc/autograd";
import { adamw, clipByGlobalNorm, type Optimizer, transformGradients } from "@mc/optim";
import {
  add,
  compile,
  explain,
  foldIn,
  key,
  matmul,
  maximum,
  mul,
  normal,
  realise,
  reshape,
  slice,
  sub,
  sum,
  type Tensor,
  tensor,
  treeLeaves,
} from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { testDevice } from "../host.ts";
import { random } from "../random.ts";

const device = await testDevice();
// a dozen sizes: kernels that are not shared are written once for each
const sizes = [1, 2, 3, 60, 64, 65, 100, 128, 500, 1000, 4096, 5000];

/** Tensors with numbers of their own. */
const draw = (seed: number, count = 36): Tensor[] => {
  const r = random(seed);
  return Array.from({ length: count }, (_, i) =>
    tensor(Float32Array.from({ length: sizes[(i * 7) % sizes.length]! }, () => r.normal())),
  );
};
const read = (tree: unknown) => Promise.all(treeLeaves<Tensor>(tree).map((t) => t.data()));

interface Training {
  readonly params: Tensor[];
  readonly state: ReturnType<Optimizer["init"]>;
}
const begin = async (optimizer: Optimizer, seed: number, count?: number): Promise<Training> => {
  const params = draw(seed, count);
  return realise({ params, state: optimizer.init(params) });
};
const stepper = (optimizer: Optimizer, coalesce: boolean) =>
  compile(
    ({ params, state }: Training, grads: Tensor[]): Training => {
      const next = optimizer.update(grads, state, params);
      return { params: next.params, state: next.state };
    },
    { donate: [0], scheduler: { coalesce } },
  );

describe("AdamW over many tensors", async () => {
  const optimizer = adamw({ learningRate: 1e-2, weightDecay: 0.1 });
  const step = stepper(optimizer, true);
  const gradients = await Promise.all([draw(10), draw(11), draw(12)].map((g) => realise(g)));

  test("takes 2 dispatches for 300, and no new buffers or bind groups from the second step on", async () => {
    const gradients = await Promise.all([13, 14, 15].map((seed) => realise(draw(seed, 300))));
    let at = await begin(optimizer, 1, 300);
    expect(explain(step, at, gradients[0]!).kernels.length).toBeLessThanOrEqual(2);
    for (const grads of gradients) at = step(at, grads);
    await at.params[0]!.data();
    const before = device.stats();
    const bytes = device.memory().liveBytes;
    for (const grads of gradients) at = step(at, grads);
    const { dispatches, bindGroups, buffersCreated } = device.stats();
    expect(dispatches - before.dispatches).toBeLessThanOrEqual(6);
    expect(bindGroups).toBe(before.bindGroups);
    if (device.kind === "webgpu") expect(buffersCreated).toBe(before.buffersCreated);
    expect(device.memory().liveBytes).toBe(bytes);
  });

  test("gives each tensor the bits that it would get alone", async () => {
    const alone = stepper(optimizer, false);
    let a = await begin(optimizer, 2);
    let b = await begin(optimizer, 2);
    for (const grads of gradients) {
      a = step(a, grads);
      b = alone(b, grads);
    }
    expect(await read(a)).toEqual(await read(b));
  });

  test("keeps two sets of parameters apart that are stepped in turn", async () => {
    const both = [await begin(optimizer, 3), await begin(optimizer, 4)];
    const one = [await begin(optimizer, 3), await begin(optimizer, 4)];
    for (const grads of gradients) for (const i of [0, 1]) both[i] = step(both[i]!, grads);
    for (const i of [0, 1]) for (const grads of gradients) one[i] = step(one[i]!, grads);
    expect(await read(both)).toEqual(await read(one));
  });
});

describe("gradients that are slices of one tensor", async () => {
  const optimizer = adamw({ learningRate: 1e-2, weightDecay: 0.1 });
  const count = 12;
  const total = 20_000;
  const sliceSizes = Array.from({ length: count }, (_, i) => sizes[(i * 7) % sizes.length]!);
  const ends = sliceSizes.map((_, i) => sliceSizes.slice(0, i + 1).reduce((s, n) => s + n, 0));
  const aligned = (n: number): number => Math.ceil(n / 64) * 64;
  const inArena = sliceSizes.map((_, i) => sliceSizes.slice(0, i).reduce((s, n) => s + aligned(n), 0));
  const flats = await Promise.all([40, 41].map((seed) => realise(normal(key(seed), [total]))));
  // where slice i begins
  const layouts: Record<string, (i: number) => number> = {
    "one after the other": (i) => ends[i]! - sliceSizes[i]!,
    "backwards, with an offset": (i) => total - 5 - ends[i]!,
    "as in an arena": (i) => 64 + inArena[i]!,
    "one partly over the other": (i) => 3 * i,
  };

  /** Two steps over tensors whose gradients begin at `startOf(i)`: values, and kernels of a step. */
  const run = async (coalesce: boolean, start: Training, startOf: (i: number) => number) => {
    const step = compile(
      ({ params, state }: Training, flat: Tensor): Training => {
        const gradients = params.map((p, i) => slice(mul(flat, 0.5), [startOf(i)], [startOf(i) + p.size]));
        const next = optimizer.update(gradients, state, params);
        return { params: next.params, state: next.state };
      },
      { donate: [0], scheduler: { coalesce } },
    );
    let at = start;
    const { kernels } = explain(step, at, flats[0]!);
    for (const flat of flats) at = step(at, flat);
    return { values: await read(at), kernels };
  };

  test.each(Object.entries(layouts))("%s: one kernel, and the bits that each would get alone", async (_, startOf) => {
    const together = await run(true, await begin(optimizer, 8, count), startOf);
    expect(together.kernels.length).toBeLessThanOrEqual(2);
    expect(together.values).toEqual((await run(false, await begin(optimizer, 8, count), startOf)).values);
  });

  test("four neighbours a thread: the bits that each would get alone", async () => {
    const make = (): Promise<Training> => {
      const params = Array.from({ length: 17 }, (_, i) => normal(foldIn(key(42), i), [3900 + (i % 2)]));
      return realise({ params, state: optimizer.init(params) });
    };
    const startOf = (i: number): number => 9 * (17 - i);
    const together = await run(true, await make(), startOf);
    expect(together.kernels.length).toBeLessThanOrEqual(2);
    if (device.kind === "webgpu") expect(together.kernels.at(-1)!.variant).toBe("loop wide");
    expect(together.values).toEqual((await run(false, await make(), startOf)).values);
  });
});

describe("tensors that share a buffer", async () => {
  const optimizer = adamw({ learningRate: 1e-2 });
  const step = stepper(optimizer, true);
  const grads = await realise(draw(20));
  const stepped = async (seed: number): Promise<Training> => step(await begin(optimizer, seed), grads);

  test("are read, used eagerly and compiled like any other", async () => {
    const { params } = await stepped(5);
    const [x, y] = [params[8]!, params[20]!]; // of one size: the sizes come again after twelve
    const [a, b] = [await x.data(), await y.data()];
    const expected = a.map((v, i) => Math.fround(v + b[i]!));
    expect(await add(x, y).data()).toEqual(expected);
    expect(await compile((x: Tensor, y: Tensor) => add(x, y))(x, y).data()).toEqual(expected);
    expect(await compile(() => add(x, y))().data()).toEqual(expected);
    const product = Array.from(a).reduce((s, v, i) => s + v * b[i]!, 0);
    expect(await matmul(reshape(x, [1, -1]), reshape(y, [-1, 1])).item()).toBeCloseTo(product, 2);
    expect(await x.data()).toEqual(a);
  });

  test("can be donated elsewhere, one by one and against each other", async () => {
    const { params } = await stepped(6);
    const [x, y, z] = [params[8]!, params[20]!, params[32]!];
    const values = await read([x, y, z]);
    const swap = compile(({ x, y }: { x: Tensor; y: Tensor }, z: Tensor) => ({ x: sub(y, z), y: add(x, y) }), {
      donate: [0],
    });
    const out = swap({ x, y }, z);
    expect(await out.x.data()).toEqual(values[1]!.map((v, i) => Math.fround(v - values[2]![i]!)));
    expect(await out.y.data()).toEqual(values[0]!.map((v, i) => Math.fround(v + values[1]![i]!)));
    expect(() => x.data()).toThrow(/donated/);
    expect(await z.data()).toEqual(values[2]);
    expect(await params[21]!.data()).toHaveLength(params[21]!.size);
  });

  test("outlive the others that are disposed, and the last gives the memory back", async () => {
    const { params, state } = await stepped(7);
    const values = await read(params);
    const bytes = 4 * params.reduce((n, p) => n + p.size, 0);
    const live = (): number => device.memory().liveBytes;
    const all = live();
    for (const t of treeLeaves<Tensor>(state)) t.dispose();
    const two = all - live(); // the arenas of both moments
    expect(two).toBeGreaterThanOrEqual(2 * bytes);
    for (let i = 0; i < params.length; i += 2) params[i]!.dispose();
    expect(live()).toBe(all - two);
    for (const i of [1, 15, 35]) expect(await params[i]!.data()).toEqual(values[i]);
    expect(() => params[0]!.data()).toThrow(/disposed/);
    for (const t of params) t.dispose();
    expect(live()).toBeLessThanOrEqual(all - two - bytes);
  });
});

describe("gradients that are computed in the step", async () => {
  const shapes = [
    [3, 5],
    [5, 70],
    [70, 70],
    [70, 1],
  ] as const;
  const biases = [5, 70, 70, 1];
  const make = async () => {
    const w = shapes.map((s, i) => normal(foldIn(key(30), i), [...s]));
    const b = biases.map((n, i) => normal(foldIn(key(31), i), [n]));
    return realise({ w, b });
  };
  const x = await realise(normal(key(32), [9, 3]));
  const loss = ({ w, b }: { w: Tensor[]; b: Tensor[] }): Tensor => {
    let h: Tensor = x;
    w.forEach((m, i) => {
      h = maximum(add(matmul(h, m), b[i]!), -0.5);
    });
    return sum(mul(h, h));
  };

  test("are written side by side by the kernels that make them: clipping by the global norm", async () => {
    const optimizer = transformGradients(clipByGlobalNorm(1), adamw({ learningRate: 1e-2 }));
    const results = [];
    const kernels = [];
    for (const coalesce of [true, false]) {
      const step = compile(
        ({ params, state }: { params: { w: Tensor[]; b: Tensor[] }; state: Training["state"] }) =>
          optimizer.update(grad(loss)(params), state, params),
        { donate: true, scheduler: { coalesce } },
      );
      let params = await make();
      let state = await realise(optimizer.init(params));
      kernels.push(explain(step, { params, state }).kernels.length);
      for (let i = 0; i < 3; i++) ({ params, state } = step({ params, state }));
      results.push(await read([params, state]));
    }
    expect(results[0]).toEqual(results[1]);
    expect(kernels[1]! - kernels[0]!).toBeGreaterThanOrEqual(6);
  });
});
