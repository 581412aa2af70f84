// attention/wgslParts.ts: pieces of WGSL that the attention kernels share.
import type { WgslOperand } from "@mc/tensor";
import { literal, offsetOf } from "../wgsl.ts";
import type { AttentionParams } from "./sizes.ts";

/** Skips the pair (i, j) of a loop's body unless both tokens are of one document that is not padding. */
export function documentTest(documents: WgslOperand | undefined): string {
  if (!documents) return "";
  const of = (token: string): string => `${documents.name}[${offsetOf(documents, ["b", token])}]`;
  return `if (${of("i")} < 0 || ${of("i")} != ${of("j")}) { continue; }`;
}

/** WGSL of what a query sees: u32 expressions in `i`, or in `j` for a key. */
export function reach(tokens: number, { causal, window }: AttentionParams) {
  return {
    /** The first key that the query at the given index sees, where it sees any. */
    firstKey: (i: string): string =>
      window === undefined ? "0u" : `select(0u, ${i} + 1u - ${window}u, ${i} >= ${window}u)`,
    /** One past the last key it sees. */
    endKey: (i: string): string => (causal ? `min(${i} + 1u, ${tokens}u)` : `${tokens}u`),
    /** The first query that sees the key at the given index. */
    firstQuery: (j: string): string => (causal ? j : "0u"),
    /** One past the last query that sees it. */
    endQuery: (j: string): string => (window === undefined ? `${tokens}u` : `min(${j} + ${window}u, ${tokens}u)`),
  };
}

/**
 * WGSL that makes the softmax's input `s` of a scaled score `raw`, for query i of head h and key j: see `attentionReference`.
 * `head` stands before the loops over i and j, `input` in them, after `let raw`; `chain` multiplies a gradient of s to one of raw.
 */
export function scoreCode({ softCap, slopes }: AttentionParams) {
  const capped = softCap === undefined ? "raw" : `${literal(softCap)} * bent`;
  return {
    /** Whether s differs from raw, so that the softmax needs a maximum of its own. */
    changes: softCap !== undefined || slopes !== undefined,
    module: slopes
      ? `fn slopeOf(h: u32) -> f32 { var slopes = array<f32, ${slopes.length}>(${slopes.map(literal).join(", ")}); return slopes[h]; }`
      : "",
    head: slopes ? "let slope = slopeOf(h);" : "",
    input: `${softCap === undefined ? "" : `let bent = mc_tanh(raw / ${literal(softCap)}); `}let s = ${capped}${
      slopes ? " - slope * f32(i - j)" : ""
    };`,
    chain: softCap === undefined ? "" : " * (1.0 - bent * bent)",
  };
}
