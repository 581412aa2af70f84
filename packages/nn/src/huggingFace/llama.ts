// huggingFace/llama.ts: Llama and its nearest relatives Mistral, Qwen 3, Mixtral and Qwen 3 MoE: config.json and weights.
import { ValueError } from "@mc/tensor";
import {
  type FeedForwardConfig,
  type MlpConfig,
  type ResolvedHeadAttention,
  type ResolvedTransformerConfig,
  resolveConfig,
} from "../config.ts";
import { type Family, headAttentionOf, mlpOf, moeOf, requireRotaryRms, sameWindow } from "./family.ts";
import { type Fields, fieldsOf, type HuggingFaceConfig, requireSettings } from "./fields.ts";
import { commonNames, decoder, type ExpertNames, experts, projection, swiglu } from "./layers.ts";
import { readRope, writeRope } from "./ropeFields.ts";
import { type WeightSource, whole } from "./weights.ts";

/** How a relative differs from the others, in transformers' own defaults. */
interface Style {
  readonly theta: number;
  readonly maxPositions: number;
  readonly eps: number;
  /** Default of `head_dim` where that is not `hidden_size / num_attention_heads`. */
  readonly headDim?: number;
  /** Whether `attention_bias` and `mlp_bias` are fields. */
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  readonly qkNorm: boolean;
  /** What says which tokens are seen: nothing, `sliding_window`, that with `use_sliding_window`, or both layer by layer. */
  readonly windows: "none" | "field" | "switched" | "layers";
  /** Default of `sliding_window`. */
  readonly window: number | null;
  readonly experts?: {
    readonly read: (field: Fields, numLayers: number) => FeedForwardConfig;
    readonly write: (config: ResolvedTransformerConfig, type: string) => HuggingFaceConfig;
    readonly names: ExpertNames;
  };
}

const plain = { theta: 10000, eps: 1e-6, attentionBias: false, mlpBias: false, qkNorm: false, window: null } as const;

/** LlamaForCausalLM. */
export const llamaFamily = familyOf({
  ...plain,
  maxPositions: 2048,
  attentionBias: true,
  mlpBias: true,
  windows: "none",
});

/** MistralForCausalLM. */
export const mistralFamily = familyOf({ ...plain, maxPositions: 131072, windows: "field", window: 4096 });

const qwen3 = { ...plain, maxPositions: 32768, attentionBias: true, qkNorm: true, window: 4096 } as const;

/** Qwen3ForCausalLM. */
export const qwen3Family = familyOf({ ...qwen3, headDim: 128, windows: "layers" });

/** MixtralForCausalLM. */
export const mixtralFamily = familyOf({
  ...plain,
  theta: 1e6,
  maxPositions: 131072,
  eps: 1e-5,
  windows: "field",
  experts: {
    read: (field) => ({
      kind: "moe",
      scoring: "softmax",
      numExperts: field.number("num_local_experts", field.number("num_experts", 8)),
      numExpertsPerToken: field.number("num_experts_per_tok", 2),
      intermediateSize: field.number("intermediate_size"),
    }),
    write: (config, type) => {
      const moe = moeOf(type, config);
      requireSettings(type, {
        ...softmaxRouter(config, type),
        "feedForward.normalize": [moe.normalize, true],
        "feedForward.numDenseLayers": [moe.numDenseLayers, 0],
      });
      return {
        num_local_experts: moe.numExperts,
        num_experts_per_tok: moe.numExpertsPerToken,
        intermediate_size: moe.intermediateSize,
        output_router_logits: false,
      };
    },
    names: { module: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" },
  },
});

/** Qwen3MoeForCausalLM. */
export const qwen3MoeFamily = familyOf({
  ...qwen3,
  windows: "switched",
  experts: {
    read: (field, numLayers) => ({
      kind: "moe",
      scoring: "softmax",
      numExperts: field.number("num_experts", field.number("num_local_experts", 128)),
      numExpertsPerToken: field.number("num_experts_per_tok", 8),
      intermediateSize: field.number("moe_intermediate_size", 768),
      numDenseLayers: denseLayers(field, numLayers),
      denseIntermediateSize: field.number("intermediate_size", 6144),
      normalize: field.boolean("norm_topk_prob", false),
    }),
    write: (config, type) => {
      const moe = moeOf(type, config);
      requireSettings(type, softmaxRouter(config, type));
      return {
        // transformers 4 reads the first name, transformers 5 both and writes the second
        num_experts: moe.numExperts,
        num_local_experts: moe.numExperts,
        num_experts_per_tok: moe.numExpertsPerToken,
        moe_intermediate_size: moe.intermediateSize,
        intermediate_size: moe.denseIntermediateSize,
        norm_topk_prob: moe.normalize,
        decoder_sparse_step: 1,
        mlp_only_layers: Array.from({ length: moe.numDenseLayers }, (_, i) => i),
        output_router_logits: false,
      };
    },
    names: commonNames,
  },
});

/** Layer i has experts if `(i + 1) % decoder_sparse_step == 0` and it is not in `mlp_only_layers`; ours come after the dense ones. */
function denseLayers(field: Fields, numLayers: number): number {
  const step = field.number("decoder_sparse_step", 1);
  const dense = new Set(field.list("mlp_only_layers") ?? []);
  const sparse = Array.from({ length: numLayers }, (_, i) => (i + 1) % step === 0 && !dense.has(i));
  const first = sparse.includes(true) ? sparse.indexOf(true) : numLayers;
  if (sparse.slice(first).includes(false)) {
    throw new ValueError(
      `configFromHuggingFace: mlp_only_layers and decoder_sparse_step must leave experts in all layers after the first that has them, got ${JSON.stringify([...dense])} and ${step}`,
    );
  }
  return first;
}

/** What a softmax router of transformers does not have. */
function softmaxRouter(config: ResolvedTransformerConfig, type: string) {
  const moe = moeOf(type, config);
  return {
    "feedForward.scoring": [moe.scoring, "softmax"],
    "feedForward.selectionBias": [moe.selectionBias, false],
    "feedForward.scale": [moe.scale, 1],
    "feedForward.numGroups": [moe.numGroups, 1],
    "feedForward.numSharedExperts": [moe.numSharedExperts, 0],
  } as const;
}

function familyOf(style: Style): Family {
  return {
    read: (json) => readConfig(json, style),
    write: (config, type) => writeConfig(config, type, style),
    weights: (config, names) => {
      const { hiddenSize, feedForward } = config;
      return decoder(
        config,
        (path, name) => attentionWeights(path, name, config),
        (path, name, i) =>
          feedForward.kind === "moe"
            ? i < feedForward.numDenseLayers
              ? swiglu(path, `${name}.mlp`, hiddenSize, feedForward.denseIntermediateSize)
              : experts(path, name, hiddenSize, feedForward, style.experts?.names ?? commonNames, names)
            : swiglu(path, `${name}.mlp`, hiddenSize, feedForward.intermediateSize, feedForward.bias),
      );
    },
    isExtra: (name) => name.endsWith(".rotary_emb.inv_freq"),
    prefix: "model.",
  };
}

function readConfig(json: HuggingFaceConfig, style: Style): ResolvedTransformerConfig {
  const field = fieldsOf(json);
  field.only("hidden_act", "silu");
  const flag = (name: string, known: boolean): boolean => {
    if (!known) field.only(name, false);
    return known && field.boolean(name, false);
  };
  const hiddenSize = field.number("hidden_size");
  const numLayers = field.number("num_hidden_layers");
  const numHeads = field.number("num_attention_heads");
  const maxPositions = field.number("max_position_embeddings", style.maxPositions);
  return resolveConfig({
    vocabSize: field.number("vocab_size"),
    hiddenSize,
    numLayers,
    attention: {
      numHeads,
      numKeyValueHeads: field.number("num_key_value_heads", numHeads),
      headDim: field.number("head_dim", style.headDim ?? hiddenSize / numHeads),
      bias: flag("attention_bias", style.attentionBias),
      qkNorm: style.qkNorm,
      window: readWindows(field, numLayers, style),
    },
    feedForward: style.experts?.read(field, numLayers) ?? {
      kind: "swiglu",
      intermediateSize: field.number("intermediate_size"),
      bias: flag("mlp_bias", style.mlpBias),
    },
    norm: { kind: "rmsnorm", eps: field.number("rms_norm_eps", style.eps) },
    positions: { kind: "rope", maxPositions, ...readRope(json, style.theta, style.maxPositions) },
    tiedHead: field.boolean("tie_word_embeddings", false),
    initStd: field.number("initializer_range", 0.02),
  });
}

function readWindows(field: Fields, numLayers: number, style: Style): (number | null)[] {
  const all = (window: number | null): (number | null)[] => Array.from({ length: numLayers }, () => window);
  if (style.windows === "none") {
    field.only("use_sliding_window", false);
    return all(null);
  }
  const window = field.numberOrNull("sliding_window", style.window);
  if (style.windows === "field") return all(window);
  if (!field.boolean("use_sliding_window", false) || window === null) return all(null);
  if (style.windows === "switched") return all(window);
  const from = field.number("max_window_layers", 28);
  const types =
    field.list("layer_types") ?? all(null).map((_, i) => (i < from ? "full_attention" : "sliding_attention"));
  if (types.length !== numLayers || !types.every((t) => t === "full_attention" || t === "sliding_attention")) {
    throw new ValueError(
      `configFromHuggingFace: layer_types must be full_attention or sliding_attention for each of the ${numLayers} layers, got ${JSON.stringify(types)}`,
    );
  }
  return types.map((t) => (t === "sliding_attention" ? window : null));
}

function writeConfig(config: ResolvedTransformerConfig, type: string, style: Style): HuggingFaceConfig {
  const { positions, norm } = config;
  const attention = headAttentionOf(type, config);
  requireRotaryRms(type, config);
  requireSettings(type, {
    "positions.pairing": [positions.pairing, "half"],
    "attention.qkNorm": [attention.qkNorm, style.qkNorm],
    "attention.softCap": [attention.softCap, null],
    "attention.sinks": [attention.sinks, false],
    "attention.bias.output": [attention.bias.output, style.attentionBias && attention.bias.qkv],
    "attention.bias.qkv": [attention.bias.qkv, style.attentionBias && attention.bias.qkv],
  });
  return {
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: attention.numHeads,
    num_key_value_heads: attention.numKeyValueHeads,
    head_dim: attention.headDim,
    rms_norm_eps: norm.eps,
    attention_dropout: 0,
    ...(style.attentionBias && { attention_bias: attention.bias.qkv }),
    ...(positions.maxPositions !== undefined && { max_position_embeddings: positions.maxPositions }),
    ...writeWindows(attention, type, style),
    ...writeRope(positions),
    ...(style.experts ? style.experts.write(config, type) : writeMlp(mlpOf(type, config, "swiglu"), type, style)),
  };
}

function writeMlp({ intermediateSize, bias }: Required<MlpConfig>, type: string, style: Style): HuggingFaceConfig {
  if (!style.mlpBias) requireSettings(type, { "feedForward.bias": [bias, false] });
  return { intermediate_size: intermediateSize, ...(style.mlpBias && { mlp_bias: bias }) };
}

function writeWindows(attention: ResolvedHeadAttention, type: string, { windows }: Style): HuggingFaceConfig {
  const sizes = [...new Set(attention.window.filter((w) => w !== null))];
  const one = sizes.length > 1 || (windows !== "layers" && sameWindow(attention) === undefined);
  if (one || (windows === "none" && sizes.length > 0)) {
    const required = windows === "none" ? "null" : windows === "layers" ? "one size or null" : "the same in all layers";
    throw new ValueError(
      `configToHuggingFace: attention.window must be ${required} for ${type}, got ${JSON.stringify(attention.window)}`,
    );
  }
  if (windows === "none") return {};
  const sliding_window = sizes[0] ?? null;
  if (windows === "field") return { sliding_window };
  const use_sliding_window = sliding_window !== null;
  if (windows === "switched") return { sliding_window, use_sliding_window };
  const first = attention.window.findIndex((w) => w !== null);
  return {
    sliding_window,
    use_sliding_window,
    max_window_layers: first < 0 ? attention.window.length : first, // before transformers 4.53, which had no layer_types
    layer_types: attention.window.map((w) => (w === null ? "full_attention" : "sliding_attention")),
  };
}

function attentionWeights(path: string, name: string, config: ResolvedTransformerConfig): WeightSource[] {
  const { hiddenSize } = config;
  const { numHeads, numKeyValueHeads, headDim, bias, qkNorm } = config.attention as ResolvedHeadAttention;
  const [queries, keys] = [numHeads * headDim, numKeyValueHeads * headDim];
  const norm = (to: string, from: string): WeightSource =>
    whole(`${path}.${to}.weight`, `${name}.${from}.weight`, [headDim]);
  return [
    ...projection(
      `${path}.qkv`,
      { [`${name}.q_proj`]: queries, [`${name}.k_proj`]: keys, [`${name}.v_proj`]: keys },
      hiddenSize,
      bias.qkv,
    ),
    ...projection(`${path}.output`, { [`${name}.o_proj`]: hiddenSize }, queries, bias.output),
    ...(qkNorm ? [norm("queryNorm", "q_norm"), norm("keyNorm", "k_norm")] : []),
  ];
}
