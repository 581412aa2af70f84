// generate.ts: text from a model, token by token.
import { compile, type Device, reshape, type Tensor, takeAlongAxis, tensor, treeLeaves, ValueError } from "@mc/tensor";
import { checkPositive } from "./check.ts";
import { checkSampling, randomNumbers, type SamplingOptions, sampleToken } from "./sampling.ts";
import type { Transformer, TransformerParams } from "./transformer.ts";

/** Options of `generate`. */
export interface GenerateOptions extends SamplingOptions {
  /** Tokens to make; default 100. */
  readonly maxTokens?: number;
  /** Equal seeds draw equal tokens; default 0. */
  readonly seed?: number;
  /** Tokens the model looks back at; default its `maxPositions`, else 128. A shorter context is faster. */
  readonly contextLength?: number;
  /** Ends after this token, which is not given out; default none. */
  readonly stopToken?: number;
}

/**
 * Draws tokens after a prompt, one by one, each from the logits after the last `contextLength` tokens.
 *
 * @param prompt - at least one token id
 * @throws ValueError at the first step for an empty prompt, ids outside the vocabulary, or options out of range
 * @example
 * for await (const token of generate(model, params, [72, 105], { maxTokens: 20, temperature: 0.8, seed: 1 })) console.log(token);
 */
export async function* generate(
  model: Transformer,
  params: TransformerParams,
  prompt: readonly number[],
  options: GenerateOptions = {},
): AsyncGenerator<number, void, void> {
  const { vocabSize, positions } = model.config;
  const { maxTokens = 100, seed = 0, contextLength = positions.maxPositions ?? 128, stopToken } = options;
  checkPositive("generate", "maxTokens", maxTokens);
  checkPositive("generate", "contextLength", contextLength);
  checkSampling(options);
  if (prompt.length === 0) throw new ValueError("generate: the prompt must hold at least one token, got none");
  const stranger = prompt.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (stranger !== undefined)
    throw new ValueError(`generate: token ids must be integers in [0, ${vocabSize}), got ${stranger}`);
  const device = deviceOf(params);
  const random = randomNumbers(seed);
  const context = prompt.slice(-contextLength);
  for (let n = 0; n < maxTokens; n++) {
    const logits = await nextLogits(model, params, context, contextLength, device);
    const token = sampleToken(logits, random, options);
    if (token === stopToken) return;
    yield token;
    context.push(token);
    if (context.length > contextLength) context.shift();
  }
}

const deviceOf = (params: TransformerParams): Device => treeLeaves<Tensor>(params)[0]!.device;

type Forward = (params: TransformerParams, ids: Tensor, last: Tensor) => Tensor;
const forwards = new WeakMap<Transformer, Forward>();

/** Logits after the last token. The ids are padded behind to one length, so that one plan serves all steps; attention looks back only. */
async function nextLogits(
  model: Transformer,
  params: TransformerParams,
  context: readonly number[],
  length: number,
  device: Device,
): Promise<ArrayLike<number>> {
  let forward = forwards.get(model);
  if (!forward) {
    forward = compile((p: TransformerParams, ids: Tensor, last: Tensor) => lastLogits(model, p, ids, last));
    forwards.set(model, forward);
  }
  const ids = new Int32Array(length);
  ids.set(context);
  using inputs = tensor(ids, { shape: [1, length], device });
  using last = tensor(new Int32Array([context.length - 1]), { shape: [1, 1, 1], device });
  using logits = forward(params, inputs, last);
  return await logits.data();
}

function lastLogits(model: Transformer, params: TransformerParams, ids: Tensor, last: Tensor): Tensor {
  const { hidden } = model.apply(params, ids, { hidden: true });
  const row = takeAlongAxis(hidden!.at(-1)!, last, 1);
  return reshape(model.head(params, row), [-1]);
}
