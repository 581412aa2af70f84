// describe.ts: what a run is, for the terminal and for the report.
import type { Device, Tensor } from "@mc/tensor";
import { type Corpus, count } from "./corpus.ts";
import type { TrainOptions } from "./options.ts";

/** Name and value of each setting. */
export type Settings = readonly (readonly [name: string, value: string])[];

/** The settings of a run, in the order in which they are asked for. */
export function describeSettings(
  options: TrainOptions,
  { name, documents, sequences }: Corpus,
  device: Device,
  weights: readonly Tensor[],
): Settings {
  const { layers, heads, width, context, batch, optimizer, learningRate, tau, steps, seed } = options;
  const parameters = weights.reduce((sum, { size }) => sum + size, 0);
  const side = (list: readonly Int32Array[]) => `${list.length} documents with ${number(count(list))} bytes`;
  return [
    ["text", `${name}: ${side(documents.train)} to train on, ${side(documents.validation)} to validate on`],
    ["model", `${layers} layers, ${heads} heads, width ${width}, ${number(parameters)} parameters`],
    ["batch", `${batch} sequences of ${context} bytes, ${number(sequences.train.count)} sequences in all`],
    ["optimizer", optimizer === "muonclip" ? `muonclip, tau ${tau}` : optimizer],
    ["learning rate", `${learningRate} at its peak`],
    ["steps", `${number(steps)}, seed ${seed}`],
    ["device", device.description],
    ["kernels", kernelPath(device)],
  ];
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
