// evaluate.ts: the loss on text that the model has not seen.
import { orderedBatches, type Sequences, toTensors } from "@mc/data";
import type { Transformer, TransformerBatch, TransformerParams } from "@mc/nn";
import { compile, type Device } from "@mc/tensor";

/** Options of `evaluate`. */
export interface EvaluateOptions {
  /** Sequences a batch. */
  batch: number;
  device: Device;
}

/** Mean cross-entropy over all labels of the sequences, in nats a byte. */
export async function evaluate(
  model: Transformer,
  params: TransformerParams,
  sequences: Sequences,
  { batch: batchSize, device }: EvaluateOptions,
): Promise<number> {
  const lossOf = compile(
    (args: { params: TransformerParams; batch: TransformerBatch }) =>
      model.loss(args.params, args.batch).aux.crossEntropy,
  );
  let nats = 0;
  for (const batch of orderedBatches(sequences, { batchSize })) {
    if (batch.labelCount === 0) continue; // a mean over nothing is not a number
    const loss = await lossOf({ params, batch: toTensors(batch, { device }) }).item();
    nats += loss * batch.labelCount;
  }
  return nats / sequences.labelCount;
}
