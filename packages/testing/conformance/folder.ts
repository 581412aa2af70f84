// folder.ts: what a folder of reference numbers holds, told from its files.
import { existsSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { readSafetensors, type TypedArray } from "@mc/tensor";

/** Kinds of folders: a model's case, an optimizer's trajectories, a model's training. */
export type Kind = "llama" | "gpt2" | "optim" | "train";

/** A recognised folder. */
export interface Folder {
  readonly path: string;
  /** Last part of the path: the name under which results are written. */
  readonly name: string;
  readonly kind: Kind;
}

/** A tensor of a file. */
export interface Entry {
  readonly shape: readonly number[];
  readonly data: TypedArray;
}

/** Parsed JSON of a file in a folder. */
export const readJson = <T>(folder: string, file: string): T =>
  JSON.parse(readFileSync(join(folder, file), "utf8")) as T;

/** Tensors of a file in a folder. */
export const readTensors = (folder: string, file: string): Readonly<Record<string, Entry>> =>
  readSafetensors(new Uint8Array(readFileSync(join(folder, file)))).tensors;

/**
 * Recognises a folder by its files: `optim.json`, `train.json`, or `config.json` of a Llama or GPT-2 beside `case.safetensors`.
 *
 * @throws Error that says what is missing
 */
export function openFolder(given: string): Folder {
  const path = resolve(given);
  const has = (file: string): boolean => existsSync(join(path, file));
  const needs = (...files: string[]): void => {
    const missing = files.filter((file) => !has(file));
    if (missing.length > 0) throw new Error(`${given}: the folder lacks ${missing.join(" and ")}`);
  };
  const folder = (kind: Kind): Folder => ({ path, name: basename(path), kind });
  if (!existsSync(path)) throw new Error(`${given}: there is no such folder`);
  if (has("optim.json")) {
    needs("optim.safetensors");
    return folder("optim");
  }
  if (has("train.json")) {
    needs("train.safetensors");
    return folder("train");
  }
  if (!has("config.json"))
    throw new Error(
      `${given}: a folder must hold config.json, optim.json or train.json, and this one has none of them`,
    );
  needs("model.safetensors", "case.safetensors");
  const type = readJson<{ model_type?: unknown }>(path, "config.json").model_type;
  if (type !== "llama" && type !== "gpt2")
    throw new Error(`${given}: model_type in config.json must be "llama" or "gpt2", got ${JSON.stringify(type)}`);
  return folder(type);
}
