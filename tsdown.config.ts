// One build for every package: ES modules and their declarations. Each package calls it from its own folder.
import { readFileSync } from "node:fs";
import { defineConfig } from "tsdown";

// What a package exports is listed once, in its package.json: each entry's source is under the "@mc/source" condition.
const { exports } = JSON.parse(readFileSync("package.json", "utf8"));
const entry = Object.values(exports).flatMap((target) => (target as { "@mc/source"?: string })["@mc/source"] ?? []);

export default defineConfig({
  entry,
  format: "esm",
  platform: "neutral", // the same files run in Node and in browsers
  target: "es2022",
  outExtensions: () => ({ js: ".js", dts: ".d.ts" }),
  dts: { compilerOptions: { customConditions: [] } }, // other packages by their built declarations, as users see them
  clean: true,
});
