import { expect, test } from "vitest";
import { connect } from "./connect.ts";

test("the CPU multiplies matrices in f32, and says so when asked for f16 alone", async () => {
  const cpu = { device: "cpu", setDefault: false } as const;
  await expect(connect({ ...cpu, matmulPrecision: "f16" })).rejects.toThrow(
    'connect: this device cannot multiply matrices in f16: it is the CPU. Pass matmulPrecision: ["f16", "f32"]',
  );
  expect((await connect({ ...cpu, matmulPrecision: ["f16", "f32"] })).matmulPrecision).toBe("f32");
});
