// gamma.ts: from the largest logits of layers to the factor of each head.
import {
  broadcastTo,
  div,
  greater,
  isFinite,
  logicalNot,
  max,
  pow,
  reshape,
  sqrt,
  type Tensor,
  where,
} from "@mc/tensor";

/** What the clip decides for the heads of like layers; every tensor is [layers, numHeads]. */
export interface HeadFactors {
  /** f32: the factor on the head's logits, exactly 1 where nothing is clipped. */
  readonly gamma: Tensor;
  /** bool: the head's own maximum is finite and above tau. */
  readonly clipped: Tensor;
  /** bool: the maximum is not a finite number. */
  readonly nonFinite: Tensor;
  /** f32: gamma ** exponent, exactly 1 where nothing is clipped. */
  power(exponent: number): Tensor;
}

/**
 * gamma = tau / max(S, tau) for the largest logits S of heads. Written as a choice, so that a head at or below tau
 * (or without a finite maximum) gets a literal 1: on a GPU neither tau / tau nor sqrt(1) is promised to be exact.
 *
 * @param maxLogits f32 [layers, numHeads]
 * @param tau number, or f32 scalar tensor; positive
 * @param groupSize this many consecutive heads share the largest maximum among them
 */
export function headFactors(maxLogits: Tensor, tau: number | Tensor, groupSize: number): HeadFactors {
  const finite = isFinite(maxLogits);
  const own = where(finite, maxLogits, 0);
  const [layers, heads] = maxLogits.shape as [number, number];
  const groups = [layers, heads / groupSize, groupSize];
  const S =
    groupSize === 1
      ? own
      : reshape(broadcastTo(max(reshape(own, groups), { axis: -1, keepDims: true }), groups), [layers, heads]);
  const above = greater(S, tau);
  const ratio = div(tau, where(above, S, 1));
  return {
    gamma: where(above, ratio, 1),
    clipped: greater(own, tau),
    nonFinite: logicalNot(finite),
    power: (exponent) =>
      where(above, exponent === 1 ? ratio : exponent === 0.5 ? sqrt(ratio) : pow(ratio, exponent), 1),
  };
}
