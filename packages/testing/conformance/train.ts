// train.ts: steps of MuonClip on a model, against a folder's `train.safetensors`.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { valueAndGrad } from "@mc/autograd";
import type { HuggingFaceConfig, Roles, TransformerParams } from "@mc/nn";
import { type MuonClipMetrics, muonClip, type OptimizerState, type Plan, type Role } from "@mc/optim";
import { compile, type Device, full, type Tensor, treeMapWithPath, treePaths } from "@mc/tensor";
import { relativeError } from "@mc/testing";
import { type Entry, readJson, readTensors, weightFiles } from "./folder.ts";
import { fixtureNames, loadModel, nextTokens, readAll, tokenIds } from "./model.ts";
import type { Check, Computed, Outcome } from "./report.ts";

/** `train.json`. */
interface TrainJson {
  /** Folder of the model, relative to this one. */
  readonly model: string;
  readonly tau: number;
  readonly hyperparameters: {
    readonly muon: {
      readonly lr: number;
      readonly momentum: number;
      readonly nesterov: boolean;
      readonly weight_decay: number;
      readonly scale: number;
    };
    readonly adamw: {
      readonly lr: number;
      readonly betas: readonly [number, number];
      readonly eps: number;
      readonly weight_decay: number;
    };
    readonly alpha: number;
    readonly steps: number;
  };
  readonly loss: readonly number[];
  readonly clipped_heads: readonly number[];
  /** By the model's Hugging Face names; `blocks` counts the logical matrices of what Muon takes. */
  readonly parameters: Readonly<
    Record<string, { readonly role: Role; readonly optimizer: string; readonly blocks: number }>
  >;
}

/** The model folder that a training folder names. @throws Error if it is not there */
export function modelFolderOf(path: string): string {
  const { model } = readJson<TrainJson>(path, "train.json");
  const folder = resolve(path, model);
  if (!existsSync(folder)) throw new Error(`${path}: train.json names the model folder ${model}, which is not there`);
  weightFiles(folder);
  return folder;
}

/** Runs a training folder. */
export async function runTrain(path: string, device: Device): Promise<Outcome> {
  const json = readJson<TrainJson>(path, "train.json");
  const expected = readTensors(path, "train.safetensors");
  const modelPath = modelFolderOf(path);
  const { config, model, params: initial } = await loadModel(modelPath, device);
  const { muon, adamw, alpha, steps } = json.hyperparameters;
  const places = placesOf(config, initial);
  const optimizer = muonClip({
    learningRate: muon.lr,
    weightDecay: muon.weight_decay,
    momentum: muon.momentum,
    nesterov: muon.nesterov,
    scale: (rows, cols) => muon.scale * Math.sqrt(Math.max(rows, cols)),
    adamw: {
      learningRate: adamw.lr,
      b1: adamw.betas[0],
      b2: adamw.betas[1],
      eps: adamw.eps,
      weightDecay: adamw.weight_decay,
    },
    alpha,
    tau: json.tau,
    roles: model.roles,
    attention: model.attentionLayout,
  });

  const step = compile(
    ({ params, state, inputs }: { params: TransformerParams; state: OptimizerState; inputs: Tensor }) => {
      const { value, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, {
        inputs,
        labels: nextTokens(inputs),
      });
      return {
        loss: value,
        maxLogits: aux.maxLogits,
        ...optimizer.update(grads, state, params, { maxLogits: aux.maxLogits }),
      };
    },
    { donate: ["params", "state"] },
  );

  let params = initial;
  let state = optimizer.init(params);
  const start = await readAll(fixtureNames(config, params));
  const plan = optimizer.plan(params);
  const tensors: Record<string, Computed> = {};
  const losses: number[] = [];
  const clippedHeads: number[] = [];
  for (let t = 0; t < steps; t++) {
    const ids = expected[`input_ids.${t}`];
    if (!ids) throw new Error(`train.safetensors must hold input_ids.${t}`);
    let loss: Tensor;
    let maxLogits: readonly Tensor[];
    let metrics: MuonClipMetrics;
    ({ params, state, loss, maxLogits, metrics } = step({ params, state, inputs: tokenIds(ids, device) }));
    losses.push(await loss.item());
    clippedHeads.push(await metrics.clippedHeads.item());
    const perLayer = (name: string, list: readonly Tensor[]): [string, Tensor][] =>
      list.map((x, layer) => [`${name}.${t}.${layer}`, x]);
    Object.assign(
      tensors,
      await readAll(Object.fromEntries([...perLayer("max_logit", maxLogits), ...perLayer("gamma", metrics.gamma)])),
    );
    if (!Object.keys(expected).some((name) => name.startsWith(`param.${t}.`))) continue;
    for (const [name, value] of Object.entries(await readAll(fixtureNames(config, params))))
      tensors[`param.${t}.${name}`] = value;
  }

  const exact = device.precision === "f64";
  const checks: Check[] = [
    {
      name: "plan: parameters whose role, optimizer or blocks differ",
      error: planDifferences(plan, model.roles, places, json),
      bound: 0,
    },
    ...losses.map((loss, t) => ({
      name: `loss.${t}`,
      error: relativeError([loss], [json.loss[t]!]),
      bound: exact ? 1e-6 : 1e-4,
    })),
    {
      name: "heads clipped differently",
      error: clipDifferences(tensors, expected, clippedHeads, json.clipped_heads),
      bound: 0,
    },
    ...compareMaxima(tensors, expected, exact ? 1e-6 : 1e-3),
    ...compareParameters(tensors, expected, start, exact, steps - 1),
  ];
  return { checks, tensors, metadata: { loss: JSON.stringify(losses), clipped_heads: JSON.stringify(clippedHeads) } };
}

/**
 * For each of our parameters the Hugging Face names it is made of: our weights stack what a checkpoint keeps apart. Found by
 * sending the paths' numbers through the renaming.
 */
function placesOf(config: HuggingFaceConfig, params: TransformerParams): (number: number) => string[] {
  const numberOf = new Map(treePaths(params).map(([path], i) => [path, i]));
  const marked = treeMapWithPath(
    (path: string, x: Tensor) => full(x.shape, numberOf.get(path)!, { device: x.device }),
    params,
  );
  // a constant that was expanded and cut again is still that constant
  const names = new Map<number, string[]>();
  for (const [name, t] of Object.entries(fixtureNames(config, marked))) {
    const number = constantOf(t);
    names.set(number, [...(names.get(number) ?? []), name]);
  }
  return (number) => names.get(number) ?? [];
}

/** The literal below a chain of views. */
function constantOf(t: Tensor): number {
  let node = t.node;
  while (node.kind.kind !== "constant") node = node.inputs[0]!;
  return node.kind.value;
}

/** Parameters for which the model's own roles and our plan differ from the fixture's. */
function planDifferences(
  plan: Plan,
  roles: Roles,
  places: (number: number) => string[],
  { parameters }: TrainJson,
): number {
  return plan.rows.filter((row, number) => {
    const theirs = places(number).map((name) => parameters[name]);
    if (row.role === "buffer") return row.blocks.length > 0 || theirs.length > 0; // no parameter: no optimizer, and not in the list
    const blocks = row.blocks.reduce((sum, { count }) => sum + count, 0);
    const expectedBlocks = theirs.reduce((sum, p) => sum + (p?.blocks ?? 0), 0);
    return (
      theirs.length === 0 ||
      blocks !== expectedBlocks ||
      theirs.some((p) => p?.role !== roles[row.parameter]?.role || p?.optimizer !== row.optimizer)
    );
  }).length;
}

/** Heads that only one side clipped, and steps whose count differs. */
function clipDifferences(
  tensors: Readonly<Record<string, Computed>>,
  expected: Readonly<Record<string, Entry>>,
  counts: readonly number[],
  expectedCounts: readonly number[],
): number {
  const heads = Object.keys(expected).filter((name) => name.startsWith("gamma."));
  const differing = heads.reduce(
    (sum, name) =>
      sum + Array.from(expected[name]!.data).filter((g, h) => g < 1 !== tensors[name]!.data[h]! < 1).length,
    0,
  );
  return differing + counts.filter((count, t) => count !== expectedCounts[t]).length;
}

function compareMaxima(
  tensors: Readonly<Record<string, Computed>>,
  expected: Readonly<Record<string, Entry>>,
  bound: number,
): Check[] {
  return Object.keys(expected)
    .filter((name) => name.startsWith("max_logit.") || name.startsWith("gamma."))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .map((name) => ({
      name,
      error: tensors[name] ? relativeError(tensors[name].data, expected[name]!.data) : Number.NaN,
      bound,
    }));
}

/**
 * Errors of parameters, relative to their change since the start. Single precision is held to its bound in every parameter
 * after the last step. Float64 is held to it over the whole trajectory: transformers keeps islands of single precision even in a
 * float64 model (RMSNorm, softmax, rotary angles), which show by about 1e-6 in single parameters after the first step, when these
 * have hardly moved.
 */
function compareParameters(
  tensors: Readonly<Record<string, Computed>>,
  expected: Readonly<Record<string, Entry>>,
  start: Readonly<Record<string, Computed>>,
  exact: boolean,
  lastStep: number,
): Check[] {
  const all = { actual: [] as number[], expected: [] as number[], start: [] as number[] };
  const checks = Object.keys(expected).flatMap((name): Check[] => {
    const [, step, parameter] = /^param\.(\d+)\.(.+)$/.exec(name) ?? [];
    if (parameter === undefined) return [];
    const theirs = expected[name]!.data;
    const ours = tensors[name]?.data ?? new Float64Array(theirs.length).fill(Number.NaN);
    const origin = start[parameter]?.data ?? new Float64Array(theirs.length).fill(Number.NaN);
    for (let i = 0; i < theirs.length; i++) {
      all.actual.push(ours[i]!);
      all.expected.push(theirs[i]!);
      all.start.push(origin[i]!);
    }
    return [
      {
        name,
        error: relativeError(ours, theirs, origin),
        bound: !exact && Number(step) === lastStep ? 1e-3 : undefined,
      },
    ];
  });
  const whole = {
    name: "param: all parameters, all recorded steps",
    error: relativeError(all.actual, all.expected, all.start),
    bound: exact ? 1e-6 : 1e-3,
  };
  return [...checks, whole];
}
