// model.ts: a model's logits, hidden states, largest logits, loss, gradients and choice of experts against a folder's
// `case.safetensors`.
import { valueAndGrad } from "@mc/autograd";
import { type LoadedFiles, loadHuggingFace, toHuggingFace } from "@mc/nn";
import { concat, type Device, full, realise, reshape, sliceAxis, type Tensor, tensor } from "@mc/tensor";
import { relativeError } from "@mc/testing";
import { checkExperts } from "./experts.ts";
import { type Entry, readerOf, readTensors } from "./folder.ts";
import type { Check, Computed, Outcome } from "./report.ts";

/** The model of a folder with Hugging Face's files, on a device. */
export const loadModel = (path: string, device: Device): Promise<LoadedFiles> =>
  loadHuggingFace(readerOf(path), { device });

/** Labels of next-token prediction: the inputs moved by one place, and -100 (counts for nothing) at the end. */
export function nextTokens(inputs: Tensor): Tensor {
  const [batch, tokens] = inputs.shape as [number, number];
  return concat([sliceAxis(inputs, 1, 1, tokens), full([batch, 1], -100, { dtype: "i32", device: inputs.device })], 1);
}

/** Token ids as an i32 tensor. */
export const tokenIds = ({ shape, data }: Entry, device: Device): Tensor =>
  tensor(Int32Array.from(data), { shape, device });

/** Tensors under the fixtures' names: those of transformers' modules, without what is no parameter. */
export const fixtureNames = (config: LoadedFiles["config"], tree: unknown): Record<string, Tensor> =>
  toHuggingFace(config, tree, { names: "memory", buffers: false });

/** Values of tensors, all read together. */
export async function readAll(tensors: Readonly<Record<string, Tensor>>): Promise<Record<string, Computed>> {
  await realise(tensors);
  return Object.fromEntries(
    await Promise.all(
      Object.entries(tensors).map(async ([name, t]) => [name, { shape: t.shape, data: await t.data() }] as const),
    ),
  );
}

/** Relative 2-norm, single precision: logits, hidden states and largest logits 1e-4, gradients 1e-3, loss 1e-5; 1e-6 in float64. */
function boundOf(name: string, precision: "f32" | "f64"): number {
  if (precision === "f64") return 1e-6;
  return name.startsWith("grad.") ? 1e-3 : name === "loss" ? 1e-5 : 1e-4;
}

/** Runs a model folder. */
export async function runModel(path: string, device: Device): Promise<Outcome> {
  const { config, model, params } = await loadModel(path, device);
  const expected = readTensors(path, "case.safetensors");
  const ids = expected.input_ids;
  if (!ids) throw new Error("case.safetensors must hold input_ids");
  const inputs = tokenIds(ids, device);
  const { logits, hidden, maxLogits, routing } = model.apply(params, inputs, { hidden: true });
  const { value, grads } = valueAndGrad(model.loss, { hasAux: true })(params, { inputs, labels: nextTokens(inputs) });
  const named = (prefix: string, list: readonly Tensor[]): [string, Tensor][] =>
    list.map((t, i) => [`${prefix}.${i}`, t]);
  const tensors = await readAll({
    logits,
    loss: reshape(value, [1]),
    ...Object.fromEntries([...named("hidden", hidden ?? []), ...named("max_logit", maxLogits)]),
    ...Object.fromEntries(Object.entries(fixtureNames(config, grads)).map(([name, g]) => [`grad.${name}`, g])),
  });
  const chosen = await Promise.all(routing.map(async ({ experts }) => Array.from(await experts.data())));
  return {
    checks: [...compareAll(tensors, expected, device.precision), ...(await checkExperts(path, expected, chosen))],
    tensors,
  };
}

/** Every tensor of the fixture against the computed one; those that were not computed fail. */
function compareAll(
  tensors: Readonly<Record<string, Computed>>,
  expected: Readonly<Record<string, Entry>>,
  precision: "f32" | "f64",
): Check[] {
  return Object.keys(expected)
    .filter((name) => name !== "input_ids")
    .sort(byName)
    .map((name) => ({
      name,
      error:
        tensors[name]?.data.length === expected[name]!.data.length
          ? relativeError(tensors[name]!.data, expected[name]!.data)
          : Number.NaN,
      bound: boundOf(name, precision),
    }));
}

/** Gradients last, numbers inside names by their value. */
const byName = (a: string, b: string): number =>
  Number(a.startsWith("grad.")) - Number(b.startsWith("grad.")) || a.localeCompare(b, "en", { numeric: true });
