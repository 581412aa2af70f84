// run/call.ts: the arguments of a compiled function, flattened: slowly with names the first time, then by the structure that is known.
import type { DType } from "../dtype.ts";
import { ValueError } from "../errors.ts";
import type { Node } from "../node.ts";
import { formatShape, type Shape, sameShape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { matches, type Template, templateOf } from "./template.ts";
import { treePaths } from "./tree.ts";

/** The arguments of one call, flattened. Tensors that occur twice (tied weights) count once. */
export interface Call {
  readonly tensors: readonly Tensor[];
  readonly numberOf: ReadonlyMap<Node, number>;
  readonly paths: readonly string[];
  readonly donated: ReadonlySet<number>;
  readonly signature: string;
  /** The signature without its numbers. */
  readonly shapes: string;
  readonly hasNumbers: boolean;
}

/** @param donate - see `CompileOptions` */
export function readCall(args: readonly unknown[], donate: boolean | readonly (string | number)[]): Call {
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

/** What stands at each leaf of a call's arguments: a tensor by number, or a plain value. */
type ArgumentLeaf =
  | { readonly number: number; readonly shape: Shape; readonly dtype: DType }
  | { readonly number: undefined; readonly value: unknown };

/** What the arguments of one signature look like. */
export type CallPattern = Template<ArgumentLeaf>;

/** The pattern of a call. */
export function patternOf(args: readonly unknown[], { numberOf }: Call): CallPattern {
  return templateOf<ArgumentLeaf>(args, (_, leaf) =>
    leaf instanceof Tensor
      ? { number: numberOf.get(leaf.node)!, shape: leaf.shape, dtype: leaf.dtype }
      : { number: undefined, value: leaf },
  );
}

/** Calls that were read like another one. */
let calls = 0;

/** The tensors of a call that has this pattern and realised arguments; undefined for any other. */
export function readLike(pattern: CallPattern, args: readonly unknown[]): Tensor[] | undefined {
  const tensors: Tensor[] = [];
  const call = ++calls;
  const fits = matches(pattern, args, (leaf, value) => {
    if (leaf.number === undefined) return Object.is(leaf.value, value);
    if (!(value instanceof Tensor)) return false;
    const { node } = value;
    const known = tensors[leaf.number];
    if (known) return known.node === node;
    tensors[leaf.number] = value;
    if (node.kind.kind !== "buffer" || node.dtype !== leaf.dtype || !sameShape(node.shape, leaf.shape)) return false;
    // a tensor that now stands at two places is another signature
    const { storage } = node.kind;
    if (storage.call === call) return false;
    storage.call = call;
    return true;
  });
  return fits ? tensors : undefined;
}
