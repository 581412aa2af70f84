// huggingFace/family.ts: what has to be known of a model type, and the settings that more than one type reads.
import { ValueError } from "@mc/tensor";
import type {
  MlpConfig,
  MoeConfig,
  ResolvedHeadAttention,
  ResolvedLatentAttention,
  ResolvedTransformerConfig,
} from "../config.ts";
import { type HuggingFaceConfig, requireSettings } from "./fields.ts";
import type { WeightSource } from "./weights.ts";

/**
 * Whose names weights carry: "file", those of checkpoints; "memory", those of transformers' modules, where the experts of a layer
 * are stacked as `experts.gate_up_proj` [E, 2F, D] and `experts.down_proj` [E, D, F].
 */
export type WeightNames = "file" | "memory";

/** A model type of Hugging Face's `config.json`. */
export interface Family {
  /** Our configuration. */
  readonly read: (json: HuggingFaceConfig) => ResolvedTransformerConfig;
  /** The fields of this type; those that all types have are added to them. */
  readonly write: (config: ResolvedTransformerConfig, type: string) => HuggingFaceConfig;
  /** Where each of our parameters comes from. */
  readonly weights: (config: ResolvedTransformerConfig, names: WeightNames) => WeightSource[];
  /** Names in files that hold nothing we read. */
  readonly isExtra: (name: string, config: ResolvedTransformerConfig) => boolean;
  /** Prefix that some files leave out. */
  readonly prefix: string;
}

/** Attention of heads, or an error that says that the model type wants it. */
export function headAttentionOf(type: string, { attention }: ResolvedTransformerConfig): ResolvedHeadAttention {
  if (attention.kind !== "mla") return attention;
  throw wrongKind(type, "attention.kind", "mha or gqa", attention.kind);
}

/** Latent attention, or an error that says that the model type wants it. */
export function latentAttentionOf(type: string, { attention }: ResolvedTransformerConfig): ResolvedLatentAttention {
  if (attention.kind === "mla") return attention;
  throw wrongKind(type, "attention.kind", "mla", attention.kind);
}

/** An MLP of the kind that the model type wants, or an error that says so. */
export function mlpOf(
  type: string,
  { feedForward }: ResolvedTransformerConfig,
  kind: "swiglu" | "gelu",
): Required<MlpConfig> {
  if (feedForward.kind === kind) return feedForward;
  throw wrongKind(type, "feedForward.kind", kind, feedForward.kind);
}

/** A mixture of experts, or an error that says that the model type wants it. */
export function moeOf(type: string, { feedForward }: ResolvedTransformerConfig): Required<MoeConfig> {
  if (feedForward.kind === "moe") return feedForward;
  throw wrongKind(type, "feedForward.kind", "moe", feedForward.kind);
}

const wrongKind = (type: string, name: string, required: string, got: string): ValueError =>
  new ValueError(`configToHuggingFace: ${name} must be ${required} for ${type}, got ${got}`);

/** Throws unless norms and positions are those of Llama and its descendants. */
export function requireRotaryRms(type: string, { norm, positions }: ResolvedTransformerConfig): void {
  requireSettings(type, { "norm.kind": [norm.kind, "rmsnorm"], "positions.kind": [positions.kind, "rope"] });
}

/** Whether each layer's window is the same; undefined where they differ. */
export function sameWindow({ window }: ResolvedHeadAttention): number | null | undefined {
  return window.every((w) => w === window[0]) ? window[0] : undefined;
}
