// layer.ts: what a layer is, and how layers say what their parameters are for.
import type { Tensor } from "@mc/tensor";

/** Rows `start` to `start + rows` of a weight that form one logical matrix. */
export interface Block {
  readonly start: number;
  readonly rows: number;
}

/** What a parameter is for; optimizers route by this and never by name or rank. */
export interface RoleSpec {
  /** `matrix`: a hidden weight [out, in]; `experts`: a stack of them; `buffer`: kept, not trained; the others are what they say. */
  readonly role: "matrix" | "experts" | "embedding" | "head" | "norm" | "bias" | "router" | "buffer";
  /** Logical matrices inside the weight, along its rows; absent: the whole weight is one. */
  readonly blocks?: readonly Block[];
}

/** Roles by the parameter's path in the tree, such as `layers.0.attention.qkv.weight`. */
export type Roles = Readonly<Record<string, RoleSpec>>;

/**
 * A layer: `init` makes parameters from a random key, `apply` uses them. Parameters are plain nested objects of tensors and
 * belong to the caller; a layer holds sizes only.
 */
export interface Layer<Params, Args extends readonly unknown[], Result> {
  /** Parameters from a random key. */
  init(key: Tensor): Params;
  /** The layer's function. */
  apply(params: Params, ...args: Args): Result;
  /** Role of each parameter, by path below this layer. */
  readonly roles: Roles;
}

/**
 * Puts the roles of parts together under the paths where a model keeps their parameters.
 *
 * @example
 * joinRoles({ hidden: linear({ inFeatures: 8, outFeatures: 8 }).roles }); // { "hidden.weight": ..., "hidden.bias": ... }
 */
export function joinRoles(parts: Readonly<Record<string, Roles>>): Roles {
  const entries = Object.entries(parts).flatMap(([path, roles]) =>
    Object.entries(roles).map(([name, role]) => [`${path}.${name}`, role] as const),
  );
  return Object.fromEntries(entries);
}

/** Consecutive blocks of the given numbers of rows. */
export function blocksOf(rows: readonly number[]): Block[] {
  let start = 0;
  return rows.map((r) => {
    start += r;
    return { start: start - r, rows: r };
  });
}
