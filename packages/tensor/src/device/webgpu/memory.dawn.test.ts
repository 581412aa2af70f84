// Tensors that are dropped without dispose. In Node only: a page has no way to ask for a collection.
import { expect, test } from "vitest";
import { connectWebGpu } from "./connect.ts";

test("dropped storages give their buffers back without a call to the collector", async () => {
  const device = await connectWebGpu();
  const bytes = 4 * 2 ** 20;
  let most = 0;
  for (let i = 0; i < 400; i++) {
    device.upload(device.allocate("f32", bytes / 4), new Float32Array(1024));
    most = Math.max(most, device.memory().liveBytes);
    if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 0)); // finalizers need turns of the event loop
  }
  expect(most / bytes).toBeLessThan(200);
  device.destroy();
});

test("after a collection nothing is live", async () => {
  const device = await connectWebGpu();
  for (let i = 0; i < 50; i++) device.allocate("f32", 1000);
  for (let i = 0; i < 10 && device.memory().liveBytes > 0; i++) {
    (globalThis as { gc?: () => void }).gc!();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(device.memory().liveBytes).toBe(0);
  expect(device.memory().pooledBytes).toBeGreaterThan(0);
  device.destroy();
});
