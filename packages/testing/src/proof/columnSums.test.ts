// Long sums down few columns are computed in two stages on a GPU: right, the same at every run, with what follows in the second.
import { add, compile, explain, key, mul, normal, sum, type Tensor } from "@mc/tensor";
import { expect, test } from "vitest";
import { hostDevice, oracleDevice, testDevice } from "../host.ts";
import "../matchers.ts";

const device = await testDevice();
const oracle = await oracleDevice();

test.each([[[2050, 7]], [[2, 1100, 3, 5]], [[2053, 4]], [[2100, 1]]])("sums down the columns of %j", async (shape) => {
  const axes = [0, 1].slice(0, shape.length === 2 ? 1 : 2);
  const inputs = (on: Tensor["device"]): [Tensor, Tensor] => [
    normal(key(1, { device: on }), shape),
    normal(key(2, { device: on }), shape),
  ];
  const gradient = (x: Tensor, y: Tensor): Tensor => add(mul(sum(mul(x, y), { axis: axes }), 0.5), 1);
  const step = compile(gradient);
  const [x, y] = inputs(device);
  const result = step(x, y);
  await expect(result).toBeAllClose(gradient(...inputs(oracle)), { rtol: 1e-5, atol: 1e-3 });
  expect(await step(x, y).data()).toEqual(await result.data());
  const splits = hostDevice === "webgpu" && shape[0] !== 2053; // a prime number of rows stays in one piece
  expect(explain(step, x, y).kernels.length).toBe(splits ? 2 : 1);
});
