// Documents packed into one sequence, with masks and positions that begin anew, keep to themselves in a whole model: latent
// attention and experts included.
import { kimiK2Mini, type TransformerConfig, transformer } from "@mc/nn";
import { type Device, key, type Tensor, tensor } from "@mc/tensor";
import { describe, expect, test } from "vitest";
import { relativeError } from "../compare.ts";
import { oracleDevice, testDevice } from "../host.ts";

const device = await testDevice();
const oracle = await oracleDevice();

const models: Record<string, TransformerConfig> = {
  "Kimi K2 in miniature": kimiK2Mini({ vocabSize: 40, hiddenSize: 32, numLayers: 2, numExperts: 4, initStd: 0.2 }),
  "a Llama with grouped queries": {
    vocabSize: 40,
    hiddenSize: 32,
    numLayers: 2,
    attention: { numHeads: 4, numKeyValueHeads: 2 },
    initStd: 0.2,
  },
};

/** Lengths of the three documents of a sequence; the one in the middle is looked at. */
const lengths = [5, 9, 4] as const;
const start = lengths[0];
const end = start + lengths[1];

/** Token ids of a sequence of three documents: the middle one is always the same, the others depend on `others`. */
function sequence(others: number): number[] {
  return lengths.flatMap((length, document) =>
    Array.from({ length }, (_, i) => (7 * i * i + 3 * i + (document === 1 ? 1 : others * (document + 2))) % 40),
  );
}

const i32 = (values: readonly number[], on: Device): Tensor =>
  tensor(Int32Array.from(values), { shape: [1, values.length], device: on });

/** Logits of the middle document, in its sequence or alone. */
async function logitsOf(config: TransformerConfig, on: Device, others: number | "alone"): Promise<Float64Array> {
  const model = transformer(config);
  const params = model.init(key(3, { device: on }));
  if (others === "alone") {
    const { logits } = model.apply(params, i32(sequence(0).slice(start, end), on));
    return Float64Array.from(await logits.data());
  }
  const documents = i32(
    lengths.flatMap((length, document) => new Array<number>(length).fill(document)),
    on,
  );
  const positions = i32(
    lengths.flatMap((length) => Array.from({ length }, (_, i) => i)),
    on,
  );
  const { logits } = model.apply(params, i32(sequence(others), on), { documents, positions });
  return Float64Array.from(await logits.data()).slice(start * 40, end * 40);
}

describe.each(Object.entries(models))("a packed document in %s", (_, config) => {
  test.each([
    ["in float64", oracle, 1e-12],
    ["on the host's device", device, 1e-5],
  ] as const)("has the logits of the document alone %s", async (_, on, tolerance) => {
    const [packed, alone] = [await logitsOf(config, on, 1), await logitsOf(config, on, "alone")];
    expect(relativeError(packed, alone)).toBeLessThan(tolerance);
  });

  test("is the same to the bit whatever the other documents hold", async () => {
    const [one, other] = [await logitsOf(config, device, 1), await logitsOf(config, device, 2)];
    expect(other).toEqual(one);
  });
});
