// moe/groupedTiles.ts: a grouped product on GPUs: tiles staged in workgroup memory, a block of the tile in the registers of
// each thread; the next tile is fetched into registers while the present one is multiplied.
import type { WebGpuFusedKernel } from "@mc/tensor";
import type { GroupedProblem, ProblemOperand } from "./groupedProblem.ts";

/** A workgroup computes `rows` x `columns` entries in steps of `depth` along k, a thread `threadRows` x `threadColumns`. */
export interface GroupedTile {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  /** Multiples of four. */
  readonly threadRows: number;
  readonly threadColumns: number;
}

/** By the number of rows that a group has on average: tiles much taller than groups would be empty for the most part. */
export function chooseTile({ typicalRows }: GroupedProblem): GroupedTile {
  if (typicalRows >= 256) return { rows: 128, columns: 64, depth: 16, threadRows: 8, threadColumns: 8 };
  if (typicalRows >= 48) return { rows: 64, columns: 64, depth: 16, threadRows: 8, threadColumns: 4 };
  return { rows: 32, columns: 64, depth: 16, threadRows: 4, threadColumns: 4 };
}

const maxWorkgroups = 65535;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** The kernel of a grouped product. */
export function groupedTiles(problem: GroupedProblem, tile = chooseTile(problem)): WebGpuFusedKernel {
  const { entry, columns } = problem;
  const across = Math.ceil(columns / tile.columns);
  const tiles = problem.rowTiles(tile.rows) * across;
  const width = Math.min(tiles, maxWorkgroups);
  const threadsAcross = tile.columns / tile.threadColumns;
  const threads = threadsAcross * (tile.rows / tile.threadRows);
  return {
    variant: "tiles",
    passes: [{ entry, workgroups: [width, Math.ceil(tiles / width), 1] }],
    wgsl: (inputs, [output]) => {
      const text = problem.text(inputs, output!, tile.rows);
      const { depth } = tile;
      const guardK = problem.inner === undefined || problem.inner % depth !== 0;
      const a = side("a", text.a, tile.rows, tile.threadRows, "down", "row", "rowEnd - 1u");
      const b = side("b", text.b, tile.columns, tile.threadColumns, "along", "column", `${columns - 1}u`);
      const fetches = [...a.fetch(depth, threads, guardK), ...b.fetch(depth, threads, guardK)];
      const put = [...a.put(depth, threads), ...b.put(depth, threads)];
      const rowsOf = range(tile.threadRows);
      const quads = range(tile.threadColumns / 4);
      return `
var<workgroup> aTile: array<vec4<f32>, ${depth * a.pitch}>;
var<workgroup> bTile: array<vec4<f32>, ${depth * b.pitch}>;
@compute @workgroup_size(${threads})
fn ${entry}(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let tile = workgroup.x + workgroup.y * ${width}u;
  if (tile >= ${tiles}u) { return; }
  let rowTile = tile / ${across}u;
  let column = tile % ${across}u * ${tile.columns}u;
  ${text.place}
  if (row >= rowEnd) { return; }
  let aBase = ${text.a.base};
  let bBase = ${text.b.base};
  let down = thread / ${threadsAcross}u;
  let along = thread % ${threadsAcross}u;
  ${rowsOf.flatMap((i) => quads.map((j) => `var sum${i}_${j} = vec4<f32>();`)).join(" ")}
  ${fetches.map(({ name }) => `var ${name} = vec4<f32>();`).join(" ")}
  // in each turn: fetch a tile, multiply the one before it, put the fetched one in its place
  for (var fetchAt = kStart; fetchAt < kEnd + ${depth}u; fetchAt += ${depth}u) {
    if (fetchAt < kEnd) {
      ${fetches.map(({ name, value }) => `${name} = ${value};`).join("\n      ")}
    }
    if (fetchAt > kStart) {
      for (var d = 0u; d < ${depth}u; d++) {
        ${a.read.join(" ")}
        ${b.read.join(" ")}
        ${rowsOf.flatMap((i) => quads.map((j) => `sum${i}_${j} += a${i >> 2}[${i & 3}] * b${j};`)).join("\n        ")}
      }
    }
    workgroupBarrier();
    ${put.join("\n    ")}
    workgroupBarrier();
  }
  ${rowsOf
    .map((i) => {
      const at = `row + down * 4u + ${(i >> 2) * (tile.rows / (tile.threadRows / 4)) + (i & 3)}u`;
      const stores = quads.flatMap((j) =>
        range(4).map((lane) => {
          const to = `column + along * 4u + ${j * (tile.columns / quads.length) + lane}u`;
          return `if (${to} < ${columns}u) { ${text.c("cRow", to)} = sum${i}_${j}[${lane}]; }`;
        }),
      );
      return `{
    let cRow = ${at};
    if (cRow < rowEnd) {
      ${stores.join("\n      ")}
    }
  }`;
    })
    .join("\n  ")}
}`;
    },
  };
}

/**
 * One operand's tile: `depth` lines of `size` entries (rows of A or columns of B) in vec4s. A thread's entries are quads that
 * lie `size / quads` apart, so that neighbouring threads read neighbouring vec4s.
 */
function side(
  name: string,
  { name: buffer, line, k }: ProblemOperand,
  size: number,
  perThread: number,
  place: string,
  first: string,
  last: string,
) {
  const width = size / 4;
  const pitch = width + 1; // one of padding keeps lines out of one memory bank
  // the threads of a workgroup read along the axis whose entries are neighbours
  const slot = (i: number, depth: number, threads: number): { quad: string; d: string } => {
    const n = `(thread + ${i * threads}u)`;
    return k === 1
      ? { quad: `${n} / ${depth}u`, d: `${n} % ${depth}u` }
      : { quad: `${n} % ${width}u`, d: `${n} / ${width}u` };
  };
  const slots = (depth: number, threads: number): number[] => range((depth * width) / threads);
  return {
    pitch,
    fetch: (depth: number, threads: number, guardK: boolean) =>
      slots(depth, threads).map((i) => {
        const { quad, d } = slot(i, depth, threads);
        const at = `fetchAt + ${d}`;
        const lanes = range(4).map((lane) => {
          const entry = `min(${first} + ${quad} * 4u + ${lane}u, ${last})`;
          const value = `${buffer}[${name}Base + ${entry} * ${line >>> 0}u + ${guardK ? `min(${at}, kEnd - 1u)` : `(${at})`} * ${k >>> 0}u]`;
          return guardK ? `select(0.0, ${value}, ${at} < kEnd)` : value;
        });
        return { name: `${name}Next${i}`, value: `vec4<f32>(${lanes.join(", ")})` };
      }),
    put: (depth: number, threads: number): string[] =>
      slots(depth, threads).map((i) => {
        const { quad, d } = slot(i, depth, threads);
        return `${name}Tile[${d} * ${pitch}u + ${quad}] = ${name}Next${i};`;
      }),
    read: range(perThread / 4).map(
      (q) => `let ${name}${q} = ${name}Tile[d * ${pitch}u + ${place} + ${(q * width) / (perThread / 4)}u];`,
    ),
  };
}
