// ropeScaling.ts: how rotary wavelengths are stretched, so that a model reads longer sequences than it was trained on.
import { ValueError } from "@mc/tensor";
import { checkPositive } from "./check.ts";

/** Every wavelength times `factor` (Chen et al. 2023, arXiv:2306.15595). */
export interface LinearScaling {
  readonly kind: "linear";
  readonly factor: number;
}

/**
 * YaRN (Peng et al. 2023, arXiv:2309.00071): wavelengths that turn more than `betaFast` times in the original length stay,
 * those that turn less than `betaSlow` times are stretched by `factor`, those between by a share.
 */
export interface YarnScaling {
  readonly kind: "yarn";
  readonly factor: number;
  /** Longest sequence of the original training. */
  readonly originalMaxPositions: number;
  /** Default 32. */
  readonly betaFast?: number;
  /** Default 1. */
  readonly betaSlow?: number;
  /** With `mscaleAllDim`: queries and keys are multiplied by `m(mscale) / m(mscaleAllDim)`, where m(x) = 0.1 x ln(factor) + 1. */
  readonly mscale?: number;
  /** In MLA also multiplies logits by `m(mscaleAllDim)^2` (DeepSeek-V2). */
  readonly mscaleAllDim?: number;
  /** Factor of queries and keys, instead of what the two above give; default `m(1)` without them. */
  readonly attentionFactor?: number;
  /** Whether the borders between the ranges are rounded to whole pairs; default true. */
  readonly truncate?: boolean;
}

/** Llama 3.1: like YaRN, with ranges given as shares of the original length and no factor of queries and keys. */
export interface Llama3Scaling {
  readonly kind: "llama3";
  readonly factor: number;
  readonly originalMaxPositions: number;
  /** Wavelengths above `originalMaxPositions / lowFrequencyFactor` are stretched. */
  readonly lowFrequencyFactor: number;
  /** Wavelengths below `originalMaxPositions / highFrequencyFactor` stay. */
  readonly highFrequencyFactor: number;
}

/** How rotary wavelengths are stretched. */
export type RopeScaling = LinearScaling | YarnScaling | Llama3Scaling;

/** m(x) = 0.1 x ln(factor) + 1, and 1 where nothing is stretched: YaRN's correction of the softmax's temperature. */
export const yarnMscale = (factor: number, x: number): number => (factor <= 1 ? 1 : 0.1 * x * Math.log(factor) + 1);

/**
 * Angles a position, in radians, of each of the D/2 pairs: `theta^(-2i/D)`, stretched.
 *
 * @throws ValueError for a base or a scaling out of range
 * @example ropeFrequencies(4, 10000, { kind: "linear", factor: 2 }) // [0.5, 0.005]
 */
export function ropeFrequencies(size: number, theta: number, scaling: RopeScaling | null = null): number[] {
  if (!(theta > 0)) throw new ValueError(`rope: theta must be a positive number, got ${theta}`);
  const plain = Array.from({ length: size / 2 }, (_, i) => theta ** ((-2 * i) / size));
  if (!scaling) return plain;
  const { factor } = scaling;
  checkScaling(scaling);
  switch (scaling.kind) {
    case "linear":
      return plain.map((f) => f / factor);
    case "yarn": {
      const stretched = yarnShares(size, theta, scaling);
      return plain.map((f, i) => (f / factor) * stretched[i]! + f * (1 - stretched[i]!));
    }
    case "llama3": {
      const { originalMaxPositions: original, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
      return plain.map((f) => {
        const turns = (original * f) / (2 * Math.PI);
        const kept = Math.min(Math.max((turns - low) / (high - low), 0), 1);
        return (1 - kept) * (f / factor) + kept * f;
      });
    }
  }
}

function checkScaling(scaling: RopeScaling): void {
  const { kind, factor } = scaling;
  if (!["linear", "yarn", "llama3"].includes(kind))
    throw new ValueError(`rope: scaling.kind must be linear, yarn or llama3, got "${kind}"`);
  if (!(factor >= 1)) throw new ValueError(`rope: scaling.factor must be at least 1, got ${factor}`);
  if (kind === "linear") return;
  checkPositive("rope", "scaling.originalMaxPositions", scaling.originalMaxPositions);
  if (kind === "yarn") {
    const { betaFast = defaultBetas.fast, betaSlow = defaultBetas.slow } = scaling;
    if (!(betaFast >= betaSlow && betaSlow > 0))
      throw new ValueError(
        `rope: scaling.betaFast must be at least betaSlow and both positive, got ${betaFast} and ${betaSlow}`,
      );
  } else {
    const { lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
    if (!(high > low))
      throw new ValueError(
        `rope: scaling.highFrequencyFactor must be above lowFrequencyFactor, got ${high} and ${low}`,
      );
  }
}

const defaultBetas = { fast: 32, slow: 1 };

/** For each pair the share, from 0 to 1, to which it is stretched. */
function yarnShares(
  size: number,
  theta: number,
  { originalMaxPositions, betaFast = defaultBetas.fast, betaSlow = defaultBetas.slow, truncate = true }: YarnScaling,
): number[] {
  // the pair (not a whole number) that turns `turns` times in the original length
  const pairOf = (turns: number): number =>
    (size * Math.log(originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, size - 1);
  const width = low === high ? 0.001 : high - low; // as transformers: no division by zero
  return Array.from({ length: size / 2 }, (_, i) => Math.min(Math.max((i - low) / width, 0), 1));
}

/** The factor of rotated queries and keys. */
export function ropeMagnitude(scaling: RopeScaling | null = null): number {
  if (scaling?.kind !== "yarn") return 1;
  const { factor, mscale, mscaleAllDim, attentionFactor } = scaling;
  if (attentionFactor !== undefined) return attentionFactor;
  return mscale && mscaleAllDim ? yarnMscale(factor, mscale) / yarnMscale(factor, mscaleAllDim) : yarnMscale(factor, 1);
}
