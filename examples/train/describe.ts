// describe.ts: what a run is, for the terminal and for the report.
import type { Transformer } from "@mc/nn";
import type { Device, Tensor } from "@mc/tensor";
import { type Corpus, count } from "./corpus.ts";
import type { TrainOptions } from "./options.ts";

/** Name and value of each setting. */
export type Settings = readonly (readonly [name: string, value: string])[];

/** What a run is made of. */
export interface RunParts {
  model: Transformer;
  corpus: Corpus;
  device: Device;
  weights: readonly Tensor[];
}

/** The settings of a run, in the order in which they are asked for. */
export function describeSettings(options: TrainOptions, { model, corpus, device, weights }: RunParts): Settings {
  const { context, batch, packing, optimizer, learningRate, tau, steps, seed } = options;
  const { name, documents, sequences } = corpus;
  const parameters = weights.reduce((sum, { size }) => sum + size, 0);
  const side = (list: readonly Int32Array[]) => `${list.length} documents with ${number(count(list))} bytes`;
  return [
    ["text", `${name}: ${side(documents.train)} to train on, ${side(documents.validation)} to validate on`],
    ["model", `${describeModel(model)}, ${number(parameters)} parameters`],
    ["batch", `${batch} sequences of ${context} bytes, ${number(sequences.train.count)} in all, packed as ${packing}`],
    ["optimizer", optimizer === "muonclip" ? `muonclip, tau ${tau}` : optimizer],
    ["learning rate", `${learningRate} at its peak`],
    ["steps", `${number(steps)}, seed ${seed}`],
    ["device", device.description],
    ["kernels", kernelPath(device)],
  ];
}

/** `3 layers (1 dense, 2 with 8 experts, 2 and 1 shared for each byte), 4 heads of latent attention, width 64` */
export function describeModel({ config }: Pick<Transformer, "config">): string {
  const { numLayers, hiddenSize, attention, feedForward } = config;
  const kind = attention.kind === "mla" ? " of latent attention" : "";
  return `${numLayers} layers${describeExperts(feedForward, numLayers)}, ${attention.numHeads} heads${kind}, width ${hiddenSize}`;
}

function describeExperts(feedForward: Transformer["config"]["feedForward"], layers: number): string {
  if (feedForward.kind !== "moe" || feedForward.numDenseLayers === layers) return "";
  const { numExperts, numExpertsPerToken, numSharedExperts, numDenseLayers } = feedForward;
  const dense = numDenseLayers > 0 ? `${numDenseLayers} dense, ${layers - numDenseLayers} ` : "";
  const shared = numSharedExperts > 0 ? ` and ${numSharedExperts} shared` : "";
  return ` (${dense}with ${numExperts} experts, ${numExpertsPerToken}${shared} for each byte)`;
}

/** Which of the kernel variants a device runs. */
export function kernelPath({ kind, software }: Pick<Device, "kind" | "software">): string {
  if (kind === "cpu") return "generated JavaScript; matrix products and attention in WebAssembly SIMD";
  return software ? "WGSL for software adapters: no barriers" : "WGSL for GPUs: workgroup tiles";
}

/** Rows of names and values as aligned lines. */
export function formatTable(rows: Settings): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}

const number = (value: number): string => value.toLocaleString("en");
