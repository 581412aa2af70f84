// huggingFace/llama.ts: LlamaForCausalLM: its config.json and its weights.
import { ValueError } from "@mc/tensor";
import {
  type MlpConfig,
  type ResolvedHeadAttention,
  type ResolvedTransformerConfig,
  resolveConfig,
} from "../config.ts";
import { fieldsOf, type HuggingFaceConfig } from "./fields.ts";
import type { WeightPart, WeightSource } from "./weights.ts";

/** Our configuration from a Llama `config.json`; absent fields take transformers' defaults. */
export function llamaConfig(json: HuggingFaceConfig): ResolvedTransformerConfig {
  const field = fieldsOf(json);
  const activation = field.string("hidden_act", "silu");
  if (activation !== "silu")
    throw new ValueError(`fromHuggingFace: hidden_act must be "silu" for llama, got "${activation}"`);
  const bias = field.boolean("attention_bias", false);
  const numHeads = field.number("num_attention_heads");
  return resolveConfig({
    vocabSize: field.number("vocab_size"),
    hiddenSize: field.number("hidden_size"),
    numLayers: field.number("num_hidden_layers"),
    attention: {
      numHeads,
      numKeyValueHeads: field.number("num_key_value_heads", numHeads),
      headDim: field.number("head_dim", field.number("hidden_size") / numHeads),
      bias: { qkv: bias, output: bias },
    },
    feedForward: {
      kind: "swiglu",
      intermediateSize: field.number("intermediate_size"),
      bias: field.boolean("mlp_bias", false),
    },
    norm: { kind: "rmsnorm", eps: field.number("rms_norm_eps", 1e-6) },
    positions: { kind: "rope", theta: ropeTheta(json), maxPositions: field.number("max_position_embeddings", 2048) },
    tiedHead: field.boolean("tie_word_embeddings", false),
    initStd: field.number("initializer_range", 0.02),
  });
}

/** transformers 5 writes `rope_parameters`, earlier versions `rope_theta` and `rope_scaling`. */
function ropeTheta(json: HuggingFaceConfig): number {
  const field = fieldsOf(json);
  const parameters = field.object("rope_parameters") ?? field.object("rope_scaling") ?? {};
  const inner = fieldsOf(parameters);
  const type = inner.string("rope_type", inner.string("type", "default"));
  if (type !== "default")
    throw new ValueError(
      `fromHuggingFace: rope_type must be "default", got "${type}": scaled rotary positions are not supported`,
    );
  const share = inner.number("partial_rotary_factor", field.number("partial_rotary_factor", 1));
  if (share !== 1) throw new ValueError(`fromHuggingFace: partial_rotary_factor must be 1, got ${share}`);
  return inner.number("rope_theta", field.number("rope_theta", 10000));
}

/** Where each of our parameters comes from. */
export function llamaWeights(config: ResolvedTransformerConfig): WeightSource[] {
  const { vocabSize, hiddenSize, numLayers, tiedHead } = config;
  const { numHeads, numKeyValueHeads, headDim, bias } = config.attention as ResolvedHeadAttention;
  const feedForward = config.feedForward as Required<MlpConfig>;
  const width = { q: numHeads * headDim, kv: numKeyValueHeads * headDim, inner: feedForward.intermediateSize };
  const source = (path: string, ...parts: WeightPart[]): WeightSource => ({ path, parts });
  const vector = (path: string, name: string): WeightSource => source(path, { name, shape: [hiddenSize] });
  /** A projection, with its bias if it has one; the rows of several named projections are stacked. */
  const projection = (
    path: string,
    hasBias: boolean,
    columns: number,
    rows: Record<string, number>,
  ): WeightSource[] => [
    source(
      `${path}.weight`,
      ...Object.entries(rows).map(([name, n]) => ({ name: `${name}.weight`, shape: [n, columns] })),
    ),
    ...(hasBias
      ? [source(`${path}.bias`, ...Object.entries(rows).map(([name, n]) => ({ name: `${name}.bias`, shape: [n] })))]
      : []),
  ];
  const layers = Array.from({ length: numLayers }, (_, i) => {
    const [to, from] = [`layers.${i}`, `model.layers.${i}`];
    const attn = `${from}.self_attn`;
    const mlp = `${from}.mlp`;
    return [
      vector(`${to}.attentionNorm.weight`, `${from}.input_layernorm.weight`),
      ...projection(`${to}.attention.qkv`, bias.qkv, hiddenSize, {
        [`${attn}.q_proj`]: width.q,
        [`${attn}.k_proj`]: width.kv,
        [`${attn}.v_proj`]: width.kv,
      }),
      ...projection(`${to}.attention.output`, bias.output, width.q, { [`${attn}.o_proj`]: hiddenSize }),
      vector(`${to}.feedForwardNorm.weight`, `${from}.post_attention_layernorm.weight`),
      ...projection(`${to}.feedForward.gateUp`, feedForward.bias, hiddenSize, {
        [`${mlp}.gate_proj`]: width.inner,
        [`${mlp}.up_proj`]: width.inner,
      }),
      ...projection(`${to}.feedForward.down`, feedForward.bias, width.inner, { [`${mlp}.down_proj`]: hiddenSize }),
    ];
  });
  return [
    source("embedding.weight", { name: "model.embed_tokens.weight", shape: [vocabSize, hiddenSize] }),
    ...layers.flat(),
    vector("norm.weight", "model.norm.weight"),
    ...(tiedHead ? [] : [source("head.weight", { name: "lm_head.weight", shape: [vocabSize, hiddenSize] })]),
  ];
}
