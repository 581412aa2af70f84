// huggingFace/gpt2.ts: GPT2LMHeadModel: its config.json and its weights, whose matrices are stored [in, out].
import { ValueError } from "@mc/tensor";
import { type MlpConfig, type ResolvedTransformerConfig, resolveConfig } from "../config.ts";
import { type Family, headAttentionOf, mlpOf } from "./family.ts";
import { fieldsOf, type HuggingFaceConfig, requireSettings } from "./fields.ts";
import { type WeightSource, whole } from "./weights.ts";

/** Their activations, and our form of gelu; the first of each form is what we write. */
const activations: Readonly<Record<string, "none" | "tanh">> = {
  gelu_new: "tanh",
  gelu_pytorch_tanh: "tanh",
  gelu: "none",
};

/** GPT-2. Dropout of attention weights is not modelled. */
export const gpt2Family: Family = {
  read: readConfig,
  write: writeConfig,
  weights,
  isExtra: (name) => /\.attn\.(masked_)?bias$/.test(name),
  prefix: "transformer.",
};

function readConfig(json: HuggingFaceConfig): ResolvedTransformerConfig {
  const field = fieldsOf(json);
  const activation = field.string("activation_function", "gelu_new");
  const approximate = activations[activation];
  if (!approximate)
    throw new ValueError(
      `configFromHuggingFace: activation_function must be one of ${Object.keys(activations).join(", ")}, got "${activation}"`,
    );
  field.only("scale_attn_weights", true);
  field.only("scale_attn_by_inverse_layer_idx", false);
  field.only("add_cross_attention", false);
  const hiddenSize = field.number("n_embd", 768);
  return resolveConfig({
    vocabSize: field.number("vocab_size", 50257),
    hiddenSize,
    numLayers: field.number("n_layer", 12),
    attention: { numHeads: field.number("n_head", 12), bias: true },
    feedForward: { kind: "gelu", intermediateSize: field.number("n_inner", 4 * hiddenSize), bias: true, approximate },
    norm: { kind: "layernorm", eps: field.number("layer_norm_epsilon", 1e-5) },
    positions: { kind: "learned", maxPositions: field.number("n_positions", 1024) },
    tiedHead: field.boolean("tie_word_embeddings", true),
    dropout: field.number("resid_pdrop", 0.1),
    initStd: field.number("initializer_range", 0.02),
  });
}

function writeConfig(config: ResolvedTransformerConfig, type: string): HuggingFaceConfig {
  const { hiddenSize, norm, positions, dropout } = config;
  const attention = headAttentionOf(type, config);
  const feedForward = mlpOf(type, config, "gelu");
  requireSettings(type, {
    "attention.kind": [attention.kind, "mha"],
    "norm.kind": [norm.kind, "layernorm"],
    "positions.kind": [positions.kind, "learned"],
    "attention.headDim": [attention.headDim, hiddenSize / attention.numHeads],
    "attention.bias.qkv": [attention.bias.qkv, true],
    "attention.bias.output": [attention.bias.output, true],
    "attention.qkNorm": [attention.qkNorm, false],
    "attention.window": [attention.window.find((w) => w !== null) ?? null, null],
    "attention.softCap": [attention.softCap, null],
    "attention.sinks": [attention.sinks, false],
    "feedForward.bias": [feedForward.bias, true],
  });
  return {
    n_embd: hiddenSize,
    n_layer: config.numLayers,
    n_head: attention.numHeads,
    n_inner: feedForward.intermediateSize,
    n_positions: positions.maxPositions,
    activation_function: feedForward.approximate === "tanh" ? "gelu_new" : "gelu",
    layer_norm_epsilon: norm.eps,
    resid_pdrop: dropout,
    embd_pdrop: dropout,
    attn_pdrop: 0,
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
  };
}

function weights(config: ResolvedTransformerConfig): WeightSource[] {
  const { vocabSize, hiddenSize, numLayers, positions, tiedHead } = config;
  const { intermediateSize } = config.feedForward as Required<MlpConfig>;
  const norm = (path: string, name: string): WeightSource[] =>
    ["weight", "bias"].map((x) => whole(`${path}.${x}`, `${name}.${x}`, [hiddenSize]));
  /** Conv1D, [in, out]. */
  const projection = (path: string, name: string, inSize: number, outSize: number): WeightSource[] => [
    {
      path: `${path}.weight`,
      shape: [outSize, inSize],
      parts: [{ name: `${name}.weight`, shape: [inSize, outSize], transposed: true }],
    },
    whole(`${path}.bias`, `${name}.bias`, [outSize]),
  ];
  const layers = Array.from({ length: numLayers }, (_, i) => {
    const [to, from] = [`layers.${i}`, `transformer.h.${i}`];
    return [
      ...norm(`${to}.attentionNorm`, `${from}.ln_1`),
      ...projection(`${to}.attention.qkv`, `${from}.attn.c_attn`, hiddenSize, 3 * hiddenSize),
      ...projection(`${to}.attention.output`, `${from}.attn.c_proj`, hiddenSize, hiddenSize),
      ...norm(`${to}.feedForwardNorm`, `${from}.ln_2`),
      ...projection(`${to}.feedForward.up`, `${from}.mlp.c_fc`, hiddenSize, intermediateSize),
      ...projection(`${to}.feedForward.down`, `${from}.mlp.c_proj`, intermediateSize, hiddenSize),
    ];
  });
  return [
    whole("embedding.weight", "transformer.wte.weight", [vocabSize, hiddenSize]),
    whole("positions.weight", "transformer.wpe.weight", [positions.maxPositions!, hiddenSize]),
    ...layers.flat(),
    ...norm("norm", "transformer.ln_f"),
    ...(tiedHead ? [] : [whole("head.weight", "lm_head.weight", [vocabSize, hiddenSize])]),
  ];
}
