// tensors.ts: the last step, from arrays on the host to tensors on a device.
import { type Device, type Tensor, tensor } from "@mc/tensor";
import type { Batch } from "./batches.ts";

/** The arrays of a batch that can become tensors. */
export type BatchField = "inputs" | "labels" | "documents" | "positions";

/** Options of `toTensors`. */
export interface ToTensorsOptions<F extends BatchField> {
  /** Where the tensors go. Default: the default device. */
  device?: Device;
  /** Which arrays to take. Default `["inputs", "labels"]`, what a model's loss needs. */
  fields?: readonly F[];
}

/**
 * The arrays of a batch as i32 tensors [B, T].
 *
 * @throws DeviceError when there is no device
 * @example
 * const sequences = packDocuments([byteTokenizer().encodeDocument("one two three")], { length: 4 });
 * for (const batch of shuffledBatches(sequences, { batchSize: 2, epochs: 1 })) {
 *   const { inputs, labels } = toTensors(batch); // i32 [2, 4] each
 *   const { documents } = toTensors(batch, { fields: ["documents"] });
 * }
 */
export function toTensors<F extends BatchField = "inputs" | "labels">(
  batch: Batch,
  { device, fields = ["inputs", "labels"] as unknown as readonly F[] }: ToTensorsOptions<F> = {},
): Record<F, Tensor> {
  const tensors = {} as Record<F, Tensor>;
  for (const field of fields) tensors[field] = tensor(batch[field], { shape: batch.shape, dtype: "i32", device });
  return tensors;
}
