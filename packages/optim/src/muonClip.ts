// muonClip.ts: Muon with QK-Clip, the optimizer of Kimi K2.
import { type AttentionLayout, qkClip } from "@mc/qkclip";
import { full, type Tensor, ValueError } from "@mc/tensor";
import { learningRateAt } from "./learningRate.ts";
import { type MuonOptions, muonTransform } from "./muon.ts";
import { optimizer } from "./optimizer.ts";
import type { Roles } from "./roles.ts";
import type { Context, Optimizer, Params } from "./types.ts";

/** Options of `muonClip`: those of `muon` and of `qkClip`. */
export interface MuonClipOptions extends MuonOptions {
  /** Role and blocks of every parameter, usually `model.roles`. */
  readonly roles: Roles;
  /** The attention layers, usually `model.attentionLayout`. */
  readonly attention: readonly AttentionLayout[];
  /** Largest attention logit that a head may keep: a positive number, or an f32 scalar tensor. Default 100. */
  readonly tau?: number | Tensor;
  /** Share of a head's factor that queries take; default 0.5. */
  readonly alpha?: number;
  /** See `qkClip`; default "query". */
  readonly groupedQuery?: "query" | "shared";
}

/** What an update of `muonClip` reports. */
export interface MuonClipMetrics {
  /** i32 scalar: heads whose largest logit was above tau. */
  readonly clippedHeads: Tensor;
  /** i32 scalar: heads whose largest logit was infinite or not a number; they were left alone. */
  readonly nonFiniteHeads: Tensor;
  /** Per layer f32 [numHeads]: the factor on each head's logits, 1 where nothing was clipped. */
  readonly gamma: readonly Tensor[];
  /** f32 scalar: the rate of this update. */
  readonly learningRate: Tensor;
}

/** What `muonClip` adds to an update's result. */
export interface MuonClipInfo {
  readonly metrics: MuonClipMetrics;
}

/**
 * MuonClip: `muon`, then QK-Clip on the new parameters. A head whose largest logit S of this step's forward exceeded tau has
 * its query and key weights scaled so that its logits shrink by tau / S. `update` needs `{ maxLogits }`: per layer f32
 * [numHeads], the largest scaled, mask-visible logits, before a soft cap or ALiBi, of the whole batch (over all micro-batches,
 * their maximum).
 *
 * @throws ValueError if an option is out of range or a layer has QK-norm; at `update` if maxLogits is missing
 * @example
 * const params = { q: ones([2, 4]), k: ones([2, 4]) }; // one head of two rows
 * const rows = (path: string) => [{ path, start: 0, rows: 2 }];
 * const optimizer = muonClip({
 *   learningRate: 2e-4,
 *   roles: roles(params, { matrix: "*" }),
 *   attention: [{ layer: 0, kind: "mha", numHeads: 1, numKeyValueHeads: 1, qkNorm: false, heads: [{ query: rows("q"), key: rows("k") }] }],
 * });
 * const { metrics } = optimizer.update(params, optimizer.init(params), params, { maxLogits: [tensor([400])] });
 * await metrics.gamma[0].toArray(); // [0.25]
 * @see Kimi K2, arXiv 2507.20534, section 2.1
 */
export function muonClip({
  attention,
  tau = 100,
  alpha,
  groupedQuery,
  ...options
}: MuonClipOptions): Optimizer<MuonClipInfo> {
  const clip = qkClip({ tau, alpha, attention, groupedQuery });
  const constraint = (params: Params, context: Context) => {
    if (!context.maxLogits) {
      throw new ValueError(
        "muonClip: update needs the largest logits of this step's forward, got none; " +
          "pass them: update(grads, state, params, { maxLogits }), as model.loss gives them in aux",
      );
    }
    const { params: clipped, ...metrics } = clip.apply(params, context.maxLogits);
    const rate = learningRateAt("muonClip", options.learningRate, context);
    const learningRate = typeof rate === "number" ? full([], rate, { device: context.step.device }) : rate;
    return { params: clipped, metrics: { ...metrics, learningRate } };
  };
  return optimizer("muonClip", muonTransform(options), constraint);
}
