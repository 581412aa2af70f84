// chain.ts: transforms one after the other.
import { ValueError } from "@mc/tensor";
import { part } from "./paths.ts";
import type { Context, Description, Params, State, Transform } from "./types.ts";

/**
 * Feeds each transform the updates of the one before it. State: that of each link under the link's name; links without state
 * leave no trace, a second link of one name is numbered ("trace2").
 *
 * @throws ValueError without transforms
 * @example
 * // AdamW
 * chain(scaleByAdam(), addDecayedWeights(0.01), scaleByLearningRate(1e-3));
 */
export function chain(...transforms: readonly Transform[]): Transform {
  if (transforms.length === 0) throw new ValueError("chain: needs at least one transform, got none");
  const seen = new Map<string, number>();
  const links = transforms.map((transform) => {
    const count = (seen.get(transform.name) ?? 0) + 1;
    seen.set(transform.name, count);
    return { transform, key: count === 1 ? transform.name : `${transform.name}${count}` };
  });
  return {
    name: "chain",
    init: (params) => collect(links.map(({ transform, key }) => [key, transform.init(params)])),
    update(updates: Params, state: State, params: Params, context: Context) {
      let current = updates;
      const states = links.map(({ transform, key }): [string, State] => {
        const next = transform.update(current, part(state, key), params, context);
        current = next.updates;
        return [key, next.state];
      });
      return { updates: current, state: collect(states) };
    },
    describe(params) {
      const all = new Map<string, Description>();
      for (const { transform } of links) {
        for (const [path, description] of transform.describe?.(params) ?? [])
          all.set(path, { ...all.get(path), ...description });
      }
      return all;
    },
  };
}

/** States by name, without the empty ones. */
export function collect(states: readonly (readonly [string, State])[]): State {
  return Object.fromEntries(states.filter(([, state]) => Object.keys(state).length > 0));
}
