// muon.ts: Muon on the matrices, AdamW on the rest.
import { ValueError } from "@mc/tensor";
import { type AdamwOptions, adamwTransform } from "./adamw.ts";
import { addDecayedWeights } from "./addDecayedWeights.ts";
import { chain } from "./chain.ts";
import type { LearningRate } from "./learningRate.ts";
import { optimizer } from "./optimizer.ts";
import { partition } from "./partition.ts";
import { type Role, type Roles, trainedRoles } from "./roles.ts";
import { scaleByLearningRate } from "./scaleByLearningRate.ts";
import { type ScaleByMuonOptions, scaleByMuon } from "./scaleByMuon.ts";
import type { Optimizer, Transform } from "./types.ts";

/** Options of `muon`: those of `scaleByMuon` and more. */
export interface MuonOptions extends ScaleByMuonOptions {
  /** For all parameters, unless `adamw.learningRate` says otherwise for its own. */
  readonly learningRate: LearningRate;
  /** Decoupled, W -= learningRate * (O + weightDecay*W); for all parameters, unless `adamw.weightDecay` says otherwise. Default 0.1. */
  readonly weightDecay?: number;
  /** Role and blocks of every parameter, usually `model.roles`. Without it every parameter is a matrix. */
  readonly roles?: Roles;
  /** Roles that Muon takes; default matrix and experts. Add "router" to treat routers as Moonlight did. */
  readonly muonRoles?: readonly Role[];
  /** How AdamW treats the rest; b1 0.9, b2 0.95, eps 1e-8 unless given. */
  readonly adamw?: Partial<AdamwOptions>;
}

/**
 * Muon: W -= learningRate * (newtonSchulz(mu*M + G) * scale + weightDecay*W) with M = mu*M + G, on the roles matrix and
 * experts; AdamW on the rest. With the default scale both share one learning rate.
 *
 * @throws ValueError if an option is out of range; at `init` and `update` for a parameter without a role
 * @example
 * const params = { w: ones([4, 8]), gain: ones([8]) };
 * const optimizer = muon({
 *   learningRate: warmupCosine({ peak: 4e-3, warmupSteps: 20, totalSteps: 300 }),
 *   roles: roles(params, { matrix: "w", norm: "gain" }),
 * });
 * String(optimizer.plan(params)); // a table: w on muon, gain on adamw
 * @see Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv 2502.16982
 */
export const muon = (options: MuonOptions): Optimizer => optimizer("muon", muonTransform(options));

/** `muon` as a transform. */
export function muonTransform(options: MuonOptions): Transform {
  const { learningRate, weightDecay = 0.1, roles, muonRoles = ["matrix", "experts"], adamw = {}, ...rest } = options;
  const onMatrices = chain(
    scaleByMuon({ ...rest, roles }),
    addDecayedWeights(weightDecay),
    scaleByLearningRate(learningRate),
  );
  if (roles === undefined) return onMatrices;
  const stray = muonRoles.filter((role) => !trainedRoles.includes(role));
  if (stray.length > 0)
    throw new ValueError(`muon: muonRoles must be among ${trainedRoles.join(", ")}, got ${stray.join(", ")}`);
  return partition(roles, {
    muon: { roles: muonRoles, transform: onMatrices },
    adamw: {
      roles: trainedRoles.filter((role) => !muonRoles.includes(role)),
      transform: adamwTransform({ learningRate, weightDecay, b2: 0.95, ...adamw }),
    },
  });
}
