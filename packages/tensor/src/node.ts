// node.ts: the graph. A node is an op applied to nodes; realising turns it into a buffer and drops its inputs.

import type { Device } from "./device/device.ts";
import type { Storage } from "./device/storage.ts";
import type { DType } from "./dtype.ts";
import { DeviceError, ValueError } from "./errors.ts";
import type { FusedOp } from "./fused.ts";
import type { Expr } from "./scalar.ts";
import { exprKey } from "./scalar.ts";
import type { Shape } from "./shape.ts";

/** What is known and wanted of a matrix product, beside its operands. */
export interface MatmulTraits {
  /** "default": what the device was connected with; "f32": never less. */
  readonly precision: "default" | "f32";
  /** The product is a symmetric matrix: one of each pair of elements is computed, and stored twice. */
  readonly symmetric: boolean;
}

/** How a reduction combines elements. */
export type ReduceKind = "sum" | "max" | "min" | "argmax";

/**
 * What a node does. The compiler knows these kinds and no op by name:
 * leaves (buffer, input, constant, iota), element-wise maps, views (index arithmetic in the consumer), gather (a view with a
 * data-dependent coordinate), reductions over trailing axes, matmul, concat, fused ops with several outputs and `pick`,
 * an identity that orders (barrier), one that rounds (half), and what means something to autograd only (variable, stop, checkpoint).
 */
export type Kind =
  | { readonly kind: "buffer"; readonly storage: Storage }
  | { readonly kind: "input"; readonly trace: object; readonly slot: number }
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "iota"; readonly axis: number }
  | { readonly kind: "map"; readonly expr: Expr }
  | { readonly kind: "reshape" }
  | { readonly kind: "permute"; readonly perm: readonly number[] }
  | { readonly kind: "expand" }
  | { readonly kind: "slice"; readonly starts: readonly number[] }
  | { readonly kind: "flip"; readonly axes: readonly number[] }
  | { readonly kind: "pad"; readonly before: readonly number[] }
  | { readonly kind: "gather"; readonly axis: number }
  | { readonly kind: "reduce"; readonly reduce: ReduceKind; readonly axes: readonly number[] }
  | ({ readonly kind: "matmul" } & MatmulTraits)
  | { readonly kind: "concat"; readonly axis: number }
  | {
      readonly kind: "fused";
      readonly op: FusedOp<unknown>;
      readonly params: unknown;
      readonly outputs: readonly { shape: Shape; dtype: DType }[];
    }
  | { readonly kind: "pick"; readonly output: number }
  /** `given` values, and what was computed from them, which is what `pick` takes: `recompute` does it again for the way back. */
  | {
      readonly kind: "checkpoint";
      readonly given: number;
      readonly results: number;
      /** Computes the values again from others that are given. */
      readonly recompute: (given: readonly Node[]) => readonly Node[];
    }
  /** The input rounded to f16, for products on a matrix unit and nobody else. Only lowering makes it: to all others it is f32. */
  | { readonly kind: "half" }
  /** The first input, for readers that must not run before the other inputs are known. Never equal to the input itself. */
  | { readonly kind: "barrier" }
  | { readonly kind: "variable" }
  | { readonly kind: "stop" };

/** Names of the kinds. */
export type KindName = Kind["kind"];

/** A value in the graph. `kind` and `inputs` change once, when the node is realised. */
export interface Node {
  readonly id: number;
  kind: Kind;
  inputs: readonly Node[];
  readonly shape: Shape;
  readonly dtype: DType;
  readonly device: Device | null;
  /** The trace whose placeholder this node depends on; null for values that exist outside of any. */
  readonly trace: object | null;
  /** Nodes below this one, counted along the longest path: bounds how long an eager graph may grow. */
  depth: number;
}

let nextId = 0;
/** Ids grow with time: a node with a smaller id than a trace's first was there before the trace. */
export const nextNodeId = (): number => nextId;

/** The device that the inputs agree on; null while only literals are involved. */
function commonDevice(inputs: readonly Node[]): Device | null {
  let device: Device | null = null;
  for (const { device: d } of inputs) {
    if (d === null) continue;
    if (device !== null && device !== d) {
      throw new DeviceError(
        "mismatch",
        `tensors must be on one device, got ${device.description} and ${d.description}; move one with tensor(await x.data(), { device })`,
      );
    }
    device = d;
  }
  return device;
}

export function createNode(
  kind: Kind,
  inputs: readonly Node[],
  shape: Shape,
  dtype: DType,
  device: Device | null = commonDevice(inputs),
): Node {
  let depth = 0;
  let trace = kind.kind === "input" ? kind.trace : null;
  for (const input of inputs) {
    if (input.trace) checkTrace(input.trace);
    trace = input.trace ?? trace;
    if (input.depth >= depth) depth = input.depth + 1;
  }
  return { id: nextId++, kind, inputs, shape, dtype, device, trace, depth };
}

const noInputs: readonly Node[] = [];

/** The leaf that a realised value is. */
export const bufferNode = (storage: Storage, shape: Shape, dtype: DType): Node => ({
  id: nextId++,
  kind: { kind: "buffer", storage },
  inputs: noInputs,
  shape,
  dtype,
  device: storage.device,
  trace: null,
  depth: 0,
});

/** Traces that are being recorded; placeholders of others must not be used. */
export const activeTraces = new Set<object>();

/** Throws if a placeholder's trace is over. Ops ask for shapes first, so that this comes before any complaint about those. */
export function checkTrace(trace: object): void {
  if (!activeTraces.has(trace)) {
    throw new ValueError(
      "compile: a tensor from inside a compiled function was used outside of it. Return it from the function instead: its value exists only while the plan runs",
    );
  }
}

const numberOfFused = new WeakMap<object, number>();
let fusedCount = 0;
function fusedNumber(op: object): number {
  let number = numberOfFused.get(op);
  if (number === undefined) {
    number = fusedCount++;
    numberOfFused.set(op, number);
  }
  return number;
}

/** Structural text of a node without its inputs: equal text and equal inputs, equal value. Leaves are compared by identity. */
export function nodeKey(node: Node): string {
  const k = node.kind;
  const head = `${k.kind}|${node.dtype}|${node.shape.join(",")}`;
  switch (k.kind) {
    case "buffer":
    case "input":
    case "variable":
      return `${k.kind}#${node.id}`;
    case "constant":
      return `${head}|${Object.is(k.value, -0) ? "-0" : k.value}`;
    case "iota":
    case "gather":
    case "concat":
      return `${head}|${k.axis}`;
    case "map":
      return `${head}|${exprKey(k.expr)}`;
    case "permute":
      return `${head}|${k.perm.join(",")}`;
    case "slice":
      return `${head}|${k.starts.join(",")}`;
    case "flip":
      return `${head}|${k.axes.join(",")}`;
    case "pad":
      return `${head}|${k.before.join(",")}`;
    case "reduce":
      return `${head}|${k.reduce}|${k.axes.join(",")}`;
    case "fused":
      return `fused|${fusedNumber(k.op)}|${JSON.stringify(k.params ?? null)}`;
    case "pick":
      return `${head}|${k.output}`;
    case "matmul":
      return `${head}|${k.precision}|${k.symmetric}`;
    case "checkpoint":
      return `${head}|${k.given},${k.results}`;
    case "reshape":
    case "expand":
    case "barrier":
    case "half":
    case "stop":
      return head;
  }
}

/** Inputs before users, each node once; iterative, so that long chains are no problem. */
export function topologicalOrder(
  roots: readonly Node[],
  inputsOf: (node: Node) => readonly Node[] = (n) => n.inputs,
): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, number>();
  for (const root of roots) {
    const stack: Node[] = [root];
    while (stack.length > 0) {
      const node = stack[stack.length - 1]!;
      const at = state.get(node);
      if (at === -1) {
        stack.pop();
        continue;
      }
      const inputs = inputsOf(node);
      let next = at ?? 0;
      while (next < inputs.length && state.get(inputs[next]!) === -1) next++;
      if (next < inputs.length) {
        state.set(node, next + 1);
        stack.push(inputs[next]!);
      } else {
        state.set(node, -1);
        order.push(node);
        stack.pop();
      }
    }
  }
  return order;
}
