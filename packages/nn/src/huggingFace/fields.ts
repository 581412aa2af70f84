// huggingFace/fields.ts: typed reading of a config.json.
import { ValueError } from "@mc/tensor";

/** A parsed `config.json`. */
export type HuggingFaceConfig = Readonly<Record<string, unknown>>;

/** Reads fields by type; absent or null ones take the default, and are an error without one. */
export function fieldsOf(json: HuggingFaceConfig) {
  const read = <T extends number | string | boolean>(type: string, name: string, fallback: T | undefined): T => {
    const value = json[name] ?? fallback;
    if (value === undefined)
      throw new ValueError(`fromHuggingFace: config.json must have "${name}", a ${type}, got none`);
    if (typeof value !== type)
      throw new ValueError(`fromHuggingFace: "${name}" in config.json must be a ${type}, got ${JSON.stringify(value)}`);
    return value as T;
  };
  return {
    number: (name: string, fallback?: number): number => read("number", name, fallback),
    string: (name: string, fallback?: string): string => read("string", name, fallback),
    boolean: (name: string, fallback?: boolean): boolean => read("boolean", name, fallback),
    object: (name: string): HuggingFaceConfig | undefined => {
      const value = json[name] ?? undefined;
      if (value !== undefined && (typeof value !== "object" || Array.isArray(value))) {
        throw new ValueError(
          `fromHuggingFace: "${name}" in config.json must be an object, got ${JSON.stringify(value)}`,
        );
      }
      return value as HuggingFaceConfig | undefined;
    },
  };
}
