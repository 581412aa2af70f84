// huggingFace/huggingFace.ts: models in Hugging Face's files: `config.json` and the names and orientation of weights.
import { type Tensor, ValueError } from "@mc/tensor";
import type { ResolvedTransformerConfig } from "../config.ts";
import { type Transformer, type TransformerParams, transformer } from "../transformer.ts";
import type { HuggingFaceConfig } from "./fields.ts";
import { gpt2Config, gpt2Weights } from "./gpt2.ts";
import { llamaConfig, llamaWeights } from "./llama.ts";
import { gatherWeights, scatterWeights, type WeightSource } from "./weights.ts";

interface Family {
  readonly config: (json: HuggingFaceConfig) => ResolvedTransformerConfig;
  readonly weights: (config: ResolvedTransformerConfig) => WeightSource[];
  /** Names in old files that hold no parameters. */
  readonly isBuffer: (name: string) => boolean;
  /** Prefix that some files leave out. */
  readonly prefix: string;
}

/** By `model_type`. */
const families: Readonly<Record<string, Family>> = {
  llama: {
    config: llamaConfig,
    weights: llamaWeights,
    isBuffer: (name) => name.endsWith(".rotary_emb.inv_freq"),
    prefix: "model.",
  },
  gpt2: {
    config: gpt2Config,
    weights: gpt2Weights,
    isBuffer: (name) => /\.attn\.(masked_)?bias$/.test(name),
    prefix: "transformer.",
  },
};

function familyOf(json: HuggingFaceConfig): Family {
  const family = families[String(json.model_type)];
  if (!family)
    throw new ValueError(
      `fromHuggingFace: model_type must be one of ${Object.keys(families).join(", ")}, got ${JSON.stringify(json.model_type ?? null)}`,
    );
  return family;
}

/** What `fromHuggingFace` gives. */
export interface LoadedModel {
  readonly model: Transformer;
  readonly params: TransformerParams;
}

/**
 * A model and its parameters from the contents of Hugging Face's files: Llama (with grouped queries, biases, a tied head) and GPT-2.
 * Weights come as [out, in] and stacked (q, k, v; gate, up) whatever the file's layout. GPT-2's weights may lack the
 * `transformer.` prefix; a tied model may repeat its table as `lm_head.weight`.
 *
 * @param config - the parsed `config.json`
 * @param tensors - all weights by their name in the file, as `loadSafetensors` gives them
 * @throws ValueError for a model or setting that is not supported, and one that lists every missing, unexpected and mis-shaped weight
 * @example
 * const config = { model_type: "gpt2", vocab_size: 16, n_embd: 8, n_head: 2, n_layer: 1, n_positions: 4 };
 * const sizes = { vocabSize: 16, hiddenSize: 8, numLayers: 1, attention: { numHeads: 2, bias: true }, tiedHead: true };
 * const gpt2 = { ...sizes, feedForward: { kind: "gelu", bias: true }, norm: { kind: "layernorm" }, positions: { kind: "learned", maxPositions: 4 } };
 * const bytes = await saveSafetensors(toHuggingFace(config, transformer(gpt2).init(key(1)))); // or a file's
 * const { model, params } = fromHuggingFace(config, loadSafetensors(bytes).tensors);
 */
export function fromHuggingFace(config: HuggingFaceConfig, tensors: Readonly<Record<string, Tensor>>): LoadedModel {
  const { config: read, weights, isBuffer, prefix } = familyOf(config);
  const resolved = read(config);
  const sources = weights(resolved);
  const names = new Set(sources.flatMap((s) => s.parts.map((p) => p.name)));
  const full = Object.fromEntries(
    Object.entries(tensors).map(([name, t]) => [
      !names.has(name) && names.has(prefix + name) ? prefix + name : name,
      t,
    ]),
  );
  const isExtra = (name: string): boolean => isBuffer(name) || (resolved.tiedHead && name === "lm_head.weight");
  const params = gatherWeights(sources, full, isExtra) as TransformerParams;
  return { model: transformer(resolved), params };
}

/**
 * The reverse: tensors by their name, and in their orientation, in transformers. Takes any tree shaped like the parameters, so
 * gradients too.
 *
 * @param config - the parsed `config.json`
 * @throws ValueError or ShapeError if the tree does not fit the config
 * @example
 * const model = transformer({ vocabSize: 8, hiddenSize: 4, numLayers: 1, attention: { numHeads: 2 }, feedForward: { intermediateSize: 16 } });
 * const config = { model_type: "llama", vocab_size: 8, hidden_size: 4, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2 };
 * toHuggingFace(config, model.init(key(1)))["model.layers.0.self_attn.q_proj.weight"]; // shape [4, 4]
 */
export function toHuggingFace(config: HuggingFaceConfig, tree: unknown): Record<string, Tensor> {
  const { config: read, weights } = familyOf(config);
  return scatterWeights(weights(read(config)), tree);
}
