import { expect, test } from "vitest";
import { sharedTestDevice } from "../host.ts";
import { runUpdates } from "./updates.ts";

test("random updates that share kernels have the bits of each alone", async () => {
  const device = await sharedTestDevice();
  let shared = 0;
  for (let seed = 100; seed < 108; seed++) {
    const actual = await runUpdates(seed, device, {}, true);
    shared += actual.shared;
    expect(actual.values, `seed ${seed}`).toEqual((await runUpdates(seed, device, { coalesce: false }, true)).values);
  }
  expect(shared).toBeGreaterThan(4);
});
