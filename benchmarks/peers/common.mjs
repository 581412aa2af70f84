// common.mjs: what the JavaScript peers share: cases, timing and lines like those of the benchmarks themselves.
import { parseArgs } from "node:util";

/** What the benchmarks ask of a peer. */
export const { values: options } = parseArgs({
  options: {
    suite: { type: "string", default: "kernels" },
    device: { type: "string", default: "cpu" },
    budget: { type: "string", default: "0.25" },
    filter: { type: "string", default: "" },
    small: { type: "boolean", default: false },
    models: { type: "string" },
    optimizers: { type: "string" },
  },
});

/** Puts Dawn behind `navigator.gpu`, where browsers have it. */
export async function provideWebGpu() {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  const gpu = create([]);
  Object.defineProperty(globalThis, "navigator", {
    value: { userAgent: "Node.js", hardwareConcurrency: 4, gpu }, // it holds `gpu`: Dawn dies if that is collected
    configurable: true,
  });
}

/**
 * One case: `prepare` gives a call and how to check it.
 * @typedef {{ name: string, shape: number[], flops?: number, bytes: number,
 *   prepare: () => Promise<{ call: () => unknown, settle: () => Promise<unknown>, error: () => Promise<number> }> }} Case
 */

/** Sizes of the cases, as the benchmarks have them. */
export function sizes() {
  const small = options.small;
  const n = small ? 2 ** 18 : 2 ** 24;
  return {
    squares: small ? [128, 256] : [512, 1024, 2048, 4096],
    elements: n,
    rows: n / 1024,
    orthogonal: small ? [64] : [1024, 2048, 4096],
  };
}

export const keller = [3.4445, -4.775, 2.0315];

/** Checks, times and prints the cases of the suite. @param {string} framework @param {Case[]} cases */
export async function runCases(framework, cases) {
  for (const { name, shape, flops = 0, bytes, prepare } of cases) {
    if (!`${name} [${shape.join(", ")}]`.includes(options.filter)) continue;
    const head = { framework, name, shape, dtype: "f32", device: options.device };
    try {
      const { call, settle, error } = await prepare();
      const worst = await error();
      if (!(worst <= 1e-4)) throw new Error(`relative error ${worst}, at most 1e-4 is right`);
      const timing = await measure(call, settle, Number(options.budget));
      const rate =
        flops > 10 * bytes ? { gflops: flops / timing.median_ms / 1e6 } : { gbs: bytes / timing.median_ms / 1e6 };
      console.log(JSON.stringify({ ...head, ...timing, ...rate, error: worst }));
    } catch (error) {
      console.log(JSON.stringify({ ...head, failed: String(error instanceof Error ? error.message : error) }));
    }
  }
}

/** Calls in a sample: their results may all be alive. */
const mostCalls = 64;
/** Milliseconds for which a GPU that has idled is slower: nothing counts before. */
const warmUp = options.device === "webgpu" && !options.small ? 300 : 0;

/** As benchmarks/src/lib/measure.ts: samples of many calls, the device waited for once a sample. */
async function measure(call, settle, budget) {
  const sample = async (calls) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call();
    await settle();
    return performance.now() - start;
  };
  const wanted = budget * 100;
  let calls = 1;
  await sample(1); // compiles
  const end = performance.now() + warmUp;
  let time = await sample(1);
  while (time < wanted / 2 && calls < mostCalls) {
    calls = Math.min(mostCalls, Math.ceil(calls * Math.min(8, Math.max(1.5, wanted / time))));
    time = await sample(calls);
  }
  while (performance.now() < end) await sample(calls);
  const times = [];
  let spent = 0;
  while (times.length < 3 || (spent < budget * 1000 && times.length < 25)) {
    const t = await sample(calls);
    times.push(t / calls);
    spent += t;
  }
  times.sort((a, b) => a - b);
  return { median_ms: times[times.length >> 1], min_ms: times[0], max_ms: times.at(-1) };
}

/** Largest error of a few elements of [n, n] products, relative to the largest of them. */
export function productError(a, b, out, n) {
  let worst = 0;
  let scale = 0;
  for (let s = 0; s < 64; s++) {
    const [i, j] = [Math.floor((s * 0.618034 * n) % n), Math.floor((s * 0.754878 * n) % n)];
    let sum = 0;
    for (let k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
    worst = Math.max(worst, Math.abs(out[i * n + j] - sum));
    scale = Math.max(scale, Math.abs(sum));
  }
  return worst / scale;
}

/** Largest difference of two lists, relative to the largest of the second. */
export function listError(actual, expected) {
  let worst = 0;
  let scale = 0;
  expected.forEach((e, i) => {
    worst = Math.max(worst, Math.abs(actual[i] - e));
    scale = Math.max(scale, Math.abs(e));
  });
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst / scale;
}

/** How far a result of Newton-Schulz on X = 3 I is from p(1 / sqrt(n)) I, p being five Keller steps. */
export function scaledIdentityError(out, n) {
  const [a, b, c] = keller;
  let s = 1 / Math.sqrt(n);
  for (let i = 0; i < 5; i++) s = s * (a + b * s * s + c * s ** 4);
  let worst = 0;
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) worst = Math.max(worst, Math.abs(out[i * n + j] - (i === j ? s : 0)));
  return worst;
}
