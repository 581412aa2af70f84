// sample.ts: what the trained model writes.
import { generate, type Transformer, type TransformerParams } from "@mc/nn";
import { type Corpus, tokenizer } from "./corpus.ts";

/** A piece of text that was given, and what the model made of it. */
export interface Sample {
  prompt: string;
  continuation: string;
}

/** Options of `drawSample`. */
export interface DrawSampleOptions {
  seed: number;
  /** Tokens the model looks back at. */
  context: number;
}

const PROMPT_BYTES = 48;
const SAMPLE_BYTES = 300;

/** Continues the beginning of a validation document, at temperature 0.8, up to the document's end or 300 bytes. */
export async function drawSample(
  model: Transformer,
  params: TransformerParams,
  { documents }: Pick<Corpus, "documents">,
  { seed, context }: DrawSampleOptions,
): Promise<Sample> {
  const prompt = promptOf(documents.validation[0]!);
  const options = {
    maxTokens: SAMPLE_BYTES,
    temperature: 0.8,
    seed,
    contextLength: context,
    stopTokens: tokenizer.endOfDocument,
    vocabSize: tokenizer.vocabSize, // a model of a config.json may have more
  };
  const ids: number[] = [];
  for await (const id of generate(model, params, prompt, options)) ids.push(id);
  return { prompt: printable(tokenizer.decode(prompt)), continuation: printable(tokenizer.decode(ids)) };
}

/** Control characters, which an untrained model writes too, would move a terminal's cursor or worse. */
export function printable(text: string): string {
  return text.replace(/[\0-\x08\v-\x1f\x7f-\x9f]/g, "\uFFFD");
}

/** The first bytes of a document, up to the end of a word if there is one, and never half a character. */
export function promptOf(document: Int32Array): number[] {
  const head = [...document.subarray(0, PROMPT_BYTES)].filter((id) => id !== tokenizer.endOfDocument);
  const space = head.lastIndexOf(32);
  if (space > 0) return head.slice(0, space);
  // Bytes 128 to 191 continue a character, those from 192 begin one: drop the last character where there are several.
  let end = head.length - 1;
  while (end > 0 && head[end]! >= 128 && head[end]! < 192) end -= 1;
  return end > 0 ? head.slice(0, end) : head;
}
