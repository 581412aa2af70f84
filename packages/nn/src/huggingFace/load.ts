// huggingFace/load.ts: a model from Hugging Face's files, one shard at a time.
import { type Device, readSafetensors, type SafetensorsEntry, tensor, treeFromPaths, ValueError } from "@mc/tensor";
import { type TransformerParams, transformer } from "../transformer.ts";
import type { HuggingFaceConfig } from "./fields.ts";
import { type LoadedModel, type WeightReader, weightReader } from "./huggingFace.ts";
import { checkWeights, type Found, rowsOf, type WeightPart, type WeightSource } from "./weights.ts";

/** Gives a file's bytes by its name; undefined (or null) if there is none. */
export type ReadFile = (name: string) => Uint8Array | null | undefined | Promise<Uint8Array | null | undefined>;

/** What `loadHuggingFace` gives. */
export interface LoadedFiles extends LoadedModel {
  /** The parsed `config.json`. */
  readonly config: HuggingFaceConfig;
}

/** Options of `loadHuggingFace`. */
export interface LoadHuggingFaceOptions {
  /** Default: the last connected device. */
  readonly device?: Device;
}

/** Index of a sharded checkpoint. */
export const indexFile = "model.safetensors.index.json";
/** A checkpoint in one file. */
export const singleFile = "model.safetensors";

/**
 * A model and its parameters from `config.json` and `model.safetensors`, or the shards that `model.safetensors.index.json` names.
 * The files come through a function, so that they may lie on a disk, behind a URL or in an archive; shards are asked for one after
 * another and never held together. BF16 and F16 are widened to f32. What can be read is what `fromHuggingFace` reads.
 *
 * @param read - a file's bytes by its name
 * @throws ValueError for a missing file, a model or setting that is not supported, and one that names missing, unexpected and
 * mis-shaped weights; SafetensorsError for a damaged file
 * @example
 * const files = new Map<string, Uint8Array>();
 * const model = transformer(llama({ vocabSize: 8, hiddenSize: 8, numLayers: 1, numHeads: 2, numKeyValueHeads: 1, intermediateSize: 8 }));
 * for await (const { name, bytes } of saveHuggingFace(model.config, model.init(key(1)))) files.set(name, bytes);
 * const { params } = await loadHuggingFace((name) => files.get(name));
 */
export async function loadHuggingFace(read: ReadFile, { device }: LoadHuggingFaceOptions = {}): Promise<LoadedFiles> {
  const config = parse(await need(read, "config.json"), "config.json");
  const shards = await openShards(read);
  const reader = weightReader("loadHuggingFace", config, shards.names);
  const check = (found: ReadonlyMap<string, Found | null>): void =>
    checkWeights("loadHuggingFace", reader.sources, found, reader.isExtra, (dtype) => floats.has(dtype));
  const found = new Map<string, Found | null>(shards.names.map((name) => [reader.rename(name), null]));
  check(found); // names alone, before anything large is read
  const fill = filler(reader, device);
  for (const file of shards.files) {
    for (const [name, entry] of Object.entries(await shards.open(file))) {
      const known = reader.rename(name);
      found.set(known, entry);
      if (floats.has(entry.dtype)) fill.take(known, entry);
    }
  }
  check(found);
  const params = treeFromPaths(fill.done()) as TransformerParams;
  return { config, model: transformer(reader.resolved), params };
}

const floats = new Set(["F64", "F32", "F16", "BF16"]);

type Entries = Readonly<Record<string, SafetensorsEntry>>;

interface Shards {
  /** All names that the checkpoint holds. */
  readonly names: readonly string[];
  readonly files: readonly string[];
  readonly open: (file: string) => Promise<Entries>;
}

async function openShards(read: ReadFile): Promise<Shards> {
  const single = await read(singleFile);
  if (single) {
    const { tensors } = readSafetensors(single);
    return { names: Object.keys(tensors), files: [singleFile], open: () => Promise.resolve(tensors) };
  }
  const bytes = await read(indexFile);
  if (!bytes) throw new ValueError(`loadHuggingFace: there must be a ${singleFile} or a ${indexFile}, got neither`);
  const map = parse(bytes, indexFile).weight_map as Readonly<Record<string, unknown>> | undefined;
  const files = typeof map === "object" && map !== null ? Object.values(map) : [];
  if (files.length === 0 || !files.every((file) => typeof file === "string"))
    throw new ValueError(`loadHuggingFace: ${indexFile} must have a "weight_map" from weights to files`);
  return {
    names: Object.keys(map!),
    files: [...new Set(files)],
    open: async (file) => readSafetensors(await need(read, file)).tensors,
  };
}

/** Puts a checkpoint's tensors where they stand in our parameters, which go to the device as soon as they are complete. */
function filler({ sources }: WeightReader, device: Device | undefined) {
  interface Place {
    readonly source: WeightSource;
    readonly part: WeightPart;
    /** First element in our parameter. */
    readonly start: number;
  }
  const places = new Map<string, Place>();
  for (const source of sources) {
    let start = 0;
    for (const part of source.parts) {
      places.set(part.name, { source, part, start });
      start += part.shape.reduce((product, n) => product * n, 1);
    }
  }
  const partial = new Map<WeightSource, { data: Float32Array | Float64Array; missing: number }>();
  const leaves = new Map<WeightSource, ReturnType<typeof tensor>>();
  return {
    take(name: string, { shape, data, dtype }: SafetensorsEntry): void {
      const place = places.get(name);
      if (!place || `${place.part.shape}` !== `${shape}`) return; // reported by the check
      const { source, part, start } = place;
      let target = partial.get(source);
      if (!target) {
        const size = source.shape.reduce((product, n) => product * n, 1);
        target = {
          data: dtype === "F64" ? new Float64Array(size) : new Float32Array(size),
          missing: source.parts.length,
        };
        partial.set(source, target);
      }
      target.data.set(part.transposed ? transpose(data as Float32Array, rowsOf(part)) : data, start);
      target.missing--;
      if (target.missing > 0) return;
      leaves.set(source, tensor(target.data, { shape: source.shape, dtype: "f32", ...(device && { device }) }));
      partial.delete(source);
    },
    /** Paths and leaves of all parameters. */
    done: () => sources.map((source) => [source.path, leaves.get(source)!] as const),
  };
}

/** The elements of [rows, columns] as those of [columns, rows], for the given number of columns. */
export function transpose<A extends Float32Array | Float64Array>(data: A, columns: number): A {
  const out = data.slice() as A;
  const rows = data.length / columns;
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j]!;
  return out;
}

async function need(read: ReadFile, file: string): Promise<Uint8Array> {
  const bytes = await read(file);
  if (!bytes) throw new ValueError(`loadHuggingFace: there must be a ${file}, got none`);
  return bytes;
}

function parse(bytes: Uint8Array, file: string): HuggingFaceConfig {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new ValueError(`loadHuggingFace: ${file} is not valid JSON`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ValueError(`loadHuggingFace: ${file} must hold a JSON object`);
  return value as HuggingFaceConfig;
}
