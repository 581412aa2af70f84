// cli.ts: the benchmarks as a program.
import { bench } from "./main.ts";
import { writeTables } from "./tables.ts";

const args = process.argv.slice(2);

async function run(): Promise<number> {
  if (args[0] !== "tables") return bench(args);
  writeTables();
  return 0;
}

run().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(2);
  },
);
