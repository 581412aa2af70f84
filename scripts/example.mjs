// npm run example -- NAME [options]: one of the programs in examples. Installs only what it runs.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { runNode, typescript } from "./lib/child.mjs";
import { ensureInstalled, root } from "./lib/install.mjs";

const [name = "", ...args] = process.argv.slice(2);
const names = readdirSync(join(root, "examples")).filter((each) => existsSync(join(root, "examples", each, "main.ts")));
if (names.includes(name)) {
  ensureInstalled("run");
  process.exitCode = await runNode([...typescript(`examples/${name}/main.ts`), ...args]);
} else {
  console.error(`npm run example -- NAME: NAME must be one of ${names.join(", ")}, got "${name}"`);
  process.exitCode = 2;
}
