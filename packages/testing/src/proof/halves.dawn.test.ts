// Operands stored in f16: which values are, by which kernels, and that no bit of a result depends on it.
import { valueAndGrad } from "@mc/autograd";
import { muon } from "@mc/optim";
import {
  add,
  compile,
  concat,
  type Device,
  explain,
  flip,
  gelu,
  key,
  matmul,
  mean,
  mT,
  mul,
  normal,
  reshape,
  rsqrt,
  slice,
  softmax,
  square,
  sum,
  type Tensor,
  transpose,
} from "@mc/tensor";
import { expect, test } from "vitest";
import { testDevice } from "../host.ts";

const tensor = {
  tile: { rows: 16, columns: 16, depth: 8, down: 2, across: 2, band: 1 },
  slices: 1,
  packed: ["A"],
} as const;
const unit = { matmulPrecision: "f16", variants: { matrixUnit: "emulated", tensor } } as const;
const devices: Record<string, Device> = {
  chosen: await testDevice(unit),
  "element by element": await testDevice({
    ...unit,
    variants: { ...unit.variants, elementWise: "scalar", reduce: "workgroup" },
  }),
};

const x0 = (shape: number[], i: number) => (device: Device) => mul(normal(key(i, { device }), shape), 0.5);

const norm = (x: Tensor): Tensor => mul(x, rsqrt(add(mean(square(x), { axis: -1, keepDims: true }), 1e-6)));

interface Example {
  readonly inputs: readonly ((device: Device) => Tensor)[];
  readonly run: (...inputs: Tensor[]) => Tensor[];
  /** Kernels that write f16, by label, and how many products read it. */
  readonly writers: readonly string[];
  readonly readers: number;
}

const examples: Record<string, Example> = {
  "a norm, two layers and their gradients": {
    inputs: [x0([32, 24], 1), x0([40, 24], 2), x0([24, 40], 3)],
    run: (x, up, down) => {
      const loss = (w: { up: Tensor; down: Tensor }) => sum(matmul(gelu(matmul(norm(x), mT(w.up))), mT(w.down)));
      const { value, grads } = valueAndGrad(loss)({ up, down });
      return [value, grads.up, grads.down];
    },
    writers: ["sum+rsqrt+half", "half+constant", "matmul+half", "half", "matmul+half"],
    readers: 5,
  },
  "a product of a product, transposed, that others read in f32": {
    inputs: [x0([2, 16, 24], 1), x0([2, 24, 32], 2)],
    run: (a, b) => {
      const c = matmul(a, b);
      return [matmul(mT(c), c), add(c, 1)];
    },
    writers: ["half", "half", "matmul+half+add"],
    readers: 2,
  },
  "views: heads, slices, a flip, a concat": {
    inputs: [x0([48, 64], 1), x0([32, 64], 2)],
    run: (x, y) => {
      const both = concat([mul(x, 2), add(y, 1)]);
      const heads = transpose(reshape(both, [80, 4, 16]), [1, 0, 2]);
      const part = slice(both, [16, 8], [48, 40]);
      return [softmax(matmul(heads, mT(heads))), matmul(part, mT(part)), matmul(mT(flip(both, 0)), both)];
    },
    writers: ["half", "half"],
    readers: 2,
  },
  "pieces of a concat, one of them twice": {
    inputs: [x0([16, 24], 1), x0([16, 24], 2)],
    run: (x, y) => {
      const sum = add(x, y);
      const stack = concat([sum, mul(x, 2), sum]);
      return [matmul(stack, mT(stack)), matmul(sum, mT(mul(x, 2)))];
    },
    writers: ["half"],
    readers: 2,
  },
  "rows that are no multiple of eight stay in f32": {
    inputs: [x0([20, 36], 1), x0([36, 20], 2)],
    run: (a, b) => [matmul(add(a, 1), b)],
    writers: [],
    readers: 0,
  },
};

for (const [how, device] of Object.entries(devices))
  for (const [name, { inputs, run, writers, readers }] of Object.entries(examples).slice(0, how === "chosen" ? 5 : 1))
    test(`${name}, ${how}`, async () => {
      const stored = compile((list: Tensor[]) => run(...list), { scheduler: { halfFlops: 0, spreadRows: 2 } });
      const read = compile((list: Tensor[]) => run(...list), {
        scheduler: { halfFlops: Number.POSITIVE_INFINITY, spreadRows: 2 },
      });
      const given = inputs.map((input) => input(device));
      const { kernels } = explain(stored, given);
      const half = (access: string) =>
        kernels.filter((k) => k.bindings.some((b) => b.dtype === "f16" && b.access === access)).map((k) => k.label);
      expect(explain(read, given).kernels.some((k) => k.bindings.some((b) => b.dtype === "f16"))).toBe(false);
      const expected = await Promise.all(read(given).map((t) => t.data()));
      const actual = await Promise.all(stored(given).map((t) => t.data()));
      expect(actual).toEqual(expected);
      expect(half("write")).toEqual(writers);
      expect(half("read").length).toBe(readers);
    });

test.each([{ merge: false }, { maxBindings: 4 }])("pieces of a concat, scheduled with %o", async (how) => {
  const { inputs, run } = examples["pieces of a concat, one of them twice"]!;
  const given = inputs.map((input) => input(devices.chosen!));
  const results = [0, Number.POSITIVE_INFINITY].map((halfFlops) => {
    const call = compile((list: Tensor[]) => run(...list), { scheduler: { ...how, halfFlops } });
    return Promise.all(call(given).map((t) => t.data()));
  });
  expect(await results[0]).toEqual(await results[1]);
});

test("Muon of a wide and a tall matrix: no product packs or rounds what it reads", async () => {
  const device = devices.chosen!;
  const steps = [[2, -1.5, 0.5]] as const;
  const optimizer = muon({ learningRate: 0.1, newtonSchulz: steps });
  const shapes = { wide: [16, 32], tall: [32, 16] };
  const make = (seed: number) =>
    Object.fromEntries(Object.entries(shapes).map(([name, shape], i) => [name, x0(shape, seed + i)(device)]));
  const step = (params: Record<string, Tensor>, grads: Record<string, Tensor>) =>
    optimizer.update(grads, optimizer.init(params), params).params;
  const stored = compile(step, { scheduler: { halfFlops: 0 } });
  const read = compile(step, { scheduler: { halfFlops: Number.POSITIVE_INFINITY } });
  const [params, grads] = [make(1), make(5)];
  const { kernels } = explain(stored, params, grads);
  const products = kernels.filter((k) => k.kind === "matmul");
  expect(products.every((k) => k.bindings[0]!.dtype === "f16" && !k.variant.includes("packed"))).toBe(true);
  const expected = await Promise.all(Object.values(read(params, grads)).map((t) => t.data()));
  const actual = await Promise.all(Object.values(stored(params, grads)).map((t) => t.data()));
  expect(actual).toEqual(expected);
});
