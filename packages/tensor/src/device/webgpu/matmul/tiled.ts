// device/webgpu/matmul/tiled.ts: tiles staged in workgroup memory, a block of the tile in the registers of each thread.
// The next tile is fetched into registers while the present one is multiplied.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { unravel } from "../body.ts";
import { accessOf, bindingCode, moduleCode, type Program } from "../program.ts";
import { finishCode } from "./finish.ts";
import { baseLine, sidesOf } from "./operand.ts";
import { addPass, partialCode } from "./split.ts";
import {
  depth,
  depthFours,
  fetchLines,
  prepareLines,
  registers,
  type Stage,
  stageBytes,
  stageOf,
  storeLines,
} from "./stage.ts";
import {
  addLines,
  edgesOf,
  finishLines,
  outsideText,
  placeLines,
  range,
  strideOf,
  sumLines,
  type Tile,
  threadsOf,
  walk,
  walkDeclarations,
} from "./tile.ts";

/** Workgroup memory of a tile, at most. */
export const tiledBytes = ({ rows, columns }: Tile): number => stageBytes(rows) + stageBytes(columns);

/**
 * A tiled product. With `slices` over one, k is cut into about that many parts, whose partial products go to scratch memory;
 * a second pass adds them in order and finishes.
 */
export function emitTiledMatmul(kernel: MatmulKernel, tile: Tile, slices = 1): Omit<Program, "variant"> {
  const { label, batch, k, bindings } = kernel;
  const threads = threadsOf(tile);
  const sides = sidesOf(kernel);
  const rounds = Math.ceil(Math.ceil(k / slices) / depth);
  const parts = Math.ceil(k / (rounds * depth));
  const edges = edgesOf(kernel, tile, parts > 1);
  const outside = outsideText(kernel, edges);
  const a = stageOf(sides.a, tile.rows, edges.rows, threads);
  const b = stageOf(sides.b, tile.columns, edges.columns, threads);
  const batches = sizeOf(batch);

  const add = parts > 1 ? addPass(kernel, sides.vec4, parts, bindings.length) : undefined;
  const finish = add ? partialCode(kernel, add.vec4, outside) : finishCode(kernel, sides.vec4, outside);
  const { vec4 } = finish;

  const { workgroups, lines } = walk(kernel, tile, edges, parts);
  const body = { line: (text: string) => void lines.push(text) };
  const coordinates = unravel(batch, add ? `entry % ${batches}u` : "entry", "z", body);
  lines.push(baseLine(sides.a, coordinates), baseLine(sides.b, coordinates), ...placeLines(tile));
  lines.push(...prepareLines(a), ...prepareLines(b), ...sumLines(tile));
  const next = registers([a, b]);
  body.line(next.declare);

  const fetch = (end?: string): string[] => [a, b].flatMap((s) => fetchLines(s, vec4, next.name(s), end));
  const first = add ? `entry / ${batches}u * ${rounds * depth}u` : "0u";
  // each round fetches its tile, multiplies the one before while the data is on its way, then stages it
  body.line(`for (var round = 0u; round <= ${rounds}u; round++) {`);
  body.line(`  if (round < ${rounds}u) {`);
  body.line(`    let k0 = ${first} + round * ${depth}u;`);
  const ragged = k % (rounds * depth) !== 0;
  if (ragged) body.line(`    if (k0 + ${depth}u <= ${k}u) {`);
  for (const line of fetch()) body.line(`    ${line}`);
  if (ragged) {
    body.line("    } else {");
    for (const line of fetch(`${k}u`)) body.line(`    ${line}`);
    body.line("    }");
  }
  body.line("  }");
  body.line("  if (round > 0u) {");
  body.line(`    for (var q = 0u; q < ${depthFours}u; q++) {`);
  for (const line of multiplyLines(tile, a, b)) body.line(`      ${line}`);
  body.line("    }");
  body.line("  }");
  body.line("  workgroupBarrier();");
  for (const s of [a, b]) for (const line of storeLines(s, next.name(s))) body.line(`  ${line}`);
  body.line("  workgroupBarrier();");
  body.line("}");
  for (const line of finishLines(tile)) body.line(line);

  const shared = [a, b]
    .map((s) => `var<workgroup> tile${s.side.name}: array<vec4<f32>, ${s.four * depthFours}>;\n`)
    .join("");
  const main = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${lines.map((line) => `  ${line}\n`).join("")}}
`;
  return {
    label,
    code: moduleCode(
      bindingCode(bindings, vec4) + (add?.declaration ?? "") + walkDeclarations(edges) + shared,
      finish.code + main + (add?.code ?? ""),
    ),
    passes: [{ entry: "main", workgroups }, ...(add ? [add.pass] : [])],
    access: [...accessOf(bindings), ...(add ? (["write"] as const) : [])],
    scratch: add ? [add.elements] : [],
  };
}

/** c += A[rows, 4q..4q+3] B[4q..4q+3, columns]: four rows, or columns, of a block are neighbours in the tile. */
function multiplyLines(tile: Tile, a: Stage, b: Stage): string[] {
  const stride = strideOf(tile);
  const load = ({ side: { name }, width, four }: Stage, perThread: number, place: string, apart: number, t: number) =>
    range(perThread / 4).map(
      (i) => `let ${name}${t}_${i} = tile${name}[q * ${four}u + ${t * width + i * apart}u + ${place}];`,
    );
  return range(4).flatMap((t) => [
    ...load(a, tile.threadRows, "ty", stride.rows, t),
    ...load(b, tile.threadColumns, "tx", stride.columns, t),
    ...addLines(
      tile,
      (i) => `A${t}_${i >> 2}.${"xyzw"[i % 4]}`,
      (j) => `B${t}_${j}`,
    ),
  ]);
}
