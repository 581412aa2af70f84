import { valueAndGrad } from "@mc/autograd";
import {
  type Device,
  full,
  loadSafetensors,
  ones,
  readSafetensors,
  sliceAxis,
  type Tensor,
  tensor,
  treeMap,
  treePaths,
  zeros,
} from "@mc/tensor";
import {
  type FixtureName,
  hostDevice,
  loadFixture,
  loadFixtureJson,
  oracleDevice,
  relativeError,
  sharedTestDevice,
} from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import type { SelfAttentionParams } from "../attention/selfAttention.ts";
import { transformer } from "../transformer.ts";
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

describe.each(["llama_gqa_tiny", "gpt2_tiny"] as const)("%s", (fixture) => {
  const precisions = hostDevice === "cpu" ? (["f32", "f64"] as const) : (["f32"] as const);
  test.each(precisions)(
    "equals transformers in %s: hidden states, logits, maxima, loss and every gradient",
    async (precision) => {
      const on = precision === "f64" ? await oracleDevice() : device;
      const { config, model, params } = await load(fixture, on);
      const expected = readSafetensors(await loadFixture(fixture, "case.safetensors")).tensors;
      const bound =
        precision === "f64"
          ? { values: 1e-6, gradients: 1e-6, loss: 1e-6 }
          : { values: 1e-4, gradients: 1e-3, loss: 1e-5 };
      const check = async (actual: Tensor, name: string, limit: number) => {
        const wanted = expected[name]!;
        expect(actual.shape, name).toEqual(wanted.shape);
        expect(relativeError(await actual.data(), wanted.data as Float32Array), name).toBeLessThan(limit);
      };

      const { shape, data } = expected.input_ids!;
      const tokens = Int32Array.from(data as Int32Array);
      const next = tokens.map((_, i) => ((i + 1) % shape[1]! === 0 ? -100 : tokens[i + 1]!));
      const inputs = tensor(tokens, { shape, device: on });
      const { logits, hidden, maxLogits } = model.apply(params, inputs, { hidden: true });
      await check(logits, "logits", bound.values);
      for (const [i, h] of hidden!.entries()) await check(h, `hidden.${i}`, bound.values);
      for (const [i, m] of maxLogits.entries()) await check(m, `max_logit.${i}`, bound.values);

      const { value, grads } = valueAndGrad(model.loss, { hasAux: true })(params, {
        inputs,
        labels: tensor(next, { shape, device: on }),
      });
      expect(relativeError(await value.data(), expected.loss!.data as Float32Array)).toBeLessThan(bound.loss);
      const gradients = toHuggingFace(config, grads);
      const names = Object.keys(expected).filter((name) => name.startsWith("grad."));
      expect(
        Object.keys(gradients)
          .map((name) => `grad.${name}`)
          .sort(),
      ).toEqual(names.sort());
      for (const [name, gradient] of Object.entries(gradients)) await check(gradient, `grad.${name}`, bound.gradients);
    },
  );

  test("goes back to the same tensors under the same names", async () => {
    const { config, tensors, params } = await load(fixture, device);
    const back = toHuggingFace(config, params);
    expect(Object.keys(back).sort()).toEqual(Object.keys(tensors).sort());
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

  test("reads rope_theta of either form, and refuses what it does not model", async () => {
    const base = await configOf("llama_gqa_tiny");
    const { tensors } = await load("llama_gqa_tiny", device);
    const theta = (config: HuggingFaceConfig) => fromHuggingFace(config, tensors).model.config.positions.theta;
    const { rope_parameters: _, ...old } = base;
    expect(theta({ ...old, rope_theta: 5e5 })).toBe(5e5);
    expect(theta({ ...old, rope_scaling: null })).toBe(10000);
    expect(theta({ ...base, rope_parameters: { rope_theta: 7, rope_type: "default" } })).toBe(7);
    const refused: [HuggingFaceConfig, string][] = [
      [{ ...base, model_type: "bert" }, 'configFromHuggingFace: model_type must be one of gpt2, llama, mistral, mixtral, qwen3, qwen3_moe, deepseek_v3, kimi_k2, got "bert"'],
      [{ ...base, rope_parameters: { rope_type: "longrope" } }, 'rope_type must be one of default, linear, yarn, llama3, got "longrope"'],
      [{ ...base, hidden_act: "relu" }, 'configFromHuggingFace: hidden_act must be "silu" for llama, got "relu"'],
      [{ ...base, hidden_size: "32" }, 'configFromHuggingFace: "hidden_size" must be a number, got "32"'],
      [{ ...base, vocab_size: null }, 'configFromHuggingFace: config.json must have "vocab_size", a number, got none'],
      [
        { ...(await configOf("gpt2_tiny")), activation_function: "relu" },
        "activation_function must be one of gelu_new, gelu_pytorch_tanh, gelu",
      ],
      [
        { ...(await configOf("gpt2_tiny")), scale_attn_by_inverse_layer_idx: true },
        "scale_attn_by_inverse_layer_idx must be false for gpt2, got true",
      ],
    ];
    for (const [config, message] of refused) expect(() => fromHuggingFace(config, tensors)).toThrow(message);
  });
});

test("toHuggingFace refuses trees that do not fit the config", async () => {
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
