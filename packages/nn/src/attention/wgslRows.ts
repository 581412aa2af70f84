// attention/wgslRows.ts: attention on WebGPU without barriers, one thread a row: for adapters that run on the CPU.
// Loops stay loops: a driver that compiles on the CPU takes seconds for their unrolled form.
import type { WebGpuFusedKernel } from "@mc/tensor";
import { elementOf, literal, offsetOf, rowGrid } from "../wgsl.ts";
import type { AttentionParams, AttentionSizes } from "./sizes.ts";
import { documentTest, reach, scoreCode } from "./wgslParts.ts";

/** The forward kernel: a thread owns a query row and walks the keys it sees with an online softmax. */
export function attentionRows(sizes: AttentionSizes, params: AttentionParams): WebGpuFusedKernel {
  const { batch, tokens, heads, group, size, valueSize } = sizes;
  const grid = rowGrid(batch * heads * tokens);
  const sees = reach(tokens, params);
  const score = scoreCode(params);
  return {
    variant: "rows",
    passes: [{ entry: "attention", workgroups: grid.workgroups }],
    wgsl: ([q, k, v, documents], [out, rowMax, rowLse]) => `
${score.module}
@compute @workgroup_size(${grid.threads})
fn attention(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = ${grid.index};
  if (row >= ${batch * heads * tokens}u) { return; }
  let i = row % ${tokens}u;
  let h = (row / ${tokens}u) % ${heads}u;
  let b = row / ${tokens * heads}u;
  let g = h / ${group}u;
  let qAt = ${offsetOf(q!, ["b", "i", "h"])};
  var query: array<f32, ${size}>;
  for (var d = 0u; d < ${size}u; d++) { query[d] = ${elementOf(q!, "qAt", "d")}; }
  var acc: array<f32, ${valueSize}>;
  ${score.head}
  var most = -mc_infinity(); // of raw
  var shift = -mc_infinity(); // of s
  var total = 0.0;
  for (var j = ${sees.firstKey("i")}; j < ${sees.endKey("i")}; j++) {
    ${documentTest(documents)}
    let kAt = ${offsetOf(k!, ["b", "j", "g"])};
    var raw = 0.0;
    for (var d = 0u; d < ${size}u; d++) { raw += query[d] * ${elementOf(k!, "kAt", "d")}; }
    raw *= ${literal(params.scale)};
    ${score.input}
    most = mc_max(most, raw);
    let next = ${score.changes ? "mc_max(shift, s)" : "most"};
    let keep = select(mc_exp(shift - next), 0.0, total == 0.0);
    let p = mc_exp(s - next);
    let vAt = ${offsetOf(v!, ["b", "j", "g"])};
    for (var d = 0u; d < ${valueSize}u; d++) { acc[d] = acc[d] * keep + p * ${elementOf(v!, "vAt", "d")}; }
    shift = next;
    total = total * keep + p;
  }
  let share = select(1.0 / total, 0.0, total == 0.0);
  let outAt = ${offsetOf(out!, ["b", "i", "h"])};
  for (var d = 0u; d < ${valueSize}u; d++) { ${elementOf(out!, "outAt", "d")} = acc[d] * share; }
  ${rowMax!.name}[${rowMax!.offset}u + row] = most;
  ${rowLse!.name}[${rowLse!.offset}u + row] = select(shift + mc_log(total), -mc_infinity(), total == 0.0);
}`,
  };
}

/**
 * The backward kernel. First pass: a thread owns a query row and its dq. Second: a thread owns a key row, its dk and dv, and walks
 * the queries that see it, in all heads of the group. Every sum has one owner and one order.
 */
export function attentionBackwardRows(sizes: AttentionSizes, params: AttentionParams): WebGpuFusedKernel {
  const { batch, tokens, heads, keyHeads, group, size, valueSize } = sizes;
  const queries = rowGrid(batch * heads * tokens);
  const keys = rowGrid(batch * keyHeads * tokens);
  const sees = reach(tokens, params);
  const score = scoreCode(params);
  return {
    variant: "rows",
    passes: [
      { entry: "attentionQueries", workgroups: queries.workgroups },
      { entry: "attentionKeys", workgroups: keys.workgroups },
    ],
    wgsl: ([q, k, v, lse, delta, dOut, documents], [packed]) => {
      const width = packed!.shape[2]!;
      const packedAt = (row: string, start: string): string =>
        `${packed!.name}[${packed!.offset}u + (b * ${tokens}u + ${row}) * ${width}u + ${start} + d]`;
      // p = exp(s - lse), ds = p * (do . v - delta) * scale, the gradient of q . k
      const weigh = (query: string, key: string, dO: string, value: string): string => `
    var raw = 0.0;
    for (var d = 0u; d < ${size}u; d++) { raw += ${query} * ${key}; }
    raw *= ${literal(params.scale)};
    ${score.input}
    var dp = 0.0;
    for (var d = 0u; d < ${valueSize}u; d++) { dp += ${dO} * ${value}; }
    let p = mc_exp(s - ${lse!.name}[${offsetOf(lse!, ["b", "h", "i"])}]);
    let ds = p * (dp - ${delta!.name}[${offsetOf(delta!, ["b", "h", "i"])}]) * ${literal(params.scale)}${score.chain};`;
      const [queryOf, keyOf] = [elementOf(q!, "qAt", "d"), elementOf(k!, "kAt", "d")];
      const [valueOf, dOutOf] = [elementOf(v!, "vAt", "d"), elementOf(dOut!, "dOutAt", "d")];
      return `
${score.module}
@compute @workgroup_size(${queries.threads})
fn attentionQueries(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = ${queries.index};
  if (row >= ${batch * heads * tokens}u) { return; }
  let i = row % ${tokens}u;
  let h = (row / ${tokens}u) % ${heads}u;
  let b = row / ${tokens * heads}u;
  let g = h / ${group}u;
  let qAt = ${offsetOf(q!, ["b", "i", "h"])};
  let dOutAt = ${offsetOf(dOut!, ["b", "i", "h"])};
  var query: array<f32, ${size}>;
  var dQuery: array<f32, ${size}>;
  var dO: array<f32, ${valueSize}>;
  for (var d = 0u; d < ${size}u; d++) { query[d] = ${queryOf}; }
  for (var d = 0u; d < ${valueSize}u; d++) { dO[d] = ${dOutOf}; }
  ${score.head}
  for (var j = ${sees.firstKey("i")}; j < ${sees.endKey("i")}; j++) {
    ${documentTest(documents)}
    let kAt = ${offsetOf(k!, ["b", "j", "g"])};
    let vAt = ${offsetOf(v!, ["b", "j", "g"])};
    ${weigh("query[d]", keyOf, "dO[d]", valueOf)}
    for (var d = 0u; d < ${size}u; d++) { dQuery[d] += ds * ${keyOf}; }
  }
  for (var d = 0u; d < ${size}u; d++) { ${packedAt("i", `h * ${size}u`)} = dQuery[d]; }
}

@compute @workgroup_size(${keys.threads})
fn attentionKeys(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = ${keys.index};
  if (row >= ${batch * keyHeads * tokens}u) { return; }
  let j = row % ${tokens}u;
  let g = (row / ${tokens}u) % ${keyHeads}u;
  let b = row / ${tokens * keyHeads}u;
  let kAt = ${offsetOf(k!, ["b", "j", "g"])};
  let vAt = ${offsetOf(v!, ["b", "j", "g"])};
  var key: array<f32, ${size}>;
  var value: array<f32, ${valueSize}>;
  var dKey: array<f32, ${size}>;
  var dValue: array<f32, ${valueSize}>;
  for (var d = 0u; d < ${size}u; d++) { key[d] = ${keyOf}; }
  for (var d = 0u; d < ${valueSize}u; d++) { value[d] = ${valueOf}; }
  for (var h = g * ${group}u; h < (g + 1u) * ${group}u; h++) {
    ${score.head}
    for (var i = ${sees.firstQuery("j")}; i < ${sees.endQuery("j")}; i++) {
      ${documentTest(documents)}
      let qAt = ${offsetOf(q!, ["b", "i", "h"])};
      let dOutAt = ${offsetOf(dOut!, ["b", "i", "h"])};
      ${weigh(queryOf, "key[d]", dOutOf, "value[d]")}
      for (var d = 0u; d < ${size}u; d++) { dKey[d] += ds * ${queryOf}; }
      for (var d = 0u; d < ${valueSize}u; d++) { dValue[d] += p * ${dOutOf}; }
    }
  }
  for (var d = 0u; d < ${size}u; d++) { ${packedAt("j", `${heads * size}u + g * ${size}u`)} = dKey[d]; }
  for (var d = 0u; d < ${valueSize}u; d++) { ${packedAt("j", `${(heads + keyHeads) * size}u + g * ${valueSize}u`)} = dValue[d]; }
}`;
    },
  };
}
