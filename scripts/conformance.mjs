// npm run conformance -- [options] FOLDER...: computes what the fixture folders hold and prints every error.
import { runNode, typescript } from "./lib/child.mjs";
import { gpuEnvironment } from "./lib/hosts.mjs";
import { ensureInstalled } from "./lib/install.mjs";

ensureInstalled("all");
const args = process.argv.slice(2);
const env = await gpuEnvironment(args);
process.exitCode = await runNode([...typescript("packages/testing/conformance/main.ts"), ...args], { env });
