// optim/clip.ts: what QK-Clip adds to a Muon step: the same update with and without it, samples taking turns.

import { transformer } from "@mc/nn";
import { muon, muonClip } from "@mc/optim";
import { key, realise, type Tensor, tensor, treeLeaves, treePaths } from "@mc/tensor";
import type { Context } from "../lib/context.ts";
import { replayCosts, summarise } from "../lib/measure.ts";
import { readAt, relativeError } from "../lib/sample.ts";
import { models } from "../train/models.ts";
import { type Named, stepper } from "./update.ts";

const tau = 100;
const rates = { learningRate: 2e-3, weightDecay: 0.1 };

/** One line a model: milliseconds and dispatches that the clip adds, and its share of the update. */
export async function runClip(context: Context): Promise<void> {
  const names = context.small ? ["0.87M"] : ["0.87M", "163M"];
  for (const { name, config } of models.filter((m) => names.includes(m.name))) {
    const title = `qk-clip, increment at ${name}`;
    if (!context.wanted(title)) continue;
    const head = { name: title, dtype: context.precision, device: context.device.description };
    try {
      context.report.line({ ...head, ...(await increment(context, config)) });
    } catch (error) {
      context.report.line({ ...head, failed: error instanceof Error ? error.message : String(error) });
    }
  }
}

async function increment({ device, budget }: Context, config: (typeof models)[number]["config"]) {
  const model = transformer(config);
  const { roles, attentionLayout: attention } = model;
  const flat = (seed: number): Promise<Named> => realise(Object.fromEntries(treePaths<Tensor>(model.init(key(seed)))));
  // head 0 of every layer is four times over tau: its query and key rows are halved
  const heads = model.config.attention.numHeads;
  const maxLogits = attention.map(() =>
    tensor(Float32Array.from({ length: heads }, (_, h) => (h === 0 ? 4 * tau : 50))),
  );
  await realise(maxLogits);
  const gradients = await flat(9);
  const plain = await stepper(muon({ ...rates, roles }), await flat(1));
  const clipped = await stepper(muonClip({ ...rates, roles, attention, tau }), await flat(1), {
    extras: { maxLogits },
  });

  plain.step(gradients);
  clipped.step(gradients);
  const [first] = attention[0]!.heads;
  const { path, start, rows } = first!.query[0]!;
  const at = Array.from({ length: 2 * rows }, (_, i) => start + i);
  const [without, withClip] = [await readAt(plain.params[path]!, at), await readAt(clipped.params[path]!, at)];
  const error = relativeError(
    withClip,
    Array.from(without, (p, i) => (i < without.length / 2 ? p / 2 : p)),
  );
  if (!(error <= 1e-6)) throw new Error(`relative error ${error}: the rows of a clipped head are not halved`);

  const times: [number[], number[]] = [[], []];
  const end = performance.now() + 4000 * budget;
  for (let s = 0; s < 5 || (performance.now() < end && s < 100); s++) {
    for (const [i, stepping] of [plain, clipped].entries()) {
      const begin = performance.now();
      stepping.step(gradients);
      await device.settle();
      times[i]!.push(performance.now() - begin);
    }
  }
  const [without_ms, with_ms] = times.map((t) => summarise(t).median_ms) as [number, number];
  const costs = [
    await replayCosts(device, () => plain.step(gradients), budget),
    await replayCosts(device, () => clipped.step(gradients), budget),
  ] as const;
  const extra = times[1].map((t, i) => t - times[0][i]!);
  for (const t of treeLeaves<Tensor>([plain.params, clipped.params, gradients])) t.dispose();
  return {
    shape: [attention.length, heads],
    ...summarise(extra),
    update_ms: without_ms,
    update_with_clip_ms: with_ms,
    share_of_update: (with_ms - without_ms) / without_ms,
    dispatches: costs[1].dispatches - costs[0].dispatches,
    js_ms: costs[1].js_ms - costs[0].js_ms,
    error,
  };
}
