// paths.ts: trees by path. Everything that must line up with a parameter is found by the parameter's path.
import { ShapeError, type Tensor, treeMap, treeMapWithPath, treePaths, ValueError, zerosLike } from "@mc/tensor";
import type { Params, State } from "./types.ts";

/** A tree of one level whose keys are paths: it has the same paths as the nested tree it came from. */
export type Flat = { readonly [path: string]: Tensor };

/** Zeros like each leaf. */
export const zerosOf = (tree: Params): Params => treeMap((leaf: Tensor) => zerosLike(leaf), tree);

/**
 * What lies below `key` in a state, by path. A state may be nested as `init` made it, or flat as a file of tensors gives it back.
 *
 * @example part({ "trace.momentum.w": x }, "trace") // { "momentum.w": x }
 */
export function part(state: State, key: string): Flat {
  const below = treePaths<Tensor>(state).filter(([path]) => path.startsWith(`${key}.`));
  return Object.fromEntries(below.map(([path, leaf]) => [path.slice(key.length + 1), leaf]));
}

/**
 * `treeMap` over `tree` with the leaves of other trees at the same path.
 *
 * @param op names the caller in errors
 * @param others trees by what they hold ("momentum"); they may be nested differently and hold more
 * @throws ValueError if a leaf is missing, ShapeError if its shape differs
 */
export function zip<K extends string>(
  op: string,
  tree: Params,
  others: { readonly [name in K]: Params },
  fn: (leaf: Tensor, others: { readonly [name in K]: Tensor }, path: string) => Tensor,
): Params {
  const names = Object.keys(others) as K[];
  const leaves = names.map((name) => new Map(treePaths<Tensor>(others[name])));
  return treeMapWithPath((path: string, leaf: Tensor) => {
    const beside = {} as Record<K, Tensor>;
    names.forEach((name, i) => {
      const found = leaves[i]!.get(path);
      if (!found)
        throw new ValueError(
          `${op}: needs the ${name} of "${path}"; pass a tree like the parameters, and a state from init(params)`,
        );
      if (found.shape.join() !== leaf.shape.join()) {
        throw new ShapeError(
          `${op}: the ${name} of "${path}" must have shape [${leaf.shape.join(", ")}], got [${found.shape.join(", ")}]`,
        );
      }
      beside[name] = found;
    });
    return fn(leaf, beside, path);
  }, tree);
}
