// compiler/values.ts: reads a node at given coordinates, inlining maps and views down to stored nodes.
import type { DType } from "../dtype.ts";
import { invariant } from "../errors.ts";
import type { Node } from "../node.ts";
import type { Expr, ScalarOp } from "../scalar.ts";
import {
  addIndex,
  constantIndex,
  type Index,
  indexKey,
  linearIndex,
  reshapeCoordinates,
  scaleIndex,
  valueIndex,
  variableIndex,
} from "./affine.ts";
import type { Reduction, Value } from "./kernel.ts";

export type NodeValue = Value<Node>;

let nextValue = 0;
const constantValue = (value: number, dtype: DType): NodeValue => ({ kind: "constant", id: nextValue++, dtype, value });
const opValue = (op: ScalarOp, dtype: DType, ...args: NodeValue[]): NodeValue => ({
  kind: "op",
  id: nextValue++,
  dtype,
  op,
  args,
});
const indexValue = (index: Index): NodeValue => ({ kind: "index", id: nextValue++, dtype: "i32", index });
/** Element `index` of a buffer, whatever `source` names it by. */
export const loadValue = <S>(source: S, index: Index, dtype: DType, mask?: Value<S>): Value<S> => ({
  kind: "load",
  id: nextValue++,
  dtype,
  source,
  index,
  mask,
});
export const resultValue = (reduce: number, dtype: DType): NodeValue => ({
  kind: "result",
  id: nextValue++,
  dtype,
  reduce,
});

/** The coordinates (v_first, v_first+1, ...) of a point of `shape`. */
export const variables = (shape: readonly number[], first = 0): Index[] =>
  shape.map((d, i) => variableIndex(first + i, d));

/**
 * Builds the values of one kernel. Reading a node that is `stored` loads it; reading one of the kernel's own results (`define`d)
 * takes the value itself; everything else is inlined. Equal reads are one value.
 */
export class ValueBuilder {
  readonly reductions: Reduction<Node>[] = [];
  private readonly stored: (node: Node) => boolean;
  private readonly local = new Map<Node, NodeValue>();
  private readonly memo = new Map<Node, Map<string, NodeValue>>();
  /** First unused loop variable: reductions take theirs from here. */
  private nextVariable: number;

  constructor(stored: (node: Node) => boolean, rank: number) {
    this.stored = stored;
    this.nextVariable = rank;
  }

  /** From here on, reading `node` (always at the kernel's own point) gives `value`. */
  define(node: Node, value: NodeValue): void {
    this.local.set(node, value);
  }

  /** Loop variables of their own over `shape`. */
  open(shape: readonly number[]): { readonly firstVariable: number; readonly at: Index[] } {
    const firstVariable = this.nextVariable;
    this.nextVariable += shape.length;
    return { firstVariable, at: variables(shape, firstVariable) };
  }

  /** The value of a kernel's root at `coordinates` of its shape; a reduction is added to the kernel. */
  root(node: Node, coordinates: readonly Index[]): NodeValue {
    const k = node.kind;
    if (k.kind !== "reduce") return this.compute(node, coordinates, undefined);
    const input = node.inputs[0]!;
    const shape = k.axes.map((a) => input.shape[a]!);
    const { firstVariable, at: inner } = this.open(shape);
    let outer = 0;
    let reduced = 0;
    const at = input.shape.map((_, i) => (k.axes.includes(i) ? inner[reduced++]! : coordinates[outer++]!));
    this.reductions.push({ reduce: k.reduce, firstVariable, shape, value: this.read(input, at, undefined) });
    return resultValue(this.reductions.length - 1, node.dtype);
  }

  /** `node` at `coordinates`; where `mask` is false any value will do and nothing is loaded. */
  read(node: Node, coordinates: readonly Index[], mask: NodeValue | undefined): NodeValue {
    const local = this.local.get(node);
    if (local) return local;
    const key = `${mask?.id ?? ""}|${coordinates.map(indexKey).join(",")}`;
    let byCoordinates = this.memo.get(node);
    if (!byCoordinates) this.memo.set(node, (byCoordinates = new Map()));
    let value = byCoordinates.get(key);
    if (!value) {
      value = this.stored(node)
        ? loadValue(node, linearIndex(coordinates, node.shape), node.dtype, mask)
        : this.compute(node, coordinates, mask);
      byCoordinates.set(key, value);
    }
    return value;
  }

  private compute(node: Node, at: readonly Index[], mask: NodeValue | undefined): NodeValue {
    const k = node.kind;
    const input = node.inputs[0]!;
    switch (k.kind) {
      case "constant":
        return constantValue(k.value, node.dtype);
      case "iota":
        return { kind: "index", id: nextValue++, dtype: "i32", index: at[k.axis]! };
      case "map":
        return this.inline(
          k.expr,
          node.inputs.map((n) => () => this.read(n, at, mask)),
        );
      case "half":
        return this.read(input, at, mask); // rounded where it is stored
      case "pad": {
        const inside = at.map((c, i) => addIndex(c, constantIndex(-k.before[i]!)));
        let condition: NodeValue | undefined;
        inside.forEach((c, i) => {
          if (node.shape[i] !== input.shape[i]) condition = this.both(condition, this.within(c, input.shape[i]!));
        });
        const value = this.read(input, inside, this.both(mask, condition));
        return condition ? opValue("select", node.dtype, condition, value, constantValue(0, node.dtype)) : value;
      }
      case "concat": {
        // each element comes from one piece; the others are not loaded
        const c = at[k.axis]!;
        let value: NodeValue | undefined;
        let end = node.shape[k.axis]!;
        for (const piece of [...node.inputs].reverse()) {
          const start = end - piece.shape[k.axis]!;
          const inside = at.map((a, i) => (i === k.axis ? addIndex(a, constantIndex(-start)) : a));
          const mine = this.within(inside[k.axis]!, piece.shape[k.axis]!);
          const own = this.read(piece, inside, this.both(mask, mine));
          const before = opValue("lt", "bool", indexValue(c), constantValue(end, "i32"));
          value = value ? opValue("select", node.dtype, before, own, value) : own;
          end = start;
        }
        invariant(value, "a concat has pieces");
        return value;
      }
      case "gather": {
        const raw = this.read(node.inputs[1]!, at, mask);
        const index = raw.dtype === "i32" ? raw : opValue("toI32", "i32", raw);
        const size = input.shape[k.axis]!;
        const condition = opValue(
          "and",
          "bool",
          opValue("ge", "bool", index, constantValue(0, "i32")),
          opValue("lt", "bool", index, constantValue(size, "i32")),
        );
        const value = this.read(
          input,
          at.map((c, i) => (i === k.axis ? valueIndex(index, size) : c)),
          this.both(mask, condition),
        );
        return opValue(
          "select",
          node.dtype,
          condition,
          value,
          constantValue(node.dtype === "f32" ? Number.NaN : 0, node.dtype),
        );
      }
      default: {
        const inner = viewCoordinates(node, at);
        invariant(inner, `a ${k.kind} node must be stored before it is read`);
        return this.read(input, inner, mask);
      }
    }
  }

  private inline(root: Expr, args: readonly (() => NodeValue)[]): NodeValue {
    const memo = new Map<Expr, NodeValue>();
    const visit = (e: Expr): NodeValue => {
      let value = memo.get(e);
      if (!value) {
        value =
          e.op === "const"
            ? constantValue(e.value!, e.dtype)
            : e.op === "arg"
              ? args[e.index!]!()
              : opValue(e.op, e.dtype, ...e.args.map(visit));
        memo.set(e, value);
      }
      return value;
    };
    return visit(root);
  }

  private both(a: NodeValue | undefined, b: NodeValue | undefined): NodeValue | undefined {
    return a && b ? opValue("and", "bool", a, b) : (a ?? b);
  }

  private within(c: Index, size: number): NodeValue {
    const value = indexValue(c);
    return opValue(
      "and",
      "bool",
      opValue("ge", "bool", value, constantValue(0, "i32")),
      opValue("lt", "bool", value, constantValue(size, "i32")),
    );
  }
}

/** Coordinates in a view's input of the element at `at` in the view; undefined for nodes that are not pure index arithmetic. */
export function viewCoordinates(node: Node, at: readonly Index[]): Index[] | undefined {
  const k = node.kind;
  const input = node.inputs[0]!;
  switch (k.kind) {
    case "reshape":
      return node.shape.includes(0)
        ? input.shape.map(() => constantIndex(0))
        : reshapeCoordinates(at, node.shape, input.shape);
    case "permute": {
      const out = new Array<Index>(at.length);
      k.perm.forEach((p, i) => {
        out[p] = at[i]!;
      });
      return out;
    }
    case "expand":
      return at.map((c, i) => (input.shape[i] === 1 ? constantIndex(0) : c));
    case "barrier":
      return [...at];
    case "slice":
      return at.map((c, i) => addIndex(c, constantIndex(k.starts[i]!)));
    case "flip":
      return at.map((c, i) =>
        k.axes.includes(i) ? addIndex(constantIndex(node.shape[i]! - 1), scaleIndex(c, -1)) : c,
      );
    default:
      return undefined;
  }
}

/** Calls `visit` once for each distinct value below the roots, arguments first. */
export function visitValues<S>(roots: readonly Value<S>[], visit: (value: Value<S>) => void): void {
  const seen = new Set<number>();
  const walkIndex = (index: Index): void => {
    for (const { atom } of index.terms) {
      if (atom.kind === "value") walk(atom.value as Value<S>);
      else if (atom.kind !== "variable") walkIndex(atom.of);
    }
  };
  const walk = (v: Value<S>): void => {
    if (seen.has(v.id)) return;
    seen.add(v.id);
    if (v.kind === "op") v.args.forEach(walk);
    if (v.kind === "load" || v.kind === "index") walkIndex(v.index);
    if (v.kind === "load" && v.mask) walk(v.mask);
    visit(v);
  };
  roots.forEach(walk);
}
