// run/tree.ts: nested plain objects and arrays with tensors (or anything else) at their leaves.
import { ValueError } from "../errors.ts";
import { Tensor } from "../tensor.ts";

/** Nested plain objects and arrays with `T` at the leaves: parameters, gradients, optimizer state, batches. */
export type Tree<T> = T | readonly Tree<T>[] | { readonly [key: string]: Tree<T> };

/** Whether `x` is an array or a plain object: anything else is a leaf. */
export const isBranch = (x: unknown): x is Record<string, unknown> | readonly unknown[] => {
  if (Array.isArray(x)) return true;
  if (typeof x !== "object" || x === null || x instanceof Tensor) return false;
  const proto = Object.getPrototypeOf(x);
  return proto === Object.prototype || proto === null;
};

/** The same tree type with other leaves. */
export type MapTree<X, From, To> = X extends From
  ? To
  : X extends readonly (infer U)[]
    ? MapTree<U, From, To>[]
    : X extends object
      ? { [K in keyof X]: MapTree<X[K], From, To> }
      : X;

/**
 * Applies `f` to each leaf of a tree, together with the leaves at the same place in the others.
 * @throws ValueError if a tree has no leaf where the first has one
 * @example const halves = treeMap((x) => mul(x, 0.5), params);
 */
export function treeMap<X, T = Tensor, U = Tensor>(
  f: (leaf: T, ...others: T[]) => U,
  tree: X,
  ...others: readonly unknown[]
): MapTree<X, T, U> {
  return mapWithPath((_, leaf, ...rest) => f(leaf as T, ...(rest as T[])), tree, others, "") as MapTree<X, T, U>;
}

/** `treeMap` that also gives the leaf's path, as in "layers.0.attention.query". @example treeMapWithPath((path, x) => ..., params) */
export function treeMapWithPath<X, T = Tensor, U = Tensor>(
  f: (path: string, leaf: T, ...others: T[]) => U,
  tree: X,
  ...others: readonly unknown[]
): MapTree<X, T, U> {
  return mapWithPath((path, leaf, ...rest) => f(path, leaf as T, ...(rest as T[])), tree, others, "") as MapTree<
    X,
    T,
    U
  >;
}

function mapWithPath(
  f: (path: string, ...leaves: unknown[]) => unknown,
  tree: unknown,
  others: readonly unknown[],
  path: string,
): unknown {
  if (!isBranch(tree)) return f(path, tree, ...others);
  const at = (key: string | number): unknown => {
    const inner = path === "" ? String(key) : `${path}.${key}`;
    const rest = others.map((o) => {
      if (!isBranch(o) || !(key in o))
        throw new ValueError(`treeMap: trees must have the same structure, but "${inner}" is missing in one of them`);
      return (o as Record<string | number, unknown>)[key];
    });
    return mapWithPath(f, (tree as Record<string | number, unknown>)[key], rest, inner);
  };
  if (Array.isArray(tree)) return tree.map((_, i) => at(i));
  return Object.fromEntries(Object.keys(tree).map((key) => [key, at(key)]));
}

/** All leaves, in the order of the objects' keys. @example treeLeaves({ a: x, b: [y] }) // [x, y] */
export function treeLeaves<T = Tensor>(tree: unknown): T[] {
  return treePaths<T>(tree).map(([, leaf]) => leaf);
}

/** All leaves with their paths. @example treePaths({ a: [x] }) // [["a.0", x]] */
export function treePaths<T = Tensor>(tree: unknown): [path: string, leaf: T][] {
  const out: [string, T][] = [];
  mapWithPath(
    (path, leaf) => {
      out.push([path, leaf as T]);
    },
    tree,
    [],
    "",
  );
  return out;
}

/**
 * The tree that has the given leaves at the given paths; keys 0 to n - 1 make an array.
 * @example treeFromPaths([["a.0", x], ["b", y]]) // { a: [x], b: y }
 */
export function treeFromPaths<T>(entries: Iterable<readonly [path: string, leaf: T]>): Tree<T> {
  const root = new Map<string, unknown>();
  for (const [path, leaf] of entries) {
    const keys = path.split(".");
    let level = root;
    for (const key of keys.slice(0, -1)) {
      let inner = level.get(key);
      if (inner === undefined) level.set(key, (inner = new Map<string, unknown>()));
      if (!(inner instanceof Map)) throw new ValueError(`treeFromPaths: "${path}" goes through a leaf`);
      level = inner;
    }
    const last = keys[keys.length - 1]!;
    if (level.has(last)) throw new ValueError(`treeFromPaths: "${path}" is given twice`);
    level.set(last, leaf);
  }
  const build = (x: unknown): unknown => {
    if (!(x instanceof Map)) return x;
    const keys = [...x.keys()] as string[];
    const isArray = keys.length > 0 && keys.every((_, i) => x.has(String(i)));
    if (isArray) return keys.map((_, i) => build(x.get(String(i))));
    return Object.fromEntries(keys.map((k) => [k, build(x.get(k))]));
  };
  return build(root) as Tree<T>;
}
