// pnpm bench kernels|optim|train|verify|... [options]: the benchmarks; bench bundle --out DIR: a folder that runs them elsewhere.
import { runNode, typescript } from "./lib/child.mjs";
import { gpuEnvironment } from "./lib/hosts.mjs";
import { ensureInstalled } from "./lib/install.mjs";

ensureInstalled("all");
const args = process.argv.slice(2);
const env = await gpuEnvironment(args);
const program = args[0] === "bundle" ? ["benchmarks/bundle.mjs"] : typescript("benchmarks/src/cli.ts");
process.exitCode = await runNode([...program, ...args], { env });
