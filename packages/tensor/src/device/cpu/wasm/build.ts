// build.ts: compiles assembly/*.as to the WebAssembly module that binary.ts holds as base64.
// Run `node --import tsx packages/tensor/src/device/cpu/wasm/build.ts` after changing a source; a test compares the two.

import { existsSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Name of the compiler and its flags: the bytes depend on nothing else but the sources. */
const flags = ["--optimizeLevel", "3", "--noAssert", "--runtime", "stub", "--enable", "simd", "--noColors"];

/**
 * Compiles the sources in `assembly/` with the AssemblyScript compiler (a dev dependency; Node only).
 *
 * @returns the bytes of the module, which depend only on the sources and the pinned compiler
 * @throws Error with the compiler's messages when the sources do not compile
 */
export async function buildWasm(): Promise<Uint8Array> {
  const { main } = await import("assemblyscript/asc");
  let binary: Uint8Array | undefined;
  const { error, stderr } = await main(["index.ts", "--outFile", "module.wasm", ...flags], {
    readFile(name: string) {
      // the compiler asks for .ts; the sources are called .as so that no TypeScript tool takes them for its own
      const url = new URL(`assembly/${name.replace(/\.ts$/, ".as")}`, import.meta.url);
      return existsSync(url) ? readFileSync(url, "utf8") : null;
    },
    writeFile(_name: string, contents: string | Uint8Array) {
      if (contents instanceof Uint8Array) binary = contents;
    },
    listFiles: () => [],
  });
  if (error || !binary)
    throw new Error(`buildWasm: the sources must compile, got ${stderr.toString()}`, { cause: error });
  return binary;
}

/** The text of binary.ts for the given module. */
export function binarySource(binary: Uint8Array): string {
  const base64 = Buffer.from(binary).toString("base64");
  const lines = base64.match(/.{1,112}/g) ?? [];
  return `// binary.ts: the module built from assembly/*.as by build.ts. Generated: change the sources and build again.

/** The WebAssembly module, base64. */
export const wasmBase64: string = [
${lines.map((line) => `  "${line}",`).join("\n")}
].join("");
`;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const binary = await buildWasm();
  writeFileSync(new URL("binary.ts", import.meta.url), binarySource(binary));
  console.log(`binary.ts: ${binary.byteLength} bytes of WebAssembly`);
}
