// The contracts between laziness, compilation, donation and gradients that gave wrong numbers, leaks or refusals when they were
// left open: each has a test named after it.
import { grad, valueAndGrad, vjp } from "@mc/autograd";
import * as t from "@mc/tensor";
import { compile, explain, realise, type Tensor, tensor } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { hostDevice, oracleDevice, testDevice } from "./host.ts";
import "./matchers.ts";

const device = await testDevice();
const loss = (w: Tensor): Tensor => t.sum(t.square(t.tanh(t.mul(w, 2))));
/** d/dw sum(tanh(2w)^2) = 4 tanh(2w) (1 - tanh(2w)^2) */
const lossGradient = (w: number[]): number[] => w.map((x) => 4 * Math.tanh(2 * x) * (1 - Math.tanh(2 * x) ** 2));

/** Counters stay equal; live bytes may only fall, as the collector finds what earlier tests left. */
function expectFlat({ live: before, ...early }: { live: number }, { live: after, ...late }: { live: number }): void {
  expect(late).toEqual(early);
  expect(after).toBeLessThanOrEqual(before);
}

describe("history and realise", () => {
  test("a gradient is right although its argument is a realised intermediate", async () => {
    const h = t.mul(tensor([0.1, 0.2, -0.3]), 2);
    await realise(h);
    await expect(grad(loss)(h)).toBeAllClose(lossGradient([0.2, 0.4, -0.6]));
  });

  test("a gradient by a value does not confuse it with what the value was made from", async () => {
    const x = tensor([0.5, -1]);
    const y = t.mul(x, 3);
    // d/dy sum(x y) = x, although y depends on x
    await expect(grad((v: Tensor) => t.sum(t.mul(x, v)))(y)).toBeAllClose([0.5, -1]);
    // d/dx sum(y^2) by a function that does not use its argument is zero, not the gradient through y's history
    await expect(grad((v: Tensor) => t.add(t.sum(t.square(y)), t.sum(t.mul(v, 0))))(x)).toBeAllClose([0, 0]);
  });

  test("gradients survive that the loss and auxiliary values are realised before them", async () => {
    const w = tensor([0.1, 0.2, -0.3]);
    const { value, grads, aux } = valueAndGrad((v: Tensor) => ({ value: loss(v), aux: t.tanh(t.mul(v, 2)) }), {
      hasAux: true,
    })(w);
    await realise(aux);
    await value.item();
    await expect(grads).toBeAllClose(lossGradient([0.1, 0.2, -0.3]));
  });

  test("reading a value that the gradient goes through throws at the call", () => {
    const w = tensor([1, 2]);
    const read = (v: Tensor): Tensor => {
      const h = t.mul(v, 2);
      void h.data();
      return t.sum(h);
    };
    expect(() => grad(read)(w)).toThrow(/read inside/);
    expect(() => vjp(read, w)).toThrow(/read inside/);
  });

  test("reading a value that the gradient does not go through is allowed", async () => {
    const other = t.mul(tensor([1, 2]), 10);
    let inside: Promise<unknown> | undefined;
    const g = grad((v: Tensor) => {
      inside = other.data();
      return t.sum(t.mul(v, other));
    })(tensor([3, 4]));
    await expect(g).toBeAllClose([10, 20]);
    expect(Array.from((await inside) as Float32Array)).toEqual([10, 20]);
  });
});

describe("a compiled function inside grad or inside a trace", () => {
  const compiled = compile(loss);
  const w = [0.1, 0.2, -0.3];

  test("grad(compile(f)) is grad(f), before and after compile(f) has been called", async () => {
    await expect(grad(compiled)(tensor(w))).toBeAllClose(lossGradient(w));
    await compiled(tensor(w)).item();
    await expect(grad(compiled)(tensor(w))).toBeAllClose(lossGradient(w));
  });

  test("compile(grad(compile(f))) is grad(f)", async () => {
    await expect(compile(grad(compiled))(tensor(w))).toBeAllClose(lossGradient(w));
  });

  test("a compiled function that donates, called in a trace, does not end its arguments", async () => {
    const step = compile((x: Tensor) => t.mul(x, 2), { donate: true });
    const twice = compile((x: Tensor) => t.add(step(x), x));
    await expect(twice(tensor(w))).toBeAllClose(w.map((x) => 3 * x));
  });

  test("second derivatives go through a compiled function", async () => {
    const slope = grad((x: Tensor) => t.sum(compile((y: Tensor) => t.mul(t.mul(y, y), y))(x)));
    await expect(grad((x: Tensor) => t.sum(slope(x)))(tensor([2, -1]))).toBeAllClose([12, -6]);
  });
});

describe("eager loops that read only the loss", () => {
  test("stay flat in plans, memory and depth with realise(tree)", async () => {
    const x = tensor([1, 2, 3]);
    const step = (w: Tensor): { w: Tensor; value: Tensor } => {
      const { value, grads } = valueAndGrad((v: Tensor) => t.sum(t.square(t.sub(v, x))))(w);
      return { w: t.sub(w, t.mul(grads, 0.05)), value };
    };
    let w = t.zeros([3]);
    const figures: { depth: number; pipelines: number; live: number }[] = [];
    for (let i = 0; i < 60; i++) {
      const next = step(w);
      await realise(next);
      w.dispose();
      w = next.w;
      await next.value.item();
      next.value.dispose();
      figures.push({ depth: w.node.depth, pipelines: device.stats().pipelines, live: device.memory().liveBytes });
    }
    expectFlat(figures[5]!, figures.at(-1)!);
  });

  test("of any length end by themselves: a lazy chain is cut long before it overflows anything", async () => {
    let w = t.zeros([4]);
    let deepest = 0;
    for (let i = 0; i < 10_000; i++) {
      w = t.add(t.mul(w, 0.5), 1);
      deepest = Math.max(deepest, w.node.depth);
    }
    expect(deepest).toBeLessThan(5000);
    await expect(w).toBeAllClose([2, 2, 2, 2]);
  });

  test("realise(tree) of a pending chain leaves no history", async () => {
    let w = t.zeros([4]);
    for (let i = 0; i < 100; i++) w = t.add(w, 1);
    await realise({ w });
    expect(w.node.depth).toBe(0);
    expect(w.node.inputs.length).toBe(0);
  });
});

describe("tied weights", () => {
  const halve = compile(
    (p: { embedding: Tensor; head: Tensor }) => ({ embedding: t.mul(p.embedding, 0.5), head: t.mul(p.head, 0.5) }),
    { donate: true },
  );

  test("one tensor at two paths of a donated tree is one leaf: both paths get one result when the function gives one", async () => {
    const shared = tensor([2, 4]);
    const once = compile(
      (p: { embedding: Tensor; head: Tensor }) => {
        const w = t.mul(t.add(p.embedding, p.head), 0.5);
        return { embedding: w, head: w };
      },
      { donate: true },
    );
    const result = once({ embedding: shared, head: shared });
    expect(result.embedding).toBe(result.head);
    await expect(result.head).toBeAllClose([2, 4]);
    const again = once(result);
    await expect(again.embedding).toBeAllClose([2, 4]);
  });

  test("equal but separately computed results for the two paths are refused or shared, never two handles on one buffer", async () => {
    const shared = tensor([2, 4]);
    let result: { embedding: Tensor; head: Tensor } | undefined;
    try {
      result = halve({ embedding: shared, head: shared });
    } catch (error) {
      expect(String(error)).toMatch(/"?embedding"?.*"?head"?/);
    }
    if (!result) return;
    await expect(result.embedding).toBeAllClose([1, 2]);
    await expect(result.head).toBeAllClose([1, 2]);
  });

  test("different values for the two paths are a ValueError that names both", () => {
    const shared = tensor([2, 4]);
    const split = compile(
      (p: { embedding: Tensor; head: Tensor }) => ({ embedding: t.mul(p.embedding, 2), head: t.mul(p.head, 3) }),
      { donate: true },
    );
    expect(() => split({ embedding: shared, head: shared })).toThrow(t.ValueError);
    expect(() => split({ embedding: shared, head: shared })).toThrow(/embedding.*head/);
  });

  test("a tensor donated in one argument and kept in another is refused", () => {
    const x = tensor([1]);
    const f = compile((a: Tensor, b: Tensor) => t.add(a, b), { donate: [0] });
    expect(() => f(x, x)).toThrow(t.ValueError);
  });

  test("the gradient of a tied tree counts both uses", async () => {
    const shared = tensor([2, 4]);
    const grads = grad((p: { a: Tensor; b: Tensor }) => t.sum(t.mul(t.mul(p.a, 3), p.b)))({ a: shared, b: shared });
    await expect(grads.a).toBeAllClose([12, 24]);
    expect(grads.a).toBe(grads.b);
  });
});

describe("lazy readers of a donated tensor", () => {
  test("throw an error that says to realise them before donating, and are right when one does", async () => {
    const step = compile((x: Tensor) => t.add(x, 1), { donate: true });
    const x = tensor([1, 2]);
    const lazy = t.mul(x, 10);
    step(x);
    await expect((async () => lazy.data())()).rejects.toThrow(/donated.*realise/s);

    const y = tensor([1, 2]);
    const early = t.mul(y, 10);
    await realise(early);
    const after = step(y);
    await expect(early).toBeAllClose([10, 20]);
    await expect(after).toBeAllClose([2, 3]);
  });

  test("a donated tensor itself throws when it is used again, and names its path", async () => {
    const step = compile((p: { w: Tensor }) => ({ w: t.add(p.w, 1) }), { donate: ["w"] });
    const w = tensor([1]);
    step({ w });
    await expect((async () => w.data())()).rejects.toThrow(/"w" was donated/);
    expect(() => step({ w })).toThrow(/"w" was donated/);
  });

  test("a captured tensor that is donated later makes the next replay throw", async () => {
    const captured = tensor([5]);
    const f = compile((x: Tensor) => t.mul(x, captured));
    await expect(f(tensor([2]))).toBeAllClose([10]);
    compile((x: Tensor) => t.add(x, 1), { donate: true })(captured);
    expect(() => f(tensor([2]))).toThrow(/donated/);
  });
});

describe("plan-owned edges", () => {
  test("fresh inputs and outputs at every replay make no new bind groups, pipelines or buffers", async () => {
    const step = compile(
      (p: { w: Tensor }, batch: Tensor) => {
        const { value, grads } = valueAndGrad((v: Tensor) => t.mean(t.square(t.sub(t.matmul(batch, v), 1))))(p.w);
        return { p: { w: t.sub(p.w, t.mul(grads, 0.1)) }, value };
      },
      { donate: [0] },
    );
    let p = { w: t.full([8, 4], 0.1) };
    await realise(p);
    const before = device.stats();
    const kernels = explain(step, p, t.ones([16, 8])).kernels.length;
    const figures: { bindGroups: number; pipelines: number; live: number }[] = [];
    for (let i = 0; i < 300; i++) {
      const batch = tensor(
        Float32Array.from({ length: 128 }, (_, k) => Math.sin(k + i)),
        { shape: [16, 8] },
      );
      const next = step(p, batch);
      p = next.p;
      if (i % 10 === 0) await next.value.item();
      batch.dispose();
      next.value.dispose();
      const { bindGroups, pipelines } = device.stats();
      figures.push({ bindGroups, pipelines, live: device.memory().liveBytes });
    }
    expectFlat(figures[20]!, figures.at(-1)!);
    // a bind group a dispatch, exactly: nothing is bound twice in two ways
    if (hostDevice === "webgpu") {
      const { bindGroups, dispatches } = device.stats();
      expect(bindGroups - before.bindGroups).toBeLessThanOrEqual(kernels * 2);
      expect((dispatches - before.dispatches) / 300).toBeLessThanOrEqual(kernels + 1);
    }
  });

  test("a result read before the next replay keeps its value, and so does one read after it", async () => {
    const f = compile((x: Tensor) => t.mul(x, 2));
    const first = f(tensor([1]));
    const second = f(tensor([2]));
    expect(await Promise.all([second.item(), first.item()])).toEqual([4, 2]);
  });

  test("an upload does not overtake the step that waits before it", async () => {
    const f = compile((x: Tensor) => t.sum(t.matmul(x, t.mT(x))));
    const results = [1, 2, 3].map((v) => f(t.full([32, 32], v)));
    expect(await Promise.all(results.map((r) => r.item()))).toEqual([32768, 131072, 294912]);
  });
});

describe("concat", () => {
  test("copies nothing where it joins again what was cut", async () => {
    const x = await realise(t.tensor([1, 2, 3, 4, 5, 6], { shape: [3, 2] }));
    const joined = (y: Tensor) => t.add(t.concat(t.split(y, [1, 1, 1])), 1);
    expect(explain(joined, x).kernels.length).toBe(1);
    const part = (y: Tensor) => t.mul(t.concat([t.sliceAxis(y, 0, 1, 2), t.sliceAxis(y, 0, 2, 3)]), 2);
    expect(explain(part, x).kernels.length).toBe(1);
    await expect(part(x)).toBeAllClose([6, 8, 10, 12]);
    await expect(t.concat([t.sliceAxis(x, 0, 1, 3), t.sliceAxis(x, 0, 0, 1)])).toBeAllClose([3, 4, 5, 6, 1, 2]);
    await expect(compile((y: Tensor) => t.concat(t.split(y, 3)), { donate: true })(t.add(x, 0))).toBeAllClose([
      1, 2, 3, 4, 5, 6,
    ]);
  });
});

describe("storage hazards: pieces of a concat share its memory", () => {
  const settings = [
    {},
    { merge: false },
    { fuse: false },
    { reuse: false },
    { maxBindings: 4 },
    { recomputeLimit: 0 },
    { spreadRows: 2 },
  ];
  const input = () => [tensor([1, 2, 3, 4]), tensor([5, 6, 7, 8])] as const;

  test.each(settings)("a reader of the whole is not merged with the writer of a piece (%j)", async (scheduler) => {
    const f = compile(
      (a: Tensor, b: Tensor) => {
        const joined = t.concat([t.mul(a, 10), t.add(b, 0.5)]);
        return { shifted: t.add(t.sliceAxis(joined, 0, 2, 6), a), reversed: t.flip(joined, 0), joined };
      },
      { scheduler },
    );
    const { shifted, reversed, joined } = f(...input());
    await expect(joined).toBeAllClose([10, 20, 30, 40, 5.5, 6.5, 7.5, 8.5]);
    await expect(shifted).toBeAllClose([31, 42, 8.5, 10.5]);
    await expect(reversed).toBeAllClose([8.5, 7.5, 6.5, 5.5, 40, 30, 20, 10]);
  });

  test.each(settings)("a donated input is not overwritten before its reversed view is read (%j)", async (scheduler) => {
    const f = compile((x: Tensor, y: Tensor) => ({ x: t.sub(x, t.mul(t.flip(x, 0), 2)), y: t.add(y, t.sum(x)) }), {
      donate: true,
      scheduler,
    });
    const { x, y } = f(...input());
    await expect(x).toBeAllClose([-7, -4, -1, 2]);
    await expect(y).toBeAllClose([15, 16, 17, 18]);
  });

  test.each(settings)("two donated inputs can be swapped, with and without work (%j)", async (scheduler) => {
    const [a, b] = input();
    const swap = compile((x: Tensor, y: Tensor) => [y, x], { donate: true, scheduler });
    const [b1, a1] = swap(a, b) as [Tensor, Tensor];
    await expect(a1).toBeAllClose([1, 2, 3, 4]);
    const work = compile((x: Tensor, y: Tensor) => [t.mul(y, 2), t.add(x, y)], { donate: true, scheduler });
    const [b2, a2] = work(a1, b1) as [Tensor, Tensor];
    await expect(b2).toBeAllClose([10, 12, 14, 16]);
    await expect(a2).toBeAllClose([6, 8, 10, 12]);
  });
});

describe("what to store", () => {
  test("the gradient of an embedding look-up keeps no [tokens, vocabulary, width] array", () => {
    const [tokens, vocabulary, width] = [256, 500, 32];
    const ids = t.mod(t.arange(tokens), 97);
    const f = (table: Tensor): Tensor => t.sum(t.square(t.take(table, ids)));
    const { temporaryBytes } = explain(grad(f), t.ones([vocabulary, width]));
    expect(temporaryBytes).toBeLessThan(8 * vocabulary * width);
  });

  test("an expression with more inputs than a kernel binds is cut where the fewest bytes are, not in a wide space", () => {
    const [rows, wide] = [64, 1024];
    const small = Array.from({ length: 12 }, (_, i) => t.add(t.ones([rows]), i));
    const f = (...xs: Tensor[]): Tensor => {
      const mixed = xs.reduce((a, b, i) => (i % 2 ? t.add(a, b) : t.mul(a, b)));
      const spread = t.broadcastTo(t.reshape(mixed, [rows, 1]), [rows, wide]);
      const hit = t.equal(t.iota([rows, wide], 1), t.iota([rows, wide], 0));
      return t.sum(t.where(hit, t.add(spread, t.reshape(xs[0]!, [rows, 1])), 0), { axis: 1 });
    };
    const { temporaryBytes, kernels } = explain(compile(f, { scheduler: { maxBindings: 8 } }), ...small);
    expect(temporaryBytes).toBeLessThan(4 * rows * 12);
    for (const kernel of kernels) expect(kernel.bindings.length).toBeLessThanOrEqual(8);
  });

  test("a causal mask and a one-hot are never stored", () => {
    const f = (x: Tensor): Tensor => t.sum(t.where(t.causalMask(256), x, 0));
    expect(explain(f, t.ones([256, 256])).temporaryBytes).toBeLessThan(256 * 256);
  });
});

describe("stored and recomputed values", () => {
  test("the gradient of max of a recomputed product is finite and goes to one element", async () => {
    const oracle = await oracleDevice();
    const data = (k: number) => Float32Array.from({ length: 64 * 33 }, (_, i) => Math.sin(i * 0.37 + k) * 1.37);
    const run = async (on: typeof device) => {
      const a = tensor(data(0), { shape: [64, 33], device: on });
      const b = tensor(data(1), { shape: [64, 33], device: on });
      const f = (v: Tensor): Tensor => t.sum(t.max(t.exp(t.mul(t.mul(v, b), 1 / 3)), { axis: 1 }));
      return (await grad(f)(a).data()) as Float32Array;
    };
    const [actual, expected] = [await run(device), await run(oracle)];
    expect(actual.every(Number.isFinite)).toBe(true);
    expect(Array.from(actual, (g) => g !== 0)).toEqual(Array.from(expected, (g) => g !== 0));
    await expect(actual).toBeAllClose(expected, { rtol: 1e-4, atol: 1e-6 });
  });

  test("gradients of max with ties go to the first of the equals, once", async () => {
    const x = tensor([1, 3, 3, 2]);
    await expect(grad((v: Tensor) => t.max(v))(x)).toBeAllClose([0, 1, 0, 0]);
    await expect(grad((v: Tensor) => t.min(t.neg(v)))(x)).toBeAllClose([0, -1, 0, 0]);
  });

  test("gradients of softmax and logsumexp of recomputed values are finite", async () => {
    const x = tensor(
      Float32Array.from({ length: 40 }, (_, i) => Math.sin(i) * 30),
      { shape: [4, 10] },
    );
    const f = (v: Tensor): Tensor =>
      t.add(t.sum(t.mul(t.softmax(t.mul(v, 1 / 3)), v)), t.sum(t.logsumexp(t.mul(v, 1 / 7), { axis: -1 })));
    expect(((await grad(f)(x).data()) as Float32Array).every(Number.isFinite)).toBe(true);
  });
});

describe("NaN by bits", () => {
  const values = [Number.NaN, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];

  test("isNaN and isFinite see values computed in the same kernel", async () => {
    const x = tensor(values);
    await expect(t.isNaN(t.add(t.mul(x, 2), 1))).toBeAllClose([1, 0, 0, 0, 0]);
    await expect(t.isFinite(t.mul(x, 2))).toBeAllClose([0, 1, 0, 0, 1]);
    await expect(t.where(t.isNaN(x), -7, x)).toBeAllClose([
      -7,
      1,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      0,
    ]);
    await expect(t.isNaN(t.sub(x, x))).toBeAllClose([1, 0, 1, 1, 0]);
    await expect(t.isNaN(t.log(t.sub(tensor([1, 3]), 2)))).toBeAllClose([1, 0]);
  });

  test("maximum, minimum, relu, clamp, max, min and sum keep NaN", async () => {
    const x = tensor([Number.NaN, 1]);
    for (const y of [t.maximum(x, 0), t.minimum(x, 9), t.maximum(0, x), t.relu(x), t.clamp(x, { min: 0, max: 2 })])
      await expect(y).toBeAllClose([Number.NaN, 1]);
    for (const y of [t.max(x), t.min(x), t.sum(x), t.mean(x), t.logsumexp(x)])
      await expect(y).toBeAllClose([Number.NaN]);
    await expect(t.argmax(tensor([5, Number.NaN, 7]))).toBeAllClose([1]);
  });
});

describe("handles", () => {
  test("results that happen to be equal own their memory: donating one leaves the other", async () => {
    const f = compile((x: Tensor) => [
      t.add(x, 1),
      t.add(x, 1),
      t.flip(t.flip(x, 0), 0),
      t.stopGradient(x),
      t.reshape(x, [2, 1]),
    ]);
    const x = tensor([1, 2]);
    const results = f(x);
    const end = compile((y: Tensor) => t.mul(y, 100), { donate: true });
    for (const [i, y] of results.entries()) {
      await expect(end(y)).toBeAllClose(i < 2 ? [200, 300] : [100, 200]);
      for (const later of results.slice(i + 1)) if (later !== y) expect((await later.data()).length).toBe(2);
    }
    await expect(x).toBeAllClose([1, 2]);
  });

  test("the same node returned twice is the same tensor, an input returned untouched is itself", () => {
    const f = compile((x: Tensor) => {
      const y = t.add(x, 1);
      return [y, y, x];
    });
    const x = tensor([1, 2]);
    const [a, b, c] = f(x);
    expect(a).toBe(b);
    expect(c).toBe(x);
  });

  test("a donated input returned untouched lives on under a new handle", async () => {
    const f = compile((x: Tensor) => ({ x, y: t.mul(x, 2) }), { donate: true });
    const given = tensor([1, 2]);
    const { x, y } = f(given);
    expect(x).not.toBe(given);
    await expect(x).toBeAllClose([1, 2]);
    await expect(y).toBeAllClose([2, 4]);
    await expect((async () => given.data())()).rejects.toThrow(/donated/);
  });

  test("a placeholder that escaped its trace throws in the op that uses it", () => {
    let escaped: Tensor | undefined;
    compile((x: Tensor) => {
      escaped = x;
      return t.add(x, 1);
    })(tensor([1, 2]));
    expect(() => t.add(escaped as Tensor, tensor([1, 2, 3]))).toThrow(/outside of it/);
  });

  test("a number that changes with every call is refused with the lesson", () => {
    const f = compile((x: Tensor, rate: number) => t.mul(x, rate));
    for (const rate of [0.1, 0.2, 0.3]) f(tensor([1]), rate);
    expect(() => f(tensor([1]), 0.4)).toThrow(/right:.*tensor\(/);
  });

  test("a failed first call leaves donated arguments alive", async () => {
    const x = tensor([1, 2]);
    const f = compile(
      (y: Tensor) => {
        if (y.size === 2) throw new Error("stopped");
        return y;
      },
      { donate: true },
    );
    expect(() => f(x)).toThrow("stopped");
    await expect(x).toBeAllClose([1, 2]);
  });
});
