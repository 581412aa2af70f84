// device/webgpu/matmul/tensorCore.ts: products on a matrix unit: operands in f16, staged in workgroup memory, a block of the
// tile for each subgroup, sums in f32. The next tile is fetched into registers while the present one is multiplied.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { unravel } from "../body.ts";
import { accessOf, bindingCode, grid, moduleCode, type Program, workgroupNumber } from "../program.ts";
import { beyond, finishCode } from "./finish.ts";
import { type BlockStep, type Dialect, dialectOf, type MatrixMemory, type MatrixUnit } from "./matrixUnit.ts";
import { baseLine, loadFunction, type Side, sidesOf } from "./operand.ts";
import { addPass, partialCode } from "./split.ts";
import { packing } from "./tensorPack.ts";
import {
  declareNext,
  fetchLines,
  matrixOffset,
  placeLines,
  type Staged,
  stagedSide,
  stageLines,
  tileBytes,
  tileDeclaration,
} from "./tensorStage.ts";

/** A workgroup computes `rows` x `columns` elements in steps of `depth` along k; its subgroups form a grid over the tile. */
export interface TensorTile {
  readonly rows: number;
  readonly columns: number;
  /** A multiple of eight and of the unit's k. */
  readonly depth: number;
  /** Subgroups down and across. Each has a block of the tile, whose sides are multiples of eight and of the unit's. */
  readonly down: number;
  readonly across: number;
  /** Tile rows that neighbouring workgroups walk together, so that they share what they read in the cache. */
  readonly band: number;
}

/** How a product runs on a matrix unit. */
export interface TensorPlan {
  readonly tile: TensorTile;
  /** Parts that k is cut into, for products of few tiles; a second pass adds their partial products in order. */
  readonly slices: number;
  /** Sides that a pass before rounds and lays out in tiles; others are rounded on the way in. */
  readonly packed: readonly ("A" | "B")[];
}

/** "128x128x32 2x2 band 8, 2 slices, packed A B": what tells one plan from another. */
export function planText({ tile, slices, packed }: TensorPlan): string {
  const { rows, columns, depth, down, across, band } = tile;
  const more = [slices > 1 ? `${slices} slices` : "", packed.length > 0 ? `packed ${packed.join(" ")}` : ""];
  return [`${rows}x${columns}x${depth} ${down}x${across} band ${band}`, ...more].filter(Boolean).join(", ");
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Workgroup memory that a tile takes at most: both sides, and what products leave the unit through. */
export const workgroupBytesOf = (unit: MatrixUnit, tile: TensorTile): number =>
  tileBytes(tile.rows + tile.columns, tile.depth) +
  16 * unit.m * bounceMemory(unit, tile).pitch * tile.down * tile.across;

/** A product on a matrix unit. */
export function emitTensorMatmul(kernel: MatmulKernel, unit: MatrixUnit, plan: TensorPlan): Omit<Program, "variant"> {
  const { label, batch, m, n, k, bindings } = kernel;
  const { tile, slices } = plan;
  const { rows, columns, depth, down, across } = tile;
  const dialect = dialectOf(unit);
  const threads = down * across * unit.subgroupSize;
  const batches = sizeOf(batch);
  const each = Math.ceil(Math.ceil(k / depth) / slices);
  const steps = { each, total: each * slices };
  const sides = sidesOf(kernel);
  const stage = (side: Side, size: number, panels: number): Staged =>
    stagedSide(side, size, panels, depth, steps, plan.packed.includes(side.name), dialect.unrolls);
  const a = stage(sides.a, rows, down);
  const b = stage(sides.b, columns, across);
  const tiles = a.tiles * b.tiles;
  const { workgroups, width } = grid(label, tiles * batches * slices);
  const outside = m % rows === 0 && n % columns === 0 ? "" : beyond(kernel);
  const packs = packing(kernel, [a, b], steps, bindings.length);
  const adds = slices > 1 ? addPass(kernel, sides.vec4, slices, bindings.length + (packs ? 1 : 0)) : undefined;
  const finish = adds ? partialCode(kernel, adds.vec4, outside) : finishCode(kernel, sides.vec4, outside);
  const blocks = { down: rows / down / unit.m, across: columns / across / unit.n };

  const lines: string[] = [];
  const body = { line: (text: string) => void lines.push(text) };
  body.line(`let group = ${workgroupNumber("workgroup", width, workgroups[1])};`);
  if (slices > 1) body.line(`let slice = group / ${tiles * batches}u;`);
  body.line(`let z = group / ${tiles}u${slices > 1 ? ` % ${batches}u` : ""};`);
  body.line(`let tile = group % ${tiles}u;`);
  // tiles in bands of rows, column by column within a band
  body.line(`let bandRow = tile / ${tile.band * b.tiles}u * ${tile.band}u;`);
  body.line(`let bandRows = min(${tile.band}u, ${a.tiles}u - bandRow);`);
  body.line(`let inBand = tile % ${tile.band * b.tiles}u;`);
  body.line(`let ${a.place} = bandRow + inBand % bandRows;`);
  body.line(`let ${b.place} = inBand / bandRows;`);
  if (kernel.symmetric) body.line(`if (${a.place} * ${rows}u >= (${b.place} + 1u) * ${columns}u) { return; }`);
  body.line(dialect.subgroup(down * across));
  body.line(`let ${a.memory.index} = subgroup / ${across}u;`);
  body.line(`let ${b.memory.index} = subgroup % ${across}u;`);
  const coordinates = unravel(batch, "z", "z", body);
  for (const s of [a, b]) body.line(s.packed ? packs!.baseLine(s, coordinates) : baseLine(s.side, coordinates));
  for (const s of [a, b]) body.line(declareNext(s, threads));
  for (const s of [a, b]) for (const line of placeLines(s, threads)) body.line(line);
  for (const line of dialect.zero(blocks.down * blocks.across)) body.line(line);

  const fetch = (step: string): string[] => [a, b].flatMap((s) => fetchLines(s, threads, step));
  body.line(`let first = ${slices > 1 ? `slice * ${each}u` : "0u"};`);
  for (const line of fetch("first")) body.line(line);
  body.line(`for (var step = 0u; step < ${each}u; step++) {`);
  body.line("  workgroupBarrier();");
  for (const s of [a, b]) for (const line of stageLines(s, threads)) body.line(`  ${line}`);
  body.line("  workgroupBarrier();");
  body.line(`  if (step + 1u < ${each}u) {`);
  for (const line of fetch("(first + step + 1u)")) body.line(`    ${line}`);
  body.line("  }");
  const products = dialect.multiplyAdd(a.memory, b.memory, blockSteps(unit, a, b, blocks));
  for (const line of products) body.line(`  ${line}`);
  body.line("}");
  body.line(`let entry = ${slices > 1 ? `slice * ${batches}u + z` : "z"};`);
  const bounce = bounceMemory(unit, tile);
  for (const line of finishLines(dialect, unit, tile, bounce, blocks, threads, kernel.symmetric)) body.line(line);

  const declarations = [
    bindingCode(bindings, finish.vec4),
    packs?.declaration ?? "",
    adds?.declaration ?? "",
    tileDeclaration(a),
    tileDeclaration(b),
    `var<workgroup> bounce: array<array<vec4<f32>, ${unit.m * bounce.pitch}>, ${down * across}>;\n`,
  ].join("");
  const loads = [a, b]
    .filter((s) => !s.eights || s.packed)
    .map((s) => loadFunction(s.side, finish.vec4, s.outerEdge, s.kEdge))
    .join("");
  const functions = `${loads}${finish.code}${dialect.functions(a.memory, b.memory, bounce, blocks.down * blocks.across)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32${dialect.parameters}) {
${lines.map((line) => `  ${line}\n`).join("")}}
${packs?.code ?? ""}${adds?.code ?? ""}`;
  const scratch = [packs, adds].flatMap((pass) => (pass ? [pass.elements] : []));
  return {
    label,
    code: dialect.directives + moduleCode(declarations, functions),
    passes: [...(packs ? [packs.pass] : []), { entry: "main", workgroups }, ...(adds ? [adds.pass] : [])],
    access: [...accessOf(bindings), ...scratch.map(() => "write" as const)],
    scratch,
  };
}

/** Matrices in a subgroup's block. */
interface Blocks {
  readonly down: number;
  readonly across: number;
}

/** Where the matrices of a subgroup's block lie in the staged tiles, step by step along k. */
const blockSteps = ({ m, n, k }: MatrixUnit, a: Staged, b: Staged, { down, across }: Blocks): BlockStep[] =>
  range(a.depth / k).map((q) => ({
    left: range(down).map((i) => matrixOffset(a, m, k, i, q)),
    right: range(across).map((j) => matrixOffset(b, n, k, j, q)),
  }));

/** Most columns of a product that a subgroup stores at a time on the way to the kernel's stores: 128 bytes. */
const bounceColumns = 32;
/** Most workgroup memory for that. */
const bounceBytes = 16384;

/** Where products leave the unit: some columns of one row of matrices for each subgroup. */
function bounceMemory({ m }: MatrixUnit, { columns, down, across }: TensorTile): MatrixMemory {
  const fit = bounceBytes / (4 * m * down * across);
  return { name: "bounce", index: "subgroup", pitch: Math.min(columns / across, bounceColumns, fit) / 4, line: "row" };
}

/**
 * The blocks of all subgroups, a few matrices of each at a time through workgroup memory: so the stores, whatever they do,
 * are written once in the code, and neighbouring threads store neighbouring columns.
 */
function finishLines(
  dialect: Dialect,
  unit: MatrixUnit,
  { rows, columns, down, across }: TensorTile,
  bounce: MatrixMemory,
  blocks: Blocks,
  threads: number,
  symmetric: boolean,
): string[] {
  const fours = bounce.pitch;
  const parts = columns / across / (4 * fours);
  const perRound = (4 * fours) / unit.n;
  const rounds = range(blocks.down * parts).map((round) => range(perRound).map((j) => round * perRound + j));
  // a thread stores four columns of one row, or, where blocks are mirrored, of four rows
  const tall = symmetric ? 4 : 1;
  const perSubgroup = (unit.m / tall) * fours;
  const total = down * across * perSubgroup;
  const line = (i: number): string =>
    `bounce[owner][(inside / ${fours}u * 4u + ${i}u) * ${fours}u + inside % ${fours}u]`;
  const ending = symmetric
    ? `finishBlock(entry, row, column, mat4x4<f32>(${[0, 1, 2, 3].map(line).join(", ")}));`
    : "finish4(entry, row, column, bounce[owner][inside]);";
  const store = `let row = tileRow * ${rows}u + owner / ${across}u * ${rows / down}u + round / ${parts}u * ${unit.m}u + inside / ${fours}u * ${tall}u;
    let column = tileColumn * ${columns}u + owner % ${across}u * ${columns / across}u + round % ${parts}u * ${4 * fours}u + inside % ${fours}u * 4u;
    ${ending}`;
  return [
    `for (var round = 0u; round < ${rounds.length}u; round++) {`,
    "  workgroupBarrier();",
    ...dialect.store(bounce, rounds).map((line) => `  ${line}`),
    "  workgroupBarrier();",
    `  for (var i = 0u; i < ${Math.ceil(total / threads)}u; i++) {`,
    `    let at = local + i * ${threads}u;`,
    `    let owner = at / ${perSubgroup}u;`,
    `    let inside = at % ${perSubgroup}u;`,
    ...(total % threads === 0 ? [`    ${store}`] : [`    if (at < ${total}u) { ${store} }`]),
    "  }",
    "}",
  ];
}
