// config.ts: what a transformer is made of, with every default in one place.
import { ValueError } from "@mc/tensor";
import { checkPositive } from "./check.ts";
import type { RopeScaling } from "./ropeScaling.ts";

/** Softmax attention with as many key heads as query heads (MHA) or fewer (GQA). */
export interface HeadAttentionConfig {
  /** "gqa" where there are fewer key heads than query heads, else "mha"; default what `numKeyValueHeads` says. */
  readonly kind?: "mha" | "gqa";
  /** Query heads. */
  readonly numHeads: number;
  /** Key and value heads, a divisor of `numHeads`; default the same number. */
  readonly numKeyValueHeads?: number;
  /** Features of a head; default `hiddenSize / numHeads`. */
  readonly headDim?: number;
  /** Biases of the q, k, v and of the output projection; a boolean stands for both; default false. */
  readonly bias?: boolean | { readonly qkv: boolean; readonly output: boolean };
  /** RMSNorm of queries and keys per head; default false. */
  readonly qkNorm?: boolean;
  /** A token sees itself and the `window - 1` tokens before it; a list has an entry for each layer, null for all tokens; default null. */
  readonly window?: number | null | readonly (number | null)[];
  /** Logits are bounded by `c tanh(logit / c)`; default null: they are not. */
  readonly softCap?: number | null;
  /** A learned logit for each head that takes its share of the softmax and adds no value; default false. */
  readonly sinks?: boolean;
}

/** Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values of all heads from one small vector a token. */
export interface LatentAttentionConfig {
  readonly kind: "mla";
  readonly numHeads: number;
  /** Width of the compressed query; default null: queries come straight from the hidden state. */
  readonly queryRank?: number | null;
  /** Width of the compressed keys and values; default `hiddenSize / 4`, rounded up to a multiple of 8. */
  readonly keyValueRank?: number;
  /** Features of a head's query and key without position; default `hiddenSize / numHeads`. */
  readonly nopeHeadDim?: number;
  /** Features of a head's rotated query, and of the rotated key that all heads share; default half of `nopeHeadDim`, made even. */
  readonly ropeHeadDim?: number;
  /** Features of a head's value; default `nopeHeadDim`. */
  readonly valueHeadDim?: number;
  /** Biases of the down-projections and of the output projection; default false. */
  readonly bias?: boolean;
}

/** Attention of all layers. */
export type AttentionConfig = HeadAttentionConfig | LatentAttentionConfig;

/** One MLP for all tokens. */
export interface MlpConfig {
  /** Default "swiglu". */
  readonly kind?: "swiglu" | "gelu";
  /** Width inside; default `4 * hiddenSize` for gelu, `8/3 * hiddenSize` rounded up to a multiple of 16 for swiglu: as many weights. */
  readonly intermediateSize?: number;
  /** Default false. */
  readonly bias?: boolean;
  /** Form of gelu: "none" (exact, the default) or "tanh" (GPT-2). */
  readonly approximate?: "none" | "tanh";
}

/** A mixture of SwiGLU experts, of which each token visits a few. */
export interface MoeConfig {
  readonly kind: "moe";
  /** E. */
  readonly numExperts: number;
  /** k. */
  readonly numExpertsPerToken: number;
  /** Width inside an expert; default the dense width divided by `numExpertsPerToken + numSharedExperts`, rounded up to a multiple of 8. */
  readonly intermediateSize?: number;
  /** Experts that every token visits: one SwiGLU of as many times the width; default 0. */
  readonly numSharedExperts?: number;
  /** The first layers have one SwiGLU each instead; default 0. */
  readonly numDenseLayers?: number;
  /** Width inside those; default as for `kind: "swiglu"`. */
  readonly denseIntermediateSize?: number;
  /** How router logits become scores: "sigmoid" (DeepSeek-V3, the default) or "softmax" (Mixtral, Qwen). */
  readonly scoring?: "sigmoid" | "softmax";
  /** A bias that takes part in the choice of experts only, for `balanceExperts`; default with "sigmoid". */
  readonly selectionBias?: boolean;
  /** Whether the weights of a token's experts are made to sum to one; default true. */
  readonly normalize?: boolean;
  /** Factor of the weights after that; default 1. `gateScale` gives the one that keeps the size of the output. */
  readonly scale?: number;
  /** Group-limited routing: experts stand in this many groups; default 1. */
  readonly numGroups?: number;
  /** Groups from which a token may choose; default all. */
  readonly groupsPerToken?: number;
  /** Coefficient of DeepSeek-V3's balance loss over each sequence; default 0. */
  readonly sequenceBalance?: number;
  /** Coefficient of the balance loss over the batch (Switch, Mixtral); default 0. */
  readonly auxiliary?: number;
  /** Coefficient of the mean squared log-sum-exp of the router's logits (ST-MoE); default 0. */
  readonly zLoss?: number;
}

/** What follows attention in each layer. */
export type FeedForwardConfig = MlpConfig | MoeConfig;

/** Norms before attention, before the MLP and before the head. */
export interface NormConfig {
  /** Default "rmsnorm". "layernorm" has biases. */
  readonly kind?: "rmsnorm" | "layernorm";
  /** Default 1e-6 for rmsnorm, 1e-5 for layernorm. */
  readonly eps?: number;
}

/** How tokens know their place. */
export interface PositionsConfig {
  /**
   * "rope" (default): rotary, in attention; "learned": a table of vectors added to the embeddings; "sinusoidal": the same with
   * a fixed table; "alibi": logits fall with distance; "none".
   */
  readonly kind?: "rope" | "learned" | "sinusoidal" | "alibi" | "none";
  /** Longest sequence: required for "learned"; default none for the others. Longer ones are an error. */
  readonly maxPositions?: number;
  /** Base of the wavelengths, rotary or sinusoidal; default 10000. */
  readonly theta?: number;
  /** Rotary pairs; default "half" (Llama), for MLA "interleaved" (DeepSeek). */
  readonly pairing?: "half" | "interleaved";
  /** How the wavelengths are stretched for longer sequences; default null. */
  readonly scaling?: RopeScaling | null;
}

/** What `transformer` builds. */
export interface TransformerConfig {
  readonly vocabSize: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly attention: AttentionConfig;
  readonly feedForward?: FeedForwardConfig;
  readonly norm?: NormConfig;
  readonly positions?: PositionsConfig;
  /** Whether the head reads the embedding table; default false. */
  readonly tiedHead?: boolean;
  /** Rate of dropout after the embedding and on the output of attention and MLP, when `apply` is given a key; default 0. */
  readonly dropout?: number;
  /** Standard deviation of the initial weights; see `transformer`; default 0.02. */
  readonly initStd?: number;
  /**
   * Whether training keeps only the input of each layer and computes the layer again on the way back: of each layer one value
   * [B, T, hiddenSize] stays in memory instead of about 18 (with GELU), for up to a third more floating-point operations. Same
   * values and gradients. See `checkpoint` of @mc/tensor. Default false.
   */
  readonly checkpoint?: boolean;
  /** What Muon orthogonalises of q, k and v: "matrix" (default) or "head". */
  readonly muonBlocks?: "matrix" | "head";
}

/** `HeadAttentionConfig` with every default filled in. */
export interface ResolvedHeadAttention {
  readonly kind: "mha" | "gqa";
  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly bias: { readonly qkv: boolean; readonly output: boolean };
  readonly qkNorm: boolean;
  /** One entry a layer. */
  readonly window: readonly (number | null)[];
  readonly softCap: number | null;
  readonly sinks: boolean;
}

/** `LatentAttentionConfig` with every default filled in. */
export type ResolvedLatentAttention = Required<LatentAttentionConfig>;

/** A configuration with every default filled in: it is a `TransformerConfig` again. */
export interface ResolvedTransformerConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly attention: ResolvedHeadAttention | ResolvedLatentAttention;
  readonly feedForward: Required<MlpConfig> | Required<MoeConfig>;
  readonly norm: Required<NormConfig>;
  readonly positions: Required<Omit<PositionsConfig, "maxPositions">> & { readonly maxPositions: number | undefined };
  readonly tiedHead: boolean;
  readonly dropout: number;
  readonly initStd: number;
  readonly checkpoint: boolean;
  readonly muonBlocks: "matrix" | "head";
}

/**
 * Fills in the defaults and checks what can be checked without building anything.
 *
 * @throws ValueError that says what to change
 * @example resolveConfig({ vocabSize: 256, hiddenSize: 64, numLayers: 2, attention: { numHeads: 4 } }).feedForward.intermediateSize // 176
 */
export function resolveConfig(config: TransformerConfig): ResolvedTransformerConfig {
  const {
    vocabSize,
    hiddenSize,
    numLayers,
    tiedHead = false,
    dropout = 0,
    initStd = 0.02,
    checkpoint = false,
    muonBlocks = "matrix",
  } = config;
  for (const [name, value] of Object.entries({ vocabSize, hiddenSize, numLayers }))
    checkPositive("transformer", name, value);
  const norm = config.norm?.kind ?? "rmsnorm";
  if (!(dropout >= 0 && dropout < 1)) throw new ValueError(`transformer: dropout must be in [0, 1), got ${dropout}`);
  const attention =
    config.attention.kind === "mla"
      ? resolveLatent(config.attention, hiddenSize)
      : resolveHeads(config.attention, hiddenSize, numLayers);
  return {
    vocabSize,
    hiddenSize,
    numLayers,
    attention,
    feedForward:
      config.feedForward?.kind === "moe"
        ? resolveMoe(config.feedForward, hiddenSize, numLayers)
        : resolveMlp(config.feedForward ?? {}, hiddenSize),
    norm: { kind: norm, eps: config.norm?.eps ?? (norm === "rmsnorm" ? 1e-6 : 1e-5) },
    positions: resolvePositions(config.positions ?? {}, attention.kind),
    tiedHead,
    dropout,
    initStd,
    checkpoint,
    muonBlocks,
  };
}

function checkHeadsDivide(numHeads: number, hiddenSize: number, size: number, name: string): void {
  checkPositive("transformer", "attention.numHeads", numHeads);
  if (!Number.isInteger(size)) {
    throw new ValueError(
      `transformer: attention.numHeads must divide hiddenSize, got ${numHeads} heads for width ${hiddenSize}; choose another number of heads or set attention.${name}`,
    );
  }
}

function resolveHeads(config: HeadAttentionConfig, hiddenSize: number, numLayers: number): ResolvedHeadAttention {
  const {
    numHeads,
    numKeyValueHeads = numHeads,
    headDim = hiddenSize / numHeads,
    bias = false,
    qkNorm = false,
    window = null,
    softCap = null,
    sinks = false,
  } = config;
  checkHeadsDivide(numHeads, hiddenSize, headDim, "headDim");
  const kind = numKeyValueHeads === numHeads ? "mha" : "gqa";
  if (config.kind && config.kind !== kind && !(config.kind === "gqa" && numHeads === 1)) {
    throw new ValueError(
      `transformer: attention.kind "${config.kind}" needs ${config.kind === "mha" ? "as many" : "fewer"} key heads ${config.kind === "mha" ? "as" : "than"} query heads, got numKeyValueHeads ${numKeyValueHeads} and numHeads ${numHeads}`,
    );
  }
  if (typeof window === "object" && window !== null && window.length !== numLayers) {
    throw new ValueError(
      `transformer: attention.window must have an entry for each of the ${numLayers} layers, got ${window.length}`,
    );
  }
  return {
    kind,
    numHeads,
    numKeyValueHeads,
    headDim,
    bias: typeof bias === "boolean" ? { qkv: bias, output: bias } : bias,
    qkNorm,
    window: typeof window === "object" && window !== null ? window : Array.from({ length: numLayers }, () => window),
    softCap,
    sinks,
  };
}

function resolveLatent(config: LatentAttentionConfig, hiddenSize: number): ResolvedLatentAttention {
  const { numHeads, nopeHeadDim = hiddenSize / numHeads } = config;
  checkHeadsDivide(numHeads, hiddenSize, nopeHeadDim, "nopeHeadDim");
  return {
    kind: "mla",
    numHeads,
    queryRank: config.queryRank ?? null,
    keyValueRank: config.keyValueRank ?? roundUp(hiddenSize / 4, 8),
    nopeHeadDim,
    ropeHeadDim: config.ropeHeadDim ?? roundUp(nopeHeadDim / 2, 2),
    valueHeadDim: config.valueHeadDim ?? nopeHeadDim,
    bias: config.bias ?? false,
  };
}

const swigluSize = (hiddenSize: number): number => roundUp((8 * hiddenSize) / 3, 16);

function resolveMlp(config: MlpConfig, hiddenSize: number): Required<MlpConfig> {
  const { kind = "swiglu", bias = false, approximate = "none" } = config;
  const intermediateSize = config.intermediateSize ?? (kind === "gelu" ? 4 * hiddenSize : swigluSize(hiddenSize));
  return { kind, intermediateSize, bias, approximate };
}

function resolveMoe(config: MoeConfig, hiddenSize: number, numLayers: number): Required<MoeConfig> {
  const { numExperts, numExpertsPerToken, numSharedExperts = 0, numDenseLayers = 0, scoring = "sigmoid" } = config;
  const denseIntermediateSize = config.denseIntermediateSize ?? swigluSize(hiddenSize);
  for (const [name, value] of Object.entries({ numSharedExperts, numDenseLayers })) {
    if (!(Number.isInteger(value) && value >= 0))
      throw new ValueError(`transformer: feedForward.${name} must be an integer >= 0, got ${value}`);
  }
  if (numDenseLayers > numLayers) {
    throw new ValueError(
      `transformer: feedForward.numDenseLayers must be at most the ${numLayers} layers, got ${numDenseLayers}`,
    );
  }
  const numGroups = config.numGroups ?? 1;
  return {
    kind: "moe",
    numExperts,
    numExpertsPerToken,
    intermediateSize:
      config.intermediateSize ?? roundUp(denseIntermediateSize / (numExpertsPerToken + numSharedExperts), 8),
    numSharedExperts,
    numDenseLayers,
    denseIntermediateSize,
    scoring,
    selectionBias: config.selectionBias ?? scoring === "sigmoid",
    normalize: config.normalize ?? true,
    scale: config.scale ?? 1,
    numGroups,
    groupsPerToken: config.groupsPerToken ?? numGroups,
    sequenceBalance: config.sequenceBalance ?? 0,
    auxiliary: config.auxiliary ?? 0,
    zLoss: config.zLoss ?? 0,
  };
}

function resolvePositions(
  config: PositionsConfig,
  attention: "mha" | "gqa" | "mla",
): ResolvedTransformerConfig["positions"] {
  const { kind = "rope", maxPositions, theta = 10000, scaling = null } = config;
  if (maxPositions !== undefined) checkPositive("transformer", "positions.maxPositions", maxPositions);
  if (kind === "learned" && maxPositions === undefined) {
    throw new ValueError("transformer: learned positions need positions.maxPositions, the longest sequence, got none");
  }
  if (scaling && kind !== "rope")
    throw new ValueError(
      `transformer: positions.scaling stretches rotary wavelengths, got positions of kind "${kind}"`,
    );
  const pairing = config.pairing ?? (attention === "mla" ? "interleaved" : "half");
  return { kind, maxPositions, theta, pairing, scaling };
}

const roundUp = (x: number, multiple: number): number => Math.ceil(x / multiple) * multiple;
