import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { kimiK2Mini, saveHuggingFace, transformer } from "@mc/nn";
import { connect, key } from "@mc/tensor";
import { afterAll, describe, expect, test } from "vitest";

const root = mkdtempSync(join(tmpdir(), "finetune-"));
afterAll(() => rmSync(root, { recursive: true }));

const text = join(root, "text.txt");
writeFileSync(text, "The quick brown fox jumps over the lazy dog.\n\n".repeat(60));

async function writeModel(vocabSize: number): Promise<void> {
  await connect({ device: "cpu" });
  const model = transformer(kimiK2Mini({ vocabSize, hiddenSize: 16, numLayers: 2, numExperts: 4 }));
  for await (const { name, bytes } of saveHuggingFace(model.config, model.init(key(1)))) {
    writeFileSync(join(root, name), bytes);
  }
}

function finetune(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  return new Promise((done) => {
    execFile(process.execPath, ["--conditions=@mc/source", "--import", "tsx", main, ...args], (error, stdout, stderr) =>
      done({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

describe("the fine-tuning example", { timeout: 60_000 }, () => {
  test("lowers the loss on unseen documents and leaves a checkpoint", async () => {
    await writeModel(256);
    const out = join(root, "out");
    const run = await finetune(root, text, "--steps", "20", "--context", "32", "--learning-rate", "1e-2", "--out", out);
    expect({ code: run.code, stderr: run.stderr }).toEqual({ code: 0, stderr: "" });
    const loss = (when: string) => Number(new RegExp(`${when} +loss (\\S+) on unseen`).exec(run.stdout)?.[1]);
    expect(loss("after")).toBeLessThan(loss("before") - 1);
    expect(readdirSync(out).sort()).toEqual(["config.json", "model.safetensors"]);
  });

  test("says what is wrong, with exit code 2", async () => {
    await writeModel(64);
    const results = await Promise.all([
      finetune(root, text),
      finetune(join(root, "none"), text),
      finetune(root, join(root, "none.txt")),
    ]);
    expect(results.map(({ code }) => code)).toEqual([2, 2, 2]);
    expect(results.map(({ stderr }) => stderr.split("\n").length)).toEqual([2, 2, 2]);
    expect(results[0]!.stderr).toContain("the model has 64 tokens, the tokenizer 256");
    expect(results[1]!.stderr).toContain("config.json");
  });
});
