// huggingFace/huggingFace.ts: models from Hugging Face's config and weights, and tensors by Hugging Face's names.
import { type Tensor, ValueError } from "@mc/tensor";
import type { ResolvedTransformerConfig } from "../config.ts";
import { type Transformer, type TransformerParams, transformer } from "../transformer.ts";
import { familyOf } from "./config.ts";
import type { Family, WeightNames } from "./family.ts";
import type { HuggingFaceConfig } from "./fields.ts";
import { checkWeights, gatherWeights, leavesOf, scatterWeights, type WeightSource } from "./weights.ts";

/** What `fromHuggingFace` and `loadHuggingFace` give. */
export interface LoadedModel {
  readonly model: Transformer;
  readonly params: TransformerParams;
}

/**
 * A model and its parameters from the contents of Hugging Face's files: GPT-2, Llama, Mistral, Mixtral, Qwen 3 (also MoE),
 * DeepSeek-V3, Moonlight and Kimi K2. Weights come as [out, in] and stacked (q, k, v; gate, up; the experts of a layer) whatever
 * the file's layout. Names may be those of files or of transformers' modules (experts stacked); they may lack the prefix `model.`
 * or `transformer.`; a tied model may repeat its table as `lm_head.weight`; DeepSeek's layers for predicting further tokens are
 * left out, as in transformers.
 *
 * @param config - the parsed `config.json`
 * @param tensors - all weights by their name in the file, as `loadSafetensors` gives them
 * @throws ValueError for a model or setting that is not supported, and one that names missing, unexpected and mis-shaped weights
 * @example
 * const config = configToHuggingFace(gpt2({ vocabSize: 16, hiddenSize: 8, numHeads: 2, numLayers: 1, maxPositions: 4 }));
 * const before = transformer(configFromHuggingFace(config));
 * const bytes = await saveSafetensors(toHuggingFace(config, before.init(key(1)))); // or a file's
 * const { model, params } = fromHuggingFace(config, loadSafetensors(bytes).tensors);
 */
export function fromHuggingFace(config: HuggingFaceConfig, tensors: Readonly<Record<string, Tensor>>): LoadedModel {
  const reader = weightReader("fromHuggingFace", config, Object.keys(tensors));
  const found = new Map(Object.entries(tensors).map(([name, t]) => [reader.rename(name), t]));
  checkWeights("fromHuggingFace", reader.sources, found, reader.isExtra, (dtype) => dtype === "f32");
  const params = gatherWeights(reader.sources, Object.fromEntries(found)) as TransformerParams;
  return { model: transformer(reader.resolved), params };
}

/** How the weights of a checkpoint are to be read. */
export interface WeightReader {
  readonly resolved: ResolvedTransformerConfig;
  readonly sources: readonly WeightSource[];
  /** A name as the sources have it. */
  readonly rename: (name: string) => string;
  /** Names, after `rename`, that need not be read. */
  readonly isExtra: (name: string) => boolean;
}

/** @param given - all names of the checkpoint */
export function weightReader(op: string, config: HuggingFaceConfig, given: readonly string[]): WeightReader {
  const quantization = config.quantization_config as { quant_method?: unknown } | null | undefined;
  if (quantization) {
    throw new ValueError(
      `${op}: the weights must not be quantised, got quantization_config with quant_method ${JSON.stringify(quantization.quant_method ?? null)}; convert them to BF16 and leave that field out`,
    );
  }
  const family = familyOf(config);
  const resolved = family.read(config);
  const names: WeightNames = given.some((name) => name.endsWith(".experts.gate_up_proj")) ? "memory" : "file";
  const sources = family.weights(resolved, names);
  const known = new Set(sources.flatMap((s) => s.parts.map((p) => p.name)));
  return {
    resolved,
    sources,
    rename: (name) => (!known.has(name) && known.has(family.prefix + name) ? family.prefix + name : name),
    isExtra: (name) => isExtra(family, resolved, name),
  };
}

const isExtra = (family: Family, resolved: ResolvedTransformerConfig, name: string): boolean =>
  family.isExtra(name, resolved) || (resolved.tiedHead && name === "lm_head.weight");

/** Options of `toHuggingFace`. */
export interface ToHuggingFaceOptions {
  /** "file" (default), or "memory": names of transformers' modules, where the experts of a layer are stacked. */
  readonly names?: WeightNames;
  /** Whether values that are kept with the parameters but are none, such as a router's selection bias, come too; default true. */
  readonly buffers?: boolean;
}

/**
 * The reverse: tensors by their name, and in their orientation, in transformers. Takes any tree shaped like the parameters, so
 * gradients too.
 *
 * @param config - the parsed `config.json`
 * @throws ValueError or ShapeError if the tree does not fit the config
 * @example
 * const model = transformer({ vocabSize: 8, hiddenSize: 4, numLayers: 1, attention: { numHeads: 2 }, feedForward: { intermediateSize: 16 } });
 * const tensors = toHuggingFace(configToHuggingFace(model.config), model.init(key(1)));
 * tensors["model.layers.0.self_attn.q_proj.weight"]; // shape [4, 4]
 */
export function toHuggingFace(
  config: HuggingFaceConfig,
  tree: unknown,
  { names = "file", buffers = true }: ToHuggingFaceOptions = {},
): Record<string, Tensor> {
  const family = familyOf(config);
  const sources = family.weights(family.read(config), names);
  const leaves = leavesOf("toHuggingFace", sources, tree);
  const kept = sources
    .map((source, i) => ({ source, leaf: leaves[i]! }))
    .filter(({ source }) => buffers || !source.buffer);
  return scatterWeights(
    kept.map(({ source }) => source),
    kept.map(({ leaf }) => leaf),
  );
}
