// pnpm bench kernels|train [options]: the benchmarks, as JSON lines.
import { runNode, typescript } from "./lib/child.mjs";
import { gpuEnvironment } from "./lib/hosts.mjs";
import { ensureInstalled } from "./lib/install.mjs";

ensureInstalled("run");
const args = process.argv.slice(2);
const env = await gpuEnvironment(args);
process.exitCode = await runNode([...typescript("benchmarks/src/cli.ts"), ...args], { env });
