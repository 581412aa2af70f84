// randomGraph/generate.ts: graphs as plain data: made from a seed, run, printed, and made smaller when one fails.

import type { Device, DType, Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import { type Random, random } from "../random.ts";
import { type Attributes, graphOps, type Value } from "./ops.ts";

/** An argument of the graph's function. */
export interface GraphInput {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Donated to the compiled function. */
  readonly donated: boolean;
}

/** One operation: value number `inputs.length + position` is its result. */
export interface Instruction {
  readonly op: string;
  readonly args: readonly number[];
  readonly attributes: Attributes;
}

/** A function of tensors as data. Values are numbered: first the inputs, then the instructions. */
export interface Graph {
  readonly seed: number;
  readonly inputs: readonly GraphInput[];
  readonly instructions: readonly Instruction[];
  readonly outputs: readonly number[];
}

/** What kind of graphs to make. */
export interface GraphOptions {
  /** Least number of operations; default 14. */
  readonly operations?: number;
  /** Leave out operations that jump, so that f32 can be compared with f64; default false. */
  readonly smooth?: boolean;
  /** Any device: nothing is computed, but shapes come from the ops themselves. */
  readonly device: Device;
}

const largest = 300;
const names = Object.keys(graphOps);
const weighted = names.flatMap((name) => new Array<string>(graphOps[name]!.weight ?? 1).fill(name));

/**
 * The random graph of a seed: inputs of a few shapes (some donated), 14 operations and more with shared subgraphs, several
 * outputs. Donated inputs are mostly given updates in place, and now and then swapped, reversed or returned untouched.
 */
export function randomGraph(seed: number, { operations = 14, smooth = false, device }: GraphOptions): Graph {
  const r = random(seed);
  const sizes = [r.integer(1, 4), r.integer(2, 5), r.integer(2, 6)];
  const shapes = [
    [sizes[1]!, sizes[2]!],
    [sizes[1]!, sizes[2]!],
    [sizes[0]!, sizes[1]!, sizes[2]!],
    [sizes[2]!],
    [sizes[2]!, sizes[1]!],
    [],
  ];
  const inputs: GraphInput[] = [];
  const count = r.integer(2, 5);
  for (let i = 0; i < count; i++)
    inputs.push({ shape: i === 0 ? shapes[0]! : r.pick(shapes), dtype: "f32", donated: r.chance(0.6) });
  inputs.push({
    shape: r.pick([[sizes[1]!], [sizes[2]!], [sizes[1]!, sizes[2]!]]),
    dtype: "i32",
    donated: r.chance(0.3),
  });

  const instructions: Instruction[] = [];
  const tensors: Tensor[] = inputs.map(({ shape, dtype }) => t.zeros(shape, { dtype, device }));
  const values: Value[] = inputs.map(({ shape, dtype }, index) => ({
    index,
    shape,
    dtype,
    bound: dtype === "i32" ? 5 : 3,
  }));
  const used = new Set<number>();

  /** Appends an operation unless its result would be too large. */
  const append = (op: string, args: readonly number[], attributes: Attributes, bound: number): number | undefined => {
    const result = graphOps[op]!.run(
      args.map((i) => tensors[i]!),
      attributes,
    );
    if (result.size > largest || result.ndim > 5) return undefined;
    for (const a of args) used.add(a);
    instructions.push({ op, args, attributes });
    tensors.push(result);
    values.push({ index: tensors.length - 1, shape: result.shape, dtype: result.dtype, bound });
    return tensors.length - 1;
  };

  while (instructions.length < operations) {
    const op = r.pick(weighted);
    const row = graphOps[op]!;
    if (smooth && row.jumps) continue;
    const choice = row.choose(r, values);
    if (!choice) continue;
    const made = append(
      op,
      choice.args.map((v) => v.index),
      choice.attributes ?? {},
      choice.bound ?? 1,
    );
    // large numbers are squashed, so that products of products stay finite; earlier where rounding must not be amplified
    if (made !== undefined && values[made]!.bound > (smooth ? 10 : 100) && values[made]!.dtype === "f32")
      append(smooth ? "tanh" : r.pick(["tanh", "sin"]), [made], {}, 1);
  }

  const outputs = chooseOutputs(r, inputs, values, used, append);
  return prune({ seed, inputs, instructions, outputs });
}

function chooseOutputs(
  r: Random,
  inputs: readonly GraphInput[],
  values: readonly Value[],
  used: ReadonlySet<number>,
  append: (op: string, args: readonly number[], attributes: Attributes, bound: number) => number | undefined,
): number[] {
  const outputs = values
    .filter((v) => v.index >= inputs.length && !used.has(v.index) && r.chance(0.7))
    .map((v) => v.index);
  for (const [i, input] of inputs.entries()) {
    if (!input.donated) continue;
    const same = (v: Value): boolean => v.dtype === input.dtype && v.shape.join() === input.shape.join();
    const kind = r.next();
    if (kind < 0.55 && input.dtype === "f32") {
      // an update in place: x' = x - 0.5 g, for the last g of that shape
      const g = values.filter((v) => same(v) && v.index !== i).at(-1);
      const scaled = g && append("scale", [g.index], { by: -0.5, plus: 0 }, g.bound);
      const updated = scaled !== undefined ? append("add", [i, scaled], {}, 10) : undefined;
      if (updated !== undefined) outputs.push(updated);
    } else if (kind < 0.7 && input.shape.length > 0) {
      const reversed = append("flip", [i], { axis: r.integer(0, input.shape.length) }, 10);
      if (reversed !== undefined) outputs.push(reversed);
    } else if (kind < 0.85) {
      // swap: another donated input of that shape takes this one's place
      const other = inputs.findIndex(
        (o, k) => k !== i && o.donated && o.dtype === input.dtype && o.shape.join() === input.shape.join(),
      );
      outputs.push(other >= 0 ? other : i);
    } else outputs.push(i);
  }
  // any value in the middle may be wanted too: its kernel must store it, although others use it
  const middle = values.filter((v) => v.index >= inputs.length && used.has(v.index));
  if (middle.length > 0 && r.chance(0.5)) outputs.push(r.pick(middle).index);
  if (outputs.length === 0) outputs.push(values.at(-1)!.index);
  if (r.chance(0.1)) outputs.push(r.pick(outputs));
  return outputs;
}

/** Drops instructions that no output needs and renumbers the rest. */
export function prune(graph: Graph): Graph {
  const first = graph.inputs.length;
  const needed = new Set<number>(graph.outputs);
  for (let i = graph.instructions.length - 1; i >= 0; i--) {
    if (needed.has(first + i)) for (const a of graph.instructions[i]!.args) needed.add(a);
  }
  const renumbered = new Map<number, number>(graph.inputs.map((_, i) => [i, i]));
  const instructions: Instruction[] = [];
  graph.instructions.forEach((instruction, i) => {
    if (!needed.has(first + i)) return;
    renumbered.set(first + i, first + instructions.length);
    instructions.push({ ...instruction, args: instruction.args.map((a) => renumbered.get(a)!) });
  });
  return { ...graph, instructions, outputs: graph.outputs.map((o) => renumbered.get(o)!) };
}

/** Runs the graph's operations on tensors; gives the outputs. */
export function runGraph(graph: Graph, inputs: readonly Tensor[]): Tensor[] {
  const values = [...inputs];
  for (const { op, args, attributes } of graph.instructions)
    values.push(
      graphOps[op]!.run(
        args.map((a) => values[a]!),
        attributes,
      ),
    );
  return graph.outputs.map((o) => values[o]!);
}

/** Fresh input tensors; `round` varies the numbers. f32 inputs are exact in single precision. */
export function graphInputs(graph: Graph, device: Device, round = 0): Tensor[] {
  const r = random(graph.seed * 31 + round);
  return graph.inputs.map(({ shape, dtype }) => {
    const size = shape.reduce((p, d) => p * d, 1);
    const data = Array.from({ length: size }, () => (dtype === "i32" ? r.integer(-5, 6) : Math.fround(r.normal())));
    return t.tensor(data, { shape, dtype, device });
  });
}

/** The graph as text, one operation a line: enough to write it down by hand as a test. */
export function printGraph(graph: Graph): string {
  const lines = graph.inputs.map(
    (x, i) => `v${i} = input ${x.dtype}[${x.shape.join(", ")}]${x.donated ? " donated" : ""}`,
  );
  graph.instructions.forEach(({ op, args, attributes }, i) => {
    const extra = Object.keys(attributes).length > 0 ? `  ${JSON.stringify(attributes)}` : "";
    lines.push(`v${graph.inputs.length + i} = ${op}(${args.map((a) => `v${a}`).join(", ")})${extra}`);
  });
  lines.push(`outputs ${graph.outputs.map((o) => `v${o}`).join(", ")}`);
  return lines.join("\n");
}

/**
 * A smaller graph that still fails: drops outputs, donations and operations (an operation is replaced by one of the values
 * before it that has its shape) for as long as `fails` holds.
 */
export async function shrinkGraph(
  graph: Graph,
  device: Device,
  fails: (graph: Graph) => Promise<boolean>,
): Promise<Graph> {
  let smallest = graph;
  for (let progress = true; progress; ) {
    progress = false;
    for (const candidate of smallerGraphs(smallest, device)) {
      if (!(await fails(candidate))) continue;
      smallest = candidate;
      progress = true;
      break;
    }
  }
  return smallest;
}

function* smallerGraphs(graph: Graph, device: Device): Generator<Graph> {
  if (graph.outputs.length > 1) {
    for (let i = 0; i < graph.outputs.length; i++)
      yield prune({ ...graph, outputs: graph.outputs.filter((_, k) => k !== i) });
  }
  for (let i = 0; i < graph.inputs.length; i++) {
    if (graph.inputs[i]!.donated)
      yield { ...graph, inputs: graph.inputs.map((x, k) => (k === i ? { ...x, donated: false } : x)) };
  }
  const tensors: Tensor[] = graph.inputs.map(({ shape, dtype }) => t.zeros(shape, { dtype, device }));
  for (const { op, args, attributes } of graph.instructions)
    tensors.push(
      graphOps[op]!.run(
        args.map((a) => tensors[a]!),
        attributes,
      ),
    );
  for (let i = graph.instructions.length - 1; i >= 0; i--) {
    const at = graph.inputs.length + i;
    for (let other = 0; other < at; other++) {
      if (tensors[other]!.dtype !== tensors[at]!.dtype || tensors[other]!.shape.join() !== tensors[at]!.shape.join())
        continue;
      const swap = (v: number): number => (v === at ? other : v);
      yield prune({
        ...graph,
        instructions: graph.instructions.map((x) => ({ ...x, args: x.args.map(swap) })),
        outputs: graph.outputs.map(swap),
      });
      break;
    }
  }
}
