// moe/balanceLosses.ts: losses that keep the load of experts even. The counts in them are constants; gradients flow through
// the scores.
import {
  add,
  cast,
  equal,
  expandDims,
  iota,
  logsumexp,
  mean,
  mul,
  reshape,
  square,
  stopGradient,
  sum,
  type Tensor,
  topK,
  zeros,
} from "@mc/tensor";

/** Coefficients of the losses; absent or 0: not computed. */
export interface BalanceOptions {
  /**
   * Of the balance loss over each sequence (DeepSeek-V3, arXiv:2412.19437, eq. 17-20): with counts c_e of the k largest scores
   * (without selection bias) and mean normalised scores P_e over the T tokens of a sequence, `sum over e of E / (k T) c_e P_e`,
   * averaged over the sequences. 1 when balanced.
   */
  readonly sequenceBalance?: number;
  /**
   * Of the balance loss over the batch (Switch, arXiv:2101.03961, for k choices as in Mixtral): with counts c_e of the chosen
   * experts and mean normalised scores P_e over all N tokens, `E * sum over e of c_e / N * P_e`. k when balanced.
   */
  readonly auxiliary?: number;
  /** Of the mean square of the log-sum-exp of a token's logits (ST-MoE, arXiv:2202.08906, eq. 5). */
  readonly zLoss?: number;
}

/** What the losses are computed from. */
export interface BalanceInputs {
  /** f32 [N, E], before sigmoid or softmax. */
  readonly logits: Tensor;
  /** f32 [N, E], after it. */
  readonly scores: Tensor;
  /** f32 [N, E]: scores of a token that sum to one. */
  readonly shares: Tensor;
  /** i32 [N, k]. */
  readonly experts: Tensor;
  /** T: tokens of a sequence; N is a multiple. */
  readonly sequence: number;
}

/** The weighted sum of the losses, f32 scalar; the constant 0 if there are none. */
export function balanceLoss(inputs: BalanceInputs, { sequenceBalance, auxiliary, zLoss }: BalanceOptions): Tensor {
  const { logits, scores, shares, experts, sequence } = inputs;
  const [tokens, numExperts] = scores.shape as [number, number];
  const k = experts.shape[1]!;
  const terms: Tensor[] = [];
  if (sequenceBalance) {
    const best = topK(stopGradient(scores), k).indices;
    const counts = countExperts(reshape(best, [-1, sequence * k]), numExperts);
    const means = mean(reshape(shares, [-1, sequence, numExperts]), { axis: 1 });
    const perSequence = sum(mul(counts, means), { axis: 1 });
    terms.push(mul(mean(perSequence), (sequenceBalance * numExperts) / (k * sequence)));
  }
  if (auxiliary) {
    const counts = countExperts(reshape(experts, [1, tokens * k]), numExperts);
    const means = mean(shares, { axis: 0 });
    terms.push(mul(sum(mul(counts, means)), (auxiliary * numExperts) / tokens));
  }
  if (zLoss) terms.push(mul(mean(square(logsumexp(logits, { axis: 1 }))), zLoss));
  return (
    terms.reduce<Tensor | undefined>((a, b) => (a ? add(a, b) : b), undefined) ?? zeros([], { device: scores.device })
  );
}

/** How often each expert occurs in each row: i32 [R, C] -> f32 [R, E]. */
function countExperts(experts: Tensor, numExperts: number): Tensor {
  const shape = [...experts.shape, numExperts];
  const hits = equal(expandDims(experts, 2), iota(shape, 2, { device: experts.device }));
  return sum(cast(hits, "f32"), { axis: 1 });
}
