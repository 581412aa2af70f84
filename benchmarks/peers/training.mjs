// training.mjs: whole training steps of the JavaScript peers: the models, their first weights and data, checks and timing. How a
// step is computed is each peer's own (trainJaxjs.mjs, trainTfjs.mjs), written as a good user of it would.
import { options } from "./common.mjs";

/**
 * A decoder (RMSNorm, GELU, rotary positions, untied head) and the batch it trains on.
 * @typedef {{ batch: number, tokens: number, vocabulary: number, width: number, layers: number, heads: number }} Decoder
 *
 * How a peer trains one: `step` gives its loss, `parameters` what the last step changed.
 * @typedef {{ step: () => any, parameters: () => any[], dispose: () => void }} Training
 */

/** The models of benchmarks/src/train/models.ts that the peers are timed at. @type {Record<string, Decoder>} */
const decoders = {
  "5K": { batch: 2, tokens: 16, vocabulary: 64, width: 16, layers: 1, heads: 2 },
  "0.87M": { batch: 16, tokens: 128, vocabulary: 256, width: 128, layers: 4, heads: 4 },
  "10M": { batch: 16, tokens: 256, vocabulary: 4096, width: 320, layers: 6, heads: 5 },
};
const optimizers = ["adamw", "muon"];

/** Rates of benchmarks/src/train/models.ts. */
export const rates = { adamw: 1e-3, muon: 2e-3 };

/** Shapes of the parameters by name; a matrix is [in, out]. @param {Decoder} decoder @returns {Record<string, number[]>} */
function parameterShapes({ vocabulary, width, layers }) {
  const square = [width, width];
  const layer = (i) => ({
    [`${i}.norm1`]: [width],
    [`${i}.query`]: square,
    [`${i}.key`]: square,
    [`${i}.value`]: square,
    [`${i}.out`]: square,
    [`${i}.norm2`]: [width],
    [`${i}.up`]: [width, 4 * width],
    [`${i}.down`]: [4 * width, width],
  });
  return {
    embedding: [vocabulary, width],
    ...Object.assign({}, ...Array.from({ length: layers }, (_, i) => layer(i))),
    norm: [width],
    head: [width, vocabulary],
  };
}

/** Names of the parameters that `optimizer` gives to Muon: the matrices of the layers. @param {Decoder} decoder */
export function muonNames(decoder, optimizer) {
  const hidden = ([name, shape]) => shape.length === 2 && /^\d/.test(name);
  return new Set(
    Object.entries(parameterShapes(decoder))
      .filter((entry) => optimizer === "muon" && hidden(entry))
      .map(([name]) => name),
  );
}

/** What every peer starts with: gains are one, weights normal with deviation 0.02. @param {Decoder} decoder */
export function firstWeights(decoder) {
  const random = uniform(1);
  // Box and Muller: sqrt(-2 ln u) cos(2 pi v)
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Object.entries(parameterShapes(decoder)).map(([name, shape]) => {
    const size = shape.reduce((a, b) => a * b);
    return {
      name,
      shape,
      values: Float32Array.from({ length: size }, () => (shape.length === 1 ? 1 : 0.02 * normal())),
    };
  });
}

/** Token ids of the batch, [batch * tokens]. @param {Decoder} decoder */
export function tokenIds({ batch, tokens, vocabulary }) {
  const random = uniform(2);
  return Int32Array.from({ length: batch * tokens }, () => Math.floor(random() * vocabulary));
}

/** Angles t / 10000^(2 i / size) of token t and pair i of a head, [tokens * size / 2]. @param {Decoder} decoder */
export function rotaryAngles({ tokens, width, heads }) {
  const size = width / heads;
  const half = size / 2;
  return Float32Array.from(
    { length: tokens * half },
    (_, j) => Math.floor(j / half) / 10000 ** ((2 * (j % half)) / size),
  );
}

/** Numbers in [0, 1), the same in every run (mulberry32). */
function uniform(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Checks, times and prints the steps that were asked for. @param {import("./cases.mjs").Peer} peer */
export async function runTraining({ framework, ...peer }) {
  const models = options.models?.split(",") ?? (options.small ? ["5K"] : ["0.87M", "10M"]);
  const asked = models
    .flatMap((model) =>
      (options.optimizers?.split(",") ?? optimizers).map((optimizer) => {
        const written = model in decoders && optimizers.includes(optimizer);
        return { name: `train ${model} ${optimizer}`, decoder: decoders[model], optimizer, written };
      }),
    )
    .filter(({ name }) => name.includes(options.filter));
  const unknown = asked.filter(({ written }) => !written).map(({ name }) => name);
  if (unknown.length > 0)
    console.log(JSON.stringify({ framework, missing: `not written for it: ${unknown.join(", ")}` }));
  for (const { name, decoder, optimizer } of asked.filter(({ written }) => written)) {
    const head = { framework, name, dtype: "f32", device: options.device };
    try {
      console.log(JSON.stringify({ ...head, ...(await train(peer, decoder, optimizer)) }));
    } catch (error) {
      console.log(JSON.stringify({ ...head, failed: String(error instanceof Error ? error.message : error) }));
    }
  }
}

/** Steps that are timed at most, and at least where they take longer than ten budgets: as benchmarks/src/train/train.ts. */
const [mostSteps, fewestSteps] = [20, 5];

async function train(peer, decoder, optimizer) {
  const { step, parameters, dispose } = peer.training(decoder, optimizer);
  const settle = () => peer.wait(parameters());
  const lossOfStep = async () => {
    const loss = step();
    const [value] = await peer.read(loss);
    loss.dispose();
    return value;
  };
  await settle();

  // the first step traces and compiles; the next two warm up
  const start = performance.now();
  const first = await lossOfStep();
  const firstTime = performance.now() - start;
  await lossOfStep();
  check(decoder, first, await lossOfStep());

  const times = [];
  const end = performance.now() + 10_000 * Number(options.budget);
  while (times.length < fewestSteps || (times.length < mostSteps && performance.now() < end)) {
    const begin = performance.now();
    step().dispose();
    await settle();
    times.push(performance.now() - begin);
  }
  const loss = await lossOfStep();
  check(decoder, first, loss);
  dispose();

  times.sort((a, b) => a - b);
  const median = times[times.length >> 1];
  const { batch, tokens } = decoder;
  return {
    parameters: Object.values(parameterShapes(decoder)).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0),
    batch,
    tokens,
    median_ms: median,
    min_ms: times[0],
    max_ms: times.at(-1),
    steps: times.length,
    tokens_per_second: (batch * tokens * 1000) / median,
    first_step_s: firstTime / 1000,
    first_loss: first,
    loss,
  };
}

/** Small weights know nothing: the first loss is nearly ln(vocabulary); on the same batch it falls from there. */
function check({ vocabulary }, first, loss) {
  if (!(Math.abs(first - Math.log(vocabulary)) < 0.2))
    throw new Error(`the first loss is ${first}, it should be near ${Math.log(vocabulary)}`);
  if (!(loss < first)) throw new Error(`the loss went from ${first} to ${loss}, it should fall`);
}
