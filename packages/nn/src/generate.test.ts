import { type Device, key, mul, type Tensor, tensor, treeMap } from "@mc/tensor";
import { hostDevice, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import type { TransformerConfig } from "./config.ts";
import { type GenerateOptions, generate } from "./generate.ts";
import { type Transformer, type TransformerParams, transformer } from "./transformer.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const sizes = { vocabSize: 13, hiddenSize: 16, numLayers: 1 };
const model = transformer({ ...sizes, attention: { numHeads: 2 } });
const lively = (of: Transformer = model): TransformerParams =>
  treeMap((x: Tensor) => (x.ndim > 1 ? mul(x, 20) : x), of.init(key(1))) as TransformerParams;

async function tokens(
  params: TransformerParams,
  prompt: number[],
  options: GenerateOptions,
  of: Transformer = model,
): Promise<number[]> {
  const out: number[] = [];
  for await (const token of generate(of, params, prompt, options)) out.push(token);
  return out;
}

/** The tokens of each row, and how many steps there were. */
async function rows(
  params: TransformerParams,
  prompts: number[][],
  options: GenerateOptions,
  of: Transformer = model,
): Promise<{ rows: number[][]; steps: (number | null)[][] }> {
  const steps: (number | null)[][] = [];
  for await (const step of generate(of, params, prompts, options)) steps.push(step);
  return { rows: prompts.map((_, i) => steps.flatMap((step) => (step[i] === null ? [] : [step[i]!]))), steps };
}

/** The most likely token after each of the last `count` places before the end. */
async function likely(
  of: Transformer,
  params: TransformerParams,
  sequence: number[],
  count: number,
): Promise<number[]> {
  const { logits } = of.apply(params, tensor([sequence], { dtype: "i32" }));
  const [row] = (await logits.toArray()) as number[][][];
  return row!.slice(-count - 1, -1).map((values) => values.indexOf(Math.max(...values)));
}

const greedy = { temperature: 0 };
const kinds: Record<string, TransformerConfig> = {
  "rotary positions": { ...sizes, attention: { numHeads: 2 } },
  "GQA with a window, a soft cap and sinks": {
    ...sizes,
    attention: { numHeads: 4, numKeyValueHeads: 2, window: 3, softCap: 5, sinks: true },
  },
  ALiBi: { ...sizes, attention: { numHeads: 2, qkNorm: true }, positions: { kind: "alibi" } },
  "sinusoidal positions": { ...sizes, attention: { numHeads: 2 }, positions: { kind: "sinusoidal" } },
  "learned positions": { ...sizes, attention: { numHeads: 2 }, positions: { kind: "learned", maxPositions: 12 } },
  "MLA and experts": {
    ...sizes,
    attention: { kind: "mla", numHeads: 2, queryRank: 8 },
    feedForward: { kind: "moe", numExperts: 4, numExpertsPerToken: 2 },
  },
};

/** Kernels take long to compile on the software adapters of the GPU hosts, where decoding.test.ts runs the others. */
const here = Object.entries(kinds).filter(([name]) => hostDevice === "cpu" || name === "learned positions");

describe.each(here)("generate with %s", (_, config) => {
  test("takes the model's most likely tokens, alone and beside other prompts", async () => {
    const of = transformer(config);
    const params = lively(of);
    const prompts = [[1, 2], [3, 1, 4, 1, 5], [7]];
    const made = await rows(params, prompts, { ...greedy, maxTokens: 6 }, of);
    for (const [i, prompt] of prompts.entries())
      expect(made.rows[i]).toEqual(await likely(of, params, [...prompt, ...made.rows[i]!], 6));
    expect(await tokens(params, prompts[1]!, { ...greedy, maxTokens: 6 }, of)).toEqual(made.rows[1]);
  });
});

describe("generate(model, params, prompt, options)", () => {
  test("sees the last contextLength tokens only", async () => {
    const params = lively();
    const options = { maxTokens: 4, temperature: 0, contextLength: 3 };
    expect(await tokens(params, [9, 9, 9, 1, 2, 3], options)).toEqual(await tokens(params, [1, 2, 3], options));
  });

  test("goes on past contextLength as if each last contextLength tokens were a text", async () => {
    const params = lively();
    const made = await tokens(params, [5, 6], { ...greedy, maxTokens: 9, contextLength: 4 });
    const text = [5, 6, ...made];
    for (let n = 2; n < text.length; n++) {
      const before = text.slice(Math.max(0, n - 4), n);
      expect(await likely(model, params, [...before, 0], 1)).toEqual([text[n]]);
    }
  });

  test("draws the same tokens for the same seed", async () => {
    const params = lively();
    const draw = (seed: number) => tokens(params, [4], { maxTokens: 12, seed, topK: 10, topP: 0.95 });
    expect(await draw(1)).toEqual(await draw(1));
    expect(await draw(1)).not.toEqual(await draw(2));
  });

  test("ends before a stop token, before the first of several, and when the reader stops", async () => {
    const params = lively();
    const options = { maxTokens: 6, temperature: 0 };
    const all = await tokens(params, [1, 2], options);
    const [second, third] = [all[1]!, all[2]!];
    const until = (...stops: number[]) =>
      all.slice(
        0,
        all.findIndex((token) => stops.includes(token)),
      );
    expect(await tokens(params, [1, 2], { ...options, stopTokens: third })).toEqual(until(third));
    expect(await tokens(params, [1, 2], { ...options, stopTokens: [third, second] })).toEqual(until(third, second));
    expect(await tokens(params, [1, 2], { ...options, stopTokens: [] })).toEqual(all);
    for await (const token of generate(model, params, [1, 2], options)) {
      expect(token).toBe(all[0]);
      break;
    }
  });

  test("draws no id at or past vocabSize, where the model's vocabulary is padded", async () => {
    const params = lively();
    const draw = (vocabSize?: number) => tokens(params, [4], { maxTokens: 12, seed: 1, vocabSize });
    expect(Math.max(...(await draw()))).toBeGreaterThanOrEqual(6);
    expect(Math.max(...(await draw(6)))).toBeLessThan(6);
    expect(await draw(13)).toEqual(await draw());
  });

  test("refuses an empty prompt, strange tokens and options out of range", async () => {
    const params = lively();
    for (const vocabSize of [0, 14, 1.5]) {
      await expect(tokens(params, [1], { vocabSize })).rejects.toThrow(
        `generate: vocabSize must be an integer from 1 to the model's 13, got ${vocabSize}`,
      );
    }
    await expect(tokens(params, [], {})).rejects.toThrow("generate: the prompt must hold at least one token, got none");
    await expect(rows(params, [[1], []], {})).rejects.toThrow("generate: the prompt must hold at least one token");
    await expect(tokens(params, [13], {})).rejects.toThrow("generate: token ids must be integers in [0, 13), got 13");
    await expect(tokens(params, [1], { maxTokens: 0 })).rejects.toThrow(
      "generate: maxTokens must be a positive integer, got 0",
    );
    await expect(tokens(params, [1], { contextLength: 0.5 })).rejects.toThrow(
      "generate: contextLength must be a positive integer, got 0.5",
    );
    await expect(tokens(params, [1], { topP: 2 })).rejects.toThrow("sample: topP must be in (0, 1], got 2");
  });

  test("past the model's positions is an error before anything runs, and possible with a contextLength", async () => {
    const short = transformer({
      ...sizes,
      attention: { numHeads: 2 },
      positions: { kind: "learned", maxPositions: 6 },
    });
    const params = lively(short);
    expect((await tokens(params, [1, 2], { ...greedy, maxTokens: 4 }, short)).length).toBe(4);
    const dispatches = device.stats().dispatches;
    await expect(tokens(params, [1, 2], { ...greedy, maxTokens: 5 }, short)).rejects.toThrow(
      "generate: the model has 6 positions, got a prompt of 2 tokens and maxTokens 5; ask for fewer, or set contextLength",
    );
    await expect(tokens(params, [1, 2], { contextLength: 7 }, short)).rejects.toThrow(
      "generate: the model has 6 positions, got a contextLength of 7 tokens",
    );
    expect(device.stats().dispatches).toBe(dispatches);
    expect((await tokens(params, [1, 2], { ...greedy, maxTokens: 9, contextLength: 6 }, short)).length).toBe(9);
  });
});

describe("generate(model, params, prompts, options)", () => {
  test("a row's tokens do not depend on the other rows, and equal prompts go their own ways", async () => {
    const params = lively();
    const options = { maxTokens: 10, seed: 3, temperature: 2 };
    const first = await rows(
      params,
      [
        [1, 2],
        [4, 5, 6, 7],
        [1, 2],
      ],
      options,
    );
    const other = await rows(
      params,
      [
        [9, 9, 9],
        [4, 5, 6, 7],
      ],
      options,
    );
    expect(first.rows[1]).toEqual(other.rows[1]);
    expect(first.rows[0]).toEqual(await tokens(params, [1, 2], options));
    expect(first.rows[0]).not.toEqual(first.rows[2]);
  });

  test("gives null for rows that have ended, and ends with the last one", async () => {
    const params = lively();
    const options = { ...greedy, maxTokens: 8 };
    const prompts = [[1, 2], [3], [8, 8, 8]];
    const all = (await rows(params, prompts, options)).rows;
    const stop = all[0]![1]!;
    const ends = all.map((row) => (row.includes(stop) ? row.indexOf(stop) : row.length));
    const { rows: cut, steps } = await rows(params, prompts, { ...options, stopTokens: stop });
    expect(cut).toEqual(all.map((row, i) => row.slice(0, ends[i])));
    expect(steps.length).toBe(Math.max(...ends));
    steps.forEach((step, n) => {
      expect(step.map((token) => token === null)).toEqual(ends.map((end) => n >= end));
    });
  });

  test("rows reach contextLength one after the other", async () => {
    const params = lively();
    const options = { ...greedy, maxTokens: 6, contextLength: 5 };
    const prompts = [[1], [2, 3, 4, 5], [6, 7, 8, 9, 10, 11, 12]];
    const made = await rows(params, prompts, options);
    for (const [i, prompt] of prompts.entries()) expect(made.rows[i]).toEqual(await tokens(params, prompt, options));
  });
});

describe("memory of generate", () => {
  /** Bytes in use once pending work is done. */
  const live = (): number => device.memory().liveBytes;

  test("is flat over 200 tokens", async () => {
    const params = lively();
    const bytes: number[] = [];
    for await (const _ of generate(model, params, [1], { maxTokens: 200, contextLength: 256 })) bytes.push(live());
    expect(bytes.length).toBe(200);
    expect(bytes[199]).toBeLessThanOrEqual(bytes[50]!); // the collector may find earlier tests' tensors
  });

  test("is given back at the end, and when the reader stops", async () => {
    const params = lively();
    const options = { maxTokens: 5, contextLength: 16 };
    const use = async (leave: boolean): Promise<void> => {
      for await (const _ of generate(model, params, [1, 2], options)) if (leave) break;
    };
    await use(false); // plans are made once, and stay
    const before = live();
    await use(false);
    expect(live()).toBeLessThanOrEqual(before);
    await use(true);
    expect(live()).toBeLessThanOrEqual(before);
  });
});
