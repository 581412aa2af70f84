import { type FixtureName, loadFixtureJson } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { resolveConfig, type TransformerConfig } from "../config.ts";
import { configFromHuggingFace, configToHuggingFace, type HuggingFaceModelType } from "./config.ts";
import { formatHuggingFaceConfig, type HuggingFaceConfig } from "./fields.ts";
import { kimiK2Mini } from "./kimiK2Mini.ts";
import { deepseekV3, gpt2, kimiK2, llama, mixtral, moonlight, qwen3 } from "./models.ts";

const small = { vocabSize: 32, hiddenSize: 16, numLayers: 3, numHeads: 4, numKeyValueHeads: 2, intermediateSize: 24 };
const window = (...sizes: (number | null)[]) => ({ numHeads: 4, numKeyValueHeads: 2, window: sizes });

const families: [string, TransformerConfig, HuggingFaceModelType][] = [
  ["gpt2", gpt2(), "gpt2"],
  [
    "gpt2 with exact gelu, an untied head, dropout",
    { ...gpt2({ dropout: 0.25, tiedHead: false }), feedForward: { kind: "gelu", bias: true } },
    "gpt2",
  ],
  ["llama", llama(), "llama"],
  [
    "llama with biases, linear scaling, a tied head",
    {
      ...llama({ ...small, tiedHead: true, scaling: { kind: "linear", factor: 2 } }),
      attention: { numHeads: 4, bias: true },
    },
    "llama",
  ],
  ["mistral", { ...llama(small), attention: window(8, 8, 8) }, "mistral"],
  [
    "mistral with YaRN",
    {
      ...llama({
        ...small,
        scaling: { kind: "yarn", factor: 4, originalMaxPositions: 64, attentionFactor: 1.25, truncate: false },
      }),
      attention: window(8, 8, 8),
    },
    "mistral",
  ],
  ["mistral without a window", llama(small), "mistral"],
  ["qwen3", qwen3(), "qwen3"],
  [
    "qwen3 with windows in some layers",
    { ...qwen3(small), attention: { ...window(null, 4, 4), qkNorm: true, bias: true } },
    "qwen3",
  ],
  ["mixtral", mixtral(), "mixtral"],
  ["mixtral with a window", { ...mixtral(small), attention: window(4, 4, 4) }, "mixtral"],
  [
    "qwen3_moe",
    {
      ...qwen3(small),
      feedForward: {
        kind: "moe",
        scoring: "softmax",
        numExperts: 8,
        numExpertsPerToken: 2,
        numDenseLayers: 1,
        denseIntermediateSize: 40,
        normalize: false,
      },
    },
    "qwen3_moe",
  ],
  ["deepseekV3", deepseekV3(), "deepseek_v3"],
  [
    "deepseekV3 with half pairs and biases",
    {
      ...deepseekV3(),
      attention: { kind: "mla", numHeads: 128, nopeHeadDim: 128, bias: true },
      positions: { pairing: "half", maxPositions: 64 },
    },
    "deepseek_v3",
  ],
  ["moonlight", moonlight(), "deepseek_v3"],
  ["kimiK2", kimiK2(), "kimi_k2"],
  ["kimiK2Mini", kimiK2Mini({ hiddenSize: 64, numLayers: 3 }), "deepseek_v3"],
];

describe("configToHuggingFace", () => {
  test.each(families)("%s comes back as it was, through the text too", (_, config, modelType) => {
    const json = configToHuggingFace(config, { modelType });
    expect(configFromHuggingFace(json)).toEqual(resolveConfig(config));
    expect(configFromHuggingFace(JSON.parse(formatHuggingFaceConfig(json)) as HuggingFaceConfig)).toEqual(
      resolveConfig(config),
    );
  });

  test("finds the model type", () => {
    const found = families.map(([, config]) => configToHuggingFace(config).model_type);
    const specific = new Map([
      ["mistral without a window", "llama"],
      ["kimiK2", "deepseek_v3"],
    ]);
    expect(found).toEqual(families.map(([name, , type]) => specific.get(name) ?? type));
  });

  test("has rotary positions in the fields of transformers 4 and of transformers 5, which agree", () => {
    const json = configToHuggingFace(kimiK2());
    const { rope_parameters: five, rope_scaling: four, rope_theta: theta, ...rest } = json;
    expect(five).toEqual({
      rope_type: "yarn",
      rope_theta: 50000,
      factor: 32,
      original_max_position_embeddings: 4096,
      beta_fast: 1,
      beta_slow: 1,
      mscale: 1,
      mscale_all_dim: 1,
    });
    const expected = configFromHuggingFace(json);
    expect(configFromHuggingFace({ ...rest, rope_parameters: five })).toEqual(expected);
    expect(configFromHuggingFace({ ...rest, rope_theta: theta, rope_scaling: four })).toEqual(expected);
    const { rope_type: _, ...older } = four as HuggingFaceConfig;
    expect(configFromHuggingFace({ ...rest, rope_theta: theta, rope_scaling: older })).toEqual(expected);
  });

  test("leaves out the longest sequence where there is none, which gives the model type's default", () => {
    const { positions: _, ...unbounded } = llama(small);
    expect(configToHuggingFace(unbounded)).not.toHaveProperty("max_position_embeddings");
    expect(configFromHuggingFace(configToHuggingFace(unbounded)).positions.maxPositions).toBe(2048);
  });

  test.each<[string, TransformerConfig, HuggingFaceModelType | undefined, string]>([
    [
      "a soft-cap",
      { ...llama(small), attention: { numHeads: 4, softCap: 30 } },
      undefined,
      "attention.softCap must be null for llama, which has no field for it, got 30",
    ],
    [
      "sinks",
      { ...llama(small), attention: { numHeads: 4, sinks: true } },
      undefined,
      "attention.sinks must be false for llama",
    ],
    ["QK-norm for llama", qwen3(small), "llama", "attention.qkNorm must be false for llama"],
    [
      "one bias",
      { ...llama(small), attention: { numHeads: 4, bias: { qkv: true, output: false } } },
      undefined,
      "attention.bias.output must be true for llama",
    ],
    [
      "biases of a mixtral",
      { ...mixtral(small), attention: { numHeads: 4, bias: true } },
      undefined,
      "attention.bias.output must be false for mixtral",
    ],
    [
      "a window for llama",
      { ...llama(small), attention: window(4, 4, 4) },
      "llama",
      "attention.window must be null for llama, got [4,4,4]",
    ],
    [
      "different windows",
      { ...llama(small), attention: window(4, 8, 4) },
      undefined,
      "attention.window must be the same in all layers for mistral",
    ],
    [
      "two windows of a qwen3",
      { ...qwen3(small), attention: { ...window(4, 8, 4), qkNorm: true } },
      undefined,
      "attention.window must be one size or null for qwen3",
    ],
    [
      "interleaved pairs",
      { ...llama(small), positions: { pairing: "interleaved" } },
      undefined,
      'positions.pairing must be "half" for llama',
    ],
    ["alibi", { ...llama(small), positions: { kind: "alibi" } }, undefined, 'positions.kind must be "rope" for llama'],
    ["LayerNorm", { ...llama(small), norm: { kind: "layernorm" } }, undefined, 'norm.kind must be "rmsnorm" for llama'],
    [
      "gelu",
      { ...llama(small), feedForward: { kind: "gelu" } },
      undefined,
      "feedForward.kind must be swiglu for llama, got gelu",
    ],
    [
      "shared experts",
      {
        ...mixtral(small),
        feedForward: { kind: "moe", scoring: "softmax", numExperts: 4, numExpertsPerToken: 2, numSharedExperts: 1 },
      },
      undefined,
      "feedForward.numSharedExperts must be 0 for mixtral",
    ],
    [
      "a softmax router in DeepSeek",
      {
        ...kimiK2Mini({ hiddenSize: 32, numLayers: 2 }),
        feedForward: { kind: "moe", scoring: "softmax", numExperts: 4, numExpertsPerToken: 2 },
      },
      undefined,
      'feedForward.scoring must be "sigmoid" for deepseek_v3',
    ],
    [
      "an MLP in DeepSeek",
      { ...kimiK2Mini({ hiddenSize: 32, numLayers: 2 }), feedForward: { kind: "swiglu" } },
      undefined,
      "feedForward.kind must be moe for deepseek_v3, got swiglu",
    ],
    ["heads in DeepSeek", llama(small), "deepseek_v3", "attention.kind must be mla for deepseek_v3, got gqa"],
    [
      "grouped queries in GPT-2",
      { ...gpt2(), attention: { numHeads: 12, numKeyValueHeads: 4, bias: true } },
      undefined,
      'attention.kind must be "mha" for gpt2',
    ],
    [
      "a GPT-2 without biases",
      { ...gpt2(), attention: { numHeads: 12 } },
      undefined,
      "attention.bias.qkv must be true for gpt2",
    ],
    ["an unknown type", llama(small), "bert" as HuggingFaceModelType, "model_type must be one of gpt2, llama"],
  ])("refuses %s", (_, config, modelType, message) => {
    expect(() => configToHuggingFace(config, modelType && { modelType })).toThrow(`configToHuggingFace: ${message}`);
  });
});

describe("configFromHuggingFace", () => {
  const fixtures: readonly FixtureName[] = [
    "llama_gqa_tiny",
    "llama3_tiny",
    "mistral_yarn_tiny",
    "gpt2_tiny",
    "qwen3_tiny",
    "qwen3_moe_tiny",
    "mixtral_tiny",
    "deepseek_v3_tiny",
    "deepseek_v3_yarn",
    "deepseek_v3_groups",
    "deepseek_v3_direct",
  ];
  test.each(fixtures)("reads what it wrote of %s", async (fixture) => {
    const json = await loadFixtureJson<HuggingFaceConfig>(fixture, "config.json");
    const config = configFromHuggingFace(json);
    const again = configToHuggingFace(config, { modelType: json.model_type as HuggingFaceModelType });
    expect(configFromHuggingFace(again)).toEqual(config);
  });

  test("reads Moonlight's and Kimi K2's published files", () => {
    const deepseek = {
      architectures: ["DeepseekV3ForCausalLM"],
      attention_bias: false,
      attention_dropout: 0.0,
      aux_loss_alpha: 0.001,
      ep_size: 1,
      first_k_dense_replace: 1,
      hidden_act: "silu",
      initializer_range: 0.02,
      kv_lora_rank: 512,
      moe_layer_freq: 1,
      n_group: 1,
      norm_topk_prob: true,
      num_nextn_predict_layers: 0,
      pretraining_tp: 1,
      qk_nope_head_dim: 128,
      qk_rope_head_dim: 64,
      rope_theta: 50000.0,
      scoring_func: "sigmoid",
      seq_aux: true,
      tie_word_embeddings: false,
      topk_group: 1,
      topk_method: "noaux_tc",
      torch_dtype: "bfloat16",
      use_cache: true,
      v_head_dim: 128,
      vocab_size: 163840,
    };
    expect(
      configFromHuggingFace({
        ...deepseek,
        model_type: "deepseek_v3",
        hidden_size: 2048,
        intermediate_size: 11264,
        max_position_embeddings: 8192,
        moe_intermediate_size: 1408,
        n_routed_experts: 64,
        n_shared_experts: 2,
        num_attention_heads: 16,
        num_experts_per_tok: 6,
        num_hidden_layers: 27,
        num_key_value_heads: 16,
        q_lora_rank: null,
        rms_norm_eps: 1e-5,
        routed_scaling_factor: 2.446,
      }),
    ).toEqual(resolveConfig(moonlight()));
    expect(
      configFromHuggingFace({
        ...deepseek,
        model_type: "kimi_k2",
        hidden_size: 7168,
        intermediate_size: 18432,
        max_position_embeddings: 131072,
        moe_intermediate_size: 2048,
        n_routed_experts: 384,
        n_shared_experts: 1,
        num_attention_heads: 64,
        num_experts_per_tok: 8,
        num_hidden_layers: 61,
        num_key_value_heads: 64,
        q_lora_rank: 1536,
        quantization_config: { quant_method: "fp8", fmt: "e4m3", weight_block_size: [128, 128] },
        rms_norm_eps: 1e-6,
        rope_scaling: {
          beta_fast: 1.0,
          beta_slow: 1.0,
          factor: 32.0,
          mscale: 1.0,
          mscale_all_dim: 1.0,
          original_max_position_embeddings: 4096,
          type: "yarn",
        },
        routed_scaling_factor: 2.827,
      }),
    ).toEqual(resolveConfig(kimiK2()));
  });

  const base: HuggingFaceConfig = {
    model_type: "llama",
    vocab_size: 8,
    hidden_size: 16,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    intermediate_size: 24,
  };
  const attention = (json: HuggingFaceConfig) => configFromHuggingFace({ ...base, ...json }).attention;

  test("takes transformers' defaults for absent fields", () => {
    expect(configFromHuggingFace(base)).toEqual(
      resolveConfig({
        vocabSize: 8,
        hiddenSize: 16,
        numLayers: 3,
        attention: { numHeads: 4 },
        feedForward: { intermediateSize: 24 },
        positions: { maxPositions: 2048 },
      }),
    );
    expect(attention({ model_type: "mistral" })).toMatchObject({ window: [4096, 4096, 4096] });
    expect(attention({ model_type: "mistral", sliding_window: null })).toMatchObject({ window: [null, null, null] });
    expect(attention({ model_type: "mixtral" })).toMatchObject({ window: [null, null, null] });
    expect(configFromHuggingFace({ ...base, model_type: "mixtral" })).toMatchObject({
      norm: { eps: 1e-5 },
      positions: { theta: 1e6 },
      feedForward: { numExperts: 8, numExpertsPerToken: 2, normalize: true },
    });
    expect(attention({ model_type: "qwen3" })).toMatchObject({
      headDim: 128,
      qkNorm: true,
      window: [null, null, null],
    });
    expect(configFromHuggingFace({ ...base, model_type: "qwen3_moe" }).feedForward).toMatchObject({
      numExperts: 128,
      normalize: false,
      intermediateSize: 768,
      numDenseLayers: 0,
    });
    const deepseek = configFromHuggingFace({
      ...base,
      model_type: "deepseek_v3",
      num_hidden_layers: 2,
      num_attention_heads: 128,
    });
    expect(deepseek.attention).toEqual(resolveConfig(deepseekV3()).attention);
    expect(deepseek.feedForward).toMatchObject({
      numExperts: 256,
      numGroups: 8,
      groupsPerToken: 4,
      numDenseLayers: 2,
      scale: 2.5,
    });
  });

  test("reads windows that begin at a layer, or are listed", () => {
    const sliding = { model_type: "qwen3", use_sliding_window: true, sliding_window: 4 };
    expect(attention({ ...sliding, max_window_layers: 1 })).toMatchObject({ window: [null, 4, 4] });
    const layer_types = ["sliding_attention", "full_attention", "sliding_attention"];
    expect(attention({ ...sliding, layer_types })).toMatchObject({ window: [4, null, 4] });
    expect(attention({ ...sliding, model_type: "qwen3_moe" })).toMatchObject({ window: [4, 4, 4] });
    expect(attention({ ...sliding, use_sliding_window: false, layer_types })).toMatchObject({
      window: [null, null, null],
    });
  });

  test("reads dense layers before those with experts, however they are written", () => {
    const dense = (json: HuggingFaceConfig) =>
      configFromHuggingFace({ ...base, model_type: "qwen3_moe", ...json }).feedForward;
    expect(dense({ mlp_only_layers: [0, 1] })).toMatchObject({ numDenseLayers: 2 });
    expect(dense({ decoder_sparse_step: 3 })).toMatchObject({ numDenseLayers: 2 });
    expect(dense({ decoder_sparse_step: 4 })).toMatchObject({ numDenseLayers: 3 });
  });

  test("reads YaRN's factor from the lengths where it is null, and takes zeros as absent", () => {
    const rope_scaling = {
      rope_type: "yarn",
      factor: null,
      original_max_position_embeddings: 16,
      beta_fast: 0,
      mscale: 0,
    };
    expect(configFromHuggingFace({ ...base, max_position_embeddings: 64, rope_scaling }).positions.scaling).toEqual({
      kind: "yarn",
      factor: 4,
      originalMaxPositions: 16,
    });
  });

  test.each<[string, HuggingFaceConfig, string]>([
    [
      "another model type",
      { model_type: "bert" },
      'model_type must be one of gpt2, llama, mistral, mixtral, qwen3, qwen3_moe, deepseek_v3, kimi_k2, got "bert"',
    ],
    ["a name of objects", { model_type: "toString" }, "model_type must be one of"],
    ["a wrong type", { hidden_size: "16" }, '"hidden_size" must be a number, got "16"'],
    ["a missing field", { vocab_size: null }, 'config.json must have "vocab_size", a number, got none'],
    ["another activation", { hidden_act: "relu" }, 'hidden_act must be "silu" for llama, got "relu"'],
    [
      "scaling we lack",
      { rope_scaling: { type: "longrope" } },
      'rope_type must be one of default, linear, yarn, llama3, got "longrope"',
    ],
    ["partly rotated features", { partial_rotary_factor: 0.5 }, "partial_rotary_factor must be 1"],
    [
      "biases of a Mistral",
      { model_type: "mistral", attention_bias: true },
      "attention_bias must be false for mistral, got true",
    ],
    [
      "an odd list of layers",
      { model_type: "qwen3", use_sliding_window: true, layer_types: ["linear_attention"] },
      "layer_types must be full_attention or sliding_attention for each of the 3 layers",
    ],
    [
      "dense layers among those with experts",
      { model_type: "qwen3_moe", mlp_only_layers: [1] },
      "mlp_only_layers and decoder_sparse_step must leave experts in all layers after the first that has them, got [1] and 1",
    ],
    [
      "a softmax in DeepSeek",
      { model_type: "deepseek_v3", scoring_func: "softmax" },
      'scoring_func must be "sigmoid" for deepseek_v3',
    ],
    [
      "DeepSeek-V2's choice",
      { model_type: "deepseek_v3", topk_method: "group_limited_greedy" },
      'topk_method must be "noaux_tc"',
    ],
    [
      "experts in every other layer",
      { model_type: "kimi_k2", moe_layer_freq: 2 },
      "moe_layer_freq must be 1 for kimi_k2, got 2",
    ],
    [
      "grouped queries in DeepSeek",
      { model_type: "deepseek_v3", num_key_value_heads: 2 },
      "num_key_value_heads must be 4 for deepseek_v3, got 2",
    ],
    [
      "a factor of logits without YaRN",
      { model_type: "deepseek_v3", rope_scaling: { type: "linear", factor: 2, mscale_all_dim: 1 } },
      'mscale_all_dim must be absent with rope_type "linear", got 1',
    ],
    [
      "GPT-2's activation",
      { model_type: "gpt2", activation_function: "relu" },
      "activation_function must be one of gelu_new, gelu_pytorch_tanh, gelu",
    ],
    [
      "GPT-2's scaling by layer",
      { model_type: "gpt2", scale_attn_by_inverse_layer_idx: true },
      "scale_attn_by_inverse_layer_idx must be false for gpt2, got true",
    ],
  ])("refuses %s", (_, fields, message) => {
    expect(() => configFromHuggingFace({ ...base, ...fields })).toThrow(`configFromHuggingFace: ${message}`);
  });
});

test("formatHuggingFaceConfig writes floats with a point, and nothing else", () => {
  const text = formatHuggingFaceConfig({
    hidden_size: 8,
    routed_scaling_factor: 1,
    rms_norm_eps: 1e-6,
    rope_scaling: { factor: 4, type: "1.0" },
  });
  expect(text).toContain('"routed_scaling_factor": 1.0,');
  expect(text).toContain('"factor": 4.0,');
  expect(text).toContain('"hidden_size": 8,');
  expect(JSON.parse(text)).toEqual({
    hidden_size: 8,
    routed_scaling_factor: 1,
    rms_norm_eps: 1e-6,
    rope_scaling: { factor: 4, type: "1.0" },
  });
});

describe("kimiK2Mini", () => {
  test("is K2 at K2's width", () => {
    const { positions, ...k2 } = resolveConfig(kimiK2());
    const { positions: plain, ...mini } = resolveConfig(
      kimiK2Mini({ hiddenSize: 7168, numLayers: 61, vocabSize: 163840, numExperts: 384, numExpertsPerToken: 8 }),
    );
    expect(mini).toEqual(k2);
    expect(plain).toEqual({ ...positions, maxPositions: 4096, scaling: null });
  });

  test("is small at a small width", () => {
    const { attention, feedForward, vocabSize } = resolveConfig(kimiK2Mini({ hiddenSize: 64, numLayers: 3 }));
    expect(vocabSize).toBe(256);
    expect(attention).toMatchObject({
      numHeads: 4,
      queryRank: 16,
      keyValueRank: 8,
      nopeHeadDim: 16,
      ropeHeadDim: 8,
      valueHeadDim: 16,
    });
    expect(feedForward).toMatchObject({
      numExperts: 16,
      numExpertsPerToken: 2,
      numSharedExperts: 1,
      numDenseLayers: 1,
      denseIntermediateSize: 168,
      intermediateSize: 56,
    });
  });

  test("takes every size from the caller", () => {
    const sizes = {
      vocabSize: 300,
      numHeads: 2,
      maxPositions: 32,
      normEps: 1e-5,
      tiedHead: true,
      initStd: 0.01,
      theta: 1000,
      queryRank: null,
      keyValueRank: 24,
      nopeHeadDim: 10,
      ropeHeadDim: 6,
      valueHeadDim: 14,
      numDenseLayers: 0,
      denseIntermediateSize: 50,
      numExperts: 12,
      numExpertsPerToken: 3,
      numSharedExperts: 2,
      intermediateSize: 20,
      numGroups: 4,
      groupsPerToken: 2,
      scale: 1.5,
      sequenceBalance: 1e-4,
    } as const;
    const { attention, feedForward, positions, ...rest } = resolveConfig(
      kimiK2Mini({ hiddenSize: 48, numLayers: 2, ...sizes }),
    );
    const flat: object = { ...attention, ...feedForward, ...positions, ...rest, normEps: rest.norm.eps };
    expect(flat).toMatchObject(sizes);
  });
});
