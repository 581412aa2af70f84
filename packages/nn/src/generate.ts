// generate.ts: text from a model, token by token.
import { compile, type Device, type Tensor, tensor, treeLeaves, ValueError } from "@mc/tensor";
import type { AttentionCache } from "./attention/cache.ts";
import { checkPositive } from "./check.ts";
import { checkSampling, randomNumbers, type SamplingOptions, sampleToken } from "./sampling.ts";
import { checkPositions, type NextLogits, type Transformer, type TransformerParams } from "./transformer.ts";

/** Options of `generate`. */
export interface GenerateOptions extends SamplingOptions {
  /** Tokens to make, a row; default 100. */
  readonly maxTokens?: number;
  /** Equal seeds draw equal tokens; default 0. Each row of a batch has a stream of its own. */
  readonly seed?: number;
  /** A row ends before this token, or the first of these; default none. */
  readonly stopTokens?: number | readonly number[];
  /**
   * Tokens the model looks back at; default all. Where prompt and new tokens are more, each token beyond costs a pass over the last
   * `contextLength` tokens, which the model reads as a sequence of their own.
   */
  readonly contextLength?: number;
  /** Only ids below this are drawn: the tokenizer's size, where the model's vocabulary is padded past it; default the model's. */
  readonly vocabSize?: number;
}

/**
 * Draws tokens after a prompt, one by one. Keys and values of the tokens so far stay in a cache, which is gone when the iterator
 * ends or is left. Random numbers come from the host: equal seeds give equal tokens where logits are equal.
 *
 * @param prompt - at least one token id
 * @returns the new tokens, without the stop token
 * @throws ValueError at the first step, before anything is computed: for an empty prompt, ids outside the vocabulary, options
 *   out of range, and prompt and `maxTokens` together past the model's `maxPositions`; a `contextLength` that fits allows them
 * @example
 * for await (const token of generate(model, params, [72, 105], { maxTokens: 20, temperature: 0.8, seed: 1 })) console.log(token);
 */
export function generate(
  model: Transformer,
  params: TransformerParams,
  prompt: readonly number[],
  options?: GenerateOptions,
): AsyncGenerator<number, void, void>;
/**
 * Draws tokens after several prompts, of any lengths, side by side. A row's tokens do not depend on the other rows.
 *
 * @param prompts - at least one token id in each
 * @returns at each step the new token of each row, null for rows that have ended; the last step has a token in some row
 * @throws ValueError as for one prompt
 * @example
 * for await (const [first, second] of generate(model, params, [[72], [72, 101]], { stopTokens: [10, 0] })) console.log(first, second);
 */
export function generate(
  model: Transformer,
  params: TransformerParams,
  prompts: readonly (readonly number[])[],
  options?: GenerateOptions,
): AsyncGenerator<(number | null)[], void, void>;
export function generate(
  model: Transformer,
  params: TransformerParams,
  prompt: readonly number[] | readonly (readonly number[])[],
  options: GenerateOptions = {},
): AsyncGenerator<number, void, void> | AsyncGenerator<(number | null)[], void, void> {
  return isBatch(prompt)
    ? generateRows(model, params, prompt, options)
    : onlyRow(generateRows(model, params, [prompt], options));
}

const isBatch = (
  prompt: readonly number[] | readonly (readonly number[])[],
): prompt is readonly (readonly number[])[] => Array.isArray(prompt[0]);

async function* onlyRow(steps: AsyncIterable<(number | null)[]>): AsyncGenerator<number, void, void> {
  for await (const [token] of steps) yield token!;
}

/** One text: the prompt and what came after it. */
interface Row {
  readonly tokens: number[];
  readonly random: () => number;
  ended: boolean;
}

async function* generateRows(
  model: Transformer,
  params: TransformerParams,
  prompts: readonly (readonly number[])[],
  options: GenerateOptions,
): AsyncGenerator<(number | null)[], void, void> {
  const { vocabSize } = model.config;
  const { maxTokens = 100, seed = 0, stopTokens = [], vocabSize: drawable = vocabSize } = options;
  const stops = new Set(typeof stopTokens === "number" ? [stopTokens] : stopTokens);
  checkOptions(options);
  if (!(Number.isInteger(drawable) && drawable >= 1 && drawable <= vocabSize))
    throw new ValueError(`generate: vocabSize must be an integer from 1 to the model's ${vocabSize}, got ${drawable}`);
  for (const prompt of prompts) checkPrompt(prompt, vocabSize);
  const context = contextOf(model, prompts, maxTokens, options.contextLength);
  const rows = prompts.map((prompt, i): Row => ({ tokens: [...prompt], random: randomNumbers(seed, i), ended: false }));
  using reader = new Reader(model, params, context);
  for (let n = 0; n < maxTokens; n++) {
    const logits = await reader.read(rows);
    const step = rows.map((row, i): number | null => {
      if (row.ended) return null;
      const token = sampleToken(logits.subarray(i * vocabSize, i * vocabSize + drawable), row.random, options);
      row.ended = stops.has(token);
      if (row.ended) return null;
      row.tokens.push(token);
      return token;
    });
    if (rows.every((row) => row.ended)) return;
    yield step;
  }
}

function checkOptions(options: GenerateOptions): void {
  checkPositive("generate", "maxTokens", options.maxTokens ?? 1);
  checkPositive("generate", "contextLength", options.contextLength ?? 1);
  checkSampling(options);
}

function checkPrompt(prompt: readonly number[], vocabSize: number): void {
  if (prompt.length === 0) throw new ValueError("generate: the prompt must hold at least one token, got none");
  const stranger = prompt.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (stranger !== undefined)
    throw new ValueError(`generate: token ids must be integers in [0, ${vocabSize}), got ${stranger}`);
}

/** Most tokens that the model reads at once, and how many places its cache needs. */
interface Context {
  readonly length: number;
  readonly cacheLength: number;
}

function contextOf(
  { config: { positions } }: Transformer,
  prompts: readonly (readonly number[])[],
  maxTokens: number,
  contextLength: number | undefined,
): Context {
  const longest = Math.max(...prompts.map((prompt) => prompt.length));
  const wanted = longest + maxTokens;
  const { maxPositions = Number.POSITIVE_INFINITY } = positions;
  if (contextLength !== undefined) checkPositions("generate", contextLength, "contextLength", positions);
  else if (wanted > maxPositions) {
    throw new ValueError(
      `generate: the model has ${maxPositions} positions, got a prompt of ${longest} tokens and maxTokens ${maxTokens}; ask for fewer, or set contextLength: then the model looks back at that many tokens only`,
    );
  }
  const length = Math.min(contextLength ?? wanted, wanted);
  return { length, cacheLength: Math.min(paddedLength(length), contextLength ?? maxPositions) };
}

/** Lengths are rounded up to powers of two, so that prompts of many lengths share a few plans. */
const paddedLength = (length: number): number => 2 ** Math.max(4, Math.ceil(Math.log2(length)));

interface Plans {
  readonly decode: Transformer["decode"];
  /** By length of the cache, which is part of the plan. */
  readonly prefill: Map<number, (params: TransformerParams, ids: Tensor, lengths: Tensor) => NextLogits>;
  /** Logits without a cache. */
  readonly whole: (params: TransformerParams, ids: Tensor, lengths: Tensor) => Tensor;
}

const plansOf = new WeakMap<Transformer, Plans>();

function plansFor(model: Transformer): Plans {
  let plans = plansOf.get(model);
  if (!plans) {
    plans = {
      decode: compile(model.decode, { donate: [3] }),
      prefill: new Map(),
      whole: compile(
        (params: TransformerParams, ids: Tensor, lengths: Tensor) =>
          model.prefill(params, ids, lengths, ids.shape[1]!).logits,
      ),
    };
    plansOf.set(model, plans);
  }
  return plans;
}

/** The model with what it remembers of the rows. */
class Reader {
  readonly #plans: Plans;
  readonly #model: Transformer;
  readonly #params: TransformerParams;
  readonly #device: Device;
  readonly #context: Context;
  #cache: AttentionCache[] | undefined;

  constructor(model: Transformer, params: TransformerParams, context: Context) {
    this.#plans = plansFor(model);
    this.#model = model;
    this.#params = params;
    this.#device = treeLeaves<Tensor>(params)[0]!.device;
    this.#context = context;
  }

  /** Logits after the last token of each row, [rows, vocabSize]. From call to call, rows that have not ended get one more token. */
  async read(rows: readonly Row[]): Promise<Float32Array | Float64Array> {
    const tooLong = rows.some(({ tokens, ended }) => !ended && tokens.length > this.#context.length);
    using logits = tooLong
      ? this.#readAgain(rows)
      : this.#cache
        ? this.#readNext(rows, this.#cache)
        : this.#readPrompts(rows);
    return (await logits.data()) as Float32Array | Float64Array;
  }

  #readPrompts(rows: readonly Row[]): Tensor {
    const { cacheLength } = this.#context;
    const longest = Math.max(...rows.map(({ tokens }) => tokens.length));
    using ids = this.#padded(rows, Math.min(paddedLength(longest), cacheLength));
    using lengths = this.#column(rows.map(({ tokens }) => tokens.length));
    let prefill = this.#plans.prefill.get(cacheLength);
    if (!prefill) {
      const model = this.#model;
      prefill = compile((params: TransformerParams, ids: Tensor, lengths: Tensor) =>
        model.prefill(params, ids, lengths, cacheLength),
      );
      this.#plans.prefill.set(cacheLength, prefill);
    }
    const { logits, cache } = prefill(this.#params, ids, lengths);
    this.#cache = cache;
    return logits;
  }

  #readNext(rows: readonly Row[], before: AttentionCache[]): Tensor {
    using ids = this.#column(rows.map(({ tokens }) => tokens.at(-1)!));
    using positions = this.#column(rows.map(({ tokens }) => tokens.length - 1));
    const { logits, cache } = this.#plans.decode(this.#params, ids, positions, before);
    this.#cache = cache;
    return logits;
  }

  /** The last tokens of each row as a sequence of its own: its places move at each step, and so does all that a cache holds. */
  #readAgain(rows: readonly Row[]): Tensor {
    this[Symbol.dispose]();
    const { length } = this.#context;
    using ids = this.#padded(rows, length);
    using lengths = this.#column(rows.map(({ tokens }) => Math.min(tokens.length, length)));
    return this.#plans.whole(this.#params, ids, lengths);
  }

  /** The last tokens of each row, [rows, length]. */
  #padded(rows: readonly Row[], length: number): Tensor {
    const ids = new Int32Array(rows.length * length);
    rows.forEach(({ tokens }, i) => {
      ids.set(tokens.slice(-length), i * length);
    });
    return tensor(ids, { shape: [rows.length, length], device: this.#device });
  }

  #column(numbers: readonly number[]): Tensor {
    return tensor(Int32Array.from(numbers), { device: this.#device });
  }

  [Symbol.dispose](): void {
    for (const x of treeLeaves<Tensor>(this.#cache ?? [])) x.dispose();
    this.#cache = undefined;
  }
}
