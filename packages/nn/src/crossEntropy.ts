// crossEntropy.ts: the loss of a classifier over its logits.
import {
  add,
  cast,
  defineFused,
  div,
  equal,
  exp,
  expandDims,
  greaterEqual,
  iota,
  less,
  logicalAnd,
  logsumexp,
  maximum,
  mul,
  notEqual,
  reshape,
  ShapeError,
  sub,
  sum,
  type Tensor,
  where,
} from "@mc/tensor";
import { formatShape } from "./check.ts";

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Rows with this label count for nothing; default -100, as in PyTorch. */
  readonly ignoreLabel?: number;
}

/**
 * Mean negative log-likelihood in nats over the rows whose label is not ignored:
 * `mean(logsumexp(logits) - logits[label])`. 0 if all are ignored; NaN if a label is outside [0, V).
 *
 * @param logits - f32 [..., V]
 * @param labels - i32 [...]
 * @returns a scalar
 * @throws ShapeError if the shapes do not belong together
 * @example crossEntropy(tensor([[0, 0]]), tensor([1], { dtype: "i32" })) // log 2
 */
export function crossEntropy(logits: Tensor, labels: Tensor, { ignoreLabel = -100 }: CrossEntropyOptions = {}): Tensor {
  const lead = logits.shape.slice(0, -1);
  if (logits.ndim < 1 || formatShape(lead) !== formatShape(labels.shape)) {
    throw new ShapeError(
      `crossEntropy: labels must have the shape of the logits without the last axis, got ${formatShape(logits.shape)} and ${formatShape(labels.shape)}`,
    );
  }
  const flat = reshape(labels, [-1]);
  const [nll] = negativeLogLikelihood([reshape(logits, [-1, logits.shape.at(-1)!]), flat], { ignoreLabel }) as [Tensor];
  const count = sum(cast(notEqual(flat, ignoreLabel), "f32"));
  return div(sum(nll), maximum(count, 1));
}

interface Params {
  readonly ignoreLabel: number;
}

/** logits [N, V], labels [N] -> negative log-likelihood [N] (0 where ignored), log-sum-exp [N]. */
const negativeLogLikelihood = defineFused<Params>({
  name: "crossEntropy",
  outputs: ([logits]) => {
    const rows = { shape: [logits!.shape[0]!], dtype: "f32" as const };
    return [rows, rows];
  },
  reference: ([logits, labels], { ignoreLabel }) => {
    const lse = logsumexp(logits!, { axis: -1 });
    const target = sum(where(isLabel(logits!, labels!), logits!, 0), { axis: -1 });
    const known = logicalAnd(greaterEqual(labels!, 0), less(labels!, logits!.shape[1]!));
    return [where(equal(labels!, ignoreLabel), 0, where(known, sub(lse, target), Number.NaN)), lse];
  },
  // nll = lse(x) - x[label]:  dx = softmax(x) * (dnll + dlse) - onehot(label) * dnll
  vjp: ({ inputs: [logits, labels], outputs: [, lse], cotangents: [dNll, dLse], params: { ignoreLabel } }) => {
    const softmax = exp(sub(logits!, expandDims(lse!, -1)));
    const dRow = dNll && where(equal(labels!, ignoreLabel), 0, dNll);
    const dSum = dRow && dLse ? add(dRow, dLse) : (dRow ?? dLse);
    const throughSum = dSum && mul(softmax, expandDims(dSum, -1));
    const throughLabel = dRow && where(isLabel(logits!, labels!), expandDims(dRow, -1), 0);
    return [throughSum && (throughLabel ? sub(throughSum, throughLabel) : throughSum), undefined];
  },
});

/** bool [N, V]: the place of each row's label. */
function isLabel(logits: Tensor, labels: Tensor): Tensor {
  return equal(iota(logits.shape, 1, { device: logits.device }), expandDims(labels, -1));
}
