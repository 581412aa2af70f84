import { expect, test } from "vitest";
import { findMismatch } from "../compare.ts";
import { oracleDevice } from "../host.ts";
import { unfused } from "./check.ts";
import { runUpdates } from "./updates.ts";

test("random updates that share kernels have the values of float64 alone, for several settings, donation on and off", async () => {
  const device = await oracleDevice();
  let shared = 0;
  for (let seed = 0; seed < 60; seed++) {
    const expected = await runUpdates(seed, device, unfused, false);
    for (const scheduler of [{}, { maxBindings: 6 }, { recomputeLimit: 60 }, { reuse: false }].slice(
      seed % 2,
      (seed % 2) + 3,
    )) {
      for (const donate of [true, false]) {
        const actual = await runUpdates(seed, device, scheduler, donate);
        shared += actual.shared;
        expected.values.forEach((e, i) => {
          const found = findMismatch(actual.values[i]!, e, { rtol: 1e-12, atol: 1e-12 });
          expect(found, `seed ${seed}, ${JSON.stringify(scheduler)}, donation ${donate}, output ${i}`).toBeUndefined();
        });
      }
    }
  }
  expect(shared).toBeGreaterThan(100);
}, 300_000);
