// @mc/nn: layers as `init` and `apply` over plain parameter trees, and transformers that describe themselves as data.
export { attention, type AttentionOptions, type AttentionResult, maxLogitOf } from "./attention/attention.ts";
export type { AttentionHead, AttentionLayout, RowRange } from "./attention/layout.ts";
export {
  type SelfAttention,
  selfAttention,
  type SelfAttentionOptions,
  type SelfAttentionParams,
  type SelfAttentionResult,
  type TokenInfo,
} from "./attention/selfAttention.ts";
export {
  type AttentionConfig,
  type FeedForwardConfig,
  type NormConfig,
  type PositionsConfig,
  resolveConfig,
  type ResolvedTransformerConfig,
  type TransformerConfig,
} from "./config.ts";
export { crossEntropy, type CrossEntropyOptions } from "./crossEntropy.ts";
export { dropout } from "./dropout.ts";
export { embedding, type EmbeddingOptions, type EmbeddingParams } from "./embedding.ts";
export { type GeluMlpOptions, type GeluParams, geluMlp, type MlpOptions, type SwigluParams, swigluMlp } from "./feedForward.ts";
export { generate, type GenerateOptions } from "./generate.ts";
export type { HuggingFaceConfig } from "./huggingFace/fields.ts";
export { fromHuggingFace, type LoadedModel, toHuggingFace } from "./huggingFace/huggingFace.ts";
export { type Block, joinRoles, type Layer, type Roles, type RoleSpec } from "./layer.ts";
export { linear, type LinearOptions, type LinearParams } from "./linear.ts";
export { layerNorm, type LayerNormOptions, type NormParams, rmsNorm, type RmsNormOptions } from "./norm.ts";
export { rope, type RopeOptions } from "./rope.ts";
export { randomNumbers, sampleToken, type SamplingOptions } from "./sampling.ts";
export {
  type ApplyOptions,
  type Transformer,
  transformer,
  type TransformerBatch,
  type TransformerLayerParams,
  type TransformerOutput,
  type TransformerParams,
} from "./transformer.ts";
