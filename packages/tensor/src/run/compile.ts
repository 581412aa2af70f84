// run/compile.ts: records a function once for each signature and replays its plan.
import { leavesOf, makePlan, type Plan } from "../compiler/plan.ts";
import type { SchedulerSettings } from "../compiler/schedule.ts";
import { isLeaf } from "../compiler/store.ts";
import { connectedDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import type { Storage } from "../device/storage.ts";
import { hostBytes } from "../dtype.ts";
import { ValueError } from "../errors.ts";
import { activeTraces, createNode, type Node, nextNodeId, topologicalOrder } from "../node.ts";
import { formatShape, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { materialise, storageOf } from "./realise.ts";
import { isRecording } from "./recording.ts";
import { treeMapWithPath, treePaths } from "./tree.ts";

/** Options of `compile`. */
export interface CompileOptions {
  /**
   * Arguments whose tensors the function may overwrite: positions, or keys of the first argument; `true` for all.
   * Their buffers become the outputs', and the old tensors must not be used afterwards. Default: none.
   */
  readonly donate?: boolean | readonly (string | number)[];
  /** Knobs of the scheduler, for tests and for explaining: every setting gives the same values up to rounding. */
  readonly scheduler?: Partial<SchedulerSettings>;
}

// Undonated inputs up to this size are copied into buffers that the plan owns, so that bind groups stay valid.
const OWNED_INPUT_BYTES = 1 << 20;
// Variants of one shape that differ only in numbers, before the lesson.
const NUMBER_VARIANTS = 3;

/** @internal One recorded signature. */
export interface Recording {
  readonly plan: Plan;
  readonly device: Device;
  /** For each leaf of the plan: argument tensor `argument`, or a captured tensor. */
  readonly leaves: readonly ({ readonly argument: number } | { readonly captured: Node })[];
  /** Argument tensors that are donated. */
  readonly donated: ReadonlySet<number>;
  /** Rebuilds the result from output tensors. */
  readonly rebuild: (output: (i: number) => Tensor) => unknown;
  /** For each output: the argument returned untouched, or a slot of the plan. */
  readonly outputs: readonly (
    | { readonly argument: number }
    | { readonly slot: number; readonly node: Pick<Node, "shape" | "dtype"> }
  )[];
  /** Buffers that stay with the plan: temporaries, and copies of inputs and outputs where the device wants them. */
  owned?: { readonly buffers: (Storage | undefined)[]; readonly replay: object };
}

/** @internal A compiled function can be asked for the recording of a call. */
export const recordingOf = new WeakMap<(...args: never[]) => unknown, (args: readonly unknown[]) => Recording>();

/**
 * Records `fn` once for each signature (tree structure, shapes, dtypes, numbers) and replays the plan: no graph work, no new
 * buffers. Learning rates, step counts and random keys belong in tensors: a number is part of the signature.
 *
 * Captured tensors are constants of the plan; a captured variable that is reassigned later, or a counter, stays as it was.
 * Called while another function is compiled or differentiated, the result is `fn` itself.
 *
 * @param fn - a function from trees of tensors (and numbers, booleans, strings) to a tree of tensors
 * @throws ValueError if a value is read inside, if a placeholder escapes, if a number changes with every call, or if a donated tensor is used again
 * @example
 * const step = compile(({ w }: { w: Tensor }, x: Tensor) => ({ w: sub(w, mul(x, 0.1)) }), { donate: ["w"] });
 * ({ w } = step({ w }, x)); // the old w's buffer holds the new one
 */
export function compile<Args extends unknown[], R>(
  fn: (...args: Args) => R,
  { donate = false, scheduler = {} }: CompileOptions = {},
): (...args: Args) => R {
  const recordings = new Map<string, Recording>();
  const numberVariants = new Map<string, number>();

  const lookup = (args: readonly unknown[], call: Call): Recording => {
    let recording = recordings.get(call.signature);
    if (!recording) {
      const variants = (numberVariants.get(call.shapes) ?? 0) + 1;
      if (variants > NUMBER_VARIANTS && call.hasNumbers) {
        throw new ValueError(
          `compile: called with ${variants} different numbers for the same shapes; each makes a new plan.
  wrong:  step(params, learningRate)          // a number is part of the recorded plan
  why:    the plan is recorded once for each value of a number
  right:  step(params, tensor(learningRate))  // a tensor is an input of the plan`,
        );
      }
      recording = record(fn as (...args: unknown[]) => unknown, args, call, scheduler);
      numberVariants.set(call.shapes, variants);
      recordings.set(call.signature, recording);
    }
    return recording;
  };

  const compiled = (...args: Args): R => {
    if (isRecording()) return fn(...args);
    const call = readCall(args, donate);
    materialise(call.tensors, "compile");
    return replay(lookup(args, call), call) as R;
  };
  recordingOf.set(compiled as (...args: never[]) => unknown, (args) => lookup(args, readCall(args, donate)));
  return compiled;
}

/** The arguments of one call, flattened. Tensors that occur twice (tied weights) count once. */
interface Call {
  readonly tensors: readonly Tensor[];
  readonly numberOf: ReadonlyMap<Node, number>;
  readonly paths: readonly string[];
  readonly donated: ReadonlySet<number>;
  readonly signature: string;
  /** The signature without its numbers. */
  readonly shapes: string;
  readonly hasNumbers: boolean;
}

function readCall(args: readonly unknown[], donate: CompileOptions["donate"]): Call {
  const tensors: Tensor[] = [];
  const paths: string[] = [];
  const numberOf = new Map<Node, number>();
  const donated = new Set<number>();
  const kept = new Set<number>();
  const signature: string[] = [];
  const shapes: string[] = [];
  let hasNumbers = false;
  args.forEach((arg, position) => {
    for (const [path, leaf] of treePaths<unknown>(arg)) {
      if (!(leaf instanceof Tensor)) {
        if (!["number", "boolean", "string", "undefined"].includes(typeof leaf) && leaf !== null) {
          throw new ValueError(
            `compile: arguments must be trees of tensors, numbers, booleans and strings, got ${describe(leaf)} at "${path || position}"; make it a tensor with tensor(...)`,
          );
        }
        signature.push(`${position}.${path}=${typeof leaf}:${String(leaf)}`);
        shapes.push(`${position}.${path}=${typeof leaf === "number" ? "number" : String(leaf)}`);
        hasNumbers ||= typeof leaf === "number";
        continue;
      }
      let number = numberOf.get(leaf.node);
      if (number === undefined) {
        number = tensors.push(leaf) - 1;
        numberOf.set(leaf.node, number);
        paths.push(path);
      }
      const gives =
        donate === true ||
        (Array.isArray(donate) &&
          (donate.includes(position) || (position === 0 && donate.includes(path.split(".")[0]!))));
      (gives ? donated : kept).add(number);
      const entry = `${position}.${path}=#${number}${leaf.dtype}${formatShape(leaf.shape)}${gives ? "!" : ""}`;
      signature.push(entry);
      shapes.push(entry);
    }
    signature.push("|");
  });
  for (const number of donated) {
    if (kept.has(number))
      throw new ValueError(
        `compile: the tensor at "${paths[number]}" is donated in one argument and kept in another; donate both or pass a copy`,
      );
  }
  return { tensors, numberOf, paths, donated, signature: signature.join(";"), shapes: shapes.join(";"), hasNumbers };
}

const describe = (x: unknown): string =>
  typeof x === "object" && x !== null ? (x.constructor?.name ?? "object") : typeof x;

function record(
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
    const structure = treeMapWithPath<unknown, unknown, unknown>((path, leaf) => {
      if (!(leaf instanceof Tensor)) return new ResultLeaf(undefined, leaf);
      let i = outputs.indexOf(leaf.node);
      if (i < 0) {
        i = outputs.push(leaf.node) - 1;
        resultPaths.push(path);
      }
      return new ResultLeaf(i);
    }, result);
    realiseCaptured(outputs, firstId, trace);
    checkTied(args, call, result);

    const computed = outputs.filter((n) => n.kind.kind !== "input");
    const leaves = leavesOf(computed);
    const placeholderNumber = new Map(placeholders.map((p, i) => [p.node, i]));
    // a donated argument that is returned untouched stays whole
    const returned = new Set(outputs.map((n) => placeholderNumber.get(n)));
    const donated = new Map<Node, number | undefined>();
    for (const leaf of leaves) {
      const number = placeholderNumber.get(leaf);
      if (number === undefined || !call.donated.has(number) || returned.has(number)) continue;
      const wish = computed.findIndex((n) => resultPaths[outputs.indexOf(n)] === call.paths[number]);
      donated.set(leaf, wish < 0 ? undefined : wish);
    }
    const device = (outputs[0]?.device ?? call.tensors[0]?.device) || connectedDevice();
    const plan = makePlan({ device, leaves, outputs: computed, donated, settings: scheduler });
    return {
      plan,
      device,
      leaves: leaves.map((n) => (placeholderNumber.has(n) ? { argument: placeholderNumber.get(n)! } : { captured: n })),
      donated: call.donated,
      outputs: outputs.map((n) =>
        placeholderNumber.has(n)
          ? { argument: placeholderNumber.get(n)! }
          : { slot: plan.outputs[computed.indexOf(n)]!, node: { shape: n.shape, dtype: n.dtype } },
      ),
      rebuild: (output) => fill(structure, output),
    };
  } finally {
    activeTraces.delete(trace);
  }
}

/** A leaf of the result: an output of the plan, or a plain value that the function returned. */
class ResultLeaf {
  readonly output: number | undefined;
  readonly value: unknown;
  constructor(output: number | undefined, value?: unknown) {
    this.output = output;
    this.value = value;
  }
}

const fill = (structure: unknown, output: (i: number) => Tensor): unknown =>
  treeMapWithPath<unknown, ResultLeaf, unknown>(
    (_, leaf) => (leaf.output === undefined ? leaf.value : output(leaf.output)),
    structure,
  );

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

function replay(recording: Recording, call: Call): unknown {
  const { plan, device, leaves, donated, outputs } = recording;
  const storages = call.tensors.map((t) => storageOf(t.node));
  const owned = (recording.owned ??= { buffers: ownedBuffers(recording), replay: {} });
  const reused = new Map<number, Storage>(); // slot of a donated leaf that an output took over
  const buffers = plan.slots.map((slot, i): Storage => {
    const mine = owned.buffers[i];
    if (slot.role !== "leaf") return mine ?? device.allocate(slot.dtype, slot.size);
    const leaf = leaves[i]!;
    const given = "argument" in leaf ? storages[leaf.argument]! : storageOf(leaf.captured);
    if (plan.reusedLeaves[i]) reused.set(i, given);
    if (!mine) return given;
    device.copy(given, mine);
    return mine;
  });
  device.execute(plan.launches, buffers, owned.replay);

  // every result gets memory of its own: a copy where the plan, the caller or another result keeps the buffer
  const handed = new Set<number>();
  const results = new Array<Tensor>(outputs.length);
  const copyOf = (from: Storage, like: Pick<Node, "shape" | "dtype">): Tensor => {
    const fresh = device.allocate(like.dtype, sizeOf(like.shape));
    device.copy(from, fresh);
    return wrap(fresh, like);
  };
  const whole: [output: number, storage: Storage, moves: boolean, like: Pick<Node, "shape" | "dtype">][] = [];
  outputs.forEach((output, i) => {
    if ("argument" in output) {
      const given = call.tensors[output.argument]!;
      if (donated.has(output.argument)) whole.push([i, storages[output.argument]!, true, given]);
      else results[i] = given;
      return;
    }
    const { slot, node } = output;
    const taken = plan.slots[slot]!.role === "output" ? !owned.buffers[slot] : reused.has(slot);
    if (taken && !handed.has(slot)) whole.push([i, buffers[slot]!, reused.has(slot), node]);
    else results[i] = copyOf(buffers[slot]!, node);
    handed.add(slot);
  });
  // from here on the donated tensors are gone
  for (const [i, storage, moves, like] of whole) results[i] = wrap(moves ? device.transfer(storage) : storage, like);
  for (const number of donated) {
    const storage = storages[number]!;
    if (storage.handle !== null) device.release(storage);
    storage.dead = `the tensor at "${call.paths[number]}" was donated to a compiled function; use the function's result instead, as in ({ params } = step({ params }))`;
  }
  return recording.rebuild((i) => results[i]!);
}

const wrap = (storage: Storage, like: Pick<Node, "shape" | "dtype">): Tensor =>
  new Tensor(createNode({ kind: "buffer", storage }, [], like.shape, like.dtype, storage.device));

/** Temporaries stay with the plan; on devices that want it, so do copies of small undonated inputs and of outputs. */
function ownedBuffers({ plan, device, leaves }: Recording): (Storage | undefined)[] {
  return plan.slots.map((slot, i) => {
    if (slot.role === "temporary") return device.allocate(slot.dtype, slot.size);
    if (!device.traits.ownsEdges) return undefined;
    if (slot.role === "output") return device.allocate(slot.dtype, slot.size);
    const leaf = leaves[i]!;
    const copied =
      "argument" in leaf &&
      !plan.reusedLeaves[i] && // donated, too, where no output takes its buffer: the next call brings another one
      slot.size * hostBytes(slot.dtype, device.precision) <= OWNED_INPUT_BYTES;
    return copied ? device.allocate(slot.dtype, slot.size) : undefined;
  });
}
