// optimizers.ts: from the options to an optimizer.
import {
  adamw,
  type MuonClipInfo,
  type MuonClipOptions,
  muon,
  muonClip,
  type Optimizer,
  type Schedule,
  warmupCosine,
} from "@mc/optim";
import { type TrainOptions, UsageError } from "./options.ts";

const WEIGHT_DECAY = 0.1;

/** 20 warm-up steps (fewer in runs of under 100), then half a cosine down to a tenth of the peak. */
export function createSchedule({ learningRate, steps }: Pick<TrainOptions, "learningRate" | "steps">): Schedule {
  return warmupCosine({ peak: learningRate, warmupSteps: Math.min(20, Math.floor(steps / 5)), totalSteps: steps });
}

/**
 * The optimizer of the run. Only MuonClip reports `metrics`.
 *
 * @throws UsageError for MuonClip on a model that has nothing to clip
 */
export function createOptimizer(
  { optimizer, tau }: Pick<TrainOptions, "optimizer" | "tau">,
  learningRate: Schedule,
  { roles, attention }: Pick<MuonClipOptions, "roles" | "attention">,
): Optimizer<Partial<MuonClipInfo>> {
  switch (optimizer) {
    case "adamw":
      return adamw({ learningRate, b2: 0.95, weightDecay: WEIGHT_DECAY, roles });
    case "muon":
      return muon({ learningRate, weightDecay: WEIGHT_DECAY, roles });
    case "muonclip": {
      const clippable = attention.filter(({ qkNorm }) => !qkNorm);
      if (clippable.length === 0) {
        throw new UsageError(
          "--optimizer muonclip: the model normalises its queries and keys, so there is nothing to clip; use --optimizer muon",
        );
      }
      return muonClip({ learningRate, weightDecay: WEIGHT_DECAY, roles, attention: clippable, tau });
    }
  }
}
