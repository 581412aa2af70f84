// huggingFace/gpt2.ts: GPT2LMHeadModel: its config.json and its weights, whose matrices are stored [in, out].
import { ValueError } from "@mc/tensor";
import { type ResolvedTransformerConfig, resolveConfig } from "../config.ts";
import { fieldsOf, type HuggingFaceConfig } from "./fields.ts";
import type { WeightSource } from "./weights.ts";

const activations: Readonly<Record<string, "none" | "tanh">> = {
  gelu_new: "tanh",
  gelu_pytorch_tanh: "tanh",
  gelu: "none",
};

/** Our configuration from a GPT-2 `config.json`; absent fields take transformers' defaults. Dropout of attention weights is not modelled. */
export function gpt2Config(json: HuggingFaceConfig): ResolvedTransformerConfig {
  const field = fieldsOf(json);
  const activation = field.string("activation_function", "gelu_new");
  const approximate = activations[activation];
  if (!approximate)
    throw new ValueError(
      `fromHuggingFace: activation_function must be one of ${Object.keys(activations).join(", ")}, got "${activation}"`,
    );
  for (const [name, wanted] of Object.entries({
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
    add_cross_attention: false,
  })) {
    if (field.boolean(name, wanted) !== wanted)
      throw new ValueError(`fromHuggingFace: ${name} must be ${wanted} for gpt2, got ${!wanted}`);
  }
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

/** Where each of our parameters comes from. */
export function gpt2Weights({
  vocabSize,
  hiddenSize,
  numLayers,
  feedForward,
  positions,
  tiedHead,
}: ResolvedTransformerConfig): WeightSource[] {
  const source = (path: string, name: string, shape: readonly number[], transposed = false): WeightSource => ({
    path,
    parts: [{ name, shape, transposed }],
  });
  const norm = (path: string, name: string): WeightSource[] =>
    ["weight", "bias"].map((x) => source(`${path}.${x}`, `${name}.${x}`, [hiddenSize]));
  /** Conv1D, [in, out]. */
  const projection = (path: string, name: string, inSize: number, outSize: number): WeightSource[] => [
    source(`${path}.weight`, `${name}.weight`, [inSize, outSize], true),
    source(`${path}.bias`, `${name}.bias`, [outSize]),
  ];
  const layers = Array.from({ length: numLayers }, (_, i) => {
    const [to, from] = [`layers.${i}`, `transformer.h.${i}`];
    return [
      ...norm(`${to}.attentionNorm`, `${from}.ln_1`),
      ...projection(`${to}.attention.qkv`, `${from}.attn.c_attn`, hiddenSize, 3 * hiddenSize),
      ...projection(`${to}.attention.output`, `${from}.attn.c_proj`, hiddenSize, hiddenSize),
      ...norm(`${to}.feedForwardNorm`, `${from}.ln_2`),
      ...projection(`${to}.feedForward.up`, `${from}.mlp.c_fc`, hiddenSize, feedForward.intermediateSize),
      ...projection(`${to}.feedForward.down`, `${from}.mlp.c_proj`, feedForward.intermediateSize, hiddenSize),
    ];
  });
  return [
    source("embedding.weight", "transformer.wte.weight", [vocabSize, hiddenSize]),
    source("positions.weight", "transformer.wpe.weight", [positions.maxPositions!, hiddenSize]),
    ...layers.flat(),
    ...norm("norm", "transformer.ln_f"),
    ...(tiedHead ? [] : [source("head.weight", "lm_head.weight", [vocabSize, hiddenSize])]),
  ];
}
