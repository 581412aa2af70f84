// attention/wgsl.ts: attention on WebGPU without barriers, one thread a row. Deterministic: every sum has one owner and one order.
import type { WebGpuFusedKernel, WgslOperand } from "@mc/tensor";
import type { AttentionParams, AttentionSizes } from "./sizes.ts";

/** The forward kernel: a thread owns a query row and walks the keys it sees with an online softmax. */
export function attentionRows(sizes: AttentionSizes, params: AttentionParams): WebGpuFusedKernel {
  const { batch, tokens, heads, group, size, valueSize } = sizes;
  const threads = grid(batch * heads * tokens);
  return {
    passes: [{ entry: "attention", workgroups: threads.workgroups }],
    wgsl: ([q, k, v, documents], [out, rowMax, rowLse]) => {
      const keys = vectors("k", k!, `keyAt(b, j, h / ${group}u)`, size);
      const values = vectors("v", v!, `valueAt(b, j, h / ${group}u)`, valueSize);
      const queries = vectors("q", q!, "queryAt(b, i, h)", size);
      return `
${rowAddress("queryAt", q!)}${rowAddress("keyAt", k!)}${rowAddress("valueAt", v!)}${rowAddress("outAt", out!)}
@compute @workgroup_size(${workgroup})
fn attention(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = ${threads.index};
  if (row >= ${batch * heads * tokens}u) { return; }
  let i = row % ${tokens}u;
  let h = (row / ${tokens}u) % ${heads}u;
  let b = row / ${tokens * heads}u;
  ${queries.load}
  ${values.names.map((_, n) => `var o${n} = vec4<f32>();`).join(" ")}
  var most = -mc_infinity();
  var total = 0.0;
  ${loopOverKeys(documents, tokens, params)}
    ${keys.load}
    let s = ${literal(params.scale)} * ${dot(queries.names, keys.names)};
    let next = mc_max(most, s);
    let keep = select(mc_exp(most - next), 0.0, total == 0.0);
    let p = mc_exp(s - next);
    ${values.load}
    most = next;
    total = total * keep + p;
    ${values.names.map((name, n) => `o${n} = o${n} * keep + p * ${name};`).join(" ")}
  }
  let share = select(1.0 / total, 0.0, total == 0.0);
  ${vectors("o", out!, "outAt(b, i, h)", valueSize).store((n) => `o${n} * share`)}
  ${rowMax!.name}[${rowMax!.offset}u + row] = most;
  ${rowLse!.name}[${rowLse!.offset}u + row] = select(most + mc_log(total), -mc_infinity(), total == 0.0);
}`;
    },
  };
}

/**
 * The backward kernel. First pass: a thread owns a query row and its dq. Second: a thread owns a key row, its dk and dv, and walks
 * the queries that see it, in all heads of the group.
 */
export function attentionBackwardRows(sizes: AttentionSizes, params: AttentionParams): WebGpuFusedKernel {
  const { batch, tokens, heads, keyHeads, group, size, valueSize } = sizes;
  const queryThreads = grid(batch * heads * tokens);
  const keyThreads = grid(batch * keyHeads * tokens);
  return {
    passes: [
      { entry: "attentionQueries", workgroups: queryThreads.workgroups },
      { entry: "attentionKeys", workgroups: keyThreads.workgroups },
    ],
    wgsl: ([q, k, v, lse, delta, dOut, documents], [packed]) => {
      const queries = vectors("q", q!, "queryAt(b, i, h)", size);
      const keys = vectors("k", k!, "keyAt(b, j, g)", size);
      const values = vectors("v", v!, "valueAt(b, j, g)", valueSize);
      const dOuts = vectors("g", dOut!, "gradientAt(b, i, h)", valueSize);
      const width = packed!.shape[2]!;
      const store = (name: string, row: string, start: string, count: number): string =>
        vectors(name, { ...packed!, strides: [0, 0, 1] }, `(${packed!.offset}u + (b * ${tokens}u + ${row}) * ${width}u + ${start})`, count).store((n) => `${name}${n}`);
      const weight = `
    let p = mc_exp(${literal(params.scale)} * ${dot(queries.names, keys.names)} - ${element(lse!, ["b", "h", "i"])});
    let ds = p * (${dot(dOuts.names, values.names)} - ${element(delta!, ["b", "h", "i"])}) * ${literal(params.scale)};`;
      const zeros = (name: string, names: readonly string[]): string => names.map((_, n) => `var ${name}${n} = vec4<f32>();`).join(" ");
      const accumulate = (name: string, factor: string, names: readonly string[]): string =>
        names.map((x, n) => `${name}${n} += ${factor} * ${x};`).join(" ");
      return `
${rowAddress("queryAt", q!)}${rowAddress("keyAt", k!)}${rowAddress("valueAt", v!)}${rowAddress("gradientAt", dOut!)}
@compute @workgroup_size(${workgroup})
fn attentionQueries(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = ${queryThreads.index};
  if (row >= ${batch * heads * tokens}u) { return; }
  let i = row % ${tokens}u;
  let h = (row / ${tokens}u) % ${heads}u;
  let b = row / ${tokens * heads}u;
  let g = h / ${group}u;
  ${queries.load}
  ${dOuts.load}
  ${zeros("dq", queries.names)}
  ${loopOverKeys(documents, tokens, params)}
    ${keys.load}
    ${values.load}
    ${weight}
    ${accumulate("dq", "ds", keys.names)}
  }
  ${store("dq", "i", `h * ${size}u`, size)}
}

@compute @workgroup_size(${workgroup})
fn attentionKeys(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = ${keyThreads.index};
  if (row >= ${batch * keyHeads * tokens}u) { return; }
  let j = row % ${tokens}u;
  let g = (row / ${tokens}u) % ${keyHeads}u;
  let b = row / ${tokens * keyHeads}u;
  ${keys.load}
  ${values.load}
  ${zeros("dk", keys.names)}
  ${zeros("dv", values.names)}
  for (var n = 0u; n < ${group}u; n++) {
    let h = g * ${group}u + n;
    ${loopOverQueries(documents, tokens, params)}
      ${queries.load}
      ${dOuts.load}
      ${weight}
      ${accumulate("dk", "ds", queries.names)}
      ${accumulate("dv", "p", dOuts.names)}
    }
  }
  ${store("dk", "j", `${heads * size}u + g * ${size}u`, size)}
  ${store("dv", "j", `${(heads + keyHeads) * size}u + g * ${valueSize}u`, valueSize)}
}`;
    },
  };
}

const workgroup = 64;

/** Threads for `count` rows, folded to two dimensions: a dimension holds at most 65535 workgroups. */
function grid(count: number): { workgroups: readonly [number, number, number]; index: string } {
  const groups = Math.ceil(count / workgroup);
  const wide = Math.min(groups, 65535);
  return { workgroups: [wide, Math.ceil(groups / wide), 1], index: `id.x + id.y * ${wide * workgroup}u` };
}

/** u32 arithmetic wraps, so a negative stride is written modulo 2^32. */
const u32 = (x: number): string => `${x >>> 0}u`;

const literal = (x: number): string => {
  const text = String(Math.fround(x));
  return /[.e]/.test(text) ? text : `${text}.0`;
};

/** Position of an element of an operand. */
const position = ({ offset, strides }: WgslOperand, at: readonly string[]): string => [u32(offset), ...at.map((x, axis) => `${x} * ${u32(strides[axis]!)}`)].join(" + ");

const element = (operand: WgslOperand, at: readonly string[]): string => `${operand.name}[${position(operand, at)}]`;

/** fn name(b, token, head): position of the first feature of a row of [B, T, H, D]. */
const rowAddress = (name: string, operand: WgslOperand): string =>
  `fn ${name}(b: u32, t: u32, h: u32) -> u32 { return ${position(operand, ["b", "t", "h"])}; }\n`;

/** A row of `size` features as vec4 values name0, name1, ...; the last is filled up with zeros. */
function vectors(name: string, operand: WgslOperand, address: string, size: number) {
  const step = u32(operand.strides.at(-1)!);
  const names = Array.from({ length: Math.ceil(size / 4) }, (_, n) => `${name}${n}`);
  const lanes = (n: number) => [0, 1, 2, 3].map((lane) => 4 * n + lane);
  const at = (d: number): string => `${operand.name}[${name}At + ${d}u * ${step}]`;
  const base = `let ${name}At = ${address};`;
  return {
    names,
    load: [base, ...names.map((x, n) => `let ${x} = vec4<f32>(${lanes(n).map((d) => (d < size ? at(d) : "0.0")).join(", ")});`)].join("\n    "),
    store: (value: (n: number) => string): string =>
      [base, ...names.flatMap((_, n) => [`let ${name}Out${n} = ${value(n)};`, ...lanes(n).filter((d) => d < size).map((d, lane) => `${at(d)} = ${name}Out${n}[${lane}];`)])].join("\n  "),
  };
}

const dot = (x: readonly string[], y: readonly string[]): string => `(${x.map((name, n) => `dot(${name}, ${y[n]})`).join(" + ")})`;

const documentOf = (documents: WgslOperand, token: string): string => element(documents, ["b", token]);

/** Opens the loop over the keys j that query i sees. */
function loopOverKeys(documents: WgslOperand | undefined, tokens: number, { causal }: AttentionParams): string {
  const loop = `for (var j = 0u; j < ${causal ? "i + 1u" : `${tokens}u`}; j++) {`;
  if (!documents) return loop;
  return `let mine = ${documentOf(documents, "i")};
  ${loop}
    if (mine < 0 || ${documentOf(documents, "j")} != mine) { continue; }`;
}

/** Opens the loop over the queries i that see key j. */
function loopOverQueries(documents: WgslOperand | undefined, tokens: number, { causal }: AttentionParams): string {
  const loop = `for (var i = ${causal ? "j" : "0u"}; i < ${tokens}u; i++) {`;
  if (!documents) return loop;
  return `let mine = ${documentOf(documents, "j")};
    ${loop}
      if (mine < 0 || ${documentOf(documents, "i")} != mine) { continue; }`;
}
