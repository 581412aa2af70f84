// attention/wgslParts.ts: pieces of WGSL that the attention kernels share.
import type { WgslOperand } from "@mc/tensor";
import type { AttentionParams } from "./sizes.ts";

const workgroup = 64;

/** One thread for each of `count` rows, folded to two dimensions: a dimension holds at most 65535 workgroups. */
export function rowGrid(count: number): {
  threads: number;
  workgroups: readonly [number, number, number];
  index: string;
} {
  const groups = Math.ceil(count / workgroup);
  const wide = Math.min(groups, 65535);
  return {
    threads: workgroup,
    workgroups: [wide, Math.ceil(groups / wide), 1],
    index: `id.x + id.y * ${wide * workgroup}u`,
  };
}

/** u32 arithmetic wraps, so a negative stride is written modulo 2^32. */
const u32 = (x: number): string => `${x >>> 0}u`;

/** A finite f32 literal. */
export function literal(x: number): string {
  const text = String(Math.fround(x));
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** Position in the buffer of an operand's element at the leading coordinates `at`. */
export function offsetOf({ offset, strides }: WgslOperand, at: readonly string[]): string {
  return [u32(offset), ...at.map((x, axis) => `${x} * ${u32(strides[axis]!)}`)].join(" + ");
}

/** Feature `d` of the row that begins at `base`. */
export function elementOf({ name, strides }: WgslOperand, base: string, d: string): string {
  const step = strides.at(-1)!;
  return `${name}[${base} + ${d}${step === 1 ? "" : ` * ${u32(step)}`}]`;
}

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
