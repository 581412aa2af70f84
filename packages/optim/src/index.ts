// @mc/optim: optimizers as chains of transforms, and schedules.

// recipes

export { type AdamwOptimizerOptions, type AdamwOptions, adamw } from "./adamw.ts";
export { type MuonOptions, muon } from "./muon.ts";
export { type MuonClipInfo, type MuonClipMetrics, type MuonClipOptions, muonClip } from "./muonClip.ts";
export { type SgdOptions, sgd } from "./sgd.ts";

// building blocks

export { addDecayedWeights } from "./addDecayedWeights.ts";
export { clipByGlobalNorm, globalNorm } from "./clipByGlobalNorm.ts";
export { type NewtonSchulzOptions, type NewtonSchulzSchedule, newtonSchulz, type Quintic } from "./newtonSchulz.ts";
export type { NewtonSchulzForm } from "./orthogonalise.ts";
export { type ScaleByAdamOptions, scaleByAdam } from "./scaleByAdam.ts";
export { scaleByLearningRate } from "./scaleByLearningRate.ts";
export { type MuonScale, type ScaleByMuonOptions, scaleByMuon } from "./scaleByMuon.ts";
export { type TraceOptions, trace } from "./trace.ts";

// composition

export { chain } from "./chain.ts";
export {
  type DynamicLossScaleOptions,
  dynamicLossScale,
  type LossScaleInfo,
  lossScaleOf,
} from "./dynamicLossScale.ts";
export { optimizer, transformGradients } from "./optimizer.ts";
export { type Group, partition } from "./partition.ts";
export * from "./roles.ts";

// schedules

export type { LearningRate, Schedule } from "./learningRate.ts";
export * from "./schedules.ts";

// nouns

export { type BlockPlan, Plan, type PlanRow } from "./plan.ts";
export type * from "./types.ts";
