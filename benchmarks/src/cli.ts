// cli.ts: the benchmarks as a program.
import { bench } from "./main.ts";

bench(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(2);
  },
);
