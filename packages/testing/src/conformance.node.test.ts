// The conformance tool as it is used: exit codes, files written, and that it sees one weight in a thousand changed.
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readSafetensors, type TypedArray, writeSafetensors } from "@mc/tensor";
import { afterAll, describe, expect, test } from "vitest";
import { conformance } from "../conformance/cli.ts";
import { chooseExperts } from "../conformance/experts.ts";
import { random } from "./random.ts";

const main = fileURLToPath(new URL("../conformance/main.ts", import.meta.url));
const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "mc-conformance-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Run {
  readonly code: number;
  readonly output: string;
}

/** The tool in this process. */
async function run(...args: string[]): Promise<Run> {
  const lines: string[] = [];
  const write = (text: string): void => {
    lines.push(text);
  };
  return { code: await conformance(args, { log: write, error: write }), output: lines.join("\n") };
}

/** The tool as a program. */
function runProgram(...args: string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ["--conditions=@mc/source", "--import", "tsx", main, ...args],
      (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr });
      },
    );
  });
}

const readTensors = (...path: string[]) => readSafetensors(new Uint8Array(readFileSync(join(...path)))).tensors;

/** A copy of fixtures in a folder of its own, with one tensor of one file scaled by 1.001. */
function scaled(name: string, file: string, tensor: string, ...others: string[]): string {
  const folder = mkdtempSync(join(scratch, "scaled-"));
  for (const each of [name, ...others]) cpSync(join(fixtures, each), join(folder, each), { recursive: true });
  const [target] = others.length > 0 && file === "model.safetensors" ? others : [name];
  const tensors = { ...readTensors(folder, target!, file) };
  const { data } = tensors[tensor]!;
  tensors[tensor] = { ...tensors[tensor]!, data: data.map((v) => v * 1.001) as TypedArray };
  writeFileSync(join(folder, target!, file), writeSafetensors(tensors));
  return join(folder, name);
}

/** A fixture's model in shards of one element type, made by the file format alone. */
function shardedFolder(name: string, dtype: "F32" | "BF16" | "F16"): string {
  const folder = join(mkdtempSync(join(scratch, "folder-")), `sharded-${dtype}`);
  mkdirSync(folder);
  cpSync(join(fixtures, name, "config.json"), join(folder, "config.json"));
  const tensors = Object.entries(readTensors(fixtures, name, "model.safetensors"));
  const weight_map: Record<string, string> = {};
  for (let i = 0; i < tensors.length; i += 30) {
    const file = `part-${i}.safetensors`;
    const shard = tensors.slice(i, i + 30).map(([key, t]) => [key, { ...t, dtype }] as const);
    for (const [key] of shard) weight_map[key] = file;
    writeFileSync(join(folder, file), writeSafetensors(Object.fromEntries(shard)));
  }
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  return folder;
}

describe("npm run conformance", () => {
  // .ci/run takes the tool to all committed folders
  test("passes in both precisions and writes what it computed", async () => {
    const folders = [
      ["gpt2_tiny", "case"],
      ["deepseek_v3_groups", "case"],
      ["optim", "optim"],
      ["train_llama_gqa", "train"],
    ] as const;
    const out = join(scratch, "out");
    const { code, output } = await run("--write", out, ...folders.map(([name]) => join(fixtures, name)));
    expect(output).toMatch(/\d+ errors computed, 0 past their bounds/);
    expect(output).toMatch(/experts\.1: tokens whose experts differ +0\.00e\+0 +<= 0e\+0 +ok/);
    expect(code).toBe(0);
    for (const [name, file] of folders) {
      const expected = readTensors(fixtures, name, `${file}.safetensors`);
      const computed = readTensors(out, name, `${file}.safetensors`);
      const given = /^input_ids|\.param0$|\.grad\d+$|\.polar$/;
      expect(Object.keys(computed).sort()).toEqual(
        Object.keys(expected)
          .filter((key) => !given.test(key))
          .sort(),
      );
      for (const [key, { dtype, shape }] of Object.entries(computed)) {
        expect(dtype, key).toBe("F64");
        expect(shape, key).toEqual(expected[key]!.shape);
      }
    }
    expect(readTensors(out, "gpt2_tiny", "case.f32.safetensors").logits!.dtype).toBe("F32");
  }, 180_000);

  test.each([
    [
      "a weight of a Llama",
      () => scaled("llama_gqa_tiny", "model.safetensors", "model.layers.1.self_attn.v_proj.weight"),
    ],
    ["a norm of a GPT-2", () => scaled("gpt2_tiny", "model.safetensors", "transformer.h.0.ln_2.weight")],
    [
      "an expert of a DeepSeek",
      () => scaled("deepseek_v3_groups", "model.safetensors", "model.layers.1.mlp.experts.5.up_proj.weight"),
    ],
    [
      "a weight of the model behind a training",
      () => scaled("train_llama_gqa", "model.safetensors", "model.layers.0.mlp.up_proj.weight", "llama_gqa_tiny"),
    ],
    [
      "a recorded parameter of a training",
      () => scaled("train_gpt2", "train.safetensors", "param.4.transformer.h.1.mlp.c_fc.weight", "gpt2_tiny"),
    ],
    ["a starting point of an optimizer", () => scaled("optim", "optim.safetensors", "wide.param0")],
  ])(
    "fails when %s is scaled by 1.001",
    async (_, make) => {
      const { code, output } = await run("--precision", "f64", make());
      expect(output).toContain("FAILED");
      expect(code).toBe(1);
    },
    60_000,
  );

  test("works on a folder of other sizes", async () => {
    const folder = join(scratch, "other");
    mkdirSync(folder);
    const config = {
      model_type: "llama",
      vocab_size: 50,
      hidden_size: 36,
      num_hidden_layers: 3,
      num_attention_heads: 6,
      num_key_value_heads: 3,
      head_dim: 6,
      intermediate_size: 20,
      rms_norm_eps: 1e-5,
      rope_parameters: { rope_theta: 500, rope_type: "default" },
      max_position_embeddings: 32,
    };
    const shapes: Record<string, number[]> = {
      "model.embed_tokens.weight": [50, 36],
      "lm_head.weight": [50, 36],
      "model.norm.weight": [36],
    };
    for (let i = 0; i < 3; i++) {
      const at = `model.layers.${i}`;
      Object.assign(shapes, {
        [`${at}.self_attn.q_proj.weight`]: [36, 36],
        [`${at}.self_attn.k_proj.weight`]: [18, 36],
        [`${at}.self_attn.v_proj.weight`]: [18, 36],
        [`${at}.self_attn.o_proj.weight`]: [36, 36],
        [`${at}.mlp.gate_proj.weight`]: [20, 36],
        [`${at}.mlp.up_proj.weight`]: [20, 36],
        [`${at}.mlp.down_proj.weight`]: [36, 20],
        [`${at}.input_layernorm.weight`]: [36],
        [`${at}.post_attention_layernorm.weight`]: [36],
      });
    }
    const r = random(1);
    const fill = (shape: readonly number[]) => ({
      shape,
      data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => r.normal() / 4),
    });
    const zeros = (shape: readonly number[]) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b)) });
    const ids = { shape: [3, 9], data: Int32Array.from({ length: 27 }, () => r.integer(0, 50)) };
    const all = (make: typeof zeros) => ({
      input_ids: ids,
      logits: make([3, 9, 50]),
      loss: make([1]),
      ...Object.fromEntries([0, 1, 2, 3].map((i) => [`hidden.${i}`, make([3, 9, 36])])),
      ...Object.fromEntries([0, 1, 2].map((i) => [`max_logit.${i}`, make([6])])),
      ...Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [`grad.${name}`, make(shape)])),
    });
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    writeFileSync(
      join(folder, "model.safetensors"),
      writeSafetensors(Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, fill(shape)]))),
    );
    // wrong numbers fail; what it writes itself, it accepts
    writeFileSync(join(folder, "case.safetensors"), writeSafetensors(all(fill)));
    expect((await run("--precision", "f64", "--write", join(scratch, "written"), folder)).code).toBe(1);
    const written = readTensors(scratch, "written", "other", "case.safetensors");
    writeFileSync(join(folder, "case.safetensors"), writeSafetensors({ ...written, input_ids: ids }));
    expect((await run("--precision", "both", folder)).code).toBe(0);
  }, 60_000);

  test("takes shards, and says which folder lacks weights", async () => {
    const folder = join(scratch, "shards");
    await run("--roundtrip", "--precision", "f32", "--write", scratch, shardedFolder("mixtral_tiny", "F32"));
    renameSync(join(scratch, "sharded-F32"), folder);
    cpSync(join(fixtures, "mixtral_tiny", "case.safetensors"), join(folder, "case.safetensors"));
    expect((await run("--precision", "f32", folder)).code).toBe(0);
    rmSync(join(folder, "model.safetensors.index.json"));
    const { code, output } = await run(folder);
    expect(code).toBe(2);
    expect(output).toContain("the folder lacks model.safetensors or model.safetensors.index.json");
  });

  test.each([
    ["no folder", []],
    ["an unknown option", ["--quick", join(fixtures, "optim")]],
    ["an unknown device", ["--device", "tpu", join(fixtures, "optim")]],
    ["an unknown precision", ["--precision", "f16", join(fixtures, "optim")]],
    ["f64 on a GPU", ["--device", "webgpu", "--precision", "f64", join(fixtures, "optim")]],
    ["a folder that is not there", [join(fixtures, "none")]],
    ["a folder of nothing known", [scratch]],
  ])("ends with exit code 2 and a reason for %s", async (_, args) => {
    const { code, output } = await run(...args);
    expect(code).toBe(2);
    expect(output).toMatch(/^conformance: /m);
  });

  test.each(["F32", "BF16", "F16"] as const)("--roundtrip finds %s shards as they were", async (dtype) => {
    const folder = shardedFolder("deepseek_v3_groups", dtype);
    const out = join(scratch, `roundtrip-${dtype}`);
    const { code, output } = await run("--roundtrip", "--write", out, folder);
    expect(output).toMatch(/tensors of other bytes +0\.00e\+0/);
    expect(output).toContain("12 errors computed, 0 past their bounds");
    expect(code).toBe(0);
    const index = "model.safetensors.index.json";
    expect(readdirSync(join(out, `sharded-${dtype}`))).toContain(index);
    expect(readdirSync(join(out, `sharded-${dtype}.f32`))).toContain(index);
  });

  test("--roundtrip fails where something is not written again, and names it", async () => {
    const folder = join(scratch, "more");
    mkdirSync(folder);
    cpSync(join(fixtures, "deepseek_v3_groups", "config.json"), join(folder, "config.json"));
    const { tensors } = readSafetensors(
      new Uint8Array(readFileSync(join(fixtures, "deepseek_v3_groups", "model.safetensors"))),
    );
    const more = { ...tensors, "model.layers.2.eh_proj.weight": { shape: [1], data: new Float32Array(1) } };
    writeFileSync(join(folder, "model.safetensors"), writeSafetensors(more));
    const { code, output } = await run("--roundtrip", "--precision", "f32", folder);
    expect(output).toMatch(
      /names not written, of 78 +1\.00e\+0 +<= 0e\+0 +FAILED\n {4}model\.layers\.2\.eh_proj\.weight/,
    );
    expect(code).toBe(1);
  });

  test("--help prints the options and ends with exit code 0", async () => {
    const { code, output } = await runProgram("--help");
    expect(code).toBe(0);
    expect(output).toContain("--write DIR");
  });

  test("the program hands its exit code on", async () => {
    expect((await runProgram(join(fixtures, "none"))).code).toBe(2);
  });
});

describe("chooseExperts", () => {
  const moe = { scoring: "sigmoid", numExpertsPerToken: 2, numGroups: 1, groupsPerToken: 1 } as Parameters<
    typeof chooseExperts
  >[2];

  test("takes the largest scores plus bias, lower numbers first where they tie", () => {
    expect(chooseExperts([1, 3, 3, 2], undefined, moe)).toEqual([1, 2]);
    expect(chooseExperts([1, 3, 3, 2], [0.5, 0, 0, 0], moe)).toEqual([0, 1]);
    expect(chooseExperts([5, 1, 7, 1], undefined, { ...moe, scoring: "softmax" })).toEqual([2, 0]);
  });

  test("chooses in the groups that are worth most, by their two best scores with a bias and by the best without", () => {
    const groups = { ...moe, numGroups: 2, groupsPerToken: 1 };
    expect(chooseExperts([4, -9, -9, 2, 2, 2], [0, 0, 0, 0, 0, 0], groups)).toEqual([3, 4]);
    expect(chooseExperts([4, -9, -9, 2, 2, 2], undefined, groups)).toEqual([0, 1]);
  });
});
