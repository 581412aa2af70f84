// main.ts: trains a byte-level transformer on real text, and leaves metrics, weights and a report behind.
import { DeviceError } from "@mc/tensor";
import { parseOptions, UsageError } from "./options.ts";
import { run } from "./run.ts";
import { DivergedError } from "./train.ts";

try {
  const options = parseOptions(process.argv.slice(2));
  if ("help" in options) process.stdout.write(options.help);
  else await run(options);
} catch (error) {
  // Mistakes of the command line, and what can go wrong with a device or a run, need no stack.
  if (!(error instanceof UsageError || error instanceof DivergedError || error instanceof DeviceError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
