// experts.ts: which experts the tokens of a folder must visit, from the recorded hidden states: the router's input is computed in
// float64, the choice in plain loops, a second time beside the model's own.
import { loadHuggingFace, type MoeConfig, transformer } from "@mc/nn";
import { arange, connect, type Device, reshape, type Tensor, tensor, zeros } from "@mc/tensor";
import { type Entry, readerOf } from "./folder.ts";
import type { Check } from "./report.ts";

type Moe = Required<MoeConfig>;

/**
 * One check for each layer with experts: the number of tokens whose experts differ, which must be zero.
 *
 * @param chosen - of each such layer the experts of all tokens, one after another
 */
export async function checkExperts(
  path: string,
  expected: Readonly<Record<string, Entry>>,
  chosen: readonly (readonly number[])[],
): Promise<Check[]> {
  if (chosen.length === 0) return [];
  const device = await connect({ device: "cpu", precision: "f64", setDefault: false });
  const { model, params } = await loadHuggingFace(readerOf(path), { device });
  const config = model.config;
  const moe = config.feedForward as Moe;
  const checks: Check[] = [];
  for (const [i, experts] of chosen.entries()) {
    const layer = moe.numDenseLayers + i;
    const name = `experts.${layer}: tokens whose experts differ`;
    const hidden = expected[`hidden.${layer}`];
    if (!hidden) {
      checks.push({ name, error: Number.NaN, bound: 0 });
      continue;
    }
    const inputs = await routerInputs({ config, params, layer, hidden, device });
    const { router } = params.layers[layer]!.feedForward as { router: { weight: Tensor; bias?: Tensor } };
    const [weight, bias] = await Promise.all([router.weight.data(), router.bias?.data()]);
    const width = config.hiddenSize;
    const k = moe.numExpertsPerToken;
    let differing = 0;
    for (let t = 0; t < inputs.length / width; t++) {
      const logits = Array.from({ length: moe.numExperts }, (_, e) => {
        let sum = 0;
        for (let d = 0; d < width; d++) sum += weight[e * width + d]! * inputs[t * width + d]!;
        return sum;
      });
      const wanted = chooseExperts(logits, bias ? Array.from(bias) : undefined, moe);
      const got = new Set(experts.slice(t * k, (t + 1) * k));
      if (got.size !== k || !wanted.every((e) => got.has(e))) differing++;
    }
    checks.push({ name, error: differing, bound: 0 });
  }
  return checks;
}

/**
 * The input of a layer's router for recorded inputs of the layer: a model of this one layer, with the recorded states for its
 * embeddings, zeros for its MLP and the router's norm for its last norm, gives it as its last hidden state.
 */
async function routerInputs({
  config,
  params,
  layer,
  hidden,
  device,
}: {
  readonly config: ReturnType<typeof transformer>["config"];
  readonly params: ReturnType<ReturnType<typeof transformer>["init"]>;
  readonly layer: number;
  readonly hidden: Entry;
  readonly device: Device;
}): Promise<ArrayLike<number>> {
  const [batch, tokens, width] = hidden.shape as [number, number, number];
  const { attention } = config;
  const probe = transformer({
    ...config,
    vocabSize: batch * tokens,
    numLayers: 1,
    attention: attention.kind === "mla" ? attention : { ...attention, window: [attention.window[layer]!] },
    feedForward: { kind: "swiglu", intermediateSize: 1 },
    tiedHead: true,
  });
  const { attentionNorm, attention: weights, feedForwardNorm } = params.layers[layer]!;
  const nothing = {
    gateUp: { weight: zeros([2, width], { device }) },
    down: { weight: zeros([width, 1], { device }) },
  };
  const ids = reshape(arange(batch * tokens, { device }), [batch, tokens]);
  const { hidden: states } = probe.apply(
    {
      embedding: { weight: tensor(hidden.data, { shape: [batch * tokens, width], dtype: "f32", device }) },
      layers: [{ attentionNorm, attention: weights, feedForwardNorm, feedForward: nothing }],
      norm: feedForwardNorm,
    },
    ids,
    { hidden: true },
  );
  return await states![1]!.data();
}

/** The k experts of one token: largest scores plus bias, in the groups whose two best sum up to most; lower numbers win ties. */
export function chooseExperts(
  logits: readonly number[],
  bias: readonly number[] | undefined,
  { scoring, numExpertsPerToken, numGroups, groupsPerToken }: Moe,
): number[] {
  const largest = Math.max(...logits);
  const total = logits.reduce((sum, x) => sum + Math.exp(x - largest), 0);
  const scores = logits.map(
    (x, e) => (scoring === "sigmoid" ? 1 / (1 + Math.exp(-x)) : Math.exp(x - largest) / total) + (bias?.[e] ?? 0),
  );
  const size = logits.length / numGroups;
  const best = (values: readonly number[], count: number): number[] =>
    values
      .map((value, i) => ({ value, i }))
      .sort((a, b) => b.value - a.value || a.i - b.i)
      .slice(0, count)
      .map(({ i }) => i);
  const groups = Array.from({ length: numGroups }, (_, g) => scores.slice(g * size, (g + 1) * size));
  const worth = groups.map((group) => best(group, bias ? 2 : 1).reduce((sum, i) => sum + group[i]!, 0));
  const kept = new Set(best(worth, groupsPerToken));
  return best(
    scores.map((score, e) => (kept.has(Math.floor(e / size)) ? score : Number.NEGATIVE_INFINITY)),
    numExpertsPerToken,
  );
}
