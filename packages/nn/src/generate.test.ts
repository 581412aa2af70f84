import { key, mul, type Tensor, tensor, treeMap } from "@mc/tensor";
import { sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { type GenerateOptions, generate } from "./generate.ts";
import { type TransformerParams, transformer } from "./transformer.ts";

beforeAll(() => sharedTestDevice());

const model = transformer({ vocabSize: 13, hiddenSize: 16, numLayers: 1, attention: { numHeads: 2 } });
const lively = (): TransformerParams =>
  treeMap((x: Tensor) => (x.ndim > 1 ? mul(x, 20) : x), model.init(key(1))) as TransformerParams;
async function tokens(params: TransformerParams, prompt: number[], options: GenerateOptions): Promise<number[]> {
  const out: number[] = [];
  for await (const token of generate(model, params, prompt, options)) out.push(token);
  return out;
}

describe("generate(model, params, prompt, options)", () => {
  test("at temperature 0 takes the model's most likely token after everything so far", async () => {
    const params = lively();
    const made = await tokens(params, [1, 2], { maxTokens: 5, temperature: 0, contextLength: 8 });
    const sequence = [1, 2, ...made];
    const { logits } = model.apply(params, tensor([sequence], { dtype: "i32" }));
    const rows = ((await logits.toArray()) as number[][][])[0]!;
    expect(made).toEqual(rows.slice(1, -1).map((row) => row.indexOf(Math.max(...row))));
  });

  test("sees the last contextLength tokens only", async () => {
    const params = lively();
    const options = { maxTokens: 4, temperature: 0, contextLength: 3 };
    expect(await tokens(params, [9, 9, 9, 1, 2, 3], options)).toEqual(await tokens(params, [1, 2, 3], options));
  });

  test("draws the same tokens for the same seed", async () => {
    const params = lively();
    const draw = (seed: number) => tokens(params, [4], { maxTokens: 12, seed, contextLength: 8, topK: 10, topP: 0.95 });
    expect(await draw(1)).toEqual(await draw(1));
    expect(await draw(1)).not.toEqual(await draw(2));
  });

  test("ends at the stop token, and when the reader stops", async () => {
    const params = lively();
    const options = { maxTokens: 6, temperature: 0, contextLength: 8 };
    const all = await tokens(params, [1, 2], options);
    const stopToken = all[2]!;
    expect(await tokens(params, [1, 2], { ...options, stopTokens: stopToken })).toEqual(all.slice(0, all.indexOf(stopToken)));
    for await (const token of generate(model, params, [1, 2], options)) {
      expect(token).toBe(all[0]);
      break;
    }
  });

  test("refuses an empty prompt, strange tokens and options out of range", async () => {
    const params = lively();
    await expect(tokens(params, [], {})).rejects.toThrow("generate: the prompt must hold at least one token, got none");
    await expect(tokens(params, [13], {})).rejects.toThrow("generate: token ids must be integers in [0, 13), got 13");
    await expect(tokens(params, [1], { maxTokens: 0 })).rejects.toThrow(
      "generate: maxTokens must be a positive integer, got 0",
    );
    await expect(tokens(params, [1], { topP: 2 })).rejects.toThrow("sample: topP must be in (0, 1], got 2");
  });
});
