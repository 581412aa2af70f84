// kernels.ts: single kernels and optimizer parts, each checked against double precision before it is timed.
import { newtonSchulz } from "@mc/optim";
import {
  add,
  compile,
  type Device,
  key,
  matmul,
  mT,
  mul,
  normal,
  realise,
  softmax,
  sqrt,
  sub,
  sum,
  type Tensor,
} from "@mc/tensor";
import { measure, report } from "./measure.ts";

/** A kernel to time. */
interface Case {
  readonly name: string;
  readonly shape: readonly number[];
  readonly inputs: () => Tensor[];
  readonly run: (...inputs: Tensor[]) => Tensor;
  /** Floating-point operations, if the case is bound by them. */
  readonly flops?: number;
  /** Fewest bytes to move, if the case is bound by those. */
  readonly bytes?: number;
  /** Expected value of element `i` of the result, from the inputs' host copies. */
  readonly check?: (i: number, inputs: readonly ArrayLike<number>[]) => number;
  readonly tolerance?: number;
}

/** Runs all kernel cases that suit the device; `large` adds the sizes that only a real GPU finishes. */
export async function benchKernels(device: Device, large: boolean): Promise<void> {
  for (const c of cases(device, large)) await runCase(device, c);
}

async function runCase(device: Device, c: Case): Promise<void> {
  const inputs = await realise(c.inputs());
  const step = compile((...xs: Tensor[]) => c.run(...xs));
  const error = await checkResult(c, step(...inputs), inputs);
  const calls =
    c.flops !== undefined ? Math.max(1, Math.min(50, Math.round((device.kind === "cpu" ? 2e8 : 2e11) / c.flops))) : 10;
  const timing = await measure(device, () => step(...inputs).dispose(), { calls });
  const rate =
    c.flops !== undefined
      ? { gflops: c.flops / timing.median_ms / 1e6 }
      : { gbs: (c.bytes ?? 0) / timing.median_ms / 1e6 };
  report({
    name: c.name,
    shape: c.shape,
    dtype: "f32",
    device: device.description,
    ...timing,
    ...rate,
    ...(error !== undefined && { error }),
  });
}

/** Largest error of a few elements relative to the largest expected value; throws past the tolerance. */
async function checkResult(c: Case, result: Tensor, inputs: readonly Tensor[]): Promise<number | undefined> {
  if (!c.check) return undefined;
  const host = await Promise.all(inputs.map((t) => t.data()));
  const out = await result.data();
  let worst = 0;
  let scale = 0;
  for (let s = 0; s < 64; s++) {
    const i = Math.floor((s * 0.6180339887 * out.length) % out.length);
    const expected = c.check(i, host);
    worst = Math.max(worst, Math.abs(out[i]! - expected));
    scale = Math.max(scale, Math.abs(expected));
  }
  const error = worst / scale;
  if (!(error <= (c.tolerance ?? 1e-5)))
    throw new Error(`${c.name} [${c.shape.join(", ")}] is wrong: relative error ${error}`);
  return error;
}

function cases(device: Device, large: boolean): Case[] {
  const small = device.kind === "cpu" || device.software;
  const sizes = small ? [128, 256, 512, ...(large ? [1024] : [])] : [512, 1024, 2048, 4096];
  const random = (seed: number, shape: number[]): Tensor => normal(key(seed), shape);
  const square = sizes.map((n) => product("matmul", n, n, n, (a, b) => matmul(a, b), [n, n], [n, n]));
  const middle = sizes[1]!;
  const modes: Case[] = [
    product(
      "matmul A^T B",
      middle,
      middle,
      middle,
      (a, b) => matmul(mT(a), b),
      [middle, middle],
      [middle, middle],
      true,
      false,
    ),
    product(
      "matmul A B^T",
      middle,
      middle,
      middle,
      (a, b) => matmul(a, mT(b)),
      [middle, middle],
      [middle, middle],
      false,
      true,
    ),
    product(
      "matmul A^T B^T",
      middle,
      middle,
      middle,
      (a, b) => matmul(mT(a), mT(b)),
      [middle, middle],
      [middle, middle],
      true,
      true,
    ),
    product("matmul tall", 16 * middle, 64, middle, (a, b) => matmul(a, b), [16 * middle, middle], [middle, 64]),
    product("matmul split-K", 64, 64, 64 * middle, (a, b) => matmul(a, b), [64, 64 * middle], [64 * middle, 64]),
  ];
  const n = small ? 1 << 20 : 1 << 24;
  const rows = n / 1024;
  const memory: Case[] = [
    {
      name: "add",
      shape: [n],
      inputs: () => [random(1, [n]), random(2, [n])],
      run: add,
      bytes: 12 * n,
      check: (i, [a, b]) => a![i]! + b![i]!,
    },
    { name: "sum of all", shape: [n], inputs: () => [random(1, [n])], run: (x) => sum(x), bytes: 4 * n },
    {
      name: "sum of rows",
      shape: [rows, 1024],
      inputs: () => [random(1, [rows, 1024])],
      run: (x) => sum(x, { axis: 1 }),
      bytes: 4 * n,
      tolerance: 1e-4,
      check: (i, [x]) => (x as Float32Array).subarray(i * 1024, (i + 1) * 1024).reduce((s, v) => s + v, 0),
    },
    {
      name: "sum of columns",
      shape: [rows, 1024],
      inputs: () => [random(1, [rows, 1024])],
      run: (x) => sum(x, { axis: 0 }),
      bytes: 4 * n,
    },
    {
      name: "softmax",
      shape: [rows, 1024],
      inputs: () => [random(1, [rows, 1024])],
      run: (x) => softmax(x),
      bytes: 8 * n,
    },
    {
      name: "transpose",
      shape: [rows, 1024],
      inputs: () => [random(1, [rows, 1024])],
      run: (x) => mul(mT(x), 2),
      bytes: 8 * n,
      check: (i, [x]) => 2 * x![(i % rows) * 1024 + Math.floor(i / rows)]!,
    },
    {
      // p, m, v and the gradient in; p out here stands for the three outputs of the real update, which `bench train` times
      name: "adamw-like update",
      shape: [n],
      inputs: () => [random(1, [n]), random(2, [n]), mul(random(3, [n]), random(3, [n])), random(4, [n])],
      run: (p, m, v, g) => sub(p!, mul(1e-3, add(mul(m!, 0.9), mul(g!, add(sqrt(v!), 1e-8))))),
      bytes: 20 * n,
    },
  ];
  const muon = (small ? [64, 256] : [1024, 2048, 4096]).map(
    (d): Case => ({
      name: "newton-schulz keller x5",
      shape: [d, d],
      inputs: () => [random(1, [d, d])],
      run: (x) => newtonSchulz(x),
      // 5 (4 n^2 m + 2 n^3), n = m
      flops: 30 * d ** 3,
    }),
  );
  return [...square, ...modes, ...memory, ...muon];
}

function product(
  name: string,
  m: number,
  n: number,
  k: number,
  run: (a: Tensor, b: Tensor) => Tensor,
  shapeA: number[],
  shapeB: number[],
  ta = false,
  tb = false,
): Case {
  return {
    name,
    shape: [m, n, k],
    inputs: () => [normal(key(1), shapeA), normal(key(2), shapeB)],
    run: run as (...inputs: Tensor[]) => Tensor,
    flops: 2 * m * n * k,
    check: (i, [a, b]) => {
      const [row, column] = [Math.floor(i / n), i % n];
      let s = 0;
      for (let p = 0; p < k; p++)
        s +=
          (ta ? a![p * shapeA[1]! + row]! : a![row * shapeA[1]! + p]!) *
          (tb ? b![column * shapeB[1]! + p]! : b![p * shapeB[1]! + column]!);
      return s;
    },
  };
}
