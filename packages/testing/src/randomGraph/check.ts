// randomGraph/check.ts: runs one random graph in one way and says where it differs from another.
import { grad } from "@mc/autograd";
import type { Device, Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import type { SchedulerSettings } from "@mc/tensor/graph";
import { findMismatch, relativeError } from "../compare.ts";
import { type Graph, graphInputs, runGraph } from "./generate.ts";

/** One way to run a graph. */
export interface RunOptions {
  readonly device: Device;
  readonly scheduler: Partial<SchedulerSettings>;
  /** Whether the inputs marked as donated are. */
  readonly donate: boolean;
  /** Run the gradient of a weighted sum of the float outputs instead of the outputs. */
  readonly gradient?: boolean;
  /** Replays of the compiled function, each with other numbers; default 1. */
  readonly replays?: number;
}

/** Values of each output, for each replay. */
export type RunResult = readonly (readonly ArrayLike<number>[])[];

/** Nothing inlined, nothing merged, nothing reused: one kernel and one buffer for each operation. The meaning of a graph. */
export const unfused: Partial<SchedulerSettings> = { fuse: false, merge: false, reuse: false };

/** Settings that must not change a value, by name. */
export const settings: Readonly<Record<string, Partial<SchedulerSettings>>> = {
  default: {},
  "no merging": { merge: false },
  "no inlining": { fuse: false },
  "no reuse of buffers": { reuse: false },
  "no coalescing": { coalesce: false },
  "recompute nothing": { recomputeLimit: 0 },
  "recompute much": { recomputeLimit: 60 },
  "rows written by their reductions": { spreadRows: 2 },
  "4 bindings": { maxBindings: 4 },
  "6 bindings": { maxBindings: 6 },
  "64 bindings": { maxBindings: 64 },
};

/** Compiles the graph's function and calls it. */
export async function evaluate(
  graph: Graph,
  { device, scheduler, donate, gradient = false, replays = 1 }: RunOptions,
): Promise<RunResult> {
  const given = graph.inputs.map((x) => donate && x.donated);
  const arrange = (inputs: readonly Tensor[]) => ({
    donated: inputs.filter((_, i) => given[i]),
    kept: inputs.filter((_, i) => !given[i]),
  });
  const fn = t.compile(
    ({ donated, kept }: { donated: Tensor[]; kept: Tensor[] }) => {
      const d = donated.values();
      const k = kept.values();
      const inputs = given.map((g) => (g ? d.next().value : k.next().value) as Tensor);
      return gradient ? gradients(graph, inputs) : runGraph(graph, inputs);
    },
    { donate: ["donated"], scheduler },
  );
  const rounds: ArrayLike<number>[][] = [];
  for (let round = 0; round < replays; round++) {
    const outputs = fn(arrange(graphInputs(graph, device, round)));
    rounds.push(await Promise.all(outputs.map((o) => o.data())));
  }
  return rounds;
}

/** Gradient by the f32 inputs of the sum of all float outputs, each weighted by its position. */
function gradients(graph: Graph, inputs: readonly Tensor[]): Tensor[] {
  const isFloat = inputs.map((x) => x.dtype === "f32");
  const loss = (variables: Tensor[]): Tensor => {
    const v = variables.values();
    const outputs = runGraph(
      graph,
      inputs.map((x, i) => (isFloat[i] ? (v.next().value as Tensor) : x)),
    );
    let total: Tensor = t.full([], 0, { device: inputs[0]!.device });
    for (const out of outputs)
      if (out.dtype === "f32")
        total = t.add(
          total,
          t.sum(
            t.sin(
              t.mul(out, t.add(t.cast(t.reshape(t.arange(out.size, { device: out.device }), out.shape), "f32"), 0.5)),
            ),
          ),
        );
    return total;
  };
  return grad(loss)(inputs.filter((_, i) => isFloat[i]));
}

/** Where two results differ, as text; undefined when they agree to `rtol` (NaN by bits, and integers exactly). */
export function difference(actual: RunResult, expected: RunResult, rtol: number): string | undefined {
  for (let round = 0; round < expected.length; round++) {
    for (let i = 0; i < expected[round]!.length; i++) {
      const found = findMismatch(actual[round]![i]!, expected[round]![i]!, { rtol, atol: rtol });
      if (found)
        return `output ${i}, call ${round}: element ${found.index} is ${found.actual}, expected ${found.expected} (${found.count} differ)`;
    }
  }
  return undefined;
}

/** The largest relative 2-norm error over outputs; outputs that are almost zero count by their absolute error. */
export function distance(actual: RunResult, expected: RunResult): number {
  let worst = 0;
  for (let round = 0; round < expected.length; round++) {
    for (let i = 0; i < expected[round]!.length; i++) {
      const e = expected[round]![i]!;
      const size = Math.sqrt(Array.from(e).reduce((s, v) => s + v * v, 0));
      const error = relativeError(actual[round]![i]!, e) * Math.min(1, size || 1);
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}
