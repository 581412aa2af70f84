// attention/wgslTiles.ts: attention on a GPU. A workgroup owns 64 rows, one a thread, held in registers; the rows of the other
// side pass through workgroup memory tile by tile. Every sum has one owner and one order, so results repeat to the bit.
import type { WebGpuFusedKernel, WgslOperand } from "@mc/tensor";
import { elementOf, literal, offsetOf } from "../wgsl.ts";
import type { AttentionParams, AttentionSizes } from "./sizes.ts";
import { documentTest, reach, scoreCode } from "./wgslParts.ts";

const rows = 64;

/** Bytes of workgroup memory for a tile's rows; every device grants twice as much. */
const tileBytes = 8192;

/** The forward kernel: threads own query rows, tiles hold keys and values. Online softmax, rescaled only when the maximum grows. */
export function attentionTiles(sizes: AttentionSizes, params: AttentionParams): WebGpuFusedKernel {
  const { batch, heads, group, size, valueSize, tokens } = sizes;
  const tileRows = tileRowsFor(size + valueSize);
  const score = scoreCode(params);
  return {
    variant: "tiles",
    passes: [{ entry: "attention", workgroups: [Math.ceil(tokens / rows), heads, batch] }],
    wgsl: ([q, k, v, documents], [out, rowMax, rowLse]) => {
      const own = vectors("q", q!, "i", "h");
      const keys = tile("k", k!, "j", "g", tileRows);
      const values = tile("v", v!, "j", "g", tileRows);
      const acc = zeros("o", valueSize);
      return `
${keys.declaration}${values.declaration}
${score.module}
@compute @workgroup_size(${rows})
fn attention(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  ${queryRow(sizes, params)}
  let g = h / ${group}u;
  ${own.load}
  ${acc.declaration}
  ${score.head}
  ${score.changes ? "var most = -mc_infinity(); // of raw" : ""}
  var shift = -mc_infinity(); // of s
  var total = 0.0;
  ${loopOverKeyTiles(sizes, params, tileRows, [keys.load, values.load], documents)}
      let raw = ${literal(params.scale)} * ${dot(own.names, keys.at)};
      ${score.input}
      ${score.changes ? "most = max(most, raw);" : ""}
      if (s > shift) {
        let keep = select(mc_exp(shift - s), 0.0, total == 0.0);
        total *= keep;
        ${acc.names.map((o) => `${o} *= keep;`).join(" ")}
        shift = s;
      }
      let p = mc_exp(s - shift);
      total += p;
      ${acc.add("p", values.at)}
    }
  }
  if (live) {
    let share = select(1.0 / total, 0.0, total == 0.0);
    ${store(out!, offsetOf(out!, ["b", "i", "h"]), valueSize, acc.names, "share")}
    let row = (b * ${heads}u + h) * ${tokens}u + i;
    ${rowMax!.name}[${rowMax!.offset}u + row] = select(${score.changes ? "most" : "shift"}, mc_nan(), mc_isNaN(total));
    ${rowLse!.name}[${rowLse!.offset}u + row] = select(shift + mc_log(total), -mc_infinity(), total == 0.0);
  }
}`;
    },
  };
}

/** The backward kernel: a pass whose threads own query rows and dq, then one whose threads own key rows, dk and dv. */
export function attentionBackwardTiles(sizes: AttentionSizes, params: AttentionParams): WebGpuFusedKernel {
  const { batch, heads, keyHeads, group, size, valueSize, tokens } = sizes;
  const tileRows = tileRowsFor(size + valueSize);
  const groups = Math.ceil(tokens / rows);
  const sees = reach(tokens, params);
  const score = scoreCode(params);
  return {
    variant: "tiles",
    passes: [
      { entry: "attentionQueries", workgroups: [groups, heads, batch] },
      { entry: "attentionKeys", workgroups: [groups, keyHeads, batch] },
    ],
    wgsl: ([q, k, v, lse, delta, dOut, documents], [packed]) => {
      const width = packed!.shape[2]!;
      const put = (row: string, start: string, count: number, names: readonly string[]): string =>
        store(
          { ...packed!, strides: [1] },
          `${packed!.offset}u + (b * ${tokens}u + ${row}) * ${width}u + ${start}`,
          count,
          names,
          "1.0",
        );
      const lseAt = `${lse!.name}[${offsetOf(lse!, ["b", "h", "i"])}]`;
      const deltaAt = `${delta!.name}[${offsetOf(delta!, ["b", "h", "i"])}]`;
      const scale = literal(params.scale);
      const tiles = {
        k: tile("k", k!, "j", "g", tileRows),
        v: tile("v", v!, "j", "g", tileRows),
        q: tile("q", q!, "i", "h", tileRows),
        dOut: tile("dOut", dOut!, "i", "h", tileRows),
      };
      const ownQ = vectors("q", q!, "i", "h");
      const ownDOut = vectors("dOut", dOut!, "i", "h");
      const ownK = vectors("k", k!, "j", "g");
      const ownV = vectors("v", v!, "j", "g");
      const dq = zeros("dq", size);
      const dk = zeros("dk", size);
      const dv = zeros("dv", valueSize);
      return `
${tiles.k.declaration}${tiles.v.declaration}${tiles.q.declaration}${tiles.dOut.declaration}
var<workgroup> lseTile: array<f32, ${tileRows}>;
var<workgroup> deltaTile: array<f32, ${tileRows}>;
${score.module}
@compute @workgroup_size(${rows})
fn attentionQueries(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  ${queryRow(sizes, params)}
  let g = h / ${group}u;
  ${ownQ.load}
  ${ownDOut.load}
  ${dq.declaration}
  let rowLse = ${lseAt};
  let rowDelta = ${deltaAt};
  ${score.head}
  ${loopOverKeyTiles(sizes, params, tileRows, [tiles.k.load, tiles.v.load], documents)}
      let raw = ${scale} * ${dot(ownQ.names, tiles.k.at)};
      ${score.input}
      let p = mc_exp(s - rowLse);
      let ds = p * (${dot(ownDOut.names, tiles.v.at)} - rowDelta) * ${scale}${score.chain};
      ${dq.add("ds", tiles.k.at)}
    }
  }
  if (live) {
    ${put("i", `h * ${size}u`, size, dq.names)}
  }
}
@compute @workgroup_size(${rows})
fn attentionKeys(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let b = group.z;
  let g = group.y;
  let firstRow = group.x * ${rows}u;
  let live = firstRow + thread < ${tokens}u;
  let j = min(firstRow + thread, ${tokens - 1}u);
  ${ownK.load}
  ${ownV.load}
  ${dk.declaration}
  ${dv.declaration}
  for (var h = g * ${group}u; h < (g + 1u) * ${group}u; h++) {
    ${score.head}
    for (var start = ${sees.firstQuery("firstRow")} / ${tileRows}u * ${tileRows}u; start < ${sees.endQuery(`firstRow + ${rows - 1}u`)}; start += ${tileRows}u) {
      workgroupBarrier();
      ${tiles.q.load}
      ${tiles.dOut.load}
      for (var c = thread; c < ${tileRows}u; c += ${rows}u) {
        let i = min(start + c, ${tokens - 1}u);
        lseTile[c] = ${lseAt};
        deltaTile[c] = ${deltaAt};
      }
      workgroupBarrier();
      let stop = min(${tileRows}u, max(${sees.endQuery("j")}, start) - start);
      for (var c = max(${sees.firstQuery("j")}, start) - start; c < stop; c++) {
        let i = start + c;
        ${documentTest(documents)}
        let raw = ${scale} * ${dot(ownK.names, tiles.q.at)};
        ${score.input}
        let p = mc_exp(s - lseTile[c]);
        let ds = p * (${dot(ownV.names, tiles.dOut.at)} - deltaTile[c]) * ${scale}${score.chain};
        ${dk.add("ds", tiles.q.at)}
        ${dv.add("p", tiles.dOut.at)}
      }
    }
  }
  if (live) {
    ${put("j", `${heads * size}u + g * ${size}u`, size, dk.names)}
    ${put("j", `${(heads + keyHeads) * size}u + g * ${valueSize}u`, valueSize, dv.names)}
  }
}`;
    },
  };
}

/** Rows of a tile of `features` floats a row: a power of two, at most 64. */
function tileRowsFor(features: number): number {
  let count = rows;
  while (count > 4 && count * features * 4 > tileBytes) count /= 2;
  return count;
}

/** Names the query row of a thread. Long rows of a causal mask start first, so that none is left to the end. */
function queryRow({ tokens }: AttentionSizes, { causal }: AttentionParams): string {
  return `let b = group.z;
  let h = group.y;
  let firstRow = ${causal ? `(${Math.ceil(tokens / rows) - 1}u - group.x)` : "group.x"} * ${rows}u;
  let live = firstRow + thread < ${tokens}u;
  let i = min(firstRow + thread, ${tokens - 1}u);`;
}

/** Opens the loops over tiles of keys and over the keys j = start + c of a tile that query i sees. */
function loopOverKeyTiles(
  { tokens }: AttentionSizes,
  params: AttentionParams,
  tileRows: number,
  loads: readonly string[],
  documents: WgslOperand | undefined,
): string {
  const sees = reach(tokens, params);
  return `for (var start = ${sees.firstKey("firstRow")} / ${tileRows}u * ${tileRows}u; start < ${sees.endKey(`firstRow + ${rows - 1}u`)}; start += ${tileRows}u) {
    workgroupBarrier();
    ${loads.join("\n    ")}
    workgroupBarrier();
    let stop = min(${tileRows}u, max(${sees.endKey("i")}, start) - start);
    for (var c = max(${sees.firstKey("i")}, start) - start; c < stop; c++) {
      let j = start + c;
      ${documentTest(documents)}`;
}

const count4 = (size: number): number => Math.ceil(size / 4);

/** Features 4n to 4n + 3 of a row, filled up with zeros. */
function vector(operand: WgslOperand, base: string, n: number, size: number): string {
  const lanes = [0, 1, 2, 3].map((lane) =>
    4 * n + lane < size ? elementOf(operand, base, `${4 * n + lane}u`) : "0.0",
  );
  return `vec4<f32>(${lanes.join(", ")})`;
}

/** A row of [B, T, H, D] held by a thread, as vec4 values. */
function vectors(name: string, operand: WgslOperand, token: string, head: string) {
  const size = operand.shape[3]!;
  const names = Array.from({ length: count4(size) }, (_, n) => `${name}${n}`);
  const load = names.map((x, n) => `let ${x} = ${vector(operand, `${name}At`, n, size)};`).join("\n  ");
  return { names, load: `let ${name}At = ${offsetOf(operand, ["b", token, head])};\n  ${load}` };
}

/** Rows of [B, T, H, D] from token `start` on in workgroup memory; rows past the end repeat the last and are not read. */
function tile(name: string, operand: WgslOperand, token: string, head: string, tileRows: number) {
  const [, tokens, , size] = operand.shape as [number, number, number, number];
  const n4 = count4(size);
  const at = (d: string): string => elementOf(operand, `${name}At`, d);
  const lane = (l: number): string =>
    size % 4 === 0 ? at(`d + ${l}u`) : `select(0.0, ${at(`min(d + ${l}u, ${size - 1}u)`)}, d + ${l}u < ${size}u)`;
  return {
    declaration: `var<workgroup> ${name}Tile: array<vec4<f32>, ${tileRows * n4}>;\n`,
    load: `for (var n = thread; n < ${tileRows * n4}u; n += ${rows}u) {
      let ${token} = min(start + n / ${n4}u, ${tokens - 1}u);
      let d = n % ${n4}u * 4u;
      let ${name}At = ${offsetOf(operand, ["b", token, head])};
      ${name}Tile[n] = vec4<f32>(${[0, 1, 2, 3].map(lane).join(", ")});
    }`,
    at: Array.from({ length: n4 }, (_, n) => `${name}Tile[c * ${n4}u + ${n}u]`),
  };
}

/** A row of sums in registers. */
function zeros(name: string, size: number) {
  const names = Array.from({ length: count4(size) }, (_, n) => `${name}${n}`);
  return {
    names,
    declaration: names.map((x) => `var ${x} = vec4<f32>();`).join(" "),
    add: (factor: string, values: readonly string[]): string =>
      names.map((x, n) => `${x} += ${factor} * ${values[n]};`).join(" "),
  };
}

const dot = (x: readonly string[], y: readonly string[]): string =>
  `(${x.map((name, n) => `dot(${name}, ${y[n]})`).join(" + ")})`;

/** Writes a row of registers, times a factor. */
function store(operand: WgslOperand, base: string, size: number, names: readonly string[], factor: string): string {
  const lanes = Array.from(
    { length: size },
    (_, d) => `${elementOf(operand, "storeAt", `${d}u`)} = value${d >> 2}[${d & 3}];`,
  );
  const values = names.map((x, n) => `let value${n} = ${x} * ${factor};`);
  return `{ let storeAt = ${base};\n      ${values.join(" ")}\n      ${lanes.join("\n      ")} }`;
}
