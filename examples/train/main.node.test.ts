import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readSafetensors } from "@mc/tensor";
import { afterAll, describe, expect, test } from "vitest";
import type { StepMetrics } from "./metrics.ts";

const root = mkdtempSync(join(tmpdir(), "main-job-"));
afterAll(() => rmSync(root, { recursive: true }));

const text = join(root, "text.txt");
writeFileSync(text, "The quick brown fox jumps over the lazy dog.\n\n".repeat(200));
const small = `--device cpu --width 16 --layers 2 --heads 2 --experts 4 --context 16 --batch 4 --text ${text}`.split(
  " ",
);

const llama = {
  model_type: "llama",
  vocab_size: 512,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
};

/** A config.json of its own. */
function configFile(name: string, config: unknown): string {
  const path = join(root, `${name}.json`);
  writeFileSync(path, JSON.stringify(config));
  return path;
}

interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The main job as `npm start` starts it; `during` sees it running. */
function start(
  args: readonly string[],
  during: (child: ChildProcess, stdout: string) => void = () => {},
): Promise<Finished> {
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  const child = spawn(process.execPath, ["--conditions=@mc/source", "--import", "tsx", main, ...args]);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
    during(child, stdout);
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
}

const files = ["config.json", "metrics.jsonl", "model.safetensors", "report.html"];

const linesOf = (folder: string) =>
  readFileSync(join(folder, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("the main job", { timeout: 180_000 }, () => {
  test("prints plan, device and baselines, and leaves metrics, weights and report; the same seed gives the same numbers", async () => {
    const folders = [join(root, "first"), join(root, "second")];
    const args = [...small, "--steps", "30", "--tau", "0.02"];
    const runs = await Promise.all(folders.map((folder) => start([...args, "--out", folder])));
    for (const { code, stderr } of runs) expect({ code, stderr }).toEqual({ code: 0, stderr: "" });

    const [{ stdout }] = runs as [Finished, Finished];
    for (const part of [
      "cpu (",
      "WebAssembly SIMD",
      "layers.1.feedForward.experts.gateUp",
      "order-1 n-gram",
      "order-2 n-gram",
    ]) {
      expect(stdout).toContain(part);
    }
    expect(stdout).toMatch(
      /step 30\/30 {2}loss \d\.\d+ {2}[\d,]+ tok\/s {2}logit \d+ {2}\d clipped {2}load \d\.\dx {2}0:00 left/,
    );
    expect(stdout).toMatch(/validation loss \d\.\d+ nats a byte, \d\.\d+ bits per byte/);

    const [first, second] = folders.map(linesOf) as [StepMetrics[], StepMetrics[]];
    expect(first.length).toBe(31);
    const fields = (
      "step loss learningRate tokensPerSecond maxLogit clippedHeads gradNorm seconds " +
      "expertLoad routingEntropy droppedTokens"
    ).split(" ");
    first.slice(0, 30).forEach((line, i) => {
      expect(Object.keys(line)).toEqual(fields);
      expect(line.step).toBe(i + 1);
      expect(line.maxLogit.map((heads) => heads.length)).toEqual([2, 2]);
      expect(line.expertLoad.map((shares) => shares.length)).toEqual([4]);
      expect(line.expertLoad[0]!.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
      expect(line.droppedTokens).toBe(0);
      expect(line.routingEntropy).toBeGreaterThan(0);
    });
    expect(first.some(({ clippedHeads }) => clippedHeads > 0)).toBe(true);
    expect(first[29]!.loss).toBeLessThan(first[0]!.loss - 0.5);
    expect(first[30]).toEqual({ done: true, validationLoss: expect.any(Number), bitsPerByte: expect.any(Number) });
    const withoutTimes = (lines: StepMetrics[]) => lines.map((line) => ({ ...line, tokensPerSecond: 0, seconds: 0 }));
    expect(withoutTimes(second)).toEqual(withoutTimes(first));

    expect(readdirSync(folders[0]!).sort()).toEqual(files);
    const weights = folders.map((folder) => readFileSync(join(folder, "model.safetensors")));
    expect(weights[0]!.equals(weights[1]!)).toBe(true);
    const { tensors } = readSafetensors(weights[0]!);
    expect(tensors["model.layers.0.self_attn.kv_b_proj.weight"]!.shape).toEqual([32, 8]);
    expect(readFileSync(join(folders[0]!, "report.html"), "utf8").match(/<svg /g)?.length).toBe(5);
  });

  test.each(["adamw", "muon"])("trains with %s, which clips nothing", async (optimizer) => {
    const out = join(root, optimizer);
    const { code, stdout } = await start([
      ...small,
      "--steps",
      "15",
      "--optimizer",
      optimizer,
      "--no-progress",
      "--out",
      out,
    ]);
    expect(code).toBe(0);
    expect(stdout).not.toContain("tok/s");
    const lines = linesOf(out);
    expect(lines.length).toBe(16);
    expect(lines[14].loss).toBeLessThan(lines[0].loss);
    expect(lines.slice(0, 15).every(({ clippedHeads }) => clippedHeads === 0)).toBe(true);
  });

  test("trains the model of a config.json, and what it leaves is such a model again", async () => {
    const [first, second] = [join(root, "llama"), join(root, "llama-again")];
    const args = `--device cpu --context 16 --batch 4 --text ${text} --steps 5 --packing masked`.split(" ");
    const run = await start([...args, "--config", configFile("llama", llama), "--out", first]);
    expect({ code: run.code, stderr: run.stderr }).toEqual({ code: 0, stderr: "" });
    expect(run.stdout).toContain("1 layers, 2 heads, width 16");
    const lines = linesOf(first);
    expect(lines[0].maxLogit.map((heads: number[]) => heads.length)).toEqual([2]);
    expect(lines[0].expertLoad).toEqual([]);
    const again = await start([...args, "--config", join(first, "config.json"), "--out", second]);
    expect(again.code).toBe(0);
    const loss = (folder: string) => linesOf(folder).at(-1).validationLoss;
    expect(loss(second)).toBe(loss(first));
  });

  test("ends after the running step at Ctrl-C, and leaves the same files", async () => {
    const out = join(root, "stopped");
    let sent = false;
    const { code, stdout } = await start([...small, "--steps", "100000", "--out", out], (child, soFar) => {
      if (sent || !soFar.includes("step 1/")) return;
      sent = true;
      child.kill("SIGINT");
    });
    expect(code).toBe(0);
    expect(stdout).toMatch(/stopped after step \d+ of 100000/);
    expect(readdirSync(out).sort()).toEqual(files);
    const lines = linesOf(out);
    expect(lines.at(-1).done).toBe(true);
    expect(lines.at(-2).step).toBe(lines.length - 1);
  });

  test("refuses what cannot be done with exit code 2, a reason on stderr, and nothing written", async () => {
    const out = join(root, "refused");
    const file = join(root, "a-file");
    writeFileSync(file, "");
    const cases: [string[], RegExp][] = [
      [["--unknown"], /unknown option '--unknown'/],
      [["--heads", "3"], /'--heads' must divide the width, got 3 heads and width 64/],
      [["--text", join(root, "none.txt")], /there is no such file/],
      [["--text", text, "--context", "8192"], /is too short/],
      [[...small, "--out", join(file, "below")], /--out: cannot write to/],
      [["--config", join(root, "none.json")], /--config: cannot read .*there is no such file/],
      [["--config", text], /--config: .* must be JSON/],
      [["--config", configFile("array", [])], /must hold an object/],
      [["--config", configFile("bert", { model_type: "bert" })], /--config: .*model_type must be one of/],
      [["--config", configFile("small", { ...llama, vocab_size: 100 })], /needs vocab_size 256 or more, got 100/],
      [
        ["--config", configFile("short", { ...llama, max_position_embeddings: 64 })],
        /has 64 positions, fewer than --context 128/,
      ],
      [
        ["--config", configFile("normed", { ...llama, model_type: "qwen3", head_dim: 8 })],
        /there is nothing to clip; use --optimizer muon/,
      ],
    ];
    const results = await Promise.all(cases.map(([args]) => start(["--out", out, ...args])));
    results.forEach(({ code, stdout, stderr }, i) => {
      expect(code).toBe(2);
      expect(stdout).toBe("");
      expect(stderr).toMatch(/^error: /);
      expect(stderr).toMatch(cases[i]![1]);
    });
    expect(existsSync(out)).toBe(false);
  });
});
