// huggingFace/deepseek.ts: DeepseekV3ForCausalLM, which is also Moonlight and Kimi K2: config.json and weights.
import { type ResolvedLatentAttention, type ResolvedTransformerConfig, resolveConfig } from "../config.ts";
import { type Family, latentAttentionOf, moeOf, requireRotaryRms } from "./family.ts";
import { fieldsOf, type HuggingFaceConfig, requireSettings } from "./fields.ts";
import { commonNames, decoder, experts, projection, swiglu } from "./layers.ts";
import { readRope, writeRope } from "./ropeFields.ts";
import { type WeightSource, whole } from "./weights.ts";

/** DeepSeek-V3. The norms of the latents have an eps of 1e-6 whatever `rms_norm_eps` says, in transformers as here. */
export const deepseekFamily: Family = {
  read: readConfig,
  write: writeConfig,
  weights: (config, names) => {
    const { hiddenSize, feedForward } = config;
    return decoder(
      config,
      (path, name) => attentionWeights(path, name, config),
      (path, name, i) => {
        if (feedForward.kind !== "moe")
          return swiglu(path, `${name}.mlp`, hiddenSize, feedForward.intermediateSize, feedForward.bias);
        return i < feedForward.numDenseLayers
          ? swiglu(path, `${name}.mlp`, hiddenSize, feedForward.denseIntermediateSize)
          : experts(path, name, hiddenSize, feedForward, commonNames, names);
      },
    );
  },
  // layers after the last are modules that predict further tokens
  isExtra: (name, { numLayers }) =>
    name.endsWith(".rotary_emb.inv_freq") || Number(/^model\.layers\.(\d+)\./.exec(name)?.[1] ?? -1) >= numLayers,
  prefix: "model.",
};

/** Default of `max_position_embeddings`. */
const maxPositions = 4096;

function readConfig(json: HuggingFaceConfig): ResolvedTransformerConfig {
  const field = fieldsOf(json);
  field.only("hidden_act", "silu");
  field.only("scoring_func", "sigmoid");
  field.only("topk_method", "noaux_tc");
  field.only("moe_layer_freq", 1);
  const numLayers = field.number("num_hidden_layers");
  const numHeads = field.number("num_attention_heads");
  field.only("num_key_value_heads", numHeads);
  const numGroups = field.number("n_group", 8);
  return resolveConfig({
    vocabSize: field.number("vocab_size"),
    hiddenSize: field.number("hidden_size"),
    numLayers,
    attention: {
      kind: "mla",
      numHeads,
      queryRank: field.numberOrNull("q_lora_rank", 1536),
      keyValueRank: field.number("kv_lora_rank", 512),
      nopeHeadDim: field.number("qk_nope_head_dim", 128),
      ropeHeadDim: field.number("qk_rope_head_dim", 64),
      valueHeadDim: field.number("v_head_dim", 128),
      bias: field.boolean("attention_bias", false),
    },
    feedForward: {
      kind: "moe",
      scoring: "sigmoid",
      selectionBias: true,
      numExperts: field.number("n_routed_experts", 256),
      numExpertsPerToken: field.number("num_experts_per_tok", 8),
      intermediateSize: field.number("moe_intermediate_size", 2048),
      numSharedExperts: field.numberOrNull("n_shared_experts", 1) ?? 0,
      numDenseLayers: Math.min(field.number("first_k_dense_replace", 3), numLayers),
      denseIntermediateSize: field.number("intermediate_size", 18432),
      normalize: field.boolean("norm_topk_prob", true),
      scale: field.number("routed_scaling_factor", 2.5),
      numGroups,
      groupsPerToken: field.number("topk_group", Math.min(4, numGroups)),
    },
    norm: { kind: "rmsnorm", eps: field.number("rms_norm_eps", 1e-6) },
    positions: {
      kind: "rope",
      pairing: field.boolean("rope_interleave", true) ? "interleaved" : "half",
      maxPositions: field.number("max_position_embeddings", maxPositions),
      ...readRope(json, 10000, maxPositions),
    },
    tiedHead: field.boolean("tie_word_embeddings", false),
    initStd: field.number("initializer_range", 0.02),
  });
}

function writeConfig(config: ResolvedTransformerConfig, type: string): HuggingFaceConfig {
  const { positions, norm } = config;
  const attention = latentAttentionOf(type, config);
  const moe = moeOf(type, config);
  requireRotaryRms(type, config);
  requireSettings(type, {
    "feedForward.scoring": [moe.scoring, "sigmoid"],
    "feedForward.selectionBias": [moe.selectionBias, true],
  });
  return {
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: attention.numHeads,
    num_key_value_heads: attention.numHeads,
    q_lora_rank: attention.queryRank,
    kv_lora_rank: attention.keyValueRank,
    qk_nope_head_dim: attention.nopeHeadDim,
    qk_rope_head_dim: attention.ropeHeadDim,
    v_head_dim: attention.valueHeadDim,
    attention_bias: attention.bias,
    attention_dropout: 0,
    n_routed_experts: moe.numExperts,
    num_experts_per_tok: moe.numExpertsPerToken,
    moe_intermediate_size: moe.intermediateSize,
    n_shared_experts: moe.numSharedExperts,
    first_k_dense_replace: moe.numDenseLayers,
    intermediate_size: moe.denseIntermediateSize,
    moe_layer_freq: 1,
    scoring_func: "sigmoid",
    topk_method: "noaux_tc",
    norm_topk_prob: moe.normalize,
    routed_scaling_factor: moe.scale,
    n_group: moe.numGroups,
    topk_group: moe.groupsPerToken,
    rms_norm_eps: norm.eps,
    rope_interleave: positions.pairing === "interleaved",
    num_nextn_predict_layers: 0,
    ...(positions.maxPositions !== undefined && { max_position_embeddings: positions.maxPositions }),
    ...writeRope(positions),
  };
}

function attentionWeights(path: string, name: string, config: ResolvedTransformerConfig): WeightSource[] {
  const { hiddenSize } = config;
  const attention = config.attention as ResolvedLatentAttention;
  const { numHeads, queryRank, keyValueRank, nopeHeadDim, ropeHeadDim, valueHeadDim, bias } = attention;
  const one = (to: string, from: string, rows: number, columns: number, hasBias = false): WeightSource[] =>
    projection(`${path}.${to}`, { [`${name}.${from}`]: rows }, columns, hasBias);
  const norm = (to: string, from: string, size: number): WeightSource =>
    whole(`${path}.${to}.weight`, `${name}.${from}.weight`, [size]);
  const queries = numHeads * (nopeHeadDim + ropeHeadDim);
  return [
    ...(queryRank === null
      ? one("query", "q_proj", queries, hiddenSize)
      : [
          ...one("queryDown", "q_a_proj", queryRank, hiddenSize, bias),
          norm("queryNorm", "q_a_layernorm", queryRank),
          ...one("query", "q_b_proj", queries, queryRank),
        ]),
    ...one("keyValueDown", "kv_a_proj_with_mqa", keyValueRank + ropeHeadDim, hiddenSize, bias),
    norm("keyValueNorm", "kv_a_layernorm", keyValueRank),
    ...one("keyValue", "kv_b_proj", numHeads * (nopeHeadDim + valueHeadDim), keyValueRank),
    ...one("output", "o_proj", hiddenSize, numHeads * valueHeadDim, bias),
  ];
}
