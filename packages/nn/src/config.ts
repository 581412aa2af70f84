// config.ts: what a transformer is made of, with every default in one place.
import { ValueError } from "@mc/tensor";
import { checkPositive } from "./check.ts";

/** Attention of all layers. */
export interface AttentionConfig {
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
}

/** MLP of all layers. */
export interface FeedForwardConfig {
  /** Default "swiglu". */
  readonly kind?: "swiglu" | "gelu";
  /** Width inside; default `4 * hiddenSize` for gelu, `8/3 * hiddenSize` rounded up to a multiple of 16 for swiglu: as many weights. */
  readonly intermediateSize?: number;
  /** Default false. */
  readonly bias?: boolean;
  /** Form of gelu: "none" (exact, the default) or "tanh" (GPT-2). */
  readonly approximate?: "none" | "tanh";
}

/** Norms before attention, before the MLP and before the head. */
export interface NormConfig {
  /** Default "rmsnorm". "layernorm" has biases. */
  readonly kind?: "rmsnorm" | "layernorm";
  /** Default 1e-6 for rmsnorm, 1e-5 for layernorm. */
  readonly eps?: number;
}

/** How tokens know their place. */
export interface PositionsConfig {
  /** "rope" (default): rotary, in attention; "learned": a table of vectors added to the embeddings. */
  readonly kind?: "rope" | "learned";
  /** Longest sequence: required for "learned"; for "rope" the bound of explicit positions, default the length of the sequence. */
  readonly maxPositions?: number;
  /** Base of the rotary wavelengths; default 10000. */
  readonly theta?: number;
  /** Rotary pairs; default "half" (Llama). */
  readonly pairing?: "half" | "interleaved";
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
  /** What Muon orthogonalises of q, k and v: "matrix" (default) or "head". */
  readonly muonBlocks?: "matrix" | "head";
}

/** A configuration with every default filled in. */
export interface ResolvedTransformerConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly attention: {
    readonly numHeads: number;
    readonly numKeyValueHeads: number;
    readonly headDim: number;
    readonly bias: { readonly qkv: boolean; readonly output: boolean };
    readonly qkNorm: boolean;
  };
  readonly feedForward: Required<FeedForwardConfig>;
  readonly norm: Required<NormConfig>;
  readonly positions: Required<Omit<PositionsConfig, "maxPositions">> & { readonly maxPositions: number | undefined };
  readonly tiedHead: boolean;
  readonly dropout: number;
  readonly initStd: number;
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
    muonBlocks = "matrix",
  } = config;
  for (const [name, value] of Object.entries({ vocabSize, hiddenSize, numLayers }))
    checkPositive("transformer", name, value);
  const {
    numHeads,
    numKeyValueHeads = numHeads,
    headDim = hiddenSize / numHeads,
    bias = false,
    qkNorm = false,
  } = config.attention;
  if (!Number.isInteger(headDim)) {
    throw new ValueError(
      `transformer: attention.numHeads must divide hiddenSize, got ${numHeads} heads for width ${hiddenSize}; choose another number of heads or set attention.headDim`,
    );
  }
  const kind = config.feedForward?.kind ?? "swiglu";
  const intermediateSize =
    config.feedForward?.intermediateSize ??
    (kind === "gelu" ? 4 * hiddenSize : Math.ceil((8 * hiddenSize) / 3 / 16) * 16);
  const norm = config.norm?.kind ?? "rmsnorm";
  const positions = config.positions?.kind ?? "rope";
  const maxPositions = config.positions?.maxPositions;
  if (maxPositions !== undefined) checkPositive("transformer", "positions.maxPositions", maxPositions);
  if (positions === "learned" && maxPositions === undefined) {
    throw new ValueError("transformer: learned positions need positions.maxPositions, the longest sequence, got none");
  }
  if (!(dropout >= 0 && dropout < 1)) throw new ValueError(`transformer: dropout must be in [0, 1), got ${dropout}`);
  return {
    vocabSize,
    hiddenSize,
    numLayers,
    attention: {
      numHeads,
      numKeyValueHeads,
      headDim,
      bias: typeof bias === "boolean" ? { qkv: bias, output: bias } : bias,
      qkNorm,
    },
    feedForward: {
      kind,
      intermediateSize,
      bias: config.feedForward?.bias ?? false,
      approximate: config.feedForward?.approximate ?? "none",
    },
    norm: { kind: norm, eps: config.norm?.eps ?? (norm === "rmsnorm" ? 1e-6 : 1e-5) },
    positions: {
      kind: positions,
      maxPositions,
      theta: config.positions?.theta ?? 10000,
      pairing: config.positions?.pairing ?? "half",
    },
    tiedHead,
    dropout,
    initStd,
    muonBlocks,
  };
}
