import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { UsageError } from "./options.ts";
import { openRunFolder } from "./runFolder.ts";

const root = mkdtempSync(join(tmpdir(), "run-folder-"));
afterAll(() => rmSync(root, { recursive: true }));

describe("openRunFolder(path)", () => {
  test("makes the folder, and holds exactly what was written", () => {
    const folder = openRunFolder(join(root, "a/b"));
    folder.addMetrics([{ done: true, validationLoss: 1, bitsPerByte: 2 }]);
    folder.addMetrics([{ done: true, validationLoss: 3, bitsPerByte: 4 }]);
    folder.write("report.html", "<p>");
    folder.write("model.safetensors", Uint8Array.of(1, 2));
    expect(readdirSync(join(root, "a/b")).sort()).toEqual(["metrics.jsonl", "model.safetensors", "report.html"]);
    const lines = readFileSync(join(root, "a/b/metrics.jsonl"), "utf8").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).validationLoss)).toEqual([1, 3]);
    expect([...readFileSync(join(root, "a/b/model.safetensors"))]).toEqual([1, 2]);
  });

  test("starts metrics anew in a folder that was used before", () => {
    const path = join(root, "again");
    openRunFolder(path).addMetrics([{ done: true, validationLoss: 1, bitsPerByte: 2 }]);
    openRunFolder(path);
    expect(readFileSync(join(path, "metrics.jsonl"), "utf8")).toBe("");
  });

  test("refuses a path below a file, and leaves nothing", () => {
    const file = join(root, "file");
    writeFileSync(file, "");
    expect(() => openRunFolder(join(file, "run"))).toThrow(UsageError);
    expect(() => openRunFolder(file)).toThrow(`--out: cannot write to ${file}`);
    expect(existsSync(join(file, "run"))).toBe(false);
    expect(readFileSync(file, "utf8")).toBe("");
  });
});
