// transformer.ts: a decoder-only, pre-norm transformer as one value: initial parameters, logits, loss, and what the parameters are.
import { add, DTypeError, foldIn, ShapeError, sliceAxis, type Tensor, take, ValueError } from "@mc/tensor";
import { type LatentAttentionParams, latentAttention } from "./attention/latentAttention.ts";
import type { AttentionLayout } from "./attention/layout.ts";
import {
  type AttentionLayer,
  type SelfAttentionParams,
  selfAttention,
  type TokenInfo,
} from "./attention/selfAttention.ts";
import { formatShape } from "./check.ts";
import { type ResolvedTransformerConfig, resolveConfig, type TransformerConfig } from "./config.ts";
import { crossEntropy } from "./crossEntropy.ts";
import { dropout } from "./dropout.ts";
import { type EmbeddingParams, embedding } from "./embedding.ts";
import { type GeluParams, geluMlp, type SwigluParams, swigluMlp } from "./feedForward.ts";
import { joinRoles, type Layer, type Roles } from "./layer.ts";
import { type LinearParams, linear, linearMap } from "./linear.ts";
import { layerNorm, type NormParams, rmsNorm } from "./norm.ts";

/** Parameters of one layer. */
export type TransformerLayerParams = {
  attentionNorm: NormParams;
  attention: SelfAttentionParams | LatentAttentionParams;
  feedForwardNorm: NormParams;
  feedForward: SwigluParams | GeluParams;
};

/** Parameters of `transformer`. */
export type TransformerParams = {
  /** Weight [vocabSize, hiddenSize]. */
  embedding: EmbeddingParams;
  /** Weight [maxPositions, hiddenSize]; learned positions only. */
  positions?: EmbeddingParams;
  layers: TransformerLayerParams[];
  /** Before the head. */
  norm: NormParams;
  /** Weight [vocabSize, hiddenSize]; absent when tied. */
  head?: LinearParams;
};

/** What goes with the token ids. */
export interface ApplyOptions extends TokenInfo {
  /** Turns dropout on; use a new key each step. */
  readonly key?: Tensor | undefined;
  /** Return the residual stream too; default false. */
  readonly hidden?: boolean | undefined;
}

/** What `apply` gives. */
export interface TransformerOutput {
  /** [B, T, vocabSize]. */
  readonly logits: Tensor;
  /** Of each layer, f32 [numHeads]: each head's largest scaled, mask-visible softmax input over batch and rows. Not differentiable. */
  readonly maxLogits: Tensor[];
  /** With `hidden`: the input of each layer and, last, the output of the final norm; all [B, T, hiddenSize]. */
  readonly hidden?: Tensor[];
}

/** Tokens to learn from. */
export type TransformerBatch = {
  /** Token ids, i32 [B, T]. */
  inputs: Tensor;
  /** The token to predict at each place, i32 [B, T]; -100 counts for nothing. */
  labels: Tensor;
  /** i32 [B, T]; see `ApplyOptions`. */
  positions?: Tensor | undefined;
  /** i32 [B, T]; see `ApplyOptions`. */
  documents?: Tensor | undefined;
  /** Turns dropout on. */
  key?: Tensor | undefined;
};

/** A transformer: sizes and functions, no state. Its functions may be passed around on their own. */
export interface Transformer {
  /** The configuration, with every default filled in. */
  readonly config: ResolvedTransformerConfig;
  /** Parameters from a random key. */
  readonly init: (key: Tensor) => TransformerParams;
  /** Logits, and the maxima of attention, for token ids i32 [B, T]. */
  readonly apply: (params: TransformerParams, inputIds: Tensor, options?: ApplyOptions) => TransformerOutput;
  /** Logits [..., vocabSize] of normed hidden states [..., hiddenSize]. */
  readonly head: (params: TransformerParams, hidden: Tensor) => Tensor;
  /** Mean cross-entropy in nats a token, and the maxima that QK-Clip wants, in the form that `valueAndGrad(loss, { hasAux: true })` takes. */
  readonly loss: (
    params: TransformerParams,
    batch: TransformerBatch,
  ) => { value: Tensor; aux: { maxLogits: Tensor[] } };
  /** Role of each parameter, for an optimizer. */
  readonly roles: Roles;
  /** Rows of each head, for QK-Clip; one entry a layer. */
  readonly attentionLayout: readonly AttentionLayout[];
}

/**
 * Builds a transformer: `x += attention(norm(x)); x += mlp(norm(x))` for each layer, then norm and head.
 *
 * Initial weights are normal with standard deviation `initStd`, those that write into the residual stream (attention output
 * and MLP output) with `initStd / sqrt(2 * numLayers)`, as in GPT-2; gains are one, biases zero.
 *
 * @throws ValueError for sizes that do not fit together; `apply` and `loss` throw ValueError for a sequence past the learned positions
 * @example
 * const model = transformer({ vocabSize: 256, hiddenSize: 64, numLayers: 2, attention: { numHeads: 4 } });
 * const params = model.init(key(1));
 * const { logits } = model.apply(params, tensor([[72, 105]], { dtype: "i32" })); // shape [1, 2, 256]
 */
export function transformer(config: TransformerConfig): Transformer {
  const resolved = resolveConfig(config);
  const { vocabSize, hiddenSize, numLayers, norm: normConfig, positions, tiedHead, dropout: rate, initStd } = resolved;
  const table = embedding({ numEmbeddings: vocabSize, features: hiddenSize, std: initStd });
  const places =
    positions.kind === "learned"
      ? embedding({ numEmbeddings: positions.maxPositions!, features: hiddenSize, std: initStd })
      : undefined;
  const layers = Array.from({ length: numLayers }, (_, i) => transformerLayer(resolved, i));
  const norm = makeNorm(normConfig, hiddenSize);
  const head = tiedHead
    ? undefined
    : linear({ inFeatures: hiddenSize, outFeatures: vocabSize, bias: false, std: initStd, role: "head" });

  const toLogits: Transformer["head"] = (params, x) => linearMap(x, params.head?.weight ?? params.embedding.weight);
  const apply: Transformer["apply"] = (params, inputIds, { key, hidden: wantsHidden = false, ...info } = {}) => {
    checkTokens(inputIds, positions);
    let x = table.apply(params.embedding, inputIds);
    if (params.positions) x = add(x, placeVectors(params.positions.weight, inputIds.shape[1]!, info.positions));
    if (key && rate > 0) x = dropout(foldIn(key, numLayers), x, rate);
    const hidden: Tensor[] = [];
    const maxLogits: Tensor[] = [];
    params.layers.forEach((layerParams, i) => {
      hidden.push(x);
      const result = layers[i]!.apply(layerParams, x, { ...info, key: key && rate > 0 ? foldIn(key, i) : undefined });
      x = result.output;
      maxLogits.push(result.maxLogit);
    });
    x = norm.apply(params.norm, x);
    hidden.push(x);
    return { logits: toLogits(params, x), maxLogits, ...(wantsHidden && { hidden }) };
  };

  return {
    config: resolved,
    init: (key) => ({
      embedding: table.init(foldIn(key, 0)),
      ...(places && { positions: places.init(foldIn(key, 1)) }),
      layers: layers.map((layer, i) => layer.init(foldIn(foldIn(key, 2), i))),
      norm: norm.init(key),
      ...(head && { head: head.init(foldIn(key, 3)) }),
    }),
    apply,
    head: toLogits,
    loss: (params, { inputs, labels, ...options }) => {
      const { logits, maxLogits } = apply(params, inputs, options);
      return { value: crossEntropy(logits, labels), aux: { maxLogits } };
    },
    roles: joinRoles({
      embedding: table.roles,
      ...(places && { positions: places.roles }),
      ...Object.fromEntries(layers.map((layer, i) => [`layers.${i}`, layer.roles])),
      norm: norm.roles,
      ...(head && { head: head.roles }),
    }),
    attentionLayout: layers.map((layer, i) => layer.layout(`layers.${i}`, i)),
  };
}

interface LayerResult {
  readonly output: Tensor;
  readonly maxLogit: Tensor;
}

interface TransformerLayer
  extends Layer<TransformerLayerParams, [x: Tensor, info: TokenInfo & { key?: Tensor | undefined }], LayerResult> {
  layout(path: string, layer: number): AttentionLayout;
}

function transformerLayer(config: ResolvedTransformerConfig, index: number): TransformerLayer {
  const { hiddenSize, norm, dropout: rate } = config;
  const attentionNorm = makeNorm(norm, hiddenSize);
  const attention = makeAttention(config);
  const feedForwardNorm = makeNorm(norm, hiddenSize);
  const feedForward = makeFeedForward(config, index);
  return {
    init: (key) => ({
      attentionNorm: attentionNorm.init(key),
      attention: attention.init(foldIn(key, 0)),
      feedForwardNorm: feedForwardNorm.init(key),
      feedForward: feedForward.init(foldIn(key, 1)),
    }),
    apply: (params, x, { key, ...info }) => {
      const drop = (y: Tensor, place: number): Tensor => (key ? dropout(foldIn(key, place), y, rate) : y);
      const attended = attention.apply(params.attention, attentionNorm.apply(params.attentionNorm, x), info);
      const middle = add(x, drop(attended.output, 0));
      const fed = feedForward.apply(params.feedForward, feedForwardNorm.apply(params.feedForwardNorm, middle));
      return { output: add(middle, drop(fed, 1)), maxLogit: attended.maxLogit };
    },
    roles: joinRoles({
      attentionNorm: attentionNorm.roles,
      attention: attention.roles,
      feedForwardNorm: feedForwardNorm.roles,
      feedForward: feedForward.roles,
    }),
    layout: (path, index) => attention.layout(`${path}.attention`, index),
  };
}

/** Standard deviations of initial weights, the second for those that write into the residual stream. */
const initialStd = ({ initStd, numLayers }: ResolvedTransformerConfig) => ({
  std: initStd,
  outputStd: initStd / Math.sqrt(2 * numLayers),
});

function makeAttention(config: ResolvedTransformerConfig): AttentionLayer<SelfAttentionParams | LatentAttentionParams> {
  const { hiddenSize, attention, norm, positions, muonBlocks } = config;
  const { kind, maxPositions, ...rotation } = positions;
  const shared = {
    features: hiddenSize,
    muonBlocks,
    ...(kind === "rope" && { rope: { ...rotation, ...(maxPositions !== undefined && { maxPositions }) } }),
    ...initialStd(config),
  };
  const layer =
    attention.kind === "mla"
      ? latentAttention({ ...attention, ...shared })
      : selfAttention({ ...attention, ...shared, normEps: norm.eps });
  return layer as AttentionLayer<SelfAttentionParams | LatentAttentionParams>;
}

function makeFeedForward(
  config: ResolvedTransformerConfig,
  index: number,
): Layer<SwigluParams | GeluParams, [x: Tensor], Tensor> {
  const { hiddenSize, feedForward } = config;
  const shared = { features: hiddenSize, ...initialStd(config) };
  if (feedForward.kind === "moe") {
    if (index >= feedForward.numDenseLayers) throw new ValueError("transformer: mixture of experts is not built yet");
    return swigluMlp({ ...shared, intermediateSize: feedForward.denseIntermediateSize }) as Layer<
      SwigluParams | GeluParams,
      [x: Tensor],
      Tensor
    >;
  }
  const { kind, approximate, ...sizes } = feedForward;
  const layer = kind === "swiglu" ? swigluMlp({ ...shared, ...sizes }) : geluMlp({ ...shared, ...sizes, approximate });
  return layer as Layer<SwigluParams | GeluParams, [x: Tensor], Tensor>;
}

function makeNorm(
  { kind, eps }: ResolvedTransformerConfig["norm"],
  features: number,
): Layer<NormParams, [x: Tensor], Tensor> {
  return kind === "rmsnorm" ? rmsNorm({ features, eps }) : layerNorm({ features, eps });
}

/** Learned position vectors, [T, D] or [B, T, D]. */
function placeVectors(weight: Tensor, tokens: number, positions: Tensor | undefined): Tensor {
  return positions ? take(weight, positions) : sliceAxis(weight, 0, 0, tokens);
}

function checkTokens(inputIds: Tensor, { kind, maxPositions }: ResolvedTransformerConfig["positions"]): void {
  if (inputIds.ndim !== 2)
    throw new ShapeError(`transformer: inputIds must be [B, T], got shape ${formatShape(inputIds.shape)}`);
  if (inputIds.dtype !== "i32") throw new DTypeError(`transformer: inputIds must be i32, got ${inputIds.dtype}`);
  const tokens = inputIds.shape[1]!;
  if (maxPositions !== undefined && tokens > maxPositions) {
    const cure = kind === "learned" ? "cut it or train more positions" : "cut it, or raise positions.maxPositions";
    throw new ValueError(
      `transformer: the model has ${maxPositions} positions, got a sequence of ${tokens} tokens; ${cure}`,
    );
  }
}
