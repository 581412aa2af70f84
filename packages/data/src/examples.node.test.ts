// Every example of the documentation and of the README is run as it stands.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connect } from "@mc/tensor";
import { afterAll, beforeAll, describe, test } from "vitest";
import fixtures from "./fixtures/parquet.json";
import * as huggingface from "./huggingface.ts";
import * as main from "./index.ts";
import * as node from "./node.ts";
import * as parquet from "./parquet.ts";

const sources = fileURLToPath(new URL(".", import.meta.url));
const names = { ...main, ...huggingface, ...node, ...parquet, console: { log: () => {} } };

/** The code after each `@example`, by the line of the file at which it begins. */
function examplesOf(path: string): { name: string; code: string }[] {
  const text = readFileSync(join(sources, path), "utf8");
  return [...text.matchAll(/^ *\* @example\n((?: *\*(?! @)(?!\/).*\n)+)/gm)].map((match) => ({
    name: `${path}:${text.slice(0, match.index).split("\n").length}`,
    code: match[1]!.replace(/^ *\* ?/gm, ""),
  }));
}

function readmeExamples(): { name: string; code: string }[] {
  const text = readFileSync(join(sources, "../README.md"), "utf8");
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map((match, i) => ({
    name: `README ${i + 1}`,
    code: match[1]!,
  }));
}

const files = (readdirSync(sources, { recursive: true }) as string[]).filter((path) => /(?<!\.test)\.ts$/.test(path));
const examples = [...files.flatMap(examplesOf), ...readmeExamples()];

describe("the examples", () => {
  const before = process.cwd();
  let folder: string;
  beforeAll(async () => {
    await connect({ device: "cpu" });
    folder = await mkdtemp(join(tmpdir(), "examples-"));
    process.chdir(folder); // the files that examples name
    const lines = ["one text", "another text", "a third text"];
    writeFileSync("corpus.txt", lines.join("\n\n"));
    for (const name of ["a.jsonl", "b.jsonl"]) {
      writeFileSync(name, lines.map((text) => JSON.stringify({ text: text.repeat(9) })).join("\n"));
    }
    writeFileSync("corpus.parquet", Buffer.from(fixtures.files.zstd, "base64"));
  });
  afterAll(async () => {
    process.chdir(before);
    await rm(folder, { recursive: true });
  });

  test.each(examples)("$name runs", async ({ code }) => {
    const body = code.replace(/^import .*$/gm, "").replaceAll(" as const", "");
    const run = new Function(...Object.keys(names), `return (async () => { ${body}\n })();`);
    await run(...Object.values(names));
  });
});
