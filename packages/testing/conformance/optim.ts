// optim.ts: trajectories of optimizers, and Newton-Schulz results, against a folder's `optim.safetensors`.
import {
  adamw,
  type MuonScale,
  muon,
  newtonSchulz,
  type Optimizer,
  type OptimizerState,
  type Quintic,
  sgd,
} from "@mc/optim";
import { type Device, realise, type Tensor, tensor } from "@mc/tensor";
import { relativeError } from "@mc/testing";
import { type Entry, readJson, readTensors } from "./folder.ts";
import { readAll } from "./model.ts";
import type { Check, Computed, Outcome } from "./report.ts";

/** Hyperparameters of one algorithm, as the fixture writes them. */
interface Hyperparameters {
  readonly lr: number;
  readonly weight_decay: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly amsgrad?: boolean;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** Such as "0.2*sqrt(max(rows, cols))". */
  readonly scale?: string;
}

interface OptimJson {
  readonly steps: number;
  /** Coefficients of each schedule, and `SCHEDULE_norm_factor`. */
  readonly newton_schulz: Readonly<Record<string, readonly Quintic[] | number | string>>;
  readonly [algorithm: string]: unknown;
}

/** Against PyTorch's Muon, which rounds every product of Newton-Schulz to bfloat16; against everything else in float64; and in single precision. */
const bfloat16Bound = 3e-2;
const exactBound = 1e-9;
const singleBound = 1e-3;

/** Runs an optimizer folder. */
export async function runOptim(path: string, device: Device): Promise<Outcome> {
  const json = readJson<OptimJson>(path, "optim.json");
  const expected = readTensors(path, "optim.safetensors");
  const names = Object.keys(expected).flatMap((name) =>
    name.endsWith(".param0") ? [name.slice(0, -".param0".length)] : [],
  );
  if (names.length === 0) throw new Error("optim.safetensors must hold NAME.param0 for at least one NAME");
  const tree = (suffix: string): Record<string, Tensor> =>
    Object.fromEntries(names.map((name) => [name, place(expected, `${name}.${suffix}`, device)]));

  const checks: Check[] = [];
  const tensors: Record<string, Computed> = {};
  for (const algorithm of algorithmsIn(expected)) {
    const rough = algorithm.includes("bf16");
    const exact = device.precision === "f64" && !rough;
    const trajectory = await follow(optimizerOf(algorithm, json), tree, json.steps, algorithm);
    Object.assign(tensors, trajectory);
    for (const name of names) {
      const errors = Array.from({ length: json.steps }, (_, step) => {
        const key = `${name}.${algorithm}.${step}`;
        return relativeError(trajectory[key]!.data, entry(expected, key).data, entry(expected, `${name}.param0`).data);
      });
      // in float64 every step counts, in single precision and against bfloat16 the last one
      const error = exact ? Math.max(...errors) : errors.at(-1)!;
      checks.push({
        name: `${name}.${algorithm}`,
        error,
        bound: rough ? bfloat16Bound : exact ? exactBound : singleBound,
      });
    }
  }
  const results = await readAll(newtonSchulzOf(json, expected, names, device));
  Object.assign(tensors, results);
  for (const [key, { data }] of Object.entries(results)) {
    checks.push({
      name: key,
      error: relativeError(data, entry(expected, key).data),
      bound: device.precision === "f64" ? exactBound : singleBound,
    });
  }
  return { checks, tensors };
}

function entry(tensors: Readonly<Record<string, Entry>>, name: string): Entry {
  const found = tensors[name];
  if (!found) throw new Error(`optim.safetensors must hold ${name}`);
  return found;
}

function place(tensors: Readonly<Record<string, Entry>>, name: string, device: Device): Tensor {
  const { shape, data } = entry(tensors, name);
  return tensor(data, { shape, dtype: "f32", device });
}

/** Algorithms that have a trajectory: NAME.ALGORITHM.STEP. */
const algorithmsIn = (tensors: Readonly<Record<string, Entry>>): string[] =>
  [...new Set(Object.keys(tensors).flatMap((name) => /^[^.]+\.([^.]+)\.\d+$/.exec(name)?.slice(1) ?? []))].sort();

/** All parameters through all steps; values by NAME.ALGORITHM.STEP. */
async function follow(
  optimizer: Optimizer,
  tree: (suffix: string) => Record<string, Tensor>,
  steps: number,
  algorithm: string,
): Promise<Record<string, Computed>> {
  const out: Record<string, Computed> = {};
  let params = tree("param0");
  let state: OptimizerState = optimizer.init(params);
  for (let step = 0; step < steps; step++) {
    ({ params, state } = await realise(optimizer.update(tree(`grad${step}`), state, params)));
    for (const [name, value] of Object.entries(await readAll(params))) out[`${name}.${algorithm}.${step}`] = value;
  }
  return out;
}

/** Hyperparameters under the algorithm's own name, or under a pattern such as "muonclip_*". */
function hyperparametersOf(algorithm: string, json: OptimJson): Hyperparameters {
  const key = Object.keys(json).find(
    (k) => k === algorithm || (k.endsWith("*") && algorithm.startsWith(k.slice(0, -1))),
  );
  if (key === undefined) throw new Error(`optim.json must hold the hyperparameters of ${algorithm}`);
  return json[key] as Hyperparameters;
}

function optimizerOf(algorithm: string, json: OptimJson): Optimizer {
  const {
    lr: learningRate,
    weight_decay: weightDecay,
    betas,
    eps,
    amsgrad,
    momentum,
    nesterov,
    scale,
  } = hyperparametersOf(algorithm, json);
  if (algorithm.startsWith("torch_adamw"))
    return adamw({ learningRate, weightDecay, b1: betas?.[0], b2: betas?.[1], eps, amsgrad });
  if (algorithm.startsWith("torch_sgd")) return sgd({ learningRate, weightDecay, momentum, nesterov });
  if (algorithm.startsWith("torch_muon"))
    return muon({
      learningRate,
      weightDecay,
      momentum,
      nesterov,
      scale: algorithm.includes("original") ? "original" : "match-rms-adamw",
    });
  if (algorithm.startsWith("muonclip_")) {
    const heavyBall = algorithm.endsWith("_heavyball");
    const { schedule, normFactor } = scheduleOf(algorithm.slice("muonclip_".length).replace(/_heavyball$/, ""), json);
    return muon({
      learningRate,
      weightDecay,
      momentum,
      nesterov: !heavyBall,
      newtonSchulz: schedule,
      normFactor,
      scale: scaleOf(scale),
    });
  }
  throw new Error(
    `optim.safetensors holds ${algorithm}, which is no known algorithm (torch_adamw*, torch_sgd*, torch_muon*, muonclip_*)`,
  );
}

/** "c*sqrt(max(rows, cols))" */
function scaleOf(text: string | undefined): MuonScale {
  const factor = /^([\d.]+)\*sqrt\(max\(rows, cols\)\)$/.exec(text ?? "")?.[1];
  if (factor === undefined)
    throw new Error(
      `optim.json must give the scale of muonclip_* as "c*sqrt(max(rows, cols))", got ${JSON.stringify(text)}`,
    );
  return (rows, cols) => Number(factor) * Math.sqrt(Math.max(rows, cols));
}

function scheduleOf(
  name: string,
  { newton_schulz: schedules }: OptimJson,
): { schedule: readonly Quintic[]; normFactor: number } {
  const schedule = schedules[name];
  const normFactor = schedules[`${name}_norm_factor`] ?? 1;
  if (!Array.isArray(schedule) || typeof normFactor !== "number")
    throw new Error(`optim.json must hold the coefficients of the Newton-Schulz schedule "${name}"`);
  return { schedule: schedule as readonly Quintic[], normFactor };
}

/** The orthogonalised first gradients, by NAME.newton_schulz_SCHEDULE. */
function newtonSchulzOf(
  json: OptimJson,
  expected: Readonly<Record<string, Entry>>,
  names: readonly string[],
  device: Device,
): Record<string, Tensor> {
  const keys = Object.keys(expected).filter((key) => /^[^.]+\.newton_schulz_/.test(key));
  return Object.fromEntries(
    keys
      .filter((key) => names.includes(key.split(".")[0]!))
      .map((key) => {
        const [name, result] = key.split(".") as [string, string];
        const { schedule, normFactor } = scheduleOf(result.slice("newton_schulz_".length), json);
        return [key, newtonSchulz(place(expected, `${name}.grad0`, device), { schedule, normFactor })];
      }),
  );
}
