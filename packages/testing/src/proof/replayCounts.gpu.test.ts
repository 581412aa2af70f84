// What a replay of a compiled training step makes: nothing but the handles of its results. Counted, not timed.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerParams, transformer } from "@mc/nn";
import { muonClip, type OptimizerState } from "@mc/optim";
import { add, compile, explain, key, mul, realise, sum, type Tensor, tensor, treeLeaves } from "@mc/tensor";
import { expect, test, vi } from "vitest";
import { testDevice } from "../host.ts";

const device = await testDevice();

test("a replay makes no buffer, bind group, pipeline or graph node, reads nothing back, and submits once for 128 dispatches", async () => {
  const model = transformer({ vocabSize: 16, hiddenSize: 8, numLayers: 1, attention: { numHeads: 2 } });
  const optimizer = muonClip({ learningRate: 0.01, tau: 1, roles: model.roles, attention: model.attentionLayout });
  const step = compile(
    ({ params, state, ids }: { params: TransformerParams; state: OptimizerState; ids: Tensor }) => {
      const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, { inputs: ids, labels: ids });
      const { metrics, ...next } = optimizer.update(grads, state, params, { maxLogits: aux.maxLogits });
      return { next, report: { loss: value, metrics } };
    },
    { donate: ["params", "state"] },
  );
  const ids = await realise(
    tensor(
      Int32Array.from({ length: 12 }, (_, i) => (i * 5) % 16),
      { shape: [2, 6] },
    ),
  );
  let params = await realise(model.init(key(1)));
  let state = await realise(optimizer.init(params));
  const { kernels } = explain(step, { params, state, ids });
  const download = vi.spyOn(device, "download");
  /** Runs the step, drops what it reports, and gives the ids of the nodes behind its results. */
  const run = (): number[] => {
    const out = step({ params, state, ids });
    ({ params, state } = out.next);
    for (const leaf of treeLeaves<Tensor>(out.report)) leaf.dispose();
    return treeLeaves<Tensor>(out).map((t) => t.node.id);
  };
  for (let i = 0; i < 3; i++) {
    run();
    await device.settle();
  }
  const before = device.stats();
  let last = 0;
  for (let i = 0; i < 4; i++) {
    const nodes = run();
    await Promise.resolve(); // encoded work is submitted in a microtask
    const first = Math.min(...nodes);
    if (i > 0) expect(first, "the first node that this replay made").toBe(last + 1);
    last = Math.max(...nodes);
    expect(last - first + 1, "nodes made").toBe(nodes.length);
  }
  const after = device.stats();
  expect(after.buffersCreated - before.buffersCreated, "buffers").toBe(0);
  expect(after.submitMs).toBeGreaterThanOrEqual(before.submitMs);
  expect(after.bindGroups - before.bindGroups, "bind groups").toBe(0);
  expect(after.pipelines - before.pipelines, "pipelines").toBe(0);
  const dispatches = (after.dispatches - before.dispatches) / 4;
  expect(dispatches).toBeGreaterThanOrEqual(kernels.length);
  expect((after.submits - before.submits) / 4, "submits a replay").toBeLessThanOrEqual(Math.ceil(dispatches / 128));
  expect(download).not.toHaveBeenCalled();
});

test("small results that nobody disposes make no buffers either, and are values like others", async () => {
  const step = compile(
    ({ w }: { w: Tensor }, x: Tensor) => {
      const next = add(w, x);
      return { w: next, loss: sum(next), first: mul(x, 2) };
    },
    { donate: ["w"] },
  );
  const x = await realise(tensor([1, 2, 3]));
  let w = await realise(tensor([0, 0, 0]));
  const losses: Tensor[] = [];
  const firsts: Tensor[] = [];
  const run = (): void => {
    const out = step({ w }, x);
    w = out.w;
    losses.push(out.loss);
    firsts.push(out.first);
  };
  for (let i = 0; i < 3; i++) run();
  await device.settle();
  const before = device.stats().buffersCreated;
  for (let i = 0; i < 30; i++) run();
  await device.settle();
  expect(device.stats().buffersCreated - before).toBe(0);
  // read, computed with, passed on, donated, and given back
  expect(await Promise.all(losses.slice(0, 4).map((l) => l.item()))).toEqual([6, 12, 18, 24]);
  expect(await add(losses[4]!, losses[5]!).item()).toBe(66);
  expect(await losses[5]!.item()).toBe(36);
  expect(await step({ w: firsts[0]! }, firsts[1]!).loss.item()).toBe(24);
  const both = compile((a: Tensor) => [a, firsts[2]!, mul(a, 0.5)], { donate: true })(firsts[3]!);
  expect(await Promise.all(both.map((t) => t.toArray()))).toEqual([
    [2, 4, 6],
    [2, 4, 6],
    [1, 2, 3],
  ]);
  losses[6]!.dispose();
  run();
  expect(await losses.at(-1)!.item()).toBe(34 * 6);
});
