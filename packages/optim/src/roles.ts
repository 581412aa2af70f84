// roles.ts: what each parameter is, so that no optimizer guesses from a name or a rank.
import { type Tensor, treePaths, ValueError } from "@mc/tensor";

/** All roles. */
export const roleNames = ["matrix", "experts", "embedding", "head", "norm", "bias", "router", "buffer"] as const;

/**
 * What a parameter does: `matrix` multiplies hidden vectors [out, in]; `experts` is a stack of those [E, out, in]; `embedding`
 * is looked up by index; `head` gives the logits over the vocabulary; `router` scores experts; `norm` and `bias` are vectors;
 * a `buffer` is kept with the parameters and changed by no optimizer (the selection bias of a router).
 */
export type Role = (typeof roleNames)[number];

/** Roles of what is trained: all but `buffer`. */
export const trainedRoles: readonly Role[] = roleNames.filter((role) => role !== "buffer");

/** Consecutive rows of a weight, along its out axis, that are one logical matrix: a head of q, the gate half of a fused weight. */
export interface Block {
  readonly start: number;
  readonly rows: number;
}

/** The role of one parameter. */
export interface RoleSpec {
  readonly role: Role;
  /** The logical matrices of each [out, in] matrix, from the first row to the last; without it the whole is one. */
  readonly blocks?: readonly Block[];
}

/** Roles by path. */
export type Roles = { readonly [path: string]: RoleSpec };

/** A glob over paths, alone or with the logical blocks of what it matches: so many equal ones, or a list. */
export type RolePattern = string | { readonly path: string; readonly blocks: number | readonly Block[] };

/** For each role the patterns of its parameters. */
export type RolePatterns = { readonly [role in Role]?: RolePattern | readonly RolePattern[] };

/**
 * Assigns roles to the parameters of a model of one's own, by patterns over paths: `*` matches within a part between dots,
 * `**` any number of parts, `{a,b}` one of several. Every parameter must be matched by exactly one pattern.
 *
 * @throws ValueError naming the paths that no pattern or more than one matches, or a pattern that matches nothing
 * @example
 * const params = { embed: ones([9, 4]), layers: [{ norm: ones([4]), qkv: ones([12, 4]), wo: ones([4, 4]) }], head: ones([9, 4]) };
 * roles(params, {
 *   matrix: ["layers.*.w*", { path: "layers.*.qkv", blocks: 3 }],
 *   embedding: "embed",
 *   head: "head",
 *   norm: "**.norm",
 * });
 */
export function roles(params: object, patterns: RolePatterns): Roles {
  const rules = roleNames.flatMap((role) =>
    [patterns[role] ?? []].flat().map((pattern) => {
      const { path, blocks } = typeof pattern === "string" ? { path: pattern, blocks: undefined } : pattern;
      return { role, path, blocks, matcher: globToRegExp(path), used: false };
    }),
  );
  const unknown = Object.keys(patterns).filter((role) => !roleNames.includes(role as Role));
  if (unknown.length > 0)
    throw new ValueError(`roles: a role must be one of ${roleNames.join(", ")}, got ${unknown.join(", ")}`);

  const out: Record<string, RoleSpec> = {};
  const left: string[] = [];
  const twice: string[] = [];
  for (const [path, leaf] of treePaths<Tensor>(params)) {
    const matching = rules.filter((rule) => rule.matcher.test(path));
    for (const rule of matching) rule.used = true;
    const [rule, second] = matching;
    if (!rule) left.push(`"${path}" [${leaf.shape.join(", ")}]`);
    else if (second) twice.push(`"${path}" (${matching.map((r) => `${r.role} "${r.path}"`).join(", ")})`);
    else
      out[path] =
        rule.blocks === undefined
          ? { role: rule.role }
          : { role: rule.role, blocks: blocksOf(path, leaf, rule.blocks) };
  }
  if (left.length > 0) throw new ValueError(`roles: every parameter needs a role, got none for ${left.join(", ")}`);
  if (twice.length > 0)
    throw new ValueError(`roles: every parameter needs one role, got several for ${twice.join(", ")}`);
  const idle = rules.filter((rule) => !rule.used);
  if (idle.length > 0)
    throw new ValueError(
      `roles: every pattern must match a parameter, got nothing for ${idle.map((r) => `${r.role} "${r.path}"`).join(", ")}`,
    );
  return out;
}

function blocksOf(path: string, leaf: Tensor, blocks: number | readonly Block[]): readonly Block[] {
  if (typeof blocks !== "number") return blocks;
  const rows = (leaf.shape.at(-2) ?? 0) / blocks;
  if (!Number.isInteger(rows) || rows < 1)
    throw new ValueError(`roles: "${path}" [${leaf.shape.join(", ")}] must divide into ${blocks} blocks of rows`);
  return Array.from({ length: blocks }, (_, i) => ({ start: i * rows, rows }));
}

/** `**` spans parts, `*` stays within one, `{a,b}` is a choice; everything else is literal. */
function globToRegExp(glob: string): RegExp {
  const source = glob.replace(/\*\*\.|\.\*\*|\*\*|\*|\{[^{}]*\}|[^*{.]+|[.{]/g, (part) => {
    if (part === "**.") return "(?:.+\\.)?";
    if (part === ".**") return "(?:\\..+)?";
    if (part === "**") return ".*";
    if (part === "*") return "[^.]*";
    if (part.startsWith("{") && part.endsWith("}")) return `(?:${part.slice(1, -1).split(",").map(escape).join("|")})`;
    return escape(part);
  });
  return new RegExp(`^${source}$`);
}

const escape = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
