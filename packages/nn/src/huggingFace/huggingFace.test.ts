import { valueAndGrad } from "@mc/autograd";
import {
  type Device,
  full,
  key,
  loadSafetensors,
  ones,
  readSafetensors,
  realise,
  sliceAxis,
  type Tensor,
  tensor,
  treeMap,
  treePaths,
  zeros,
} from "@mc/tensor";
import { type FixtureName, loadFixture, loadFixtureJson, relativeError, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import type { SelfAttentionParams } from "../attention/selfAttention.ts";
import { transformer } from "../transformer.ts";
import { configFromHuggingFace } from "./config.ts";
import type { HuggingFaceConfig } from "./fields.ts";
import { fromHuggingFace, toHuggingFace } from "./huggingFace.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

const configOf = (fixture: FixtureName) => loadFixtureJson<HuggingFaceConfig>(fixture, "config.json");
async function load(fixture: FixtureName, on: Device) {
  const config = await configOf(fixture);
  const { tensors } = loadSafetensors(await loadFixture(fixture, "model.safetensors"), { device: on });
  return { config, tensors, ...fromHuggingFace(config, tensors) };
}

// `npm run conformance`, which .ci/run does, compares all fixtures, in both precisions
const compared = ["llama_gqa_tiny", "gpt2_tiny", "deepseek_v3_groups", "mixtral_tiny"] as const;
const converted = [...compared, "deepseek_v3_direct", "qwen3_tiny", "qwen3_moe_tiny", "llama3_tiny"] as const;

test.each(compared)(
  "%s equals transformers: hidden states, logits, maxima, loss and every gradient",
  async (fixture) => {
    const { config, model, params } = await load(fixture, device);
    const expected = readSafetensors(await loadFixture(fixture, "case.safetensors")).tensors;
    const check = async (actual: Tensor, name: string, limit: number) => {
      const wanted = expected[name]!;
      expect(actual.shape, name).toEqual(wanted.shape);
      expect(relativeError(await actual.data(), wanted.data as Float32Array), name).toBeLessThan(limit);
    };

    const { shape, data } = expected.input_ids!;
    const tokens = Int32Array.from(data as Int32Array);
    const next = tokens.map((_, i) => ((i + 1) % shape[1]! === 0 ? -100 : tokens[i + 1]!));
    const inputs = tensor(tokens, { shape });
    const { logits, hidden, maxLogits } = model.apply(params, inputs, { hidden: true });
    const { value, grads } = valueAndGrad(model.loss, { hasAux: true })(params, {
      inputs,
      labels: tensor(next, { shape }),
    });
    const gradients = toHuggingFace(config, grads, { names: "memory", buffers: false });
    await realise({ logits, hidden, maxLogits, value, gradients });
    await check(logits, "logits", 1e-4);
    for (const [i, h] of hidden!.entries()) await check(h, `hidden.${i}`, 1e-4);
    for (const [i, m] of maxLogits.entries()) await check(m, `max_logit.${i}`, 1e-4);
    expect(relativeError(await value.data(), expected.loss!.data as Float32Array)).toBeLessThan(1e-5);
    const names = Object.keys(expected).filter((name) => name.startsWith("grad."));
    expect(
      Object.keys(gradients)
        .map((name) => `grad.${name}`)
        .sort(),
    ).toEqual(names.sort());
    for (const [name, gradient] of Object.entries(gradients)) await check(gradient, `grad.${name}`, 1e-3);
  },
);

describe.each(converted)("%s", (fixture) => {
  test("goes back to the same tensors under the same names", async () => {
    const { config, tensors, params } = await load(fixture, device);
    const back = toHuggingFace(config, params);
    expect(Object.keys(back).sort()).toEqual(Object.keys(tensors).sort());
    await realise(back);
    for (const [name, original] of Object.entries(tensors))
      await expect(back[name]!).toBeAllClose(original, { rtol: 0, atol: 0 });
  });

  test("makes the parameters that the model would make", async () => {
    const { model, params } = await load(fixture, device);
    const shapes = (tree: unknown) =>
      treePaths<Tensor>(tree)
        .map(([path, x]) => [path, x.shape])
        .sort();
    expect(shapes(params)).toEqual(shapes(model.init(ones([2], { dtype: "u32" }))));
    expect(transformer(model.config).roles).toEqual(model.roles);
  });
});

describe("fromHuggingFace", () => {
  test("names missing, unexpected and mis-shaped weights, with what was expected", async () => {
    const { config, tensors } = await load("gpt2_tiny", device);
    const { "transformer.wpe.weight": _, ...rest } = tensors;
    const broken = { ...rest, "transformer.ln_f.bias": zeros([31]), extra: ones([2, 3]) };
    expect(() => fromHuggingFace(config, broken)).toThrow(
      'fromHuggingFace: the weights do not fit the config: missing "transformer.wpe.weight" [32, 32]; "transformer.ln_f.bias" must be [32], got [31]; unexpected "extra" [2, 3]',
    );
    expect(() =>
      fromHuggingFace(config, { ...tensors, "transformer.ln_f.bias": zeros([32], { dtype: "i32" }) }),
    ).toThrow('"transformer.ln_f.bias" must hold floats, got i32');
  });

  test("names the first few of many, and how many more there are", async () => {
    const { config, tensors } = await load("deepseek_v3_groups", device);
    const without = Object.fromEntries(Object.entries(tensors).filter(([name]) => !name.includes(".experts.")));
    expect(() => fromHuggingFace(config, without)).toThrow(
      'missing "model.layers.1.mlp.experts.0.gate_proj.weight" [6, 24]; missing "model.layers.1.mlp.experts.0.up_proj.weight" [6, 24];',
    );
    expect(() => fromHuggingFace(config, without)).toThrow(
      /experts\.3\.up_proj\.weight" \[6, 24\]; and 40 more like it$/,
    );
  });

  test("reads GPT-2 without prefix, with mask buffers, and with the tied head repeated", async () => {
    const { config, tensors } = await load("gpt2_tiny", device);
    const old = Object.fromEntries(Object.entries(tensors).map(([name, x]) => [name.replace(/^transformer\./, ""), x]));
    const { params } = fromHuggingFace(config, {
      ...old,
      "h.0.attn.bias": ones([1, 1, 32, 32]),
      "lm_head.weight": tensors["transformer.wte.weight"]!,
    });
    expect(treePaths(params)).toHaveLength(treePaths((await load("gpt2_tiny", device)).params).length);
  });

  test("reads Llama with biases and a tied head", async () => {
    const base = await configOf("llama_gqa_tiny");
    const config = { ...base, attention_bias: true, mlp_bias: true, tie_word_embeddings: true };
    const shapeOf = (name: string): number[] =>
      name.includes("q_proj") ? [32] : /[kv]_proj/.test(name) ? [16] : /gate|up/.test(name) ? [56] : [32];
    const { tensors } = await load("llama_gqa_tiny", device);
    const { "lm_head.weight": _, ...kept } = tensors;
    const biases = Object.keys(kept).flatMap((name) =>
      name.includes("_proj.weight") ? [name.replace("weight", "bias")] : [],
    );
    const all = { ...kept, ...Object.fromEntries(biases.map((name, i) => [name, full(shapeOf(name), i)])) };
    const { model, params } = fromHuggingFace(config, all);
    expect(params).not.toHaveProperty("head");
    expect(Object.keys(toHuggingFace(config, params)).sort()).toEqual(Object.keys(all).sort());
    const bias = (params.layers[0]!.attention as SelfAttentionParams).qkv.bias!;
    await expect(sliceAxis(bias, 0, 32, 48)).toBeAllClose(all["model.layers.0.self_attn.k_proj.bias"]!);
    expect(model.attentionLayout[0]!.heads[3]!.key.map((r) => r.path)).toEqual([
      "layers.0.attention.qkv.weight",
      "layers.0.attention.qkv.bias",
    ]);
  });

  test.each(["deepseek_v3_groups", "mixtral_tiny"] as const)("reads %s by the names of modules", async (fixture) => {
    const { config, tensors, params } = await load(fixture, device);
    const memory = toHuggingFace(config, params, { names: "memory" });
    expect(Object.keys(memory)).toContain("model.layers.1.mlp.experts.gate_up_proj");
    const again = toHuggingFace(config, fromHuggingFace(config, memory).params);
    expect(Object.keys(again).sort()).toEqual(Object.keys(tensors).sort());
    const name = Object.keys(tensors).find((n) => n.includes(".experts.3."))!;
    await expect(again[name]!).toBeAllClose(tensors[name]!, { rtol: 0, atol: 0 });
  });

  test("leaves out layers that predict further tokens", async () => {
    const { config, tensors } = await load("deepseek_v3_groups", device);
    const more = {
      ...tensors,
      "model.layers.2.eh_proj.weight": ones([24, 48]),
      "model.layers.2.shared_head.norm.weight": ones([24]),
    };
    expect(fromHuggingFace(config, more).params.layers).toHaveLength(2);
    expect(() => fromHuggingFace(config, { ...more, "model.layers.1.eh_proj.weight": ones([24, 48]) })).toThrow(
      'unexpected "model.layers.1.eh_proj.weight" [24, 48]',
    );
  });

  test("refuses quantised weights", async () => {
    const { config, tensors } = await load("llama_gqa_tiny", device);
    const quantised = { ...config, quantization_config: { quant_method: "fp8" } };
    expect(() => fromHuggingFace(quantised, tensors)).toThrow(
      'fromHuggingFace: the weights must not be quantised, got quantization_config with quant_method "fp8"',
    );
  });
});

describe("toHuggingFace", () => {
  test("refuses trees that do not fit the config", async () => {
    const { config, params } = await load("gpt2_tiny", device);
    expect(() => toHuggingFace(config, { ...params, head: { weight: ones([1]) } })).toThrow(
      'toHuggingFace: the config has no parameter "head.weight"',
    );
    expect(() => toHuggingFace(config, { ...params, norm: {} })).toThrow(
      'toHuggingFace: the tree must hold "norm.weight", got none',
    );
    const short = treeMap((x: Tensor) => (x.ndim === 2 ? x : ones([31])), params);
    expect(() => toHuggingFace(config, short)).toThrow('"layers.0.attentionNorm.weight" must be [32], got [31]');
  });

  test("takes 600 experts a layer in seconds", async () => {
    const config = {
      ...(await configOf("deepseek_v3_groups")),
      num_hidden_layers: 4,
      n_routed_experts: 600,
      hidden_size: 8,
      moe_intermediate_size: 2,
    };
    const shapes = fromHuggingFaceShapes(config);
    const begin = performance.now();
    const tensors = toHuggingFace(config, shapes);
    expect(Object.keys(tensors).filter((name) => name.includes(".experts."))).toHaveLength(3 * 600 * 3);
    const back = fromHuggingFace(config, tensors);
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(back.params.layers).toHaveLength(4);
  });
});

/** Parameters of a config: nothing but shapes is computed. */
const fromHuggingFaceShapes = (config: HuggingFaceConfig) => transformer(configFromHuggingFace(config)).init(key(1));
