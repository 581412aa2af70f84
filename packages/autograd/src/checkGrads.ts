// checkGrads.ts: compares gradients with central differences along a random direction.
import { add, mul, ones, sum, Tensor, tensor, ValueError } from "@mc/tensor";
import { isRecording } from "@mc/tensor/graph";
import { vjp } from "./vjp.ts";

/** Options of `checkGrads`. */
export interface CheckGradsOptions {
  /** 1: the gradient; 2: the gradient of the gradient as well. Default 1. */
  readonly order?: 1 | 2;
  /** Step of the difference; default 1e-5 (for an f64 device; use about 1e-2 in f32). */
  readonly eps?: number;
  /** Largest allowed |difference| relative to max(1, |value|); default 1e-6 (f32: about 1e-2). */
  readonly tolerance?: number;
  /** Seed of the direction; default 0. */
  readonly seed?: number;
}

/** What was compared. */
export interface GradCheck {
  readonly order: number;
  /** <direction, gradient>. */
  readonly analytic: number;
  /** (f(x + eps d) - f(x - eps d)) / (2 eps). */
  readonly numeric: number;
}

/**
 * Checks `f`'s gradient at `args` against a central difference along one random direction d, weighing the outputs with random
 * cotangents c:  <c, (f(x + eps d) - f(x - eps d)) / (2 eps)> = <vjp(c), d>. Cheap at any size; on an f64 device
 * (`connect({ device: "cpu", precision: "f64" })`) good for six digits and more.
 *
 * @param f - from f32 tensors to one f32 tensor or several
 * @returns the compared numbers, one entry an order
 * @throws ValueError with both figures where they differ by more than the tolerance
 * @example await checkGrads((x) => tanh(x), [tensor([0.5, -1])], { order: 2 });
 */
export async function checkGrads(
  f: (...args: Tensor[]) => Tensor | readonly Tensor[],
  args: readonly Tensor[],
  { order = 1, eps = 1e-5, tolerance = 1e-6, seed = 0 }: CheckGradsOptions = {},
): Promise<GradCheck[]> {
  if (isRecording()) throw new ValueError("checkGrads: call it outside of compile and grad");
  const next = randomSigns(seed);
  const like = (x: Tensor): Tensor =>
    tensor(Float64Array.from({ length: x.size }, next), { shape: x.shape, dtype: "f32", device: x.device });
  const outputsOf = (...xs: Tensor[]): readonly Tensor[] => {
    const y = f(...xs);
    return y instanceof Tensor ? [y] : y;
  };
  const cotangents = outputsOf(...args).map(like);
  const directions = args.map(like);
  const weigh = (ys: readonly Tensor[], cs: readonly Tensor[]): Tensor =>
    ys.map((y, i) => sum(mul(y, cs[i]!))).reduce((a, b) => add(a, b));
  const value = (...xs: Tensor[]): Tensor => weigh(outputsOf(...xs), cotangents);
  // the gradient along the direction, itself a function of the point
  const slope = (...xs: Tensor[]): Tensor =>
    weigh(vjp(value, ...xs).pullback(ones([], { device: xs[0]!.device })), directions);

  const results: GradCheck[] = [];
  const compare = async (level: number, g: (...xs: Tensor[]) => Tensor, dg: Tensor): Promise<void> => {
    const shifted = (s: number): Tensor[] => args.map((x, i) => add(x, mul(directions[i]!, s * eps)));
    const [up, down, analytic] = await Promise.all([g(...shifted(1)).item(), g(...shifted(-1)).item(), dg.item()]);
    const numeric = (up - down) / (2 * eps);
    results.push({ order: level, analytic, numeric });
    const error = Math.abs(analytic - numeric) / Math.max(1, Math.abs(analytic), Math.abs(numeric));
    if (!(error <= tolerance)) {
      throw new ValueError(
        `checkGrads: the gradient of order ${level} along a random direction is ${analytic}, central differences give ${numeric} (relative error ${error.toExponential(2)}, allowed ${tolerance})`,
      );
    }
  };
  await compare(1, value, slope(...args));
  if (order === 2) {
    const curvature = weigh(vjp(slope, ...args).pullback(ones([], { device: args[0]!.device })), directions);
    await compare(2, slope, curvature);
  }
  return results;
}

/** Numbers in [-1, -0.5] and [0.5, 1]: no component of the direction vanishes. Mulberry32 (Tommy Ettinger, public domain). */
function randomSigns(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    const u = ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    return u < 0.5 ? -1 + u : u;
  };
}
