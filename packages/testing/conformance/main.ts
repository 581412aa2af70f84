// main.ts: `npm run conformance`: computes what folders of reference numbers hold and prints every error.
import { conformance } from "./cli.ts";

process.exitCode = await conformance(process.argv.slice(2));
