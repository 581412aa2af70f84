// randomGraph/updates.ts: random updates of donated tensors, alike and unlike, that read each other before and after: what shares
// a kernel must have the values that it has alone.

import {
  compile,
  type Device,
  explain,
  flip,
  matmul,
  mul,
  reshape,
  sin,
  slice,
  sub,
  sum,
  type Tensor,
  tensor,
} from "@mc/tensor";
import type { SchedulerSettings } from "@mc/tensor/graph";
import { type Random, random } from "../random.ts";

/** Sizes below, on and above what parts of a buffer are aligned to. */
const sizes = [1, 5, 64, 70];

interface Input {
  readonly donated: Tensor[];
  readonly kept: Tensor[];
}

/**
 * A step over donated tensors. Each is updated by x - rate * g, mostly: g is an argument, is computed in the step, is another
 * tensor before or after its update, is a slice of a larger one, or is shared; some are read by others, swapped, or returned untouched.
 */
function updates(seed: number): (input: Input) => Tensor[] {
  return ({ donated, kept }) => {
    const r: Random = random(seed);
    const rate = r.chance(0.5) ? 0.5 : sum(kept[0]!); // a number, or one element that every update reads
    const now = [...donated];
    const extra: Tensor[] = [];
    const like = (list: readonly Tensor[], x: Tensor): Tensor => r.pick(list.filter((t) => t.size === x.size));
    const sliceOf = (list: readonly Tensor[], x: Tensor): Tensor => {
      const flat = r.pick(list.filter((t) => t.size >= x.size));
      const start = r.integer(0, flat.size - x.size + 1);
      return slice(flat, [start], [start + x.size]);
    };
    donated.forEach((x, i) => {
      const kind = r.next();
      const g =
        kind < 0.4
          ? like(kept, x)
          : kind < 0.6
            ? sin(matmul(reshape(like(kept, x), [-1, 1]), reshape(sum(like(donated, x)), [1, 1])))
            : kind < 0.7
              ? like(donated, x)
              : kind < 0.8
                ? like(now, x)
                : kind < 0.85
                  ? flip(like(donated, x), 0)
                  : kind < 0.95
                    ? sliceOf(r.pick([kept, donated, now]), x)
                    : reshape(sum(mul(x, x)), [1]);
      if (r.chance(0.2)) extra.push(sum(like(donated, x)), mul(like(now, x), 2));
      now[i] = r.chance(0.9) ? sub(x, mul(reshape(g, g.size === 1 ? [1] : x.shape), rate)) : like(donated, x);
    });
    return [...now, ...extra];
  };
}

/** What a run of the step gave. */
export interface UpdatesResult {
  readonly values: readonly ArrayLike<number>[];
  /** Kernels that do the work of several. */
  readonly shared: number;
}

/** Calls the step of a seed three times, each time with the tensors that the call before has given. */
export async function runUpdates(
  seed: number,
  device: Device,
  scheduler: Partial<SchedulerSettings>,
  donate: boolean,
): Promise<UpdatesResult> {
  const step = compile(updates(seed), { donate: donate ? ["donated"] : false, scheduler });
  const draw = (count: number, from: number): Tensor[] => {
    const r = random(seed * 7 + from);
    return Array.from({ length: count }, (_, i) =>
      tensor(
        Array.from({ length: sizes[i % sizes.length]! }, () => Math.fround(r.normal())),
        { device },
      ),
    );
  };
  const count = 4 * random(seed).integer(2, 5);
  const kept = [2, 3, 4].map((from) => draw(8, from));
  let at = draw(count, 1);
  const { kernels } = explain(step, { donated: at, kept: kept[0]! });
  for (const some of kept) at = step({ donated: at.slice(0, count), kept: some });
  return {
    values: await Promise.all(at.map((t) => t.data())),
    shared: kernels.filter((k) => / of \d+$/.test(k.label)).length,
  };
}
