// folder.ts: what a folder of reference numbers holds, told from its files.
import { existsSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { configFromHuggingFace, type HuggingFaceConfig, type ReadFile } from "@mc/nn";
import { readSafetensors, type TypedArray } from "@mc/tensor";

/** Kinds of folders: a model's case, an optimizer's trajectories, a model's training. */
export type Kind = "model" | "optim" | "train";

/** A recognised folder. */
export interface Folder {
  readonly path: string;
  /** Last part of the path: the name under which results are written. */
  readonly name: string;
  readonly kind: Kind;
  /** What the folder is about: the kind, for models their type. */
  readonly label: string;
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

/** The files of a folder, by name. */
export const readerOf =
  (folder: string): ReadFile =>
  (file) => {
    const path = join(folder, file);
    return existsSync(path) ? new Uint8Array(readFileSync(path)) : undefined;
  };

/** Names of the files with a model folder's weights. @throws Error if there are none */
export function weightFiles(folder: string): string[] {
  if (existsSync(join(folder, "model.safetensors"))) return ["model.safetensors"];
  const index = "model.safetensors.index.json";
  if (!existsSync(join(folder, index))) throw new Error(`${folder}: the folder lacks model.safetensors or ${index}`);
  return [...new Set(Object.values(readJson<{ weight_map: Record<string, string> }>(folder, index).weight_map))];
}

/**
 * Recognises a folder by its files: `optim.json`, `train.json`, or `config.json` of a model type we have, beside its weights and,
 * unless only these are wanted, `case.safetensors`.
 *
 * @throws Error that says what is missing
 */
export function openFolder(given: string, { onlyWeights = false } = {}): Folder {
  const path = resolve(given);
  const has = (file: string): boolean => existsSync(join(path, file));
  const needs = (file: string): void => {
    if (!has(file)) throw new Error(`${given}: the folder lacks ${file}`);
  };
  const folder = (kind: Kind, label: string = kind): Folder => ({ path, name: basename(path), kind, label });
  if (!existsSync(path)) throw new Error(`${given}: there is no such folder`);
  if (!onlyWeights && has("optim.json")) {
    needs("optim.safetensors");
    return folder("optim");
  }
  if (!onlyWeights && has("train.json")) {
    needs("train.safetensors");
    return folder("train");
  }
  if (!has("config.json")) {
    const names = onlyWeights ? "config.json" : "config.json, optim.json or train.json";
    throw new Error(`${given}: a folder must hold ${names}, and this one does not`);
  }
  weightFiles(path);
  if (!onlyWeights) needs("case.safetensors");
  const config = readJson<HuggingFaceConfig>(path, "config.json");
  configFromHuggingFace(config);
  return folder("model", String(config.model_type));
}
