// recipes
export { type AdamwOptions, adamw } from "./adamw.ts";
// building blocks
export { addDecayedWeights } from "./addDecayedWeights.ts";
// composition
export { chain } from "./chain.ts";
export { clipByGlobalNorm, globalNorm } from "./clipByGlobalNorm.ts";
// schedules
export type { LearningRate, Schedule } from "./learningRate.ts";
export { type MuonOptions, muon } from "./muon.ts";
export { type MuonClipInfo, type MuonClipMetrics, type MuonClipOptions, muonClip } from "./muonClip.ts";
export { type NewtonSchulzOptions, type NewtonSchulzSchedule, newtonSchulz, type Quintic } from "./newtonSchulz.ts";
export { optimizer, transformGradients } from "./optimizer.ts";
export { type Group, partition } from "./partition.ts";
// nouns
export { type BlockPlan, Plan, type PlanRow } from "./plan.ts";
export {
  type Block,
  type Role,
  type RolePattern,
  type RolePatterns,
  type RoleSpec,
  type Roles,
  roleNames,
  roles,
} from "./roles.ts";
export { type ScaleByAdamOptions, scaleByAdam } from "./scaleByAdam.ts";
export { scaleByLearningRate } from "./scaleByLearningRate.ts";
export { type MuonScale, type ScaleByMuonOptions, scaleByMuon } from "./scaleByMuon.ts";
export {
  type CosineOptions,
  constant,
  cosine,
  type LinearOptions,
  linear,
  type WarmupCosineOptions,
  type WarmupStableDecayOptions,
  warmupCosine,
  warmupStableDecay,
} from "./schedules.ts";
export { type SgdOptions, sgd } from "./sgd.ts";
export { type TraceOptions, trace } from "./trace.ts";
export type {
  Constraint,
  Context,
  Description,
  Extras,
  Optimizer,
  OptimizerState,
  Params,
  State,
  Transform,
} from "./types.ts";
