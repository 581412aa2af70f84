// scaleByMuon.ts: the direction of Muon, momentum with all singular values made equal.
import { type Tensor, treeMapWithPath, ValueError } from "@mc/tensor";
import { batchesOf, mapBlocks } from "./blocks.ts";
import { checkFraction } from "./checks.ts";
import { type NewtonSchulzSchedule, resolveSchedule } from "./newtonSchulz.ts";
import { formFor, orthogonalise } from "./orthogonalise.ts";
import { part, zerosOf } from "./paths.ts";
import type { BlockPlan } from "./plan.ts";
import type { Roles } from "./roles.ts";
import { accumulate } from "./trace.ts";
import type { Description, Transform } from "./types.ts";

/** How large an orthogonal update is made, by the rows (out) and columns (in) of the logical block. */
export type MuonScale = "match-rms-adamw" | "original" | ((rows: number, cols: number) => number);

const scales: { readonly [name: string]: (rows: number, cols: number) => number } = {
  // an orthogonal update has RMS 1/sqrt(max(rows, cols)); AdamW's is about 0.2 (Moonlight, arXiv 2502.16982, lemma 1)
  "match-rms-adamw": (rows, cols) => 0.2 * Math.sqrt(Math.max(rows, cols)),
  original: (rows, cols) => Math.sqrt(Math.max(1, rows / cols)),
};

/** Options of `scaleByMuon`. */
export interface ScaleByMuonOptions {
  /** Decay mu of the momentum, in [0, 1); default 0.95. */
  readonly momentum?: number;
  /** Orthogonalise mu*M + G (default) or, as heavy-ball, M. */
  readonly nesterov?: boolean;
  /** How to orthogonalise; default "keller". */
  readonly newtonSchulz?: NewtonSchulzSchedule;
  /** Divides the matrix further than its Frobenius norm; default that of the schedule. */
  readonly normFactor?: number;
  /**
   * "match-rms-adamw" (default): 0.2 * sqrt(max(rows, cols)), so that learning rates of AdamW carry over;
   * "original": sqrt(max(1, rows / cols)); or a function.
   */
  readonly scale?: MuonScale;
  /** Where the logical blocks of each parameter are; a parameter without an entry is one matrix (or a stack of them). */
  readonly roles?: Roles;
}

/**
 * Muon's direction: M = mu*M + G; O = newtonSchulz(mu*M + G) * scale, for each logical block by itself. Blocks with equal
 * sides, of whatever parameter and whichever way they lie, are orthogonalised in one batch.
 * Parameters are [out, in] or stacks [..., out, in]. State: `momentum`, by parameter.
 *
 * @throws ValueError if an option is out of range; at `init` and `update`: ShapeError for a vector, ValueError for blocks that
 * do not tile their parameter
 * @example chain(scaleByMuon({ newtonSchulz: "hybrid" }), addDecayedWeights(0.1), scaleByLearningRate(2e-3))
 * @see Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv 2502.16982
 */
export function scaleByMuon({
  momentum: mu = 0.95,
  nesterov = true,
  newtonSchulz: schedule = "keller",
  normFactor,
  scale = "match-rms-adamw",
  roles = {},
}: ScaleByMuonOptions = {}): Transform {
  checkFraction("scaleByMuon", "momentum", mu);
  const resolved = resolveSchedule(schedule, normFactor);
  const scaleOf = typeof scale === "function" ? scale : scales[scale];
  if (!scaleOf)
    throw new ValueError(`scaleByMuon: scale must be ${Object.keys(scales).join(", ")} or a function, got "${scale}"`);

  return {
    name: "scaleByMuon",
    init(params) {
      batchesOf("scaleByMuon", params, roles);
      return { momentum: zerosOf(params) };
    },
    update(updates, state) {
      const { momentum, direction } = accumulate("scaleByMuon", updates, part(state, "momentum"), mu, nesterov);
      const batches = batchesOf("scaleByMuon", updates, roles);
      const nearest = (groups: readonly Tensor[]): Tensor[] => {
        const [rows, cols] = groups[0]!.shape.slice(-2) as [number, number];
        return orthogonalise(groups, { ...resolved, form: formFor(rows, cols) });
      };
      const O = mapBlocks(direction, batches, nearest, scaleOf);
      return { updates: treeMapWithPath((path, _: Tensor) => O[path]!, updates), state: { momentum } };
    },
    describe(params) {
      const blocks = new Map<string, BlockPlan[]>();
      for (const [batch, runs] of batchesOf("scaleByMuon", params, roles)) {
        for (const { path, stack, rows, cols, count } of runs) {
          blocks.set(path, [
            ...(blocks.get(path) ?? []),
            { count: stack * count, rows, cols, scale: scaleOf(rows, cols), batch },
          ]);
        }
      }
      return new Map(
        [...blocks].map(([path, list]): [string, Description] => [path, { optimizer: "muon", blocks: list }]),
      );
    },
  };
}
