import { expect, test } from "vitest";
import { wasmBase64 } from "./binary.ts";
import { buildWasm } from "./build.ts";

test("binary.ts holds what the sources in assembly/ compile to", {
  timeout: 120_000,
}, async () => {
  const built = await buildWasm();
  expect(Buffer.from(built).toString("base64")).toBe(wasmBase64);
});
