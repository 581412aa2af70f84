// train/models.ts: three decoders (RMSNorm, GELU, rotary positions, untied head) and their compiled training steps.
import { valueAndGrad } from "@mc/autograd";
import { type TransformerBatch, type TransformerConfig, type TransformerParams, transformer } from "@mc/nn";
import { adamw, muon, muonClip, type Optimizer, type OptimizerState } from "@mc/optim";
import { cast, compile, foldIn, key, realise, type Tensor, uniform } from "@mc/tensor";

/** A model and the batch it trains on. */
export interface BenchModel {
  readonly name: string;
  readonly batch: number;
  readonly tokens: number;
  readonly config: TransformerConfig & { readonly attention: { readonly numHeads: number } };
}

const decoder = (
  name: string,
  [batch, tokens]: readonly [number, number],
  vocabSize: number,
  hiddenSize: number,
  numLayers: number,
  numHeads: number,
): BenchModel => ({
  name,
  batch,
  tokens,
  config: {
    vocabSize,
    hiddenSize,
    numLayers,
    attention: { numHeads },
    feedForward: { kind: "gelu" },
    norm: { kind: "rmsnorm" },
    positions: { kind: "rope" },
  },
});

/** The models: sizes as in the README's table, and before them one for tests. */
export const models: readonly BenchModel[] = [
  decoder("5K", [2, 16], 64, 16, 1, 2),
  decoder("0.87M", [16, 128], 256, 128, 4, 4),
  decoder("10M", [16, 256], 4096, 320, 6, 5),
  decoder("163M", [8, 1024], 50257, 768, 12, 12),
];

interface StepInput {
  readonly params: TransformerParams;
  readonly state: OptimizerState;
  readonly batch: TransformerBatch;
}

interface StepOutput {
  readonly params: TransformerParams;
  readonly state: OptimizerState;
  readonly loss: Tensor;
}

/** A compiled training step, and what to call it with first. */
export interface TrainingStep {
  readonly step: (input: StepInput) => StepOutput;
  readonly params: TransformerParams;
  readonly state: OptimizerState;
  /** Batch `i` of a made-up stream. */
  readonly data: (i: number) => Promise<TransformerBatch>;
}

/** The training step of a model: forward, backward and optimizer in one compiled function. Nothing is traced yet. */
export async function trainingStep(
  { batch, tokens, config }: BenchModel,
  optimizerName: string,
): Promise<TrainingStep> {
  const model = transformer(config);
  const optimizer = makeOptimizer(optimizerName, model);
  const params = model.init(key(0));
  const state = optimizer.init(params);
  await realise([params, state]);
  const step = compile(
    ({ params, state, batch }: StepInput): StepOutput => {
      const { value: loss, grads, aux } = valueAndGrad(model.loss, { hasAux: true })(params, batch);
      const next = optimizer.update(grads, state, params, { maxLogits: aux.maxLogits });
      return { params: next.params, state: next.state, loss };
    },
    { donate: ["params", "state"] },
  );
  const data = (i: number): Promise<TransformerBatch> => {
    const ids = cast(uniform(foldIn(key(7), i), [batch, tokens], { high: config.vocabSize }), "i32");
    return realise({ inputs: ids, labels: ids });
  };
  return { step, params, state, data };
}

/** Names of the optimizers, in the order in which they are timed: `muonclip` is compared with `muon`. */
export const optimizerNames = ["adamw", "muon", "muonclip"] as const;

function makeOptimizer(name: string, model: ReturnType<typeof transformer>): Optimizer {
  switch (name) {
    case "adamw":
      return adamw({ learningRate: 1e-3, weightDecay: 0.1 });
    case "muon":
      return muon({ learningRate: 2e-3, weightDecay: 0.1, roles: model.roles });
    case "muonclip":
      return muonClip({
        learningRate: 2e-3,
        weightDecay: 0.1,
        tau: 100,
        roles: model.roles,
        attention: model.attentionLayout,
      });
    default:
      throw new Error(`bench train: unknown optimizer "${name}"; choose ${optimizerNames.join(", ")}`);
  }
}
