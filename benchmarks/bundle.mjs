// bundle.mjs: `npm run bench -- bundle --out DIR`: a folder that runs the benchmarks and their peers on Linux x64 with Node and a
// Vulkan loader, without a network: DIR/bench.mjs, DIR/node_modules/webgpu, DIR/peers.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const { values } = parseArgs({ allowPositionals: true, options: { out: { type: "string" } } });
if (!values.out) {
  console.error("bench bundle: --out DIR is required");
  process.exit(2);
}
const out = resolve(values.out);
const commit = execFileSync("git", ["describe", "--always", "--dirty"], { cwd: here, encoding: "utf8" }).trim();

/** @param {string} from @param {string} to @param {import("esbuild").BuildOptions} [more] */
const bundle = (from, to, more) =>
  build({
    entryPoints: [join(here, from)],
    outfile: join(out, to),
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: ["webgpu", "./picture.ts"], // pictures are drawn where the results come together
    logLevel: "warning",
    logOverride: { "require-resolve-not-external": "silent" },
    ...more,
  });

mkdirSync(out, { recursive: true });
await bundle("src/cli.ts", "bench.mjs", {
  conditions: ["@mc/source"],
  define: { "process.env.MC_COMMIT": JSON.stringify(commit) },
});

// the parts of the package that Linux x64 loads
const webgpu = realpathSync(join(here, "../node_modules/webgpu"));
for (const part of ["package.json", "LICENSE.md", "index.js", "dist/linux-x64"])
  cpSync(join(webgpu, part), join(out, "node_modules/webgpu", part), { recursive: true });

// the JavaScript peers as one file each: their package.json names nothing to install
mkdirSync(join(out, "peers"), { recursive: true });
writeFileSync(join(out, "peers/package.json"), `${JSON.stringify({ private: true, type: "module" })}\n`);
for (const script of ["pytorch.py", "pytorch_train.py"])
  cpSync(join(here, "peers", script), join(out, "peers", script));
if (!existsSync(join(here, "peers/node_modules")))
  execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: join(here, "peers"),
    stdio: "inherit",
  });
// packages in the older module format ask for Node's own modules by `require`
// and for their folder
const js =
  'import { createRequire } from "node:module"; const require = createRequire(import.meta.url); const __dirname = import.meta.dirname ?? new URL(".", import.meta.url).pathname;';
for (const peer of ["jaxjs.mjs", "tfjs.mjs"]) await bundle(`peers/${peer}`, `peers/${peer}`, { banner: { js } });
// what TensorFlow.js runs on a CPU
const wasm = join(here, "peers/node_modules/@tensorflow/tfjs-backend-wasm/dist");
for (const file of readdirSync(wasm).filter((name) => name.endsWith(".wasm")))
  cpSync(join(wasm, file), join(out, "peers", file));

console.log(`${out}: node ${join(out, "bench.mjs")} --help`);
