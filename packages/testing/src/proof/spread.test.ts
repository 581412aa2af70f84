// Reductions over rows that also write the rows: norms and softmax are one kernel, at any number of threads a row.
import {
  add,
  compile,
  type Device,
  explain,
  key,
  max,
  mean,
  mul,
  normal,
  rsqrt,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
} from "@mc/tensor";
import { expect, test } from "vitest";
import { hostDevice, oracleDevice, testDevice } from "../host.ts";
import "../matchers.ts";

const forced = hostDevice === "cpu" ? [undefined] : ([undefined, "thread", "workgroup"] as const);
const devices: { reduce: (typeof forced)[number]; device: Device }[] = [];
for (const reduce of forced)
  devices.push({ reduce, device: await testDevice(reduce ? { variants: { reduce, elementWise: "wide" } } : {}) });
const oracle = await oracleDevice();

const rows = { axis: -1, keepDims: true };
const functions: Record<string, (x: Tensor, gain: Tensor) => Tensor | Tensor[]> = {
  "RMS norm": (x, gain) => mul(mul(x, rsqrt(add(mean(square(x), rows), 1e-6))), gain),
  "layer norm, and its row means": (x, gain) => {
    const centre = mean(x, rows);
    const centred = sub(x, centre);
    return [mul(mul(centred, rsqrt(add(mean(square(centred), rows), 1e-5))), gain), centre];
  },
  softmax: (x) => softmax(x),
  "gradient of a norm, added to another": (x, gain) => {
    const dot = sum(mul(mul(x, gain), x), rows);
    return [add(x, sub(gain, mul(x, mul(dot, 0.01)))), max(x, rows)];
  },
};

test.each(Object.keys(functions))("%s is one kernel and right at widths off every tile", async (name) => {
  for (const shape of [
    [2, 3, 5],
    [2, 301],
    [3, 132],
  ]) {
    const inputs = (device: Device): [Tensor, Tensor] => [
      normal(key(1, { device }), shape),
      normal(key(2, { device }), shape.slice(-1)),
    ];
    const expected = [functions[name]!(...inputs(oracle))].flat();
    for (const { reduce, device } of devices) {
      const fn = compile(functions[name]!, { scheduler: { spreadRows: 2 } });
      const [x, gain] = inputs(device);
      expect(explain(fn, x, gain).kernels.length, `kernels of ${name}`).toBe(1);
      for (const [i, result] of [fn(x, gain)].flat().entries())
        await expect(result, `${name} of [${shape}], ${reduce ?? "chosen"} threads`).toBeAllClose(expected[i]!, {
          rtol: 1e-4,
          atol: 1e-5,
        });
    }
  }
});
