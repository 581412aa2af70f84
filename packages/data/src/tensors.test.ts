import { add } from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { orderedBatches } from "./batches.ts";
import { packDocuments } from "./packing.ts";
import { toTensors } from "./tensors.ts";

await testDevice();

describe("toTensors(batch, { device, fields })", () => {
  const sequences = packDocuments([Int32Array.of(5, 6, 7, 8), Int32Array.of(9)], { length: 3 });
  const [batch] = [...orderedBatches(sequences, { batchSize: 2 })];

  test("gives inputs and labels as i32 [batch, length]", async () => {
    const tensors = toTensors(batch!);
    expect(Object.keys(tensors)).toEqual(["inputs", "labels"]);
    expect(tensors.inputs.dtype).toBe("i32");
    expect(await add(tensors.inputs, 1).toArray()).toEqual([
      [6, 7, 8],
      [9, 10, 1],
    ]);
    expect(await tensors.labels.toArray()).toEqual([
      [6, 7, 8],
      [-100, -100, -100],
    ]);
  });

  test("gives the arrays that are asked for, on the device that is asked for", async () => {
    const device = await oracleDevice();
    const tensors = toTensors(batch!, { device, fields: ["documents", "positions"] });
    expect(tensors.positions.device).toBe(device);
    expect(await tensors.documents.toArray()).toEqual([
      [0, 0, 0],
      [0, 1, -1],
    ]);
    expect(await tensors.positions.toArray()).toEqual([
      [0, 1, 2],
      [0, 0, 0],
    ]);
  });
});
