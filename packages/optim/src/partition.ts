// partition.ts: each role to its transform.
import { type Tensor, treeMapWithPath, treePaths, ValueError } from "@mc/tensor";
import { collect } from "./chain.ts";
import { part, zerosOf } from "./paths.ts";
import type { Role, Roles } from "./roles.ts";
import type { Description, Params, State, Transform } from "./types.ts";

/** Parameters of some roles, and what is done with them. */
export interface Group {
  readonly roles: readonly Role[];
  readonly transform: Transform;
}

/** Leaves parameters as they are: what happens to buffers. */
const keep: Transform = {
  name: "keep",
  init: () => ({}),
  update: (updates) => ({ updates: zerosOf(updates), state: {} }),
};

/**
 * Sends the parameters of each role to one of several transforms. Each transform sees its own parameters only, by path.
 * Buffers stay as they are. State: that of each group under the group's name.
 *
 * @param roles the role of every parameter
 * @param given transforms by name, with the roles that each takes
 * @throws ValueError if a role is in two groups; at `init` and `update`, naming paths: if a parameter has no role, or its role
 * no group
 * @example
 * const params = { w: ones([4, 8]), gain: ones([8]) };
 * const split = partition(roles(params, { matrix: "w", norm: "gain" }), {
 *   muon: { roles: ["matrix", "experts"], transform: chain(scaleByMuon(), scaleByLearningRate(0.02)) },
 *   adamw: { roles: ["embedding", "head", "norm", "bias", "router"], transform: chain(scaleByAdam(), scaleByLearningRate(1e-3)) },
 * });
 * const state = optimizer("split", split).init(params); // { step, muon: { ... }, adamw: { ... } }
 */
export function partition(roles: Roles, given: { readonly [name: string]: Group }): Transform {
  const groups: { readonly [name: string]: Group } = { ...given, none: { roles: ["buffer"], transform: keep } };
  const groupOf = new Map<Role, string>();
  for (const [name, { roles: taken }] of Object.entries(groups)) {
    for (const role of taken) {
      const other = groupOf.get(role);
      if (other !== undefined)
        throw new ValueError(`partition: role "${role}" must be in one group, got "${other}" and "${name}"`);
      groupOf.set(role, name);
    }
  }
  const route = (path: string): string => groupOf.get((roles[path] as { role: Role }).role) as string;

  /** The leaves of each group, flat. */
  const split = (tree: Params): Record<string, Record<string, Tensor>> => {
    const parts: Record<string, Record<string, Tensor>> = {};
    for (const [path, leaf] of treePaths(tree)) (parts[route(path)] ??= {})[path] = leaf;
    return parts;
  };

  return {
    name: "partition",
    init(params) {
      checkCovered(params, roles, groupOf);
      return collect(Object.entries(split(params)).map(([name, own]) => [name, groups[name]!.transform.init(own)]));
    },
    update(updates, state, params, context) {
      checkCovered(params, roles, groupOf);
      const old = split(params);
      const done: Record<string, Tensor> = {};
      const states = Object.entries(split(updates)).map(([name, own]): [string, State] => {
        const next = groups[name]!.transform.update(own, part(state, name), old[name]!, context);
        for (const [path, leaf] of treePaths(next.updates)) done[path] = leaf;
        return [name, next.state];
      });
      return { updates: treeMapWithPath((path, _: Tensor) => done[path] as Tensor, updates), state: collect(states) };
    },
    describe(params) {
      checkCovered(params, roles, groupOf);
      const all = new Map<string, Description>();
      for (const [name, own] of Object.entries(split(params))) {
        const inner = groups[name]!.transform.describe?.(own);
        for (const path of Object.keys(own))
          all.set(path, { role: roles[path]!.role, optimizer: name, ...inner?.get(path) });
      }
      return all;
    },
  };
}

function checkCovered(params: Params, roles: Roles, groupOf: ReadonlyMap<Role, string>): void {
  const paths = treePaths(params).map(([path]) => path);
  const bare = paths.flatMap((path) => (roles[path] === undefined ? [`"${path}"`] : []));
  if (bare.length > 0) throw new ValueError(`partition: every parameter needs a role, got none for ${bare.join(", ")}`);
  const stray = paths.flatMap((path) => (groupOf.has(roles[path]!.role) ? [] : [`"${path}" (${roles[path]!.role})`]));
  if (stray.length > 0) throw new ValueError(`partition: every role needs a group, got none for ${stray.join(", ")}`);
}
