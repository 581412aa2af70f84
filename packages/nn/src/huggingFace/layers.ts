// huggingFace/layers.ts: weights that Llama and its descendants name alike.
import type { MoeConfig, ResolvedTransformerConfig } from "../config.ts";
import type { WeightNames } from "./family.ts";
import { type WeightPart, type WeightSource, whole } from "./weights.ts";

/** A projection, with its bias if it has one; the rows of several named projections are stacked. */
export function projection(
  path: string,
  rows: Readonly<Record<string, number>>,
  columns: number,
  hasBias = false,
): WeightSource[] {
  const list = Object.entries(rows);
  const total = list.reduce((sum, [, n]) => sum + n, 0);
  return [
    {
      path: `${path}.weight`,
      shape: [total, columns],
      parts: list.map(([name, n]) => ({ name: `${name}.weight`, shape: [n, columns] })),
    },
    ...(hasBias
      ? [
          {
            path: `${path}.bias`,
            shape: [total],
            parts: list.map(([name, n]) => ({ name: `${name}.bias`, shape: [n] })),
          },
        ]
      : []),
  ];
}

/** SwiGLU of width `inner`: `gate_proj` and `up_proj` are stacked. */
export function swiglu(path: string, name: string, hidden: number, inner: number, hasBias = false): WeightSource[] {
  return [
    ...projection(`${path}.gateUp`, { [`${name}.gate_proj`]: inner, [`${name}.up_proj`]: inner }, hidden, hasBias),
    ...projection(`${path}.down`, { [`${name}.down_proj`]: hidden }, inner, hasBias),
  ];
}

/** Names of a mixture of experts in files, below the layer. */
export interface ExpertNames {
  /** The module: "mlp" or, in Mixtral, "block_sparse_moe". */
  readonly module: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/** As DeepSeek and Qwen name them. */
export const commonNames: ExpertNames = { module: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };

/** Router, experts and shared experts of a layer. */
export function experts(
  path: string,
  layer: string,
  hidden: number,
  config: Required<MoeConfig>,
  fileNames: ExpertNames,
  names: WeightNames,
): WeightSource[] {
  const { numExperts, intermediateSize: inner, numSharedExperts } = config;
  const { gate, up, down } = fileNames;
  const name = `${layer}.${names === "memory" ? "mlp" : fileNames.module}`;
  const stacked = (to: string, from: string, rows: number, columns: number, parts: readonly string[]): WeightSource => {
    const shape = [numExperts, rows, columns];
    const each = rows / parts.length;
    return {
      path: `${path}.experts.${to}`,
      shape,
      parts:
        names === "memory"
          ? [{ name: `${name}.experts.${from}`, shape }]
          : Array.from({ length: numExperts }, (_, e) =>
              parts.map(
                (part): WeightPart => ({ name: `${name}.experts.${e}.${part}.weight`, shape: [each, columns] }),
              ),
            ).flat(),
    };
  };
  return [
    whole(`${path}.router.weight`, `${name}.gate.weight`, [numExperts, hidden]),
    ...(config.selectionBias
      ? [{ ...whole(`${path}.router.bias`, `${name}.gate.e_score_correction_bias`, [numExperts]), buffer: true }]
      : []),
    stacked("gateUp", "gate_up_proj", 2 * inner, hidden, [gate, up]),
    stacked("down", "down_proj", hidden, inner, [down]),
    ...(numSharedExperts > 0
      ? swiglu(`${path}.shared`, `${name}.shared_experts`, hidden, numSharedExperts * inner)
      : []),
  ];
}

/** A whole model around the weights of its layers' attention and MLP. */
export function decoder(
  { vocabSize, hiddenSize, numLayers, tiedHead }: ResolvedTransformerConfig,
  attention: (path: string, name: string) => WeightSource[],
  feedForward: (path: string, name: string, index: number) => WeightSource[],
): WeightSource[] {
  const layers = Array.from({ length: numLayers }, (_, i) => {
    const [to, from] = [`layers.${i}`, `model.layers.${i}`];
    return [
      whole(`${to}.attentionNorm.weight`, `${from}.input_layernorm.weight`, [hiddenSize]),
      ...attention(`${to}.attention`, `${from}.self_attn`),
      whole(`${to}.feedForwardNorm.weight`, `${from}.post_attention_layernorm.weight`, [hiddenSize]),
      ...feedForward(`${to}.feedForward`, from, i),
    ];
  });
  return [
    whole("embedding.weight", "model.embed_tokens.weight", [vocabSize, hiddenSize]),
    ...layers.flat(),
    whole("norm.weight", "model.norm.weight", [hiddenSize]),
    ...(tiedHead ? [] : [whole("head.weight", "lm_head.weight", [vocabSize, hiddenSize])]),
  ];
}
