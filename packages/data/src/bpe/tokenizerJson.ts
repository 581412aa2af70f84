// bpe/tokenizerJson.ts: our tokenizers in the form of Hugging Face's tokenizer.json.
import { ValueError } from "@mc/tensor";
import { WORD_PATTERN } from "./bytes.ts";
import { type BpeDefinition, checkEnd, END, type Merge, Vocabulary } from "./vocabulary.ts";

/**
 * What a tokenizer.json of a byte-level BPE holds. Hugging Face's libraries read it and give the same ids.
 *
 * @see https://huggingface.co/docs/tokenizers
 */
export interface TokenizerJson {
  readonly version: "1.0";
  readonly truncation: null;
  readonly padding: null;
  /** The end of a document. */
  readonly added_tokens: readonly {
    readonly id: number;
    readonly content: string;
    readonly single_word: boolean;
    readonly lstrip: boolean;
    readonly rstrip: boolean;
    readonly normalized: boolean;
    readonly special: boolean;
  }[];
  readonly normalizer: null;
  /** How a text is cut into words, and bytes are written as characters. */
  readonly pre_tokenizer: object;
  readonly post_processor: null;
  readonly decoder: object;
  readonly model: {
    readonly type: "BPE";
    readonly dropout: null;
    readonly unk_token: null;
    readonly continuing_subword_prefix: null;
    readonly end_of_word_suffix: null;
    readonly fuse_unk: boolean;
    readonly byte_fallback: boolean;
    readonly ignore_merges: boolean;
    /** The id of each token. */
    readonly vocab: Readonly<Record<string, number>>;
    /** "left right" of each merge, in order. */
    readonly merges: readonly string[];
  };
}

const BYTE_LEVEL = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false } as const;

const PRE_TOKENIZER = {
  type: "Sequence",
  pretokenizers: [{ type: "Split", pattern: { Regex: WORD_PATTERN }, behavior: "Isolated", invert: false }, BYTE_LEVEL],
} as const;

/** The file of a tokenizer. */
export function writeTokenizerJson(merges: readonly Merge[], { tokens }: Vocabulary): TokenizerJson {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: END,
        content: tokens[END]!,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: PRE_TOKENIZER,
    post_processor: null,
    decoder: BYTE_LEVEL,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => `${tokens[left]} ${tokens[right]}`),
    },
  };
}

/**
 * What a file that `writeTokenizerJson` made says.
 *
 * @throws ValueError for every other file
 */
export function readTokenizerJson(json: string | object): BpeDefinition {
  const file = (typeof json === "string" ? parse(json) : json) as Partial<TokenizerJson>;
  const { model, added_tokens: added } = file;
  const end = added?.[0]?.content;
  if (added?.length !== 1 || typeof end !== "string") throw foreign("other special tokens than one at id 0");
  if (model?.type !== "BPE") throw foreign(`a model of type ${JSON.stringify(model?.type)}`);
  if (file.normalizer || JSON.stringify(file.pre_tokenizer) !== JSON.stringify(PRE_TOKENIZER)) {
    throw foreign("another way to cut a text into words");
  }
  checkEnd(OP, end);
  if (!Array.isArray(model.merges) || typeof model.vocab !== "object" || model.vocab === null) {
    throw foreign("a model without vocab and merges");
  }
  const vocabulary = new Vocabulary(end);
  const merges = model.merges.map((merge: unknown): Merge => {
    // Newer files of Hugging Face's libraries have pairs in place of "left right".
    const pair = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = pair.map((token) => vocabulary.idOf(token));
    if (pair.length !== 2 || !left || !right)
      throw foreign(`the merge ${JSON.stringify(merge)} of tokens that are not made before`);
    vocabulary.join([left, right]);
    return [left, right];
  });
  const { tokens } = vocabulary;
  if (Object.keys(model.vocab).length !== tokens.length || tokens.some((token, id) => model.vocab[token] !== id)) {
    throw foreign("ids in another order than that of the merges");
  }
  return { end, merges };
}

const OP = "bpeTokenizer";

function parse(text: string): unknown {
  try {
    return JSON.parse(text) ?? {};
  } catch (cause) {
    throw new ValueError(`${OP}: the text must be JSON: ${(cause as Error).message}`, { cause });
  }
}

function foreign(what: string): ValueError {
  return new ValueError(
    `${OP}: the file must be a tokenizer.json that a tokenizer of trainBpe was saved as, got ${what}; ` +
      "for other files use huggingFaceTokenizer of @mc/data/huggingface",
  );
}
