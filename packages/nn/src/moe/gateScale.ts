// moe/gateScale.ts: the factor that makes up for the averaging of a token's experts.
import { ValueError } from "@mc/tensor";
import { checkPositive } from "../check.ts";

const points = 8192;

/**
 * The factor of the experts' weights that keeps the size of a token's output. With weights p that sum to one, the outputs of
 * independent experts add up to |p|_2 times the size of one of them; the factor is the mean of 1 / |p|_2 for scores that are
 * sigmoids of standard normal logits (Moonlight 2025, arXiv:2502.16982, Fig. 6): 2.446 for Moonlight, 2.827 for Kimi K2.
 *
 * The integral over the k largest logits runs over fixed, evenly spread points, with an error below 2e-4, and is cut to three
 * decimals, as the published factors are.
 *
 * @param numExperts - E
 * @param numExpertsPerToken - k, at most E
 * @throws ValueError for numbers that are no positive integers, or k > E
 * @example gateScale(64, 6) // 2.446
 */
export function gateScale(numExperts: number, numExpertsPerToken: number): number {
  checkPositive("gateScale", "numExperts", numExperts);
  checkPositive("gateScale", "numExpertsPerToken", numExpertsPerToken);
  if (numExpertsPerToken > numExperts)
    throw new ValueError(
      `gateScale: numExpertsPerToken must be at most numExperts, got ${numExpertsPerToken} of ${numExperts}`,
    );
  const steps = spreadSteps(numExpertsPerToken);
  let total = 0;
  for (let point = 1; point <= points; point++) {
    // the i-th largest of E uniform numbers is u_i = u_{i-1} v^(1 / (E - i)), v uniform
    let logUniform = 0;
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < numExpertsPerToken; i++) {
      const v = (0.5 + point * steps[i]!) % 1;
      logUniform += Math.log(1 - v) / (numExperts - i);
      const score = 1 / (1 + Math.exp(normalQuantile(-Math.expm1(logUniform))));
      sum += score;
      squares += score * score;
    }
    total += sum / Math.sqrt(squares);
  }
  return Math.floor((total / points) * 1000 + 1e-6) / 1000;
}

/** Steps of an additive recurrence that fills the unit cube evenly: powers of 1/g, g^(d+1) = g + 1 (Roberts 2018, "R_d sequence"). */
function spreadSteps(dimensions: number): number[] {
  let g = 1.5;
  for (let i = 0; i < 60; i++) g = (1 + g) ** (1 / (dimensions + 1));
  return Array.from({ length: dimensions }, (_, i) => g ** -(i + 1));
}

// rational approximation of the normal distribution's inverse, relative error 1.2e-9 (Acklam 2003)
const centre = [
  [-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239],
  [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1],
] as const;
const tail = [
  [
    -0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
    2.938163982698783,
  ],
  [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1],
] as const;
const polynomial = (coefficients: readonly number[], x: number): number => coefficients.reduce((y, c) => y * x + c, 0);

/** The x below which a standard normal number lies with probability p. */
function normalQuantile(p: number): number {
  if (p > 0.5) return -normalQuantile(1 - p);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return polynomial(tail[0], q) / polynomial(tail[1], q);
  }
  const q = p - 0.5;
  return (q * polynomial(centre[0], q * q)) / polynomial(centre[1], q * q);
}
