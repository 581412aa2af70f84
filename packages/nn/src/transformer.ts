// transformer.ts: a decoder-only, pre-norm transformer as one value: initial parameters, logits, loss, and what the parameters are.
import {
  add,
  checkpoint,
  DTypeError,
  expandDims,
  foldIn,
  reshape,
  ShapeError,
  sliceAxis,
  sub,
  type Tensor,
  take,
  takeAlongAxis,
  ValueError,
} from "@mc/tensor";
import { maxLogitsOf } from "./attention/attention.ts";
import { type AttentionCache, cacheLengthOf } from "./attention/cache.ts";
import { type LatentAttentionParams, latentAttention } from "./attention/latentAttention.ts";
import type { AttentionLayout } from "./attention/layout.ts";
import {
  type AttentionLayer,
  type CachedAttentionResult,
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
import { type MoeParams, mixtureOfExperts, type Routing } from "./moe/mixtureOfExperts.ts";
import { layerNorm, type NormParams, rmsNorm } from "./norm.ts";
import { sinusoidal } from "./sinusoidal.ts";

/** Parameters of one layer. */
export type TransformerLayerParams = {
  attentionNorm: NormParams;
  attention: SelfAttentionParams | LatentAttentionParams;
  feedForwardNorm: NormParams;
  feedForward: FeedForwardParams;
};

/** Parameters of what follows attention. */
export type FeedForwardParams = SwigluParams | GeluParams | MoeParams;

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
  /** Of each layer, f32 [numHeads]: each head's largest scaled, mask-visible dot product, before soft cap and ALiBi, over batch and rows. Not differentiable. */
  readonly maxLogits: Tensor[];
  /** Of each layer with experts, in order: what its router did. */
  readonly routing: Routing[];
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

/** What `prefill` and `decode` give. */
export interface NextLogits {
  /** Logits of the token after the last one of each row, [B, vocabSize]. */
  readonly logits: Tensor;
  /** What attention keeps of the tokens so far, one entry a layer: pass it to `decode`. */
  readonly cache: AttentionCache[];
}

/** What `loss` gives beside the loss. */
export interface LossAux {
  /** See `TransformerOutput`; what QK-Clip wants. */
  readonly maxLogits: Tensor[];
  /** The cross-entropy alone, f32 scalar. */
  readonly crossEntropy: Tensor;
  /** See `TransformerOutput`; what `balanceExperts` wants. */
  readonly routing: Routing[];
}

/** A transformer: sizes and functions, no state. Its functions may be passed around on their own. */
export interface Transformer {
  /** The configuration, with every default filled in. */
  readonly config: ResolvedTransformerConfig;
  /** Parameters from a random key. */
  readonly init: (key: Tensor) => TransformerParams;
  /** Logits, and the maxima of attention, for token ids i32 [B, T]. */
  readonly apply: (params: TransformerParams, inputIds: Tensor, options?: ApplyOptions) => TransformerOutput;
  /**
   * Reads prompts, to go on from them with `decode`: token ids i32 [B, P], each row padded behind with any ids, and its number of
   * tokens without padding, `lengths` i32 [B], each from 1 to P. `cacheLength` tokens, prompts included, fit into the cache.
   */
  readonly prefill: (params: TransformerParams, inputIds: Tensor, lengths: Tensor, cacheLength: number) => NextLogits;
  /**
   * One more token a row: ids i32 [B] at `positions` i32 [B], from 0 on; row b has `positions[b]` tokens in the cache. One that is
   * not in the cache's range gives NaN. Compile it with the cache donated: the new one is then written over the old one, and one
   * plan serves all steps. Not for training.
   */
  readonly decode: (
    params: TransformerParams,
    ids: Tensor,
    positions: Tensor,
    cache: readonly AttentionCache[],
  ) => NextLogits;
  /** Logits [..., vocabSize] of normed hidden states [..., hiddenSize]. */
  readonly head: (params: TransformerParams, hidden: Tensor) => Tensor;
  /**
   * Mean cross-entropy in nats a token, plus the balance losses of experts where they are configured, in the form that
   * `valueAndGrad(loss, { hasAux: true })` takes.
   */
  readonly loss: (params: TransformerParams, batch: TransformerBatch) => { value: Tensor; aux: LossAux };
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
 * @throws ValueError for sizes that do not fit together; its functions throw ValueError for a sequence, or a cache, past `maxPositions`
 * @example
 * const model = transformer({ vocabSize: 256, hiddenSize: 64, numLayers: 2, attention: { numHeads: 4 } });
 * const params = model.init(key(1));
 * const { logits } = model.apply(params, tensor([[72, 105]], { dtype: "i32" })); // shape [1, 2, 256]
 *
 * // token by token, with a cache of 16 places
 * const decode = compile(model.decode, { donate: [3] });
 * const i32 = (data: number[] | number[][]) => tensor(data, { dtype: "i32" });
 * const first = model.prefill(params, i32([[72, 105]]), i32([2]), 16); // first.logits: shape [1, 256]
 * const second = decode(params, i32([33]), i32([2]), first.cache); // the token 33 at position 2
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
  /** The residual stream before the first layer, [B, T, D]. No position reaches `bound`. */
  const embed = (params: TransformerParams, ids: Tensor, at: Tensor | undefined, bound: number | undefined): Tensor => {
    const x = table.apply(params.embedding, ids);
    const { kind, theta } = positions;
    if (kind === "sinusoidal") return sinusoidal(x, { theta, positions: at, maxPositions: bound });
    if (!params.positions) return x;
    const { weight } = params.positions;
    return add(x, at ? take(weight, at) : sliceAxis(weight, 0, 0, ids.shape[1]!));
  };
  const apply: Transformer["apply"] = (params, inputIds, { key, hidden: wantsHidden = false, ...info } = {}) => {
    checkTokens(inputIds, positions);
    let x = embed(params, inputIds, info.positions, positions.maxPositions);
    if (key && rate > 0) x = dropout(foldIn(key, numLayers), x, rate);
    const hidden: Tensor[] = [];
    const rowMax: Tensor[] = [];
    const routing: Routing[] = [];
    params.layers.forEach((layerParams, i) => {
      hidden.push(x);
      const result = layers[i]!.apply(layerParams, x, { ...info, key: key && rate > 0 ? foldIn(key, i) : undefined });
      x = result.output;
      rowMax.push(result.rowMax);
      if (result.routing) routing.push(result.routing);
    });
    x = norm.apply(params.norm, x);
    hidden.push(x);
    return { logits: toLogits(params, x), maxLogits: maxLogitsOf(rowMax), routing, ...(wantsHidden && { hidden }) };
  };

  const prefill: Transformer["prefill"] = (params, inputIds, lengths, cacheLength) => {
    checkTokens(inputIds, positions);
    checkPositions("transformer", cacheLength, "cache", positions);
    checkRow("lengths", lengths, inputIds.shape[0]!);
    let x = embed(params, inputIds, undefined, undefined);
    const cache = params.layers.map((layerParams, i) => {
      const result = layers[i]!.prefill(layerParams, x, cacheLength);
      x = result.output;
      return result.cache;
    });
    const last = takeAlongAxis(x, reshape(sub(lengths, 1), [-1, 1, 1]), 1);
    return { logits: nextLogits(params, last), cache };
  };
  const decode: Transformer["decode"] = (params, ids, at, cache) => {
    if (ids.ndim !== 1) throw new ShapeError(`transformer: ids must be [B], got shape ${formatShape(ids.shape)}`);
    checkRow("ids", ids, ids.shape[0]!);
    checkRow("positions", at, ids.shape[0]!);
    if (cache.length !== numLayers)
      throw new ValueError(
        `transformer: cache must have an entry for each of the ${numLayers} layers, got ${cache.length}`,
      );
    const bound = cacheLengthOf(cache[0]!);
    checkPositions("transformer", bound, "cache", positions);
    let x = embed(params, expandDims(ids, 1), expandDims(at, 1), bound);
    const next = params.layers.map((layerParams, i) => {
      const result = layers[i]!.decode(layerParams, x, at, cache[i]!);
      x = result.output;
      return result.cache;
    });
    return { logits: nextLogits(params, x), cache: next };
  };
  /** [B, vocabSize] of the last tokens' residual stream [B, 1, D]. */
  const nextLogits = (params: TransformerParams, last: Tensor): Tensor =>
    reshape(toLogits(params, norm.apply(params.norm, last)), [-1, vocabSize]);

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
    prefill,
    decode,
    head: toLogits,
    loss: (params, { inputs, labels, ...options }) => {
      const { logits, maxLogits, routing } = apply(params, inputs, options);
      const entropy = crossEntropy(logits, labels);
      const value = routing.reduce((sum, { loss }) => add(sum, loss), entropy);
      return { value, aux: { maxLogits, crossEntropy: entropy, routing } };
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

interface LayerResult extends FeedForwardResult {
  readonly rowMax: Tensor;
}

interface FeedForwardResult {
  readonly output: Tensor;
  /** Absent without experts. */
  readonly routing?: Routing;
}

interface TransformerLayer
  extends Layer<TransformerLayerParams, [x: Tensor, info: TokenInfo & { key?: Tensor | undefined }], LayerResult> {
  layout(path: string, layer: number): AttentionLayout;
  prefill(params: TransformerLayerParams, x: Tensor, cacheLength: number): CachedAttentionResult<AttentionCache>;
  decode(
    params: TransformerLayerParams,
    x: Tensor,
    positions: Tensor,
    cache: AttentionCache,
  ): CachedAttentionResult<AttentionCache>;
}

function transformerLayer(config: ResolvedTransformerConfig, index: number): TransformerLayer {
  const { hiddenSize, norm, dropout: rate } = config;
  const attentionNorm = makeNorm(norm, hiddenSize);
  const attention = makeAttention(config, index);
  const feedForwardNorm = makeNorm(norm, hiddenSize);
  const feedForward = makeFeedForward(config, index);
  /** x + attention, then + MLP; what else attention gives comes along. */
  const around = <R extends { readonly output: Tensor }>(
    params: TransformerLayerParams,
    x: Tensor,
    attend: (normed: Tensor) => R,
    drop: (y: Tensor, place: number) => Tensor = (y) => y,
  ): R & FeedForwardResult => {
    const attended = attend(attentionNorm.apply(params.attentionNorm, x));
    const middle = add(x, drop(attended.output, 0));
    const fed = feedForward.apply(params.feedForward, feedForwardNorm.apply(params.feedForwardNorm, middle));
    return { ...attended, ...fed, output: add(middle, drop(fed.output, 1)) };
  };
  const apply: TransformerLayer["apply"] = (params, x, { key, ...info }) =>
    around(
      params,
      x,
      (normed) => attention.apply(params.attention, normed, info),
      (y, place) => (key ? dropout(foldIn(key, place), y, rate) : y),
    );
  return {
    init: (key) => ({
      attentionNorm: attentionNorm.init(key),
      attention: attention.init(foldIn(key, 0)),
      feedForwardNorm: feedForwardNorm.init(key),
      feedForward: feedForward.init(foldIn(key, 1)),
    }),
    apply: config.checkpoint ? checkpoint(apply) : apply,
    prefill: (params, x, cacheLength) =>
      around(params, x, (normed) => attention.prefill(params.attention, normed, cacheLength)),
    decode: (params, x, positions, cache) =>
      around(params, x, (normed) => attention.decode(params.attention, normed, positions, cache)),
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

function makeAttention(
  config: ResolvedTransformerConfig,
  index: number,
): AttentionLayer<SelfAttentionParams | LatentAttentionParams> {
  const { hiddenSize, attention, norm, positions, muonBlocks } = config;
  const { kind, maxPositions, ...rotation } = positions;
  const shared = {
    features: hiddenSize,
    muonBlocks,
    ...(kind === "rope" && { rope: { ...rotation, ...(maxPositions !== undefined && { maxPositions }) } }),
    ...initialStd(config),
  };
  if (attention.kind === "mla") {
    if (kind === "alibi")
      throw new ValueError('transformer: positions of kind "alibi" need attention of kind "mha" or "gqa", got "mla"');
    return latentAttention({ ...attention, ...shared }) as AttentionLayer<SelfAttentionParams | LatentAttentionParams>;
  }
  const layer = selfAttention({
    ...attention,
    ...shared,
    window: attention.window[index]!,
    alibi: kind === "alibi",
    normEps: norm.eps,
  });
  return layer as AttentionLayer<SelfAttentionParams | LatentAttentionParams>;
}

function makeFeedForward(
  config: ResolvedTransformerConfig,
  index: number,
): Layer<FeedForwardParams, [x: Tensor], FeedForwardResult> {
  const { hiddenSize, feedForward } = config;
  const shared = { features: hiddenSize, ...initialStd(config) };
  if (feedForward.kind === "moe") {
    const { numDenseLayers, denseIntermediateSize, ...options } = feedForward;
    if (index < numDenseLayers) return alone(swigluMlp({ ...shared, intermediateSize: denseIntermediateSize }));
    return mixtureOfExperts({ ...shared, ...options }) as Layer<FeedForwardParams, [x: Tensor], FeedForwardResult>;
  }
  const { kind, approximate, ...sizes } = feedForward;
  return kind === "swiglu"
    ? alone(swigluMlp({ ...shared, ...sizes }))
    : alone(geluMlp({ ...shared, ...sizes, approximate }));
}

/** An MLP as a layer that might route. */
function alone<P extends FeedForwardParams>(
  mlp: Layer<P, [x: Tensor], Tensor>,
): Layer<FeedForwardParams, [x: Tensor], FeedForwardResult> {
  return { ...mlp, apply: (params, x) => ({ output: mlp.apply(params as P, x) }) };
}

function makeNorm(
  { kind, eps }: ResolvedTransformerConfig["norm"],
  features: number,
): Layer<NormParams, [x: Tensor], Tensor> {
  return kind === "rmsnorm" ? rmsNorm({ features, eps }) : layerNorm({ features, eps });
}

function checkTokens(inputIds: Tensor, positions: ResolvedTransformerConfig["positions"]): void {
  if (inputIds.ndim !== 2)
    throw new ShapeError(`transformer: inputIds must be [B, T], got shape ${formatShape(inputIds.shape)}`);
  if (inputIds.dtype !== "i32") throw new DTypeError(`transformer: inputIds must be i32, got ${inputIds.dtype}`);
  checkPositions("transformer", inputIds.shape[1]!, "sequence", positions);
}

/** Throws ValueError if so many tokens are more than the model has positions. */
export function checkPositions(
  op: string,
  tokens: number,
  what: string,
  { kind, maxPositions }: ResolvedTransformerConfig["positions"],
): void {
  if (maxPositions === undefined || tokens <= maxPositions) return;
  const cure = kind === "learned" ? "cut it or train more positions" : "cut it, or raise positions.maxPositions";
  throw new ValueError(`${op}: the model has ${maxPositions} positions, got a ${what} of ${tokens} tokens; ${cure}`);
}

function checkRow(name: string, x: Tensor, batch: number): void {
  if (x.ndim !== 1 || x.shape[0] !== batch)
    throw new ShapeError(`transformer: ${name} must be [${batch}], got shape ${formatShape(x.shape)}`);
  if (x.dtype !== "i32") throw new DTypeError(`transformer: ${name} must be i32, got ${x.dtype}`);
}
