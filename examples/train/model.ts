// model.ts: the model of a run: Kimi K2 in miniature, or that of a config.json.
import { readFileSync } from "node:fs";
import {
  configFromHuggingFace,
  type HuggingFaceConfig,
  kimiK2Mini,
  type Transformer,
  type TransformerConfig,
  transformer,
} from "@mc/nn";
import { McError, ValueError } from "@mc/tensor";
import { tokenizer } from "./corpus.ts";
import { type TrainOptions, UsageError } from "./options.ts";

/** What decides the model. */
export type ModelOptions = Pick<TrainOptions, "config" | "width" | "layers" | "heads" | "experts" | "context">;

/**
 * The model of a run.
 *
 * @throws UsageError for a `--config` file that cannot be used, or sizes that do not fit together
 */
export function createModel(options: ModelOptions): Transformer {
  try {
    const config = options.config === undefined ? miniature(options) : readConfig(options.config);
    const model = transformer(config);
    const { vocabSize, positions } = model.config;
    if (vocabSize < tokenizer.vocabSize) {
      throw new ValueError(`a model of bytes needs vocab_size ${tokenizer.vocabSize} or more, got ${vocabSize}`);
    }
    if (positions.maxPositions !== undefined && positions.maxPositions < options.context) {
      throw new ValueError(
        `the model has ${positions.maxPositions} positions, fewer than --context ${options.context}; use a smaller --context`,
      );
    }
    return model;
  } catch (error) {
    if (!(error instanceof McError)) throw error;
    throw new UsageError(
      options.config === undefined ? error.message : `--config: ${options.config}: ${error.message}`,
    );
  }
}

/** A token's share of DeepSeek-V3's loss of balance (section 4.2 of arXiv:2412.19437). */
const SEQUENCE_BALANCE = 1e-4;

/**
 * Each token visits a shared expert and two of the others; the first layer is dense. Latents and rotated features are wider than
 * K2's proportions, which at this width would leave 16, 8 and 8 numbers for them: measured, that costs 0.07 nats a byte.
 */
function miniature({ width, layers, heads, experts, context }: ModelOptions): TransformerConfig {
  const headDim = 2 * Math.ceil(width / heads / 2);
  const latent = 8 * Math.ceil(width / 16);
  return kimiK2Mini({
    vocabSize: tokenizer.vocabSize,
    hiddenSize: width,
    numLayers: layers,
    numHeads: heads,
    nopeHeadDim: headDim,
    ropeHeadDim: headDim,
    queryRank: latent,
    keyValueRank: latent,
    numExperts: experts,
    numExpertsPerToken: Math.min(2, experts),
    numDenseLayers: Math.min(1, layers),
    maxPositions: Math.max(4096, context),
    sequenceBalance: SEQUENCE_BALANCE,
  });
}

function readConfig(path: string): TransformerConfig {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a folder" : message;
    throw new UsageError(`--config: cannot read ${path}: ${reason}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`--config: ${path} must be JSON, got ${(error as Error).message}`);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new UsageError(`--config: ${path} must hold an object, as Hugging Face's config.json does`);
  }
  return configFromHuggingFace(json as HuggingFaceConfig);
}
