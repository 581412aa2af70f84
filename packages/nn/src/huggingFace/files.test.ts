import { type Device, readSafetensors, realise, type Tensor, treePaths, writeSafetensors } from "@mc/tensor";
import { type FixtureName, loadFixture, loadFixtureJson, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { configFromHuggingFace } from "./config.ts";
import type { HuggingFaceConfig } from "./fields.ts";
import { loadHuggingFace } from "./load.ts";
import { type SaveHuggingFaceOptions, saveHuggingFace } from "./save.ts";

let device: Device;
beforeAll(async () => {
  device = await sharedTestDevice();
});

type Files = Map<string, Uint8Array>;
const json = (files: Files, name: string) => JSON.parse(new TextDecoder().decode(files.get(name))) as HuggingFaceConfig;
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

async function fixtureFiles(fixture: FixtureName): Promise<Files> {
  const names = ["config.json", "model.safetensors"];
  return new Map(await Promise.all(names.map(async (name) => [name, await loadFixture(fixture, name)] as const)));
}

async function saved(files: Files, options: SaveHuggingFaceOptions = {}): Promise<Files> {
  const { model, params } = await loadHuggingFace((name) => files.get(name), { device });
  const out: Files = new Map();
  for await (const { name, bytes } of saveHuggingFace(model.config, params, options)) out.set(name, bytes);
  return out;
}

/** All tensors of a checkpoint. */
function tensorsOf(files: Files) {
  const all = [...files].filter(([name]) => name.endsWith(".safetensors"));
  return Object.assign({}, ...all.map(([, bytes]) => ({ ...readSafetensors(bytes).tensors }))) as ReturnType<
    typeof readSafetensors
  >["tensors"];
}

/** The same files with other element types, made by the file format alone. */
function converted(files: Files, dtype: "BF16" | "F16"): Files {
  const tensors = tensorsOf(files);
  const bytes = writeSafetensors(
    Object.fromEntries(
      Object.entries(tensors).map(([name, t]) => [
        name,
        { ...t, dtype: name.endsWith("correction_bias") ? ("F32" as const) : dtype },
      ]),
    ),
  );
  return new Map([...files, ["model.safetensors", bytes]]);
}

describe.each(["deepseek_v3_groups", "mixtral_tiny", "gpt2_tiny"] as const)("%s", (fixture) => {
  test("is written as it was read, in one file and in shards", async () => {
    const files = await fixtureFiles(fixture);
    const original = tensorsOf(files);
    const single = await saved(files);
    expect([...single.keys()]).toEqual(["config.json", "model.safetensors"]);
    expect(tensorsOf(single)).toEqual(original);
    expect(readSafetensors(single.get("model.safetensors")!).metadata).toEqual({ format: "pt" });
    expect(configFromHuggingFace(json(single, "config.json"))).toEqual(
      configFromHuggingFace(json(files, "config.json")),
    );

    const shards = await saved(files, { maxShardBytes: 20_000 });
    const names = [...shards.keys()];
    const count = names.length - 2;
    expect(count).toBeGreaterThan(3);
    expect(names[1]).toBe(`model-00001-of-0000${count}.safetensors`);
    expect(names.at(-1)).toBe("model.safetensors.index.json");
    expect(tensorsOf(shards)).toEqual(original);
    const { metadata, weight_map } = json(shards, names.at(-1)!) as {
      metadata: object;
      weight_map: Record<string, string>;
    };
    const bytes = Object.values(original).reduce((sum, t) => sum + t.data.byteLength, 0);
    expect(metadata).toEqual({ total_size: bytes });
    for (const [name, file] of Object.entries(weight_map))
      expect(readSafetensors(shards.get(file)!).tensors).toHaveProperty([name]);
    expect(tensorsOf(await saved(shards))).toEqual(original);
  });

  test.each(["BF16", "F16"] as const)("keeps the bytes of %s", async (dtype) => {
    const files = converted(await fixtureFiles(fixture), dtype);
    const again = await saved(files, { dtype });
    expect(tensorsOf(again)).toEqual(tensorsOf(files));
    expect(json(again, "config.json").dtype).toBe(dtype === "BF16" ? "bfloat16" : "float16");
  });
});

describe("loadHuggingFace", () => {
  test("asks for one shard after another, and gives what fromHuggingFace gives", async () => {
    const files = await saved(await fixtureFiles("deepseek_v3_groups"), { maxShardBytes: 20_000 });
    const asked: string[] = [];
    let held = 0;
    const { params, config } = await loadHuggingFace(
      async (name) => {
        asked.push(name);
        expect(held, "reads at the same time").toBe(0);
        held++;
        await Promise.resolve();
        held--;
        return files.get(name);
      },
      { device },
    );
    expect(config.model_type).toBe("deepseek_v3");
    expect(asked.slice(0, 4)).toEqual([
      "config.json",
      "model.safetensors",
      "model.safetensors.index.json",
      [...files.keys()][1],
    ]);
    expect(new Set(asked).size).toBe(asked.length);
    const leaves = treePaths<Tensor>(params);
    await realise(params);
    expect(leaves.every(([, leaf]) => leaf.device === device)).toBe(true);
  });

  test("names what does not fit before it reads a shard, and wrong shapes after", async () => {
    const files = await saved(await fixtureFiles("mixtral_tiny"), { maxShardBytes: 20_000 });
    const index = json(files, "model.safetensors.index.json") as { weight_map: Record<string, string> };
    const { "lm_head.weight": head, ...rest } = index.weight_map;
    const asked: string[] = [];
    const read = (changed: Files) => (name: string) => {
      asked.push(name);
      return changed.get(name);
    };
    const without = new Map([
      ...files,
      ["model.safetensors.index.json", text({ weight_map: { ...rest, other: head } })],
    ]);
    await expect(loadHuggingFace(read(without), { device })).rejects.toThrow(
      'loadHuggingFace: the weights do not fit the config: missing "lm_head.weight" [40, 24]; unexpected "other"',
    );
    expect(asked.filter((name) => name.startsWith("model-"))).toEqual([]);

    const [, shard] = [...files.keys()];
    const { tensors } = readSafetensors(files.get(shard!)!);
    const name = Object.keys(tensors)[0]!;
    const data = new Float32Array(6);
    const wrong = new Map([...files, [shard!, writeSafetensors({ ...tensors, [name]: { shape: [2, 3], data } })]]);
    await expect(loadHuggingFace(read(wrong), { device })).rejects.toThrow(`"${name}" must be [40, 24], got [2, 3]`);
    const whole = new Map([
      ...files,
      [shard!, writeSafetensors({ ...tensors, [name]: { shape: [6], data: new Int32Array(6) } })],
    ]);
    await expect(loadHuggingFace(read(whole), { device })).rejects.toThrow(`"${name}" must be [40, 24], got [6]`);
  });

  test("says which file is missing or no JSON", async () => {
    const files = await fixtureFiles("gpt2_tiny");
    const load = (changed: Files) => loadHuggingFace((name) => changed.get(name), { device });
    await expect(load(new Map())).rejects.toThrow("loadHuggingFace: there must be a config.json, got none");
    await expect(load(new Map([...files].slice(0, 1)))).rejects.toThrow(
      "loadHuggingFace: there must be a model.safetensors or a model.safetensors.index.json, got neither",
    );
    await expect(load(new Map([["config.json", new Uint8Array([123])]]))).rejects.toThrow(
      "config.json is not valid JSON",
    );
    await expect(load(new Map([["config.json", text([])]]))).rejects.toThrow("config.json must hold a JSON object");
    const indexed = (index: unknown) =>
      new Map([
        ["config.json", files.get("config.json")!],
        ["model.safetensors.index.json", text(index)],
      ]);
    await expect(load(indexed({}))).rejects.toThrow('model.safetensors.index.json must have a "weight_map"');
    const names = Object.keys(tensorsOf(files));
    const map = Object.fromEntries(names.map((name) => [name, "model-00001-of-00001.safetensors"]));
    await expect(load(indexed({ weight_map: map }))).rejects.toThrow(
      "there must be a model-00001-of-00001.safetensors, got none",
    );
  });

  test("reads F64, and holds the names of modules too", async () => {
    const files = await fixtureFiles("mixtral_tiny");
    const tensors = tensorsOf(files);
    const doubles = Object.fromEntries(
      Object.entries(tensors).map(([name, t]) => [name, { ...t, dtype: "F64" as const }]),
    );
    const again = await saved(new Map([...files, ["model.safetensors", writeSafetensors(doubles)]]));
    expect(tensorsOf(again)).toEqual(tensors);
  });
});

describe("saveHuggingFace", () => {
  test("takes a function for element types, further fields, and a model type", async () => {
    const files = await saved(await fixtureFiles("deepseek_v3_groups"), {
      modelType: "kimi_k2",
      dtype: (name) => (name.includes("norm") ? "F32" : "BF16"),
      fields: { eos_token_id: 7 },
    });
    expect(json(files, "config.json")).toMatchObject({
      model_type: "kimi_k2",
      eos_token_id: 7,
      torch_dtype: "bfloat16",
    });
    const tensors = tensorsOf(files);
    expect(tensors["model.norm.weight"]!.dtype).toBe("F32");
    expect(tensors["model.layers.1.mlp.gate.e_score_correction_bias"]!.dtype).toBe("BF16");
  });

  test("refuses parameters of another model, and a shard of no bytes", async () => {
    const config = configFromHuggingFace(await loadFixtureJson<HuggingFaceConfig>("gpt2_tiny", "config.json"));
    await expect(saveHuggingFace(config, { norm: {} }).next()).rejects.toThrow(
      'saveHuggingFace: the tree must hold "embedding.weight"',
    );
    await expect(saveHuggingFace(config, {}, { maxShardBytes: 0 }).next()).rejects.toThrow(
      "maxShardBytes must be positive, got 0",
    );
  });
});
