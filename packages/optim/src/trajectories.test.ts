// Six steps of every optimizer against PyTorch and NumPy in float64.
import { readSafetensors, realise, type Tensor, tensor } from "@mc/tensor";
import { loadFixture, loadFixtureJson, oracleDevice, relativeError, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { adamw } from "./adamw.ts";
import { type MuonOptions, muon } from "./muon.ts";
import { sgd } from "./sgd.ts";
import type { Optimizer } from "./types.ts";

interface Settings {
  readonly steps: number;
  readonly shapes: { readonly [name: string]: readonly number[] };
}

const device = await testDevice();
const f64 = await oracleDevice();
const { steps, shapes } = await loadFixtureJson<Settings>("optim", "optim.json");
const fixture = readSafetensors(await loadFixture("optim", "optim.safetensors")).tensors;
const names = Object.keys(shapes);
const numbers = (name: string): Float64Array => fixture[name]!.data as Float64Array;
const tree = (suffix: string, on = f64): Record<string, Tensor> =>
  Object.fromEntries(
    names.map((name) => [name, tensor(numbers(`${name}.${suffix}`), { shape: shapes[name], device: on })]),
  );

const clip: Partial<MuonOptions> = { weightDecay: 0.1, momentum: 0.95 };
const cases: { trajectory: string; optimizer: Optimizer; bound: number; f32Bound: number }[] = [
  {
    trajectory: "torch_adamw_f64",
    optimizer: adamw({ learningRate: 0.003, b2: 0.95, weightDecay: 0.1 }),
    bound: 1e-9,
    f32Bound: 1e-3,
  },
  {
    trajectory: "torch_adamw_amsgrad_f64",
    optimizer: adamw({ learningRate: 0.003, weightDecay: 0.01, amsgrad: true }),
    bound: 1e-9,
    f32Bound: 1e-3,
  },
  {
    trajectory: "torch_sgd_nesterov_f64",
    optimizer: sgd({ learningRate: 0.01, momentum: 0.9, nesterov: true, weightDecay: 0.01 }),
    bound: 1e-9,
    f32Bound: 1e-3,
  },
  { trajectory: "muonclip_keller", optimizer: muon({ learningRate: 0.002, ...clip }), bound: 1e-9, f32Bound: 1e-3 },
  {
    trajectory: "muonclip_keller_heavyball",
    optimizer: muon({ learningRate: 0.002, ...clip, nesterov: false }),
    bound: 1e-9,
    f32Bound: 1e-3,
  },
  {
    trajectory: "muonclip_hybrid",
    optimizer: muon({ learningRate: 0.002, ...clip, newtonSchulz: "hybrid" }),
    bound: 1e-9,
    f32Bound: 1e-3,
  },
  // PyTorch rounds every product of its Newton-Schulz to bfloat16
  {
    trajectory: "torch_muon_match_rms_adamw_f32_bf16ns",
    optimizer: muon({ learningRate: 0.02, weightDecay: 0.1 }),
    bound: 3e-2,
    f32Bound: 3e-2,
  },
  {
    trajectory: "torch_muon_original_f32_bf16ns",
    optimizer: muon({ learningRate: 0.02, weightDecay: 0.1, scale: "original" }),
    bound: 3e-2,
    f32Bound: 3e-2,
  },
];

describe.each([
  { precision: "float64", on: f64 },
  { precision: "float32", on: device },
])("six steps in $precision", ({ precision, on }) => {
  test.each(cases)("$trajectory", async ({ trajectory, optimizer, bound, f32Bound }) => {
    let params = tree("param0", on);
    let state: Awaited<ReturnType<Optimizer["init"]>> = optimizer.init(params);
    for (let step = 0; step < steps; step++) {
      ({ params, state } = await realise(optimizer.update(tree(`grad${step}`, on), state, params)));
      for (const name of names) {
        const error = relativeError(
          await params[name]!.data(),
          numbers(`${name}.${trajectory}.${step}`),
          numbers(`${name}.param0`),
        );
        expect(error, `${name} after step ${step}`).toBeLessThan(precision === "float64" ? bound : f32Bound);
      }
    }
    expect(await state.step.item()).toBe(steps);
  });
});
