// tensors.ts: the last step, from arrays on the host to tensors on a device.
import { type Device, type Tensor, tensor } from "@mc/tensor";
import type { Batch } from "./batches.ts";
import type { Packing } from "./sequences.ts";

/** The arrays of a batch that can become tensors. */
export type BatchField = "inputs" | "labels" | "documents" | "positions";

/** What a model gets of a batch: i32 [B, T] each. Documents and positions go with "masked" packing only. */
export type BatchTensors<P extends Packing = Packing> = P extends "masked"
  ? Record<"inputs" | "labels" | "documents" | "positions", Tensor>
  : Record<"inputs" | "labels", Tensor>;

/** Options of `toTensors`. */
export interface ToTensorsOptions<F extends BatchField = BatchField> {
  /** Where the tensors go. Default: the default device. */
  device?: Device | undefined;
  /** Which arrays to take. Default: what the batch's packing means for a model. */
  fields?: readonly F[] | undefined;
}

const MODEL_FIELDS: Readonly<Record<Packing, readonly BatchField[]>> = {
  padded: ["inputs", "labels"],
  chunks: ["inputs", "labels"],
  masked: ["inputs", "labels", "documents", "positions"],
};

/**
 * The arrays of a batch as i32 tensors [B, T]: those a model's `loss` needs for the batch's packing, or those asked for.
 *
 * A "masked" batch gives `inputs`, `labels`, `documents` and `positions`; the others give `inputs` and `labels`, because padding at a
 * sequence's end changes nothing for a causal model.
 *
 * @throws DeviceError when there is no device
 * @example
 * const documents = [byteTokenizer().encodeDocument("one two three")];
 * const sequences = packDocuments(documents, { length: 4, packing: "masked" });
 * for (const batch of shuffledBatches(sequences, { batchSize: 2, epochs: 1 })) {
 *   const { inputs, labels, documents, positions } = toTensors(batch); // i32 [2, 4] each
 *   const { positions: places } = toTensors(batch, { fields: ["positions"] });
 * }
 */
export function toTensors<F extends BatchField>(
  batch: Batch,
  options: ToTensorsOptions<F> & { fields: readonly F[] },
): Record<F, Tensor>;
export function toTensors<P extends Packing>(
  batch: Batch<P>,
  options?: ToTensorsOptions & { fields?: undefined },
): BatchTensors<P>;
export function toTensors(
  batch: Batch,
  { device, fields = MODEL_FIELDS[batch.packing] }: ToTensorsOptions = {},
): Partial<Record<BatchField, Tensor>> {
  const tensors: Partial<Record<BatchField, Tensor>> = {};
  for (const field of fields) tensors[field] = tensor(batch[field], { shape: batch.shape, dtype: "i32", device });
  return tensors;
}
