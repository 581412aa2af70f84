// @mc/nn: layers as `init` and `apply` over plain parameter trees, and transformers that describe themselves as data.
export { alibiSlopes } from "./attention/alibi.ts";
export {
  type AttentionOptions,
  type AttentionResult,
  attention,
  maxLogitOf,
  maxLogitsOf,
} from "./attention/attention.ts";
export type { AttentionCache, KeyValueCache, LatentCache } from "./attention/cache.ts";
export {
  type LatentAttentionOptions,
  type LatentAttentionParams,
  latentAttention,
} from "./attention/latentAttention.ts";
export type { AttentionHead, AttentionLayout, RowRange } from "./attention/layout.ts";
export {
  type AttentionLayer,
  type CachedAttentionResult,
  type SelfAttentionOptions,
  type SelfAttentionParams,
  type SelfAttentionResult,
  selfAttention,
  type TokenInfo,
} from "./attention/selfAttention.ts";
export {
  type AttentionConfig,
  type FeedForwardConfig,
  type HeadAttentionConfig,
  type LatentAttentionConfig,
  type MlpConfig,
  type MoeConfig,
  type NormConfig,
  type PositionsConfig,
  type ResolvedHeadAttention,
  type ResolvedLatentAttention,
  type ResolvedTransformerConfig,
  resolveConfig,
  type TransformerConfig,
} from "./config.ts";
export { type CrossEntropyOptions, crossEntropy } from "./crossEntropy.ts";
export { dropout } from "./dropout.ts";
export { type EmbeddingOptions, type EmbeddingParams, embedding } from "./embedding.ts";
export {
  type GeluMlpOptions,
  type GeluParams,
  geluMlp,
  type MlpOptions,
  type SwigluParams,
  swigluMlp,
} from "./feedForward.ts";
export { type GenerateOptions, generate } from "./generate.ts";
export {
  configFromHuggingFace,
  configToHuggingFace,
  type HuggingFaceConfigOptions,
  type HuggingFaceModelType,
} from "./huggingFace/config.ts";
export type { WeightNames } from "./huggingFace/family.ts";
export { formatHuggingFaceConfig, type HuggingFaceConfig } from "./huggingFace/fields.ts";
export {
  fromHuggingFace,
  type LoadedModel,
  type ToHuggingFaceOptions,
  toHuggingFace,
} from "./huggingFace/huggingFace.ts";
export { kimiK2Mini } from "./huggingFace/kimiK2Mini.ts";
export { type LoadedFiles, type LoadHuggingFaceOptions, loadHuggingFace, type ReadFile } from "./huggingFace/load.ts";
export {
  type DeepseekSizes,
  deepseekV3,
  type Gpt2Sizes,
  gpt2,
  kimiK2,
  type LlamaSizes,
  llama,
  type MixtralSizes,
  type ModelSizes,
  mixtral,
  moonlight,
  qwen3,
  type RotarySizes,
} from "./huggingFace/models.ts";
export { type SavedDType, type SavedFile, type SaveHuggingFaceOptions, saveHuggingFace } from "./huggingFace/save.ts";
export { type Block, joinRoles, type Layer, type RoleSpec, type Roles } from "./layer.ts";
export { type LinearOptions, type LinearParams, linear } from "./linear.ts";
export { type BalanceExpertsOptions, balanceExperts } from "./moe/balanceExperts.ts";
export type { BalanceOptions } from "./moe/balanceLosses.ts";
export { gateScale } from "./moe/gateScale.ts";
export { groupedMatmul } from "./moe/groupedMatmul.ts";
export {
  type MoeOptions,
  type MoeParams,
  type MoeResult,
  mixtureOfExperts,
  type Routing,
} from "./moe/mixtureOfExperts.ts";
export { permuteRows } from "./moe/permuteRows.ts";
export { type RouterOptions, type RouterParams, type RouterResult, router } from "./moe/router.ts";
export { type SortedAssignments, sortByExpert } from "./moe/sortByExpert.ts";
export { type LayerNormOptions, layerNorm, type NormParams, type RmsNormOptions, rmsNorm } from "./norm.ts";
export { type RopeOptions, rope } from "./rope.ts";
export type { LinearScaling, Llama3Scaling, RopeScaling, YarnScaling } from "./ropeScaling.ts";
export { randomNumbers, type SamplingOptions, sampleToken } from "./sampling.ts";
export { type SinusoidalOptions, sinusoidal } from "./sinusoidal.ts";
export { swiglu } from "./swiglu.ts";
export {
  type ApplyOptions,
  type FeedForwardParams,
  type LossAux,
  type NextLogits,
  type Transformer,
  type TransformerBatch,
  type TransformerLayerParams,
  type TransformerOutput,
  type TransformerParams,
  transformer,
} from "./transformer.ts";
