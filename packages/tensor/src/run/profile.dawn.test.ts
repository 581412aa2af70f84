// Dawn's clock: rounded unless asked otherwise.
import { expect, test } from "vitest";
import { connect, matmul, ones, profile, realise } from "../index.ts";

test.each([
  ["rounded", 0.05, 1],
  ["exact", 0, 0.001],
] as const)('timestamps "%s" have steps of %d to %d ms', async (timestamps, low, high) => {
  const device = await connect({ device: "webgpu", timestamps, setDefault: false });
  const x = await realise(ones([128, 128], { device }));
  const p = await profile(matmul, [x, x], { runs: 2, roofline: { gflops: 10, gbs: 5 } });
  expect(p.clockStepMs).toBeGreaterThanOrEqual(low);
  expect(p.clockStepMs).toBeLessThan(high);
  expect(p.kernelMs).toBeGreaterThan(0);
  if (timestamps === "rounded") expect(String(p)).toContain('connect({ timestamps: "exact" })');
});
