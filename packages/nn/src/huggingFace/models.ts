// huggingFace/models.ts: published models as configurations, every size of which can be changed.
import type { TransformerConfig } from "../config.ts";
import type { RopeScaling } from "../ropeScaling.ts";

/** Sizes that all of these models have. */
export interface ModelSizes {
  readonly vocabSize?: number;
  /** Width of the residual stream. */
  readonly hiddenSize?: number;
  readonly numLayers?: number;
  readonly numHeads?: number;
  /** Longest sequence. */
  readonly maxPositions?: number;
  /** Added to the mean square (of LayerNorm: the variance) in norms. */
  readonly normEps?: number;
  readonly tiedHead?: boolean;
  /** Standard deviation of initial weights. */
  readonly initStd?: number;
}

/** Sizes of `gpt2`. */
export interface Gpt2Sizes extends ModelSizes {
  /** Width inside the MLP; default four times `hiddenSize`. */
  readonly intermediateSize?: number;
  /** Default 0, to be set for training: the published model had 0.1. */
  readonly dropout?: number;
}

/**
 * GPT-2 small (Radford et al. 2019): 124 million parameters.
 *
 * @example transformer(gpt2({ vocabSize: 256, hiddenSize: 64, numLayers: 2, numHeads: 4, maxPositions: 128 }))
 */
export function gpt2({
  vocabSize = 50257,
  hiddenSize = 768,
  numLayers = 12,
  numHeads = 12,
  intermediateSize = 4 * hiddenSize,
  maxPositions = 1024,
  normEps = 1e-5,
  tiedHead = true,
  initStd = 0.02,
  dropout = 0,
}: Gpt2Sizes = {}): TransformerConfig {
  return {
    vocabSize,
    hiddenSize,
    numLayers,
    attention: { numHeads, bias: true },
    feedForward: { kind: "gelu", intermediateSize, bias: true, approximate: "tanh" },
    norm: { kind: "layernorm", eps: normEps },
    positions: { kind: "learned", maxPositions },
    tiedHead,
    initStd,
    dropout,
  };
}

/** Sizes of models with rotary positions. */
export interface RotarySizes extends ModelSizes {
  /** Base of the rotary wavelengths. */
  readonly theta?: number;
  /** How the wavelengths are stretched; null: they are not. */
  readonly scaling?: RopeScaling | null;
}

/** Sizes of `llama`, `mixtral` and `qwen3`. */
export interface LlamaSizes extends RotarySizes {
  readonly numKeyValueHeads?: number;
  /** Features of a head; default `hiddenSize / numHeads`, for `qwen3` 128. */
  readonly headDim?: number;
  /** Width inside the MLP, or inside an expert. */
  readonly intermediateSize?: number;
}

/**
 * Llama 3.1 8B (arXiv:2407.21783).
 *
 * @example transformer(llama({ vocabSize: 256, hiddenSize: 64, numLayers: 2, numHeads: 4, numKeyValueHeads: 2, intermediateSize: 176 }))
 */
export function llama({
  vocabSize = 128256,
  hiddenSize = 4096,
  numLayers = 32,
  numHeads = 32,
  numKeyValueHeads = 8,
  headDim = hiddenSize / numHeads,
  intermediateSize = 14336,
  maxPositions = 131072,
  theta = 500000,
  scaling = { kind: "llama3", factor: 8, originalMaxPositions: 8192, lowFrequencyFactor: 1, highFrequencyFactor: 4 },
  normEps = 1e-5,
  tiedHead = false,
  initStd = 0.02,
}: LlamaSizes = {}): TransformerConfig {
  return {
    vocabSize,
    hiddenSize,
    numLayers,
    attention: { numHeads, numKeyValueHeads, headDim },
    feedForward: { kind: "swiglu", intermediateSize },
    norm: { kind: "rmsnorm", eps: normEps },
    positions: { kind: "rope", maxPositions, theta, scaling },
    tiedHead,
    initStd,
  };
}

/** Sizes of `mixtral`. */
export interface MixtralSizes extends LlamaSizes {
  readonly numExperts?: number;
  readonly numExpertsPerToken?: number;
}

/**
 * Mixtral 8x7B (arXiv:2401.04088).
 *
 * @example transformer(mixtral({ vocabSize: 256, hiddenSize: 64, numLayers: 2, numHeads: 4, numKeyValueHeads: 2, intermediateSize: 96 }))
 */
export function mixtral({
  numExperts = 8,
  numExpertsPerToken = 2,
  intermediateSize = 14336,
  ...sizes
}: MixtralSizes = {}): TransformerConfig {
  return {
    ...llama({ vocabSize: 32000, maxPositions: 32768, theta: 1e6, scaling: null, ...sizes }),
    feedForward: { kind: "moe", scoring: "softmax", numExperts, numExpertsPerToken, intermediateSize },
  };
}

/**
 * Qwen3 8B (arXiv:2505.09388). Its queries and keys are normed, which bounds the logits: QK-Clip refuses it.
 *
 * @example transformer(qwen3({ vocabSize: 256, hiddenSize: 64, numLayers: 2, numHeads: 4, numKeyValueHeads: 2, headDim: 16, intermediateSize: 176 }))
 */
export function qwen3({
  numHeads = 32,
  numKeyValueHeads = 8,
  headDim = 128,
  ...sizes
}: LlamaSizes = {}): TransformerConfig {
  const published: LlamaSizes = {
    vocabSize: 151936,
    hiddenSize: 4096,
    numLayers: 36,
    intermediateSize: 12288,
    maxPositions: 40960,
    theta: 1e6,
    scaling: null,
    normEps: 1e-6,
  };
  return {
    ...llama({ ...published, ...sizes, numHeads, numKeyValueHeads, headDim }),
    attention: { numHeads, numKeyValueHeads, headDim, qkNorm: true },
  };
}

/** Sizes of `deepseekV3`, `moonlight` and `kimiK2`. */
export interface DeepseekSizes extends RotarySizes {
  /** Width of compressed queries; null: queries come straight from the hidden state. */
  readonly queryRank?: number | null;
  /** Width of compressed keys and values. */
  readonly keyValueRank?: number;
  /** Features of a head's query and key without position. */
  readonly nopeHeadDim?: number;
  /** Features of a head's rotated query, and of the rotated key that all heads share. */
  readonly ropeHeadDim?: number;
  /** Features of a head's value. */
  readonly valueHeadDim?: number;
  /** The first layers have one MLP each. */
  readonly numDenseLayers?: number;
  /** Width inside those. */
  readonly denseIntermediateSize?: number;
  readonly numExperts?: number;
  readonly numExpertsPerToken?: number;
  readonly numSharedExperts?: number;
  /** Width inside an expert. */
  readonly intermediateSize?: number;
  /** Groups of experts, and those from which a token may choose. */
  readonly numGroups?: number;
  readonly groupsPerToken?: number;
  /** Factor of the experts' weights. */
  readonly scale?: number;
  /** Coefficient of the balance loss over each sequence; default 0. */
  readonly sequenceBalance?: number;
}

const yarn = (factor: number, betaFast: number): RopeScaling => ({
  kind: "yarn",
  factor,
  originalMaxPositions: 4096,
  betaFast,
  betaSlow: 1,
  mscale: 1,
  mscaleAllDim: 1,
});

/**
 * DeepSeek-V3, 671 billion parameters of which 37 billion work on a token (arXiv:2412.19437), with YaRN to 160K tokens.
 *
 * @example configToHuggingFace(deepseekV3()).n_routed_experts // 256
 */
export function deepseekV3({
  vocabSize = 129280,
  hiddenSize = 7168,
  numLayers = 61,
  numHeads = 128,
  queryRank = 1536,
  keyValueRank = 512,
  nopeHeadDim = 128,
  ropeHeadDim = 64,
  valueHeadDim = 128,
  numDenseLayers = 3,
  denseIntermediateSize = 18432,
  numExperts = 256,
  numExpertsPerToken = 8,
  numSharedExperts = 1,
  intermediateSize = 2048,
  numGroups = 8,
  groupsPerToken = 4,
  scale = 2.5,
  sequenceBalance = 0,
  maxPositions = 163840,
  theta = 10000,
  scaling = yarn(40, 32),
  normEps = 1e-6,
  tiedHead = false,
  initStd = 0.02,
}: DeepseekSizes = {}): TransformerConfig {
  return {
    vocabSize,
    hiddenSize,
    numLayers,
    attention: { kind: "mla", numHeads, queryRank, keyValueRank, nopeHeadDim, ropeHeadDim, valueHeadDim },
    feedForward: {
      kind: "moe",
      scoring: "sigmoid",
      numExperts,
      numExpertsPerToken,
      numSharedExperts,
      intermediateSize,
      numDenseLayers,
      denseIntermediateSize,
      numGroups,
      groupsPerToken,
      scale,
      sequenceBalance,
    },
    norm: { kind: "rmsnorm", eps: normEps },
    positions: { kind: "rope", maxPositions, theta, scaling },
    tiedHead,
    initStd,
  };
}

/**
 * Kimi K2, a trillion parameters of which 32 billion work on a token (arXiv:2507.20534), with YaRN to 128K tokens. Copies of its
 * `config.json` disagree about the eps of the norms, 1e-6 or 1e-5; here it is 1e-6.
 *
 * @example configToHuggingFace(kimiK2(), { modelType: "kimi_k2" }).n_routed_experts // 384
 */
export function kimiK2(sizes: DeepseekSizes = {}): TransformerConfig {
  return deepseekV3({
    vocabSize: 163840,
    numHeads: 64,
    numDenseLayers: 1,
    numExperts: 384,
    numGroups: 1,
    groupsPerToken: 1,
    scale: 2.827,
    theta: 50000,
    maxPositions: 131072,
    scaling: yarn(32, 1),
    ...sizes,
  });
}

/**
 * Moonlight, 16 billion parameters of which 3 billion work on a token (arXiv:2502.16982), trained with Muon.
 *
 * @example configToHuggingFace(moonlight()).q_lora_rank // null
 */
export function moonlight(sizes: DeepseekSizes = {}): TransformerConfig {
  return deepseekV3({
    vocabSize: 163840,
    hiddenSize: 2048,
    numLayers: 27,
    numHeads: 16,
    queryRank: null,
    numDenseLayers: 1,
    denseIntermediateSize: 11264,
    numExperts: 64,
    numExpertsPerToken: 6,
    numSharedExperts: 2,
    intermediateSize: 1408,
    numGroups: 1,
    groupsPerToken: 1,
    scale: 2.446,
    theta: 50000,
    maxPositions: 8192,
    scaling: null,
    normEps: 1e-5,
    ...sizes,
  });
}
