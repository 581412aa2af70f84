// One build for every package: ES modules and their declarations. Each package calls it from its own folder.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "tsdown";

// What a package exports is listed once, in its package.json: each entry's source is under the "@mc/source" condition.
const { exports } = JSON.parse(readFileSync("package.json", "utf8"));
const entry = Object.values(exports).flatMap((target) => (target as { "@mc/source"?: string })["@mc/source"] ?? []);

export default defineConfig({
  cwd: process.cwd(), // the package's folder, not this file's
  entry,
  format: "esm",
  platform: "neutral", // the same files run in Node and in browsers
  target: "es2022",
  outExtensions: () => ({ js: ".js", dts: ".d.ts" }),
  tsconfig: fileURLToPath(new URL("tsconfig.build.json", import.meta.url)),
  dts: true,
  inputOptions: { checks: { pluginTimings: false } }, // declarations take most of a build; that is no news
  clean: true,
});
