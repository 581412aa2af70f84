// npm start -- [options]: the main job, examples/train. Installs only what it runs.
import { runNode, typescript } from "./lib/child.mjs";
import { ensureInstalled } from "./lib/install.mjs";

ensureInstalled("run");
process.exitCode = await runNode([...typescript("examples/train/main.ts"), ...process.argv.slice(2)]);
