// A compiled step with donated parameters and state runs 10,000 times without a word about memory, and nothing grows.
import { valueAndGrad } from "@mc/autograd";
import { adamw, type OptimizerState } from "@mc/optim";
import {
  add,
  compile,
  gelu,
  key,
  matmul,
  mean,
  mT,
  normal,
  realise,
  splitKey,
  square,
  sub,
  type Tensor,
  tensor,
} from "@mc/tensor";
import { expect, test } from "vitest";
import { testDevice } from "../host.ts";

const device = await testDevice();

type Params = { w1: Tensor; b1: Tensor; w2: Tensor };

/** Runs pending finalizers; collects first where the host allows it. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("10,000 steps of a compiled, donated step leave bytes, bind groups and heap flat", async () => {
  const optimizer = adamw({ learningRate: 1e-2, weightDecay: 0.01 });
  const [k1, k2] = splitKey(key(1), 2) as [Tensor, Tensor];
  let params: Params = await realise({
    w1: normal(k1, [16, 8], { std: 0.3 }),
    b1: tensor(new Float32Array(16)),
    w2: normal(k2, [4, 16], { std: 0.3 }),
  });
  let state = optimizer.init(params);
  const predict = ({ w1, b1, w2 }: Params, x: Tensor): Tensor => matmul(gelu(add(matmul(x, mT(w1)), b1)), mT(w2));
  const step = compile(
    ({ params, state, x, y }: { params: Params; state: OptimizerState; x: Tensor; y: Tensor }) => {
      const { value, grads } = valueAndGrad((p: Params) => mean(square(sub(predict(p, x), y))))(params);
      return { ...optimizer.update(grads, state, params), loss: value };
    },
    { donate: ["params", "state"] },
  );

  const heap = (): number => globalThis.process?.memoryUsage?.().heapUsed ?? 0;
  const figures: { live: number; bindGroups: number; pipelines: number; heap: number }[] = [];
  const losses: number[] = [];
  for (let i = 0; i <= 10_000; i++) {
    const x = tensor(
      Float32Array.from({ length: 64 }, (_, k) => Math.sin(k * 1.7 + i)),
      { shape: [8, 8] },
    );
    const y = tensor(
      Float32Array.from({ length: 32 }, (_, k) => Math.cos(k * 0.3 + i)),
      { shape: [8, 4] },
    );
    let loss: Tensor;
    ({ params, state, loss } = step({ params, state, x, y }));
    if (i % 100 === 0) losses.push(await loss.item());
    if (i === 5000 || i === 10_000) {
      await settle();
      const { bindGroups, pipelines } = device.stats();
      figures.push({ live: device.memory().liveBytes, bindGroups, pipelines, heap: heap() });
    }
  }
  const [early, late] = figures as [(typeof figures)[0], (typeof figures)[0]];
  expect(late.bindGroups, "bind groups").toBe(early.bindGroups);
  expect(late.pipelines, "pipelines").toBe(early.pipelines);
  // the first thousands warm up: compiled code, tables of the collector. Batches and losses that the collector has not seen yet may differ by a few hundred steps' worth
  expect(late.live, "bytes on the device").toBeLessThan(early.live + 200_000);
  expect(late.heap, "bytes on the heap").toBeLessThan(early.heap + 3_000_000);
  expect(device.memory().peakBytes, "peak bytes").toBeLessThan(64_000_000);
  expect(losses.every(Number.isFinite)).toBe(true);
}, 180_000);
