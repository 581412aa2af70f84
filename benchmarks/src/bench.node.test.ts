// Small runs of every sub-command on the CPU: lines have the promised fields, and a wrong result is found.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { add, connect, key, normal, type Tensor } from "@mc/tensor";
import { expect, test } from "vitest";
import type { Context } from "./lib/context.ts";
import type { Machine } from "./lib/machine.ts";
import { floorMs } from "./lib/machine.ts";
import { startReport, views } from "./lib/report.ts";
import { runCases } from "./lib/runCases.ts";
import { elementCheck } from "./lib/sample.ts";
import { bench } from "./main.ts";
import { readOptions } from "./options.ts";
import { runPeers } from "./peers.ts";
import { writePicture } from "./picture.ts";

type Line = Record<string, unknown>;

async function run(...args: string[]): Promise<{ code: number; machine: Line; lines: Line[] }> {
  const printed: Line[] = [];
  const all = [...args, "--device", "cpu", "--json", "--budget", "0.01"];
  const code = await bench(all, (text) => void printed.push(JSON.parse(text) as Line));
  const [machine, ...lines] = printed;
  return { code, machine: machine!, lines };
}

/** A context on the CPU, and the lines that it prints. */
async function contextOf(): Promise<{ context: Context; printed: string[] }> {
  const printed: string[] = [];
  const machine: Machine = {
    suite: "kernels",
    machine: "test",
    driver: "",
    device: "",
    date: "",
    versions: {},
    commit: "",
    toggles: [],
    peaks: null,
  };
  const report = startReport({ json: true, machine, view: views.kernels, print: (text) => void printed.push(text) });
  const device = await connect({ device: "cpu" });
  const context: Context = {
    device,
    connection: {},
    precision: "f32",
    small: true,
    budget: 0.001,
    wanted: () => true,
    peaks: undefined,
    report,
  };
  return { context, printed };
}

const timed = { median_ms: expect.any(Number), min_ms: expect.any(Number), max_ms: expect.any(Number), floor_ms: null };

test("kernels: the machine, then a line a case", async () => {
  const { code, machine, lines } = await run("kernels", "--filter", "[128, 128, 128]", "--machine", "this one");
  expect(code).toBe(0);
  expect(machine).toMatchObject({ machine: "this one", versions: { node: process.versions.node } });
  expect(lines.map((l) => l.name)).toEqual(["matmul", "matmul A^T B", "matmul A B^T", "matmul A^T B^T"]);
  const fields = {
    shape: [128, 128, 128],
    dtype: "f32",
    kernel: expect.any(String),
    gflops: expect.any(Number),
    ...timed,
  };
  expect(lines[0]).toMatchObject(fields);
});

test("optim: an update and Newton-Schulz", async () => {
  const { code, lines } = await run("optim", "--filter", "[64, 64]");
  expect(code).toBe(0);
  expect(lines.map((l) => l.name)).toEqual(["newton-schulz keller x5"]);
  const { lines: updates } = await run("optim", "--filter", "adamw, small");
  const costs = { dispatches: expect.any(Number), js_ms: expect.any(Number), buffers_created: expect.any(Number) };
  expect(updates[0]).toMatchObject({ ...timed, ...costs, gbs: expect.any(Number) });
});

test("train: whole steps", async () => {
  const { code, lines } = await run("train", "--models", "5K", "--optimizers", "muon,muonclip", "--steps", "1");
  expect(code).toBe(0);
  expect(lines[1]).toMatchObject({
    name: "train 5K muonclip",
    median_ms: expect.any(Number),
    js_us_dispatch: expect.any(Number),
    submits: expect.any(Number),
    first_step_s: expect.any(Number),
    clip_dispatches: expect.any(Number),
  });
});

test("profile: totals, then every kind of kernel with its time and floor; and a picture of it", async () => {
  const { code, machine, lines } = await run("profile", "--models", "5K", "--steps", "1");
  expect(code).toBe(0);
  const [totals, ...groups] = lines;
  expect(totals).toMatchObject({ name: "5K muonclip", total: true, runs: 1, floor_ms: expect.any(Number) });
  const fields = ["label", "variant", "shape", "dispatches", "median_ms", "floor_ms", "flops", "bytes", "count"];
  for (const group of groups) expect(Object.keys(group)).toEqual(expect.arrayContaining(fields));
  expect(groups.reduce((sum, g) => sum + (g.share as number), 0)).toBeCloseTo(1, 2);

  const folder = mkdtempSync(join(tmpdir(), "profile-"));
  const [from, to] = [join(folder, "profile.jsonl"), join(folder, "profile.svg")];
  writeFileSync(from, [machine, ...lines].map((line) => JSON.stringify(line)).join("\n"));
  await writePicture(from, to);
  const svg = readFileSync(to, "utf8");
  expect(svg).toMatch(/^<svg role="img" aria-label="Where the time of a training step goes: 5K muonclip"/);
  expect(svg).toContain("other kernels of");
  expect(svg).not.toMatch(/NaN|undefined|Infinity|https?:(?!\/\/www\.w3\.org)/);
  rmSync(folder, { recursive: true });
});

test("verify: proofs, and their count", async () => {
  const { code, lines } = await run("verify", "--filter", "aligned border");
  expect(code).toBe(0);
  expect(lines.at(-1)).toMatchObject({ name: "in all", proven: 4, wrong: 0 });
});

test("peers: lines are passed on, and one that cannot run is named with the reason", async () => {
  const { context, printed } = await contextOf();
  const options = readOptions(["kernels", "--filter", "none"])!;
  const say = (text: string): [string, string, string, string] => [process.execPath, "-e", text, "--"];
  await runPeers(context, options, [
    {
      name: "A",
      command: say(
        `console.log("hello"); console.log('{"framework":"A","name":"matmul","median_ms":1,"failed":"no"}')`,
      ),
    },
    { name: "B", command: say(`console.log('{"framework":"B","missing":"no such package"}')`) },
    { name: "C", command: say(`console.error("out of memory"); process.exit(3)`) },
    { name: "D", command: ["a-program-that-nobody-has"] },
  ]);
  expect(printed.slice(1).map((text) => JSON.parse(text) as Line)).toEqual([
    { framework: "A", name: "matmul", median_ms: 1, failed: "no" },
    { framework: "B", missing: "no such package" },
    { framework: "C", missing: "it ended with 3: out of memory" },
    { framework: "D", missing: "a-program-that-nobody-has is not installed" },
  ]);
  expect(context.report.failures).toBe(0);
});

test("peers: models and optimizers that were asked for are theirs too; lines of training steps are passed on", async () => {
  const { context, printed } = await contextOf();
  const options = readOptions(["train", "--models", "5K,10M", "--optimizers", "adamw"])!;
  const program = `const asked = process.argv.slice(1).join(" ");
    console.log(JSON.stringify({ framework: "A", name: "train 5K adamw", median_ms: 1, first_loss: 4.1, loss: 3.6, asked }));`;
  await runPeers(context, options, [{ name: "A", command: [process.execPath, "-e", program, "--"] }]);
  expect(printed.slice(1).map((text) => JSON.parse(text) as Line)).toEqual([
    {
      framework: "A",
      name: "train 5K adamw",
      median_ms: 1,
      first_loss: 4.1,
      loss: 3.6,
      asked: "--suite train --device cpu --budget 0.001 --filter  --small --models 5K,10M --optimizers adamw",
    },
  ]);
});

test("a wrong result is a failure, and the next case goes on", async () => {
  const { context, printed } = await contextOf();
  const sum = {
    shape: [8],
    inputs: () => [normal(key(1), [8])],
    run: (...[x]: Tensor[]) => add(x!, 1),
    bytes: 64,
  };
  await runCases(context, [
    { ...sum, name: "wrong", check: elementCheck((x) => x! + 1.01) },
    { ...sum, name: "right", check: elementCheck((x) => x! + 1) },
  ]);
  expect(context.report.failures).toBe(1);
  expect(JSON.parse(printed[1]!)).toMatchObject({ name: "wrong", failed: expect.stringMatching(/relative error/) });
  expect(JSON.parse(printed[2]!)).toMatchObject({ name: "right", ...timed });
});

test("the floor is the larger of arithmetic and memory", () => {
  const peaks = { f32: 50, f16: 800, gigabytesPerSecond: 4000, source: "" };
  expect(floorMs(peaks, "f32", 1e12, 1e9)).toBe(20);
  expect(floorMs(peaks, "f16", 1e12, 8e9)).toBe(2);
  expect(floorMs(undefined, "f32", 1, 1)).toBeNull();
});

test("the command line is checked", async () => {
  await expect(bench(["sleep"])).rejects.toThrow(/must be kernels, optim/);
  await expect(bench(["kernels", "--precision", "f8"])).rejects.toThrow(/--precision must be f32, f16, got f8/);
  await expect(bench(["kernels", "--budget", "0"])).rejects.toThrow(/--budget must be a positive number/);
});
