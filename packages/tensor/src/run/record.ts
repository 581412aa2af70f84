// run/record.ts: one signature of a compiled function, recorded: its plan, and how arguments and results belong to it.
import { leavesOf, makePlan, type Plan } from "../compiler/plan.ts";
import type { SchedulerSettings } from "../compiler/schedule.ts";
import { isLeaf } from "../compiler/store.ts";
import { connectedDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import type { Storage } from "../device/storage.ts";
import { ValueError } from "../errors.ts";
import { activeTraces, createNode, type Node, nextNodeId, topologicalOrder } from "../node.ts";
import { Tensor } from "../tensor.ts";
import { type Call, type CallPattern, patternOf } from "./call.ts";
import { materialise } from "./realise.ts";
import { type Template, templateOf } from "./template.ts";
import { treeMapWithPath, treePaths } from "./tree.ts";

/** @internal One recorded signature. */
export interface Recording {
  readonly plan: Plan;
  readonly device: Device;
  /** What calls of this signature look like. */
  readonly pattern: CallPattern;
  /** Path of each argument tensor. */
  readonly paths: readonly string[];
  /** Argument tensors that are donated. */
  readonly donated: ReadonlySet<number>;
  /** For each leaf of the plan: argument tensor `argument`, or a captured tensor. */
  readonly leaves: readonly ({ readonly argument: number } | { readonly captured: Node })[];
  /** For each output: the argument returned untouched, or a slot of the plan. */
  readonly outputs: readonly (
    | { readonly argument: number }
    | { readonly slot: number; readonly node: Pick<Node, "shape" | "dtype"> }
  )[];
  /** The result: outputs by number, and plain values that the function returned. */
  readonly result: Template<ResultLeaf>;
  /** What stays with the plan from replay to replay; made at the first. */
  kept?: Kept;
  /** Least time of a replay's call, milliseconds; undefined before the second run (the first makes buffers). */
  javascriptMs?: number;
}

/** A leaf of the result: an output of the plan, or a plain value that the function returned. */
export type ResultLeaf = { readonly output: number } | { readonly output: undefined; readonly value: unknown };

/** @internal What stays with a plan from replay to replay. */
export interface Kept {
  /** Temporaries, and copies of inputs and outputs where the device wants them. */
  readonly buffers: (Storage | undefined)[];
  /** For copies of inputs: the id of the storage whose value is there. Values do not change: the same one is not copied again. */
  readonly copied: (number | undefined)[];
  /** Slots where donated leaves lie side by side, and those leaves. */
  readonly arenas: ReadonlyMap<number, readonly number[]>;
  /** Outputs that are copied out of a buffer, or are an argument as it was given. */
  readonly copies: readonly number[];
  /** Outputs that get a buffer; it moves, if it belonged to a donated argument. */
  readonly whole: readonly { readonly output: number; readonly moves: boolean }[];
  /** Donated arguments, and what is said to those who use one afterwards. */
  readonly ends: readonly (readonly [argument: number, reason: string])[];
  /** For the device, to keep bind groups by. */
  readonly replay: object;
}

/**
 * Runs `fn` on placeholders and plans what it did.
 *
 * @throws ValueError for what cannot be recorded
 */
export function record(
  fn: (...args: unknown[]) => unknown,
  args: readonly unknown[],
  call: Call,
  scheduler: Partial<SchedulerSettings>,
): Recording {
  const trace = {};
  const firstId = nextNodeId();
  activeTraces.add(trace);
  try {
    const placeholders = call.tensors.map(
      (t, slot) => new Tensor(createNode({ kind: "input", trace, slot }, [], t.shape, t.dtype, t.device)),
    );
    const numberOf = call.numberOf;
    const inner = args.map((arg) =>
      treeMapWithPath<unknown, unknown, unknown>(
        (_, leaf) => (leaf instanceof Tensor ? placeholders[numberOf.get(leaf.node)!]! : leaf),
        arg,
      ),
    );
    const result = fn(...inner);
    if (result instanceof Promise) {
      throw new ValueError(
        "compile: the function must not be async: it only records what to do. Await values after calling the compiled function",
      );
    }
    const outputs: Node[] = [];
    const resultPaths: string[] = [];
    const structure = templateOf(result, (path, leaf): ResultLeaf => {
      if (!(leaf instanceof Tensor)) return { output: undefined, value: leaf };
      let i = outputs.indexOf(leaf.node);
      if (i < 0) {
        i = outputs.push(leaf.node) - 1;
        resultPaths.push(path);
      }
      return { output: i };
    });
    realiseCaptured(outputs, firstId, trace);
    checkTied(args, call, result);

    const computed = outputs.filter((n) => n.kind.kind !== "input");
    const leaves = leavesOf(computed);
    const placeholderNumber = new Map(placeholders.map((p, i) => [p.node, i]));
    // a donated argument that is returned untouched stays whole
    const returned = new Set(outputs.map((n) => placeholderNumber.get(n)));
    const computedNumber = new Map(computed.map((n, i) => [n, i]));
    const wishes = new Map(outputs.map((n, i) => [resultPaths[i]!, computedNumber.get(n)]));
    const donated = new Map<Node, number | undefined>();
    for (const leaf of leaves) {
      const number = placeholderNumber.get(leaf);
      if (number === undefined || !call.donated.has(number) || returned.has(number)) continue;
      donated.set(leaf, wishes.get(call.paths[number]!));
    }
    const device = (outputs[0]?.device ?? call.tensors[0]?.device) || connectedDevice();
    const plan = makePlan({ device, leaves, outputs: computed, donated, settings: scheduler });
    return {
      plan,
      device,
      pattern: patternOf(args, call),
      paths: call.paths,
      donated: call.donated,
      leaves: leaves.map((n) => (placeholderNumber.has(n) ? { argument: placeholderNumber.get(n)! } : { captured: n })),
      outputs: outputs.map((n) =>
        placeholderNumber.has(n)
          ? { argument: placeholderNumber.get(n)! }
          : { slot: plan.outputs[computedNumber.get(n)!]!, node: { shape: n.shape, dtype: n.dtype } },
      ),
      result: structure,
    };
  } finally {
    activeTraces.delete(trace);
  }
}

/** Lazy values from before the trace are computed now: else every replay would compute them again. */
function realiseCaptured(outputs: readonly Node[], firstId: number, trace: object): void {
  const lazy = new Set<Node>();
  topologicalOrder(outputs, (n) => {
    if (n.id >= firstId) return n.inputs;
    if (!isLeaf(n) && n.kind.kind !== "constant") lazy.add(n);
    return [];
  });
  if (lazy.size === 0) return;
  activeTraces.delete(trace);
  try {
    materialise([...lazy].map((n) => new Tensor(n)));
  } finally {
    activeTraces.add(trace);
  }
}

/** A tensor donated at two places (tied weights) must come back as one value at both. */
function checkTied(args: readonly unknown[], call: Call, result: unknown): void {
  const resultAt = new Map(treePaths<unknown>(result));
  const first = new Map<Node, string>();
  for (const arg of args) {
    for (const [path, leaf] of treePaths<unknown>(arg)) {
      if (!(leaf instanceof Tensor) || !call.donated.has(call.numberOf.get(leaf.node)!)) continue;
      const before = first.get(leaf.node);
      first.set(leaf.node, before ?? path);
      const a = before === undefined ? undefined : resultAt.get(before);
      const b = resultAt.get(path);
      if (a instanceof Tensor && b instanceof Tensor && a.node !== b.node) {
        throw new ValueError(
          `compile: "${before}" and "${path}" are one donated tensor, but the function returns different values for them; return the same value for both, or pass two tensors`,
        );
      }
    }
  }
}
