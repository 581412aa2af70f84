// qkClip.ts: QK-Clip, a constraint on the new parameters that keeps attention logits at or below tau.
import {
  cast,
  concat,
  mul,
  reshape,
  sliceAxis,
  split,
  stack,
  sum,
  type Tensor,
  treeMap,
  treePaths,
  ValueError,
} from "@mc/tensor";
import { type HeadFactors, headFactors } from "./gamma.ts";
import { type AttentionLayout, checkLayout, type RowRange, sharesKeys } from "./layout.ts";
import { rowFactors, type Segment } from "./rowFactors.ts";

/** Options of `qkClip`. */
export interface QkClipOptions {
  /** Largest logit (scaled, before the softmax) that a head may keep; a positive number, or an f32 scalar tensor. */
  readonly tau: number | Tensor;
  /** Share of the factor that queries take: gamma ** alpha; keys take gamma ** (1 - alpha). In [0, 1], default 0.5. */
  readonly alpha?: number;
  /** The attention layers, usually `model.attentionLayout`. */
  readonly attention: readonly AttentionLayout[];
  /**
   * Where groups of query heads share a key head: "query" (default) leaves the keys alone and gives each query head its whole
   * factor, exact for every head; "shared" gives a group the factor of its largest head, split between queries and keys.
   */
  readonly groupedQuery?: "query" | "shared";
}

/** What `QkClip.apply` gives back. */
export interface QkClipResult<P> {
  /** The parameters, rows of clipped heads scaled; every other number is the same to the bit. */
  readonly params: P;
  /** For each entry of `attention`, f32 [numHeads]: the factor on the head's logits, 1 where nothing was clipped. */
  readonly gamma: readonly Tensor[];
  /** i32 scalar: heads whose maximum was above tau. */
  readonly clippedHeads: Tensor;
  /** i32 scalar: heads whose maximum was infinite or not a number; they are left alone. */
  readonly nonFiniteHeads: Tensor;
}

/** A clip that is ready to be applied. */
export interface QkClip {
  /**
   * Scales the query and key rows of heads whose largest logit exceeded tau. Apply it after the optimizer's update, to the new
   * parameters, with the maxima that the same step's forward measured on the old ones.
   *
   * @param params tree of f32 tensors that holds every path of the layout
   * @param maxLogits per layer f32 [numHeads]: largest scaled, mask-visible logit (before a soft cap or ALiBi) over the whole batch
   * @throws ValueError if a layer's maxima or a parameter is missing, or shapes do not fit the layout
   */
  apply<P extends object>(params: P, maxLogits: readonly Tensor[]): QkClipResult<P>;
}

/**
 * QK-Clip: bounds attention logits by scaling weights, behind any optimizer.
 *
 * For a head with largest logit S: gamma = tau / max(S, tau), W_q *= gamma^alpha, W_k *= gamma^(1 - alpha), and likewise their
 * biases. Logits are bilinear in the two, so they shrink by exactly gamma. The clip is exact for a layer given that layer's
 * input; deeper inputs move when an earlier layer is clipped. Momentum is left alone.
 *
 * @throws ValueError if tau or alpha is out of range, or a layer has QK-norm
 * @example
 * const w = { q: tensor([[2, 0], [0, 2]]), k: tensor([[2, 0], [0, 2]]) }; // two heads of one row
 * const rows = (path: string, start: number) => [{ path, start, rows: 1 }];
 * const heads = [0, 1].map((h) => ({ query: rows("q", h), key: rows("k", h) }));
 * const clip = qkClip({ tau: 100, attention: [{ layer: 0, kind: "mha", numHeads: 2, numKeyValueHeads: 2, qkNorm: false, heads }] });
 * const { params } = clip.apply(w, [tensor([400, 7])]);
 * await params.q.toArray(); // [[1, 0], [0, 2]]
 * @see Kimi K2, arXiv 2507.20534, algorithm 1
 */
export function qkClip({ tau, alpha = 0.5, attention, groupedQuery = "query" }: QkClipOptions): QkClip {
  if (typeof tau === "number" ? !(tau > 0 && Number.isFinite(tau)) : tau.ndim !== 0) {
    throw new ValueError(`qkClip: tau must be a positive finite number or a scalar tensor, got ${tau}`);
  }
  if (!(alpha >= 0 && alpha <= 1)) throw new ValueError(`qkClip: alpha must lie between 0 and 1, got ${alpha}`);
  if (attention.length === 0) throw new ValueError("qkClip: attention must describe at least one layer, got none");
  for (const layout of attention) checkLayout(layout);

  return {
    apply<P extends object>(params: P, maxLogits: readonly Tensor[]): QkClipResult<P> {
      const weights = new Map(treePaths<Tensor>(params));
      const segments = new Map<string, Segment[]>();
      const collect = (ranges: readonly RowRange[], head: number, factors: Tensor): void => {
        for (const { path, start, rows } of ranges) {
          if (!weights.has(path))
            throw new ValueError(`qkClip: the layout names "${path}", which is not among the parameters`);
          const list = segments.get(path) ?? [];
          list.push({ start, rows, head, factors });
          segments.set(path, list);
        }
      };

      // like layers together: their factors are one small kernel
      const gamma = new Map<AttentionLayout, Tensor>();
      const flags: HeadFactors[] = [];
      for (const { layouts, groupSize, whole } of likeLayers(attention, groupedQuery)) {
        const factors = headFactors(stack(layouts.map((layout) => maximaOf(layout, maxLogits))), tau, groupSize);
        const gammas = byLayer(factors.gamma);
        const query = byLayer(factors.power(whole ? 1 : alpha));
        const key = byLayer(firstOfGroups(factors.power(1 - alpha), groupSize));
        const rotary = byLayer(factors.power(1));
        for (const [i, layout] of layouts.entries()) {
          layout.heads.forEach((head, h) => {
            collect(head.query, h, query[i]!);
            collect(head.queryRotary ?? [], h, rotary[i]!);
            // the heads of a group name the same rows: only the first scales them
            if (!whole && h % groupSize === 0) collect(head.key, h / groupSize, key[i]!);
          });
          gamma.set(layout, gammas[i]!);
        }
        flags.push(factors);
      }

      const rowsOf = (path: string): number => (weights.get(path) as Tensor).shape[0] as number;
      const factors = rowFactors([...segments].map(([path, own]) => ({ path, rows: rowsOf(path), segments: own })));
      const scaled = new Map<Tensor, Tensor>();
      for (const [path, ofRows] of factors) {
        const weight = weights.get(path) as Tensor;
        scaled.set(weight, mul(weight, reshape(ofRows, [-1, ...weight.shape.slice(1).map(() => 1)])));
      }
      const count = (flags: readonly Tensor[]): Tensor =>
        sum(cast(concat(flags.map((flag) => reshape(flag, [-1]))), "i32"));
      return {
        params: treeMap((t: Tensor) => scaled.get(t) ?? t, params) as P,
        gamma: attention.map((layout) => gamma.get(layout) as Tensor),
        clippedHeads: count(flags.map((factors) => factors.clipped)),
        nonFiniteHeads: count(flags.map((factors) => factors.nonFinite)),
      };
    },
  };
}

/** Layers with equally many heads that share keys alike. */
interface LikeLayers {
  readonly layouts: AttentionLayout[];
  /** This many consecutive heads get one factor. */
  readonly groupSize: number;
  /** Whether queries take the whole factor. */
  readonly whole: boolean;
}

function likeLayers(attention: readonly AttentionLayout[], groupedQuery: "query" | "shared"): Iterable<LikeLayers> {
  const classes = new Map<string, LikeLayers>();
  for (const layout of attention) {
    const shared = sharesKeys(layout);
    const whole = shared && groupedQuery === "query";
    const groupSize = shared && !whole ? layout.numHeads / layout.numKeyValueHeads : 1;
    const id = `${layout.numHeads} ${groupSize} ${whole}`;
    const known = classes.get(id);
    if (known) known.layouts.push(layout);
    else classes.set(id, { layouts: [layout], groupSize, whole });
  }
  return classes.values();
}

/** [layers, n] -> [n] of each. */
const byLayer = (x: Tensor): Tensor[] => split(x, x.shape[0]!).map((own) => reshape(own, [-1]));

/** [layers, heads] -> [layers, groups]: the value of each group's first head. */
const firstOfGroups = (x: Tensor, size: number): Tensor => {
  const [layers, heads] = x.shape as [number, number];
  return size === 1 ? x : reshape(sliceAxis(reshape(x, [layers, heads / size, size]), 2, 0, 1), [layers, heads / size]);
};

function maximaOf({ layer, numHeads }: AttentionLayout, maxLogits: readonly Tensor[]): Tensor {
  const maxima = maxLogits[layer];
  if (!maxima)
    throw new ValueError(`qkClip: maxLogits must hold the maxima of layer ${layer}, got ${maxLogits.length} layers`);
  if (maxima.ndim !== 1 || maxima.shape[0] !== numHeads) {
    throw new ValueError(
      `qkClip: the maxima of layer ${layer} must have shape [${numHeads}], got [${maxima.shape.join(", ")}]`,
    );
  }
  return maxima;
}
