// @mc/data/huggingface: tokenizers of Hugging Face models, from their tokenizer.json.
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { ValueError } from "@mc/tensor";
import type { Tokenizer } from "./tokenizer.ts";

/** Options of `huggingFaceTokenizer`. */
export interface HuggingFaceTokenizerOptions {
  /**
   * The token that ends a document, such as "<|endoftext|>" or "</s>". Default: the `eos_token` of `config`, else the only special token
   * of the file.
   */
  endOfDocument?: string;
  /** The parsed tokenizer_config.json, where there is one. */
  config?: object;
}

/**
 * A tokenizer from Hugging Face's tokenizer.json: byte-level BPE, SentencePiece BPE and Unigram, WordPiece.
 *
 * `encode` adds no special tokens, but it does recognise them in the text, as Hugging Face's libraries do: a text that holds
 * "<|endoftext|>" gets the id of that token. `decode` leaves out ends of documents and writes other special tokens as they are.
 *
 * @param json the text of tokenizer.json, or its parsed object
 * @throws ValueError for what is not a tokenizer.json, a model that is not supported, or a file that does not tell which token ends a
 *   document; from `decode`, for an id that there is not
 * @example
 * const trained = await trainBpe(["low lower lowest"], { vocabSize: 260 });
 * const tokenizer = huggingFaceTokenizer(JSON.stringify(trained));
 * tokenizer.encode("lowest"); // the ids of trained.encode("lowest")
 *
 * @see tokenizers.js, which does the work: https://github.com/huggingface/tokenizers.js
 */
export function huggingFaceTokenizer(
  json: string | object,
  { endOfDocument, config = {} }: HuggingFaceTokenizerOptions = {},
): Tokenizer {
  const op = "huggingFaceTokenizer";
  const file = fileOf(op, json);
  const library = made(op, file, config);
  const vocabulary = library.get_vocab();
  const vocabSize = [...vocabulary].reduce(
    (size, [token, id]) => (token === undefined ? size : Math.max(size, id + 1)),
    0,
  );
  const end = endOf(op, file, config, endOfDocument);
  const endId = library.token_to_id(end);
  if (endId === undefined) {
    throw new ValueError(`${op}: endOfDocument must be a token of the vocabulary, got ${JSON.stringify(end)}`);
  }

  const idsOf = (text: string): number[] => library.encode(text, { add_special_tokens: false }).ids;
  return {
    vocabSize,
    endOfDocument: endId,
    encode: (text) => Int32Array.from(idsOf(text)),
    encodeDocument: (text) => Int32Array.from([...idsOf(text), endId]),
    decode: (ids) => {
      const kept: number[] = [];
      for (const id of ids) {
        if (library.id_to_token(id) === undefined) {
          throw new ValueError(`${op}: ids must be those of tokens, integers in [0, ${vocabSize}), got ${id}`);
        }
        if (id !== endId) kept.push(id);
      }
      const { clean_up_tokenization_spaces: cleaned = false } = config as { clean_up_tokenization_spaces?: boolean };
      return kept.length === 0 ? "" : library.decode(kept, { clean_up_tokenization_spaces: cleaned });
    },
  };
}

/** The parts of tokenizer.json that are looked at here. */
interface TokenizerFile {
  added_tokens: readonly { content: string; special?: boolean }[];
}

// Fields that a file may leave out, with what that means.
const DEFAULTS = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };

function fileOf(op: string, json: string | object): TokenizerFile {
  let file: unknown = json;
  if (typeof json === "string") {
    try {
      file = JSON.parse(json);
    } catch (cause) {
      throw new ValueError(`${op}: the text must be JSON: ${(cause as Error).message}`, { cause });
    }
  }
  if (typeof file !== "object" || file === null || !("model" in file)) {
    throw new ValueError(`${op}: the file must be a tokenizer.json, got one without a model`);
  }
  return { ...DEFAULTS, ...file } as TokenizerFile;
}

function made(op: string, file: TokenizerFile, config: object): Library {
  try {
    return new Library(file, config);
  } catch (cause) {
    throw new ValueError(`${op}: the file must be a tokenizer.json that is supported: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function endOf(op: string, file: TokenizerFile, config: object, wanted: string | undefined): string {
  if (wanted !== undefined) return wanted;
  const { eos_token: named } = config as { eos_token?: string | { content: string } | null };
  if (named) return typeof named === "string" ? named : named.content;
  const special = file.added_tokens.filter((token) => token.special).map(({ content }) => content);
  if (special.length === 1) return special[0]!;
  throw new ValueError(
    `${op}: endOfDocument must be given, because the file does not tell which token ends a document; ` +
      `its special tokens are ${special.map((token) => JSON.stringify(token)).join(", ") || "none"}`,
  );
}
