// A profile measures: what it says of time is only bounded here. What it leaves behind is exact.
import { hostDevice, testDevice } from "@mc/testing";
import { expect, test } from "vitest";
import {
  add,
  compile,
  explain,
  gelu,
  matmul,
  measureRoofline,
  mul,
  ones,
  type Profile,
  profile,
  realise,
  sub,
  sum,
  type Tensor,
  tensor,
} from "../index.ts";

const device = await testDevice();
const roofline = { gflops: 10, gbs: 5 };
const n = 96;

interface State {
  w: Tensor;
  m: Tensor;
}

/** Two layers of one shape, and an update of donated state. */
const step = compile(
  ({ w, m }: State, x: Tensor) => {
    const y = gelu(matmul(gelu(matmul(x, w)), w));
    const g = matmul(x, y);
    const momentum = add(mul(m, 0.9), g);
    return { w: sub(w, mul(momentum, 1e-6)), m: momentum, loss: sum(y) };
  },
  { donate: ["w", "m"] },
);
const state = async (): Promise<State> =>
  realise({
    w: tensor(
      Float32Array.from({ length: n * n }, (_, i) => Math.sin(i)),
      { shape: [n, n] },
    ),
    m: ones([n, n]),
  });
const x = await realise(mul(ones([n, n]), 0.01));

/** The value of a step from a fresh state. */
async function lossOf(): Promise<number[]> {
  const { w, m, loss } = step(await state(), x);
  return [await loss.item(), ...(await w.data()).slice(0, 8), ...(await m.data()).slice(0, 8)];
}

function expectConsistent(p: Profile): void {
  const close = (a: number, b: number): void => expect(a).toBeCloseTo(b, 9);
  const sumOf = (xs: readonly number[]): number => xs.reduce((a, b) => a + b, 0);
  for (const k of p.kernels) {
    expect(k.medianMs).toBeGreaterThanOrEqual(0);
    close(k.floorMs, Math.max(k.flops / 10e6, k.bytes / 5e6));
    close(k.distance, k.medianMs / k.floorMs);
  }
  const whole = p.kernelMs > 0 ? 1 : 0; // browsers round timestamps: short kernels may show none
  close(sumOf(p.kernels.map((k) => k.share)), whole);
  close(sumOf(p.groups.map((g) => g.share)), whole);
  close(sumOf(p.groups.map((g) => g.medianMs)), p.kernelMs);
  expect(sumOf(p.groups.map((g) => g.count))).toBe(p.kernels.length);
  expect(p.groups).toEqual([...p.groups].sort((a, b) => b.medianMs - a.medianMs));
  expect(p.wallMs).toBeGreaterThan(0);
  for (const ms of [p.kernelMs, p.gpuMs, p.javascriptMs, p.gapMs, p.clockStepMs]) expect(ms).toBeGreaterThanOrEqual(0);
}

test("profile(step, args) measures every kernel of the plan and leaves arguments, results and memory as they were", async () => {
  const expected = await lossOf();
  const given = await state();
  const before = await given.w.data();
  const plan = explain(step, given, x);
  await profile(step, [given, x], { runs: 1, roofline }); // pipelines and pools
  await device.settle();
  const { liveBytes } = device.memory();
  const { pipelines } = device.stats();
  const p = await profile(step, [given, x], { runs: 2, roofline });
  expect(device.memory().liveBytes).toBeLessThanOrEqual(liveBytes); // less where the collector found what was dropped before
  expect(device.stats().pipelines).toBe(pipelines);

  expectConsistent(p);
  expect(p.kernels.map(({ label, variant, shape, hash }) => ({ label, variant, shape, hash }))).toEqual(
    plan.kernels.map(({ label, variant, shape, hash }) => ({ label, variant, shape, hash })),
  );
  expect(p).toMatchObject({ dispatches: plan.dispatches, flops: plan.flops, bytes: plan.bytes, submits: plan.submits });

  expect(await given.w.data()).toEqual(before);
  const { loss, w, m } = step(given, x); // still alive, and worth what it was
  expect([await loss.item(), ...(await w.data()).slice(0, 8), ...(await m.data()).slice(0, 8)]).toEqual(expected);
  expect(await lossOf()).toEqual(expected);
});

test("a profile is a table of equal kernels together, and plain data", async () => {
  const layer = (y: Tensor): Tensor => gelu(matmul(y, x));
  const p = await profile((y: Tensor) => layer(layer(layer(y))), [x], { runs: 1, roofline });
  expect(p.groups.map((g) => g.count)).toContain(3);
  expect(String(p)).toContain(" x3  ");
  const text = String(p);
  for (const { variant, shape, label } of p.groups) expect(text).toContain(`${variant} [${shape.join(", ")}] ${label}`);
  expect(text).toContain(device.description);
  expect(JSON.parse(JSON.stringify(p))).toMatchObject({ groups: p.groups.map(({ label }) => ({ label })) });
});

test("an argument that a function returns untouched, and one that it does not use, survive", async () => {
  const f = compile((a: Tensor, b: Tensor, c: Tensor) => ({ a, b: add(b, 1), used: c.shape[0] }), { donate: true });
  const args: [Tensor, Tensor, Tensor] = [tensor([1]), tensor([2]), tensor([3])];
  await profile(f, args, { runs: 2, roofline });
  expect(await Promise.all(args.map((t) => t.item()))).toEqual([1, 2, 3]);
});

test("runs must be a positive integer", async () => {
  await expect(profile(step, [await state(), x], { runs: 0 })).rejects.toThrow(
    "profile: runs must be a positive integer, got 0",
  );
});

test("measureRoofline finds rates above zero", async () => {
  const { gflops, gbs } = await measureRoofline();
  expect(gflops).toBeGreaterThan(0.01);
  expect(gbs).toBeGreaterThan(0.01);
  expect(Number.isFinite(gflops * gbs)).toBe(true);
  expect(hostDevice === "cpu" ? gflops : 1).toBeLessThan(1e6);
});
