import { add, type Tensor } from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, expectTypeOf, test } from "vitest";
import { orderedBatches } from "./batches.ts";
import { packDocuments } from "./packing.ts";
import type { Packing } from "./sequences.ts";
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

  test("gives a model of masked sequences documents and positions too, and of others not, by type and by value", () => {
    const documents = [Int32Array.of(5, 6, 7, 8), Int32Array.of(9)];
    const [masked] = [...orderedBatches(packDocuments(documents, { length: 3, packing: "masked" }), { batchSize: 2 })];
    expectTypeOf(toTensors(masked!)).toEqualTypeOf<Record<"inputs" | "labels" | "documents" | "positions", Tensor>>();
    expect(Object.keys(toTensors(masked!))).toEqual(["inputs", "labels", "documents", "positions"]);

    const [padded] = [...orderedBatches(packDocuments(documents, { length: 3, packing: "padded" }), { batchSize: 2 })];
    expectTypeOf(toTensors(padded!)).toEqualTypeOf<Record<"inputs" | "labels", Tensor>>();
    expect(Object.keys(toTensors(padded!))).toEqual(["inputs", "labels"]);

    // A program that lets its user choose gets what fits a model whatever the choice.
    const chosen: Packing = "masked" as Packing;
    const [either] = [...orderedBatches(packDocuments(documents, { length: 3, packing: chosen }), { batchSize: 2 })];
    expectTypeOf(toTensors(either!)).toExtend<{
      inputs: Tensor;
      labels: Tensor;
      documents?: Tensor;
      positions?: Tensor;
    }>();
    expect(Object.keys(toTensors(either!, { fields: ["labels"] }))).toEqual(["labels"]);
  });
});
