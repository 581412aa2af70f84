// cli.ts: the benchmarks as a program.
import { bench } from "./main.ts";
import { writeTables } from "./tables.ts";

const args = process.argv.slice(2);

async function run(): Promise<number> {
  const [command, from, to, name] = args;
  if (command === "tables") writeTables();
  else if (command === "picture") {
    if (!from || !to) throw new Error("bench picture: needs the file of a profile and the file of the picture");
    const { writePicture } = await import("./picture.ts"); // Vega, which only pictures need
    await writePicture(from, to, name);
  } else return bench(args);
  return 0;
}

run().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(2);
  },
);
