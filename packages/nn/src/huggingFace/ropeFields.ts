// huggingFace/ropeFields.ts: rotary positions in a config.json. transformers 5 keeps them in `rope_parameters`, transformers 4 in
// `rope_theta` and `rope_scaling`; both are read and both are written.
import { ValueError } from "@mc/tensor";
import type { ResolvedTransformerConfig } from "../config.ts";
import type { RopeScaling } from "../ropeScaling.ts";
import { fieldsOf, type HuggingFaceConfig } from "./fields.ts";

/** Our names of a scaling's numbers, and theirs. */
const names = {
  linear: { factor: "factor" },
  yarn: {
    factor: "factor",
    originalMaxPositions: "original_max_position_embeddings",
    betaFast: "beta_fast",
    betaSlow: "beta_slow",
    mscale: "mscale",
    mscaleAllDim: "mscale_all_dim",
    attentionFactor: "attention_factor",
  },
  llama3: {
    factor: "factor",
    originalMaxPositions: "original_max_position_embeddings",
    lowFrequencyFactor: "low_freq_factor",
    highFrequencyFactor: "high_freq_factor",
  },
} as const satisfies Record<RopeScaling["kind"], Record<string, string>>;

/** What may be absent; the others may not. */
const optional = new Set(["betaFast", "betaSlow", "mscale", "mscaleAllDim", "attentionFactor"]);

/**
 * Base and scaling of the wavelengths. As in transformers, `rope_scaling` goes before `rope_parameters`.
 *
 * @throws ValueError for a type of scaling that we do not have
 */
export function readRope(
  json: HuggingFaceConfig,
  defaultTheta: number,
  defaultMaxPositions: number,
): { theta: number; scaling: RopeScaling | null } {
  const field = fieldsOf(json);
  const old = field.object("rope_scaling");
  const parameters = (old && Object.keys(old).length > 0 ? old : undefined) ?? field.object("rope_parameters") ?? {};
  const inner = fieldsOf(parameters);
  const type = inner.string("rope_type", inner.string("type", "default"));
  const share = inner.number("partial_rotary_factor", field.number("partial_rotary_factor", 1));
  if (share !== 1)
    throw new ValueError(
      `configFromHuggingFace: partial_rotary_factor must be 1, as all features are turned, got ${share}`,
    );
  const theta = inner.number("rope_theta", field.number("rope_theta", defaultTheta));
  if (type === "default") return { theta, scaling: null };
  if (!(type in names)) {
    throw new ValueError(
      `configFromHuggingFace: rope_type must be one of default, ${Object.keys(names).join(", ")}, got "${type}"`,
    );
  }
  const kind = type as RopeScaling["kind"];
  if (kind !== "yarn" && inner.number("mscale_all_dim", 0) !== 0) {
    throw new ValueError(
      `configFromHuggingFace: mscale_all_dim must be absent with rope_type "${kind}", got ${inner.number("mscale_all_dim")}`,
    );
  }
  const maxPositions = field.number("max_position_embeddings", defaultMaxPositions);
  const original = field.number(
    "original_max_position_embeddings",
    inner.number("original_max_position_embeddings", maxPositions),
  );
  const scaling: Record<string, unknown> = { kind };
  for (const [ours, theirs] of Object.entries(names[kind])) {
    if (ours === "originalMaxPositions") scaling[ours] = original;
    else if (ours === "factor" && kind === "yarn") scaling[ours] = inner.number(theirs, maxPositions / original);
    else if (!optional.has(ours)) scaling[ours] = inner.number(theirs);
    // transformers takes a zero as absent, too
    else if (inner.number(theirs, 0) !== 0) scaling[ours] = inner.number(theirs);
  }
  if (kind === "yarn" && !inner.boolean("truncate", true)) scaling.truncate = false;
  return { theta, scaling: scaling as unknown as RopeScaling };
}

/** The fields of both versions. */
export function writeRope({ theta, scaling }: ResolvedTransformerConfig["positions"]): HuggingFaceConfig {
  if (!scaling) {
    return {
      rope_theta: theta,
      rope_scaling: null,
      rope_parameters: { rope_type: "default", rope_theta: theta },
    };
  }
  const values = scaling as unknown as Readonly<Record<string, unknown>>;
  const numbers = Object.fromEntries(
    Object.entries(names[scaling.kind]).flatMap(([ours, theirs]) =>
      values[ours] === undefined ? [] : [[theirs, values[ours]]],
    ),
  );
  const fields = { ...numbers, ...(values.truncate === false && { truncate: false }) };
  return {
    rope_theta: theta,
    rope_scaling: { rope_type: scaling.kind, type: scaling.kind, ...fields },
    rope_parameters: { rope_type: scaling.kind, rope_theta: theta, ...fields },
  };
}
