// huggingFace/config.ts: our configurations as Hugging Face's `config.json`, and back.
import { ValueError } from "@mc/tensor";
import { type ResolvedTransformerConfig, resolveConfig, type TransformerConfig } from "../config.ts";
import { deepseekFamily } from "./deepseek.ts";
import type { Family } from "./family.ts";
import type { HuggingFaceConfig } from "./fields.ts";
import { gpt2Family } from "./gpt2.ts";
import { llamaFamily, mistralFamily, mixtralFamily, qwen3Family, qwen3MoeFamily } from "./llama.ts";

/** Values of `model_type` that are read and written. */
export type HuggingFaceModelType =
  | "gpt2"
  | "llama"
  | "mistral"
  | "mixtral"
  | "qwen3"
  | "qwen3_moe"
  | "deepseek_v3"
  | "kimi_k2";

/** The family of each type, and the class that Hugging Face names in `architectures`. */
const types: Readonly<Record<HuggingFaceModelType, readonly [Family, string]>> = {
  gpt2: [gpt2Family, "GPT2LMHeadModel"],
  llama: [llamaFamily, "LlamaForCausalLM"],
  mistral: [mistralFamily, "MistralForCausalLM"],
  mixtral: [mixtralFamily, "MixtralForCausalLM"],
  qwen3: [qwen3Family, "Qwen3ForCausalLM"],
  qwen3_moe: [qwen3MoeFamily, "Qwen3MoeForCausalLM"],
  deepseek_v3: [deepseekFamily, "DeepseekV3ForCausalLM"],
  kimi_k2: [deepseekFamily, "DeepseekV3ForCausalLM"],
};

/** @throws ValueError for another type than those we have */
export function typeOf(op: string, modelType: unknown): HuggingFaceModelType {
  if (typeof modelType === "string" && Object.hasOwn(types, modelType)) return modelType as HuggingFaceModelType;
  throw new ValueError(
    `${op}: model_type must be one of ${Object.keys(types).join(", ")}, got ${JSON.stringify(modelType ?? null)}`,
  );
}

/** The family of a parsed `config.json`. */
export const familyOf = (json: HuggingFaceConfig): Family => types[typeOf("configFromHuggingFace", json.model_type)][0];

/**
 * Our configuration from a parsed `config.json` of transformers 4 or 5. Absent fields take transformers' defaults.
 *
 * Read is what a forward pass computes. Training's own settings are not: dropout (but GPT-2's `resid_pdrop`), coefficients of
 * balance losses (`aux_loss_alpha`, `router_aux_loss_coef`; transformers adds such a loss only when asked for the router's logits).
 * Set them on the result: it is a `TransformerConfig`.
 *
 * @throws ValueError for a model type we do not have, and for a field whose value we do not, by its name
 * @example configFromHuggingFace({ model_type: "gpt2", n_layer: 6 }).numLayers // 6
 */
export function configFromHuggingFace(json: HuggingFaceConfig): ResolvedTransformerConfig {
  return familyOf(json).read(json);
}

/** Options of `configToHuggingFace`. */
export interface HuggingFaceConfigOptions {
  /**
   * The model type; default the first that fits: "gpt2" for learned positions, "deepseek_v3" for latent attention, "qwen3" and
   * "qwen3_moe" for QK-norm, "mixtral" for experts, "mistral" for a window, else "llama". "kimi_k2" has DeepSeek-V3's fields;
   * transformers needs Kimi's own code to read it, vLLM does not.
   */
  readonly modelType?: HuggingFaceModelType;
}

/**
 * The fields of a `config.json` that transformers 4 and 5 both read: rotary positions stand in it twice, as `rope_theta` with
 * `rope_scaling`, and as `rope_parameters`. Under YaRN transformers 4 takes `max_position_embeddings / original_max_position_embeddings`
 * for the factor, so let `maxPositions` be `factor * originalMaxPositions` where both shall agree.
 *
 * Written is what a forward pass computes, see `configFromHuggingFace`; a configuration without `maxPositions` leaves the field
 * out, and then has the model type's default when it is read again. `bos_token_id` and `eos_token_id` are null, for us to say no
 * more than we know: put yours in their place. Write the text by `formatHuggingFaceConfig`.
 *
 * @throws ValueError for a setting that the model type has no field for, by its name
 * @example configToHuggingFace(llama({ numLayers: 2 })).model_type // "llama"
 */
export function configToHuggingFace(
  config: TransformerConfig,
  { modelType }: HuggingFaceConfigOptions = {},
): HuggingFaceConfig {
  const resolved = resolveConfig(config);
  const type = modelType === undefined ? defaultType(resolved) : typeOf("configToHuggingFace", modelType);
  const [family, architecture] = types[type];
  return {
    architectures: [architecture],
    model_type: type,
    vocab_size: resolved.vocabSize,
    ...family.write(resolved, type),
    tie_word_embeddings: resolved.tiedHead,
    initializer_range: resolved.initStd,
    // a model type's own default would be some token of its first vocabulary
    bos_token_id: null,
    eos_token_id: null,
    use_cache: true,
  };
}

function defaultType({ attention, feedForward, positions }: ResolvedTransformerConfig): HuggingFaceModelType {
  if (attention.kind === "mla") return "deepseek_v3";
  if (positions.kind === "learned") return "gpt2";
  if (feedForward.kind === "moe") return attention.qkNorm ? "qwen3_moe" : "mixtral";
  if (attention.qkNorm) return "qwen3";
  return attention.window.some((w) => w !== null) ? "mistral" : "llama";
}
