// moe.ts: a mixture of experts with more and more experts: time and arithmetic should follow the experts that a token visits.
import { valueAndGrad } from "@mc/autograd";
import { type MoeParams, mixtureOfExperts } from "@mc/nn";
import { compile, type Device, explain, key, mul, normal, realise, slice, sum, type Tensor } from "@mc/tensor";
import type { Context } from "./lib/context.ts";
import { summarise } from "./lib/measure.ts";

/** Sizes of a mixture and its input. */
export interface MoeSizes {
  readonly tokens: number;
  readonly features: number;
  readonly intermediateSize: number;
  readonly numExpertsPerToken: number;
  readonly numExperts: readonly number[];
}

/** On a CPU a small layer; on a GPU one of a size that keeps it busy. */
function moeSizes(device: Device): MoeSizes {
  const numExperts = [4, 8, 16, 32];
  return device.kind === "cpu" || device.software
    ? { tokens: 1024, features: 128, intermediateSize: 128, numExpertsPerToken: 2, numExperts }
    : {
        tokens: 8192,
        features: 1024,
        intermediateSize: 512,
        numExpertsPerToken: 2,
        numExperts: [...numExperts, 64, 128],
      };
}

/** Forward and backward of one layer for each number of experts, one line each; samples take turns, so that drift hits all. */
export async function benchMoe(
  { device, report }: Context,
  { steps: samples }: { readonly steps: number },
): Promise<void> {
  const sizes = moeSizes(device);
  const cases = [];
  for (const numExperts of sizes.numExperts) cases.push(await makeCase(device, sizes, numExperts));
  const times = cases.map(() => [] as number[]);
  for (let s = -2; s < samples; s++) {
    for (const [i, { step }] of cases.entries()) {
      const start = performance.now();
      step();
      await device.settle();
      if (s >= 0) times[i]!.push(performance.now() - start);
    }
  }
  const first = summarise(times[0]!).median_ms;
  for (const [i, { numExperts, flops }] of cases.entries()) {
    const timing = summarise(times[i]!);
    report.line({
      name: "mixture of experts, forward and backward",
      ...sizes,
      numExperts,
      device: device.description,
      ...timing,
      gflops: flops / timing.median_ms / 1e6,
      mflop: flops / 1e6,
      time_to_first: timing.median_ms / first,
      flops_to_first: flops / cases[0]!.flops,
    });
  }
}

async function makeCase(device: Device, sizes: MoeSizes, numExperts: number) {
  const layer = mixtureOfExperts({ ...sizes, numExperts });
  const params = await realise(layer.init(key(1, { device })));
  const x = await realise(normal(key(2, { device }), [1, sizes.tokens, sizes.features]));
  const cotangent = await realise(normal(key(3, { device }), x.shape as number[]));
  type At = { params: MoeParams; x: Tensor };
  // the gradients of the experts stay inside the plan, as in a training step: one entry of each shows that they are wanted
  const gradients = compile((at: At, c: Tensor) => {
    const loss = ({ params, x }: At): Tensor => sum(mul(layer.apply(params, x).output, c));
    const { params, x } = valueAndGrad(loss)(at).grads;
    const { gateUp, down } = params.experts;
    return [x, params.router.weight, ...[gateUp, down].map((g) => slice(g, [0, 0, 0], [1, 1, 1]))];
  });
  return {
    numExperts,
    flops: explain(gradients, { params, x }, cotangent).flops,
    step: () => {
      for (const t of gradients({ params, x }, cotangent)) t.dispose();
    },
  };
}
