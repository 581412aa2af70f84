// huggingFace/save.ts: a model as Hugging Face's files, one after another.
import { type SafetensorsDType, type SafetensorsInput, type Tensor, ValueError, writeSafetensors } from "@mc/tensor";
import type { TransformerConfig } from "../config.ts";
import { configToHuggingFace, familyOf, type HuggingFaceConfigOptions } from "./config.ts";
import { formatHuggingFaceConfig, type HuggingFaceConfig } from "./fields.ts";
import { indexFile, singleFile, transpose } from "./load.ts";
import { leavesOf, type WeightPart, type WeightSource } from "./weights.ts";

/** Element types of saved weights. */
export type SavedDType = Extract<SafetensorsDType, "F32" | "F16" | "BF16" | "F64">;

/** Options of `saveHuggingFace`. */
export interface SaveHuggingFaceOptions extends HuggingFaceConfigOptions {
  /**
   * Element type of the weights, or a function from their names in the file; default "F32". Values that came from such a file
   * stay exact, others go to the nearest, ties to the even one. A router's selection bias stays F32 unless the function says
   * otherwise, as in transformers.
   */
  readonly dtype?: SavedDType | ((name: string) => SavedDType);
  /** Most bytes of weights in a file; more are spread over several, with an index. A single larger weight has a file of its own. Default 2e9. */
  readonly maxShardBytes?: number;
  /** Further fields of `config.json`, such as `eos_token_id`; they go before ours. */
  readonly fields?: HuggingFaceConfig;
}

/** A file to write. */
export interface SavedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * The files of a model that transformers and others load: `config.json`, then `model.safetensors`, or shards
 * `model-00001-of-00003.safetensors` and so on with `model.safetensors.index.json`. A file is made when it is asked for; only the
 * parameters that it holds are read from the device. Take all of them before the parameters are donated to another step.
 *
 * @param config - of the model that the parameters belong to
 * @throws ValueError for a setting that the model type has no field for, ValueError or ShapeError if the parameters do not fit
 * @example
 * const model = transformer(kimiK2Mini({ hiddenSize: 32, numLayers: 2, vocabSize: 16 }));
 * const params = model.init(key(1));
 * for await (const { name, bytes } of saveHuggingFace(model.config, params, { dtype: "BF16" })) await writeFile(name, bytes);
 */
export async function* saveHuggingFace(
  config: TransformerConfig,
  params: unknown,
  { dtype = "F32", maxShardBytes = 2e9, fields = {}, ...options }: SaveHuggingFaceOptions = {},
): AsyncGenerator<SavedFile, void, void> {
  if (!(maxShardBytes > 0))
    throw new ValueError(`saveHuggingFace: maxShardBytes must be positive, got ${maxShardBytes}`);
  const json = configToHuggingFace(config, options);
  const family = familyOf(json);
  const sources = family.weights(family.read(json), "file");
  const leaves = leavesOf("saveHuggingFace", sources, params);
  const typeOf = (source: WeightSource, part: WeightPart): SavedDType =>
    typeof dtype === "function" ? dtype(part.name) : source.buffer ? "F32" : dtype;
  const pieces = sources.flatMap((source, i) => piecesOf(source, leaves[i]!, (part) => typeOf(source, part)));
  const shards = pack(pieces, maxShardBytes);
  const written = shards[0]![0]!.dtype;
  const text = (value: HuggingFaceConfig): Uint8Array => new TextEncoder().encode(formatHuggingFaceConfig(value));

  yield { name: "config.json", bytes: text({ ...dtypeFields[written], ...json, ...fields }) };
  const names = shards.map((_, i) => (shards.length === 1 ? singleFile : shardName(i, shards.length)));
  const values = valueReader();
  for (const [i, shard] of shards.entries()) {
    const tensors: Record<string, SafetensorsInput> = {};
    for (const piece of shard) {
      const data = await values(piece);
      tensors[piece.name] = { shape: piece.shape, data, dtype: piece.dtype };
    }
    yield { name: names[i]!, bytes: writeSafetensors(tensors, { format: "pt" }) }; // transformers 4 wants to know whose tensors
  }
  if (shards.length === 1) return;
  const weight_map = Object.fromEntries(shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]!])));
  const total_size = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  yield { name: indexFile, bytes: text({ metadata: { total_size }, weight_map }) };
}

/** How transformers 5 and 4 call the element type. */
const dtypeFields: Readonly<Record<SavedDType, HuggingFaceConfig>> = {
  F64: { dtype: "float64", torch_dtype: "float64" },
  F32: { dtype: "float32", torch_dtype: "float32" },
  F16: { dtype: "float16", torch_dtype: "float16" },
  BF16: { dtype: "bfloat16", torch_dtype: "bfloat16" },
};

const byteSizes: Readonly<Record<SavedDType, number>> = { F64: 8, F32: 4, F16: 2, BF16: 2 };

/** A tensor of a file, as elements of one of our parameters. */
interface Piece extends WeightPart {
  readonly leaf: Tensor;
  readonly start: number;
  readonly size: number;
  readonly dtype: SavedDType;
  readonly bytes: number;
}

function piecesOf(source: WeightSource, leaf: Tensor, typeOf: (part: WeightPart) => SavedDType): Piece[] {
  let start = 0;
  return source.parts.map((part) => {
    const size = part.shape.reduce((product, n) => product * n, 1);
    const dtype = typeOf(part);
    start += size;
    return { ...part, leaf, start: start - size, size, dtype, bytes: size * byteSizes[dtype] };
  });
}

/** In their order, as many to a shard as it may hold. */
function pack(pieces: readonly Piece[], maxBytes: number): Piece[][] {
  const shards: Piece[][] = [];
  let room = 0;
  for (const piece of pieces) {
    if (shards.length === 0 || piece.bytes > room) {
      shards.push([]);
      room = maxBytes;
    }
    shards.at(-1)!.push(piece);
    room -= piece.bytes;
  }
  return shards;
}

const shardName = (i: number, count: number): string => {
  const [number, of] = [i + 1, count].map((n) => String(n).padStart(5, "0"));
  return `model-${number}-of-${of}.safetensors`;
};

/** Reads the elements of pieces, keeping one parameter on the host: the pieces of a parameter follow each other. */
function valueReader() {
  let leaf: Tensor | undefined;
  let values = new Float32Array() as Float32Array | Float64Array;
  return async (piece: Piece): Promise<Float32Array | Float64Array> => {
    if (piece.leaf !== leaf) {
      leaf = piece.leaf;
      values = (await leaf.data()) as Float32Array | Float64Array;
    }
    const part = values.subarray(piece.start, piece.start + piece.size);
    return piece.transposed ? transpose(part, piece.shape[0]!) : part;
  };
}
