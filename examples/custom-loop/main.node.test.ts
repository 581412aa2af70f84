import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("the custom loop learns the spirals", { timeout: 60_000 }, async () => {
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ["--conditions=@mc/source", "--import", "tsx", main]);
  expect(Number(/accuracy (\S+) %/.exec(stdout)?.[1])).toBeGreaterThan(99);
});
