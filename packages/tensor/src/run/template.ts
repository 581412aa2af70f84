// run/template.ts: the structure of a tree, kept: trees of the same structure are read and built without paths or lookups.
import { isBranch } from "./tree.ts";

/** A tree's structure with something of one's own at the leaves. */
export type Template<L> =
  | { readonly kind: "leaf"; readonly leaf: L }
  | { readonly kind: "array"; readonly items: readonly Template<L>[] }
  | { readonly kind: "object"; readonly keys: readonly string[]; readonly items: readonly Template<L>[] };

/** The structure of `tree`, with `leafOf` its leaves. */
export function templateOf<L>(
  tree: unknown,
  leafOf: (path: string, leaf: unknown) => L,
  path: readonly (string | number)[] = [],
): Template<L> {
  if (!isBranch(tree)) return { kind: "leaf", leaf: leafOf(path.join("."), tree) };
  if (Array.isArray(tree))
    return { kind: "array", items: tree.map((inner, i) => templateOf(inner, leafOf, [...path, i])) };
  const entries = Object.entries(tree);
  return {
    kind: "object",
    keys: entries.map(([key]) => key),
    items: entries.map(([key, inner]) => templateOf(inner, leafOf, [...path, key])),
  };
}

/** Whether `tree` has this structure and `take` accepts each leaf; stops at the first that does not fit. */
export function matches<L>(template: Template<L>, tree: unknown, take: (leaf: L, value: unknown) => boolean): boolean {
  if (template.kind === "leaf") return take(template.leaf, tree);
  if (!isBranch(tree)) return false;
  const { items } = template;
  if (template.kind === "array") {
    if (!Array.isArray(tree) || tree.length !== items.length) return false;
    for (let i = 0; i < items.length; i++) if (!matches(items[i]!, tree[i], take)) return false;
    return true;
  }
  const { keys } = template;
  if (Array.isArray(tree) || Object.keys(tree).length !== keys.length) return false;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!;
    const inner = (tree as Record<string, unknown>)[key];
    if (inner === undefined && !(key in tree)) return false;
    if (!matches(items[i]!, inner, take)) return false;
  }
  return true;
}

/** A tree of this structure. */
export function build<L>(template: Template<L>, valueOf: (leaf: L) => unknown): unknown {
  if (template.kind === "leaf") return valueOf(template.leaf);
  if (template.kind === "array") return template.items.map((item) => build(item, valueOf));
  const out: Record<string, unknown> = {};
  const { keys, items } = template;
  for (let i = 0; i < keys.length; i++) out[keys[i]!] = build(items[i]!, valueOf);
  return out;
}
