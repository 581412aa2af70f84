// huggingFace/fields.ts: typed reading of a config.json, and its text.
import { ValueError } from "@mc/tensor";

/** A parsed `config.json`. */
export type HuggingFaceConfig = Readonly<Record<string, unknown>>;

/** Reads fields by type; absent or null ones take the default, and are an error without one. */
export function fieldsOf(json: HuggingFaceConfig) {
  const wrong = (name: string, type: string): ValueError =>
    new ValueError(`configFromHuggingFace: "${name}" must be a ${type}, got ${JSON.stringify(json[name])}`);
  const read = <T extends number | string | boolean>(type: string, name: string, fallback: T | undefined): T => {
    const value = json[name] ?? fallback;
    if (value === undefined)
      throw new ValueError(`configFromHuggingFace: config.json must have "${name}", a ${type}, got none`);
    if (typeof value !== type) throw wrong(name, type);
    return value as T;
  };
  const number = (name: string, fallback?: number): number => read("number", name, fallback);
  return {
    number,
    string: (name: string, fallback?: string): string => read("string", name, fallback),
    boolean: (name: string, fallback?: boolean): boolean => read("boolean", name, fallback),
    /** null where the field is null; the default only where it is absent. */
    numberOrNull: (name: string, fallback: number | null): number | null =>
      name in json ? (json[name] === null ? null : number(name)) : fallback,
    object: (name: string): HuggingFaceConfig | undefined => {
      const value = json[name] ?? undefined;
      if (value !== undefined && (typeof value !== "object" || Array.isArray(value))) throw wrong(name, "object");
      return value as HuggingFaceConfig | undefined;
    },
    list: (name: string): readonly unknown[] | undefined => {
      const value = json[name] ?? undefined;
      if (value !== undefined && !Array.isArray(value)) throw wrong(name, "list");
      return value as readonly unknown[] | undefined;
    },
    /** For settings that we have in one form only: the field may be absent or null. @throws ValueError for another value */
    only: (name: string, required: string | number | boolean): void => {
      const value = json[name] ?? required;
      if (value !== required) {
        throw new ValueError(
          `configFromHuggingFace: ${name} must be ${JSON.stringify(required)} for ${String(json.model_type)}, got ${JSON.stringify(value)}`,
        );
      }
    },
  };
}

/** The typed fields of a config.json. */
export type Fields = ReturnType<typeof fieldsOf>;

/**
 * Our settings that a model type has no field for must have the value that it means.
 *
 * @param settings - by name: the value, and the only one that can be written
 * @throws ValueError that names the first that differs
 */
export function requireSettings(
  modelType: string,
  settings: Readonly<Record<string, readonly [unknown, unknown]>>,
): void {
  for (const [name, [value, required]] of Object.entries(settings)) {
    if (value === required) continue;
    throw new ValueError(
      `configToHuggingFace: ${name} must be ${JSON.stringify(required)} for ${modelType}, which has no field for it, got ${JSON.stringify(value)}`,
    );
  }
}

/** Fields that transformers 5 declares as float, and then does not take a whole number without a point for. */
const floats = new Set([
  ...["attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "initializer_range", "routed_scaling_factor"],
  ...[
    "layer_norm_epsilon",
    "rms_norm_eps",
    "rope_theta",
    "factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
  ],
  ...["attention_factor", "low_freq_factor", "high_freq_factor", "router_aux_loss_coef", "router_jitter_noise"],
]);

/**
 * The text of a `config.json`. `JSON.stringify` would write 1.0 as 1, which transformers 5 refuses where it wants a float.
 *
 * @example formatHuggingFaceConfig({ routed_scaling_factor: 1 }) // '{\n  "routed_scaling_factor": 1.0\n}\n'
 */
export function formatHuggingFaceConfig(json: HuggingFaceConfig): string {
  const mark = "\u0001"; // JSON text never holds it unescaped
  const text = JSON.stringify(
    json,
    (name, value: unknown) => (floats.has(name) && Number.isSafeInteger(value) ? `${mark}${value as number}.0` : value),
    2,
  );
  return `${text.replace(/"\\u0001(-?\d+\.0)"/g, "$1")}\n`;
}
