// device/webgpu/matmul/tiled.ts: tiles staged in workgroup memory, a block of the tile in the registers of each thread.
// The next tile is fetched into registers while the present one is multiplied.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { unravel } from "../body.ts";
import { accessOf, bindingCode, grid, moduleCode, type Pass, type Program, workgroupNumber } from "../program.ts";
import { finishCode, partialCode, storesFunction } from "./finish.ts";
import { baseLine, loadFunction, type Side, sidesOf } from "./operand.ts";

/** A workgroup computes `rows` x `columns` elements in steps of `depth` along k, a thread `threadRows` x `threadColumns`. */
export interface Tile {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  /** Multiples of four. */
  readonly threadRows: number;
  readonly threadColumns: number;
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const component = (i: number): string => "xyzw"[i % 4]!;

/** Tile rows that neighbouring workgroups walk together, so that they share what they read in the cache. */
const band = 8;

/** A tile of one side in workgroup memory, filled and read in vec4s. */
interface Staged {
  readonly side: Side;
  /** Rows of A or columns of B in the tile, and in a thread's block. */
  readonly size: number;
  readonly perThread: number;
  /** Threads along this dimension, and the text of this thread's place among them. */
  readonly across: number;
  readonly place: string;
  /** vec4s from one line of the tile to the next; a line is a row of k's (along k) or a k of rows (along outer). */
  readonly pitch: number;
  /** vec4s in the tile. */
  readonly length: number;
  /** vec4s in a line without padding. */
  readonly width: number;
}

function stage(side: Side, size: number, perThread: number, place: string, depth: number): Staged {
  const alongK = side.along === "k";
  const width = (alongK ? depth : size) / 4;
  // one vec4 of padding keeps neighbouring rows out of one memory bank
  const pitch = alongK ? width + 1 : width;
  return {
    side,
    size,
    perThread,
    across: size / perThread,
    place,
    pitch,
    width,
    length: pitch * (alongK ? size : depth),
  };
}

/**
 * A tiled product. With `slices` over one, k is cut into that many parts, whose partial products go to scratch memory; a
 * second pass adds them in order and finishes.
 */
export function emitTiledMatmul(kernel: MatmulKernel, tile: Tile, slices = 1): Omit<Program, "variant"> {
  const { label, batch, m, n, k, bindings } = kernel;
  const { rows, columns, depth, threadRows, threadColumns } = tile;
  const nx = columns / threadColumns;
  const threads = nx * (rows / threadRows);
  const sides = sidesOf(kernel);
  const a = stage(sides.a, rows, threadRows, "ty", depth);
  const b = stage(sides.b, columns, threadColumns, "tx", depth);
  const tileRows = Math.ceil(m / rows);
  const tileColumns = Math.ceil(n / columns);
  const tiles = tileRows * tileColumns;
  const batches = sizeOf(batch);
  const sliceDepth = Math.ceil(Math.ceil(k / slices) / depth) * depth;
  const { workgroups, width } = grid(label, tiles * batches * slices);
  const whole = m % rows === 0 && n % columns === 0;
  const finish = slices === 1 ? finishCode(kernel, sides.vec4, whole) : partialCode(kernel, sides.vec4, whole);

  const lines: string[] = [];
  const body = { line: (text: string) => void lines.push(text) };
  body.line(`let group = ${workgroupNumber("workgroup", width, workgroups[1])};`);
  if (slices > 1) body.line(`let slice = group / ${tiles * batches}u;`);
  body.line(`let z = group / ${tiles}u${slices > 1 ? ` % ${batches}u` : ""};`);
  body.line(`let tile = group % ${tiles}u;`);
  // tiles in bands of `band` rows, column by column within a band
  body.line(`let bandRow = tile / ${band * tileColumns}u * ${band}u;`);
  body.line(`let bandRows = min(${band}u, ${tileRows}u - bandRow);`);
  body.line(`let inBand = tile % ${band * tileColumns}u;`);
  body.line(`let row0 = (bandRow + inBand % bandRows) * ${rows}u;`);
  body.line(`let column0 = inBand / bandRows * ${columns}u;`);
  if (kernel.symmetric) body.line(`if (row0 >= column0 + ${columns}u) { return; }`);
  body.line(`let tx = local % ${nx}u;`);
  body.line(`let ty = local / ${nx}u;`);
  const coordinates = unravel(batch, "z", "z", body);
  for (const { side } of [a, b]) body.line(baseLine(side, coordinates));
  for (const i of range(threadRows))
    for (const j of range(threadColumns / 4)) body.line(`var c${i}_${j} = vec4<f32>();`);

  const from = slices > 1 ? `slice * ${sliceDepth}u` : "0u";
  const end = slices > 1 ? "kEnd" : `${k}u`;
  if (slices > 1) body.line(`let kEnd = min(${from} + ${sliceDepth}u, ${k}u);`);
  for (const s of [a, b]) body.line(declareNext(s, shares(s, threads, depth)));
  // each round fetches its tile, multiplies the one before while the data is on its way, then stages it
  body.line(`for (var k0 = ${from}; k0 < ${end} + ${depth}u; k0 += ${depth}u) {`);
  body.line(`  if (k0 < ${end}) {`);
  for (const s of [a, b]) for (const line of fetchLines(s, threads, depth)) body.line(`    ${line}`);
  body.line("  }");
  body.line(`  if (k0 > ${from}) {`);
  body.line(`    for (var q = 0u; q < ${depth / 4}u; q++) {`);
  for (const line of multiplyLines(a, b)) body.line(`      ${line}`);
  body.line("    }");
  body.line("  }");
  body.line("  workgroupBarrier();");
  for (const s of [a, b]) for (const line of stageLines(s, threads, depth)) body.line(`  ${line}`);
  body.line("  workgroupBarrier();");
  body.line("}");
  body.line(`let entry = ${slices > 1 ? `slice * ${batches}u + z` : "z"};`);
  for (const line of finishLines(a, b, threads)) body.line(line);

  const kEdge = k % depth !== 0;
  const edges = { a: m % rows !== 0, b: n % columns !== 0 };
  const shared = [a, b].map((s) => `var<workgroup> tile${s.side.name}: array<vec4<f32>, ${s.length}>;\n`).join("");
  const functions = `${loadFunction(sides.a, finish.vec4, edges.a, kEdge)}${loadFunction(sides.b, finish.vec4, edges.b, kEdge)}${finish.code}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${lines.map((line) => `  ${line}\n`).join("")}}
`;
  const passes: Pass[] = [{ entry: "main", workgroups }];
  if (slices === 1) {
    return {
      label,
      code: moduleCode(bindingCode(bindings, finish.vec4) + shared, functions),
      passes,
      access: accessOf(bindings),
      scratch: [],
    };
  }
  const add = addPass(kernel, sides.vec4, slices, bindings.length);
  return {
    label,
    code: moduleCode(bindingCode(bindings, finish.vec4) + add.declaration + shared, functions + add.code),
    passes: [...passes, add.pass],
    access: [...accessOf(bindings), "write"],
    scratch: [add.elements],
  };
}

/** Registers for this thread's share of the next tile. */
const declareNext = ({ side: { name, aligned } }: Staged, count: number): string =>
  aligned
    ? range(count)
        .map((i) => `var next${name}${i} = vec4<f32>();`)
        .join(" ")
    : `var next${name}: array<vec4<f32>, ${count}>;`;

/** One statement for each vec4 of this thread's share; guarded loads are long, so those are a loop. */
function eachShare(
  s: Staged,
  threads: number,
  depth: number,
  statement: (item: string, next: string) => string,
): string[] {
  const count = shares(s, threads, depth);
  const { name, aligned } = s.side;
  if (aligned) return range(count).map((i) => statement(`(local + ${i * threads}u)`, `next${name}${i}`));
  return [`for (var i = 0u; i < ${count}u; i++) { ${statement(`(local + i * ${threads}u)`, `next${name}[i]`)} }`];
}

/** Loads this thread's share of the tile that begins at k0 into registers. */
function fetchLines(s: Staged, threads: number, depth: number): string[] {
  const { name, along } = s.side;
  const corner = name === "A" ? "row0" : "column0";
  return eachShare(s, threads, depth, (item, next) => {
    const line = `${item} / ${s.width}u`;
    const four = `${item} % ${s.width}u * 4u`;
    const [outer, inner] = along === "k" ? [line, four] : [four, line];
    return `${next} = load${name}(base${name}, ${corner} + ${outer}, k0 + ${inner});`;
  });
}

/** Moves the registers into the tile. */
const stageLines = (s: Staged, threads: number, depth: number): string[] =>
  eachShare(s, threads, depth, (item, next) => {
    const at =
      s.side.along === "k" ? `${slotText(s, `${item} / ${s.width}u`)} * ${s.pitch}u + ${item} % ${s.width}u` : item;
    return `tile${s.side.name}[${at}] = ${next};`;
  });

/**
 * Where line `line` of a tile along k lies. A thread's block holds fours of neighbours; lying next to each other in the tile
 * are those that neighbouring threads read at the same time.
 */
function slotText({ across }: Staged, line: string): string {
  const four = `(${line}) % ${4 * across}u`;
  return `((${line}) / ${4 * across}u * ${4 * across}u + ${four} % 4u * ${across}u + ${four} / 4u)`;
}

/** vec4s that each thread moves; tiles are chosen so that this is whole. */
const shares = (s: Staged, threads: number, depth: number): number => (s.size * depth) / 4 / threads;

/** c += A[rows, 4q..4q+3] B[4q..4q+3, columns] from the tiles. */
function multiplyLines(a: Staged, b: Staged): string[] {
  const lines: string[] = [];
  for (const s of [a, b]) {
    const { side, perThread, across, place, pitch } = s;
    const v = side.name.toLowerCase();
    if (side.along === "k") {
      for (const i of range(perThread))
        lines.push(`let ${v}k${i} = tile${side.name}[(${place} + ${i * across}u) * ${pitch}u + q];`);
    } else {
      for (const t of range(4)) {
        for (const i of range(perThread / 4))
          lines.push(`let ${v}${t}_${i} = tile${side.name}[(q * 4u + ${t}u) * ${pitch}u + ${place} + ${i * across}u];`);
      }
    }
  }
  const left = (i: number, t: number): string =>
    a.side.along === "k" ? `ak${i}.${component(t)}` : `a${t}_${i >> 2}.${component(i)}`;
  const right = (j: number, t: number): string =>
    b.side.along === "outer"
      ? `b${t}_${j}`
      : `vec4<f32>(${range(4)
          .map((c) => `bk${4 * j + c}.${component(t)}`)
          .join(", ")})`;
  for (const t of range(4)) {
    for (const i of range(a.perThread))
      for (const j of range(b.perThread / 4)) lines.push(`c${i}_${j} += ${left(i, t)} * ${right(j, t)};`);
  }
  return lines;
}

/**
 * The blocks of all threads, one row of each at a time through tileA: so the stores, whatever they do, are written once in
 * the code, and neighbouring threads store neighbouring columns.
 */
function finishLines(a: Staged, b: Staged, threads: number): string[] {
  const width = b.size / 4;
  const cases = range(a.perThread).map((i) => {
    const moves = range(b.perThread / 4).map((j) => `tileA[ty * ${width}u + tx + ${j * b.across}u] = c${i}_${j};`);
    return `    case ${i}u: { ${moves.join(" ")} }`;
  });
  return [
    `for (var i = 0u; i < ${a.perThread}u; i++) {`,
    "  workgroupBarrier();",
    "  switch (i) {",
    ...cases,
    "    default: {}",
    "  }",
    "  workgroupBarrier();",
    `  for (var at = local; at < ${a.across * width}u; at += ${threads}u) {`,
    `    let row = row0 + at / ${width}u * 4u + i / 4u * ${4 * a.across}u + i % 4u;`,
    `    finish4(entry, row, column0 + at % ${width}u * 4u, tileA[at]);`,
    "  }",
    "}",
  ];
}

const addThreads = 64;

/** A second pass over partial products, and their scratch memory. */
export interface AddPass {
  readonly declaration: string;
  readonly code: string;
  readonly pass: Pass;
  /** f32 elements of the scratch buffer `partial`. */
  readonly elements: number;
}

/** The second pass: the sum over slices in order, then the kernel's stores. `binding`: number of the scratch buffer. */
export function addPass(kernel: MatmulKernel, vec4: ReadonlySet<number>, slices: number, binding: number): AddPass {
  const { label, batch, m, n } = kernel;
  const elements = sizeOf(batch) * m * n;
  const { workgroups, width } = grid(label, Math.ceil(elements / addThreads));
  return {
    declaration: `@group(0) @binding(${binding}) var<storage, read_write> partial: array<f32>;\n`,
    code: `${storesFunction("done", kernel, vec4, true)}
@compute @workgroup_size(${addThreads})
fn add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (${workgroupNumber("workgroup", width, workgroups[1])}) * ${addThreads}u + local;
  if (at >= ${elements}u) { return; }
  var value = 0.0f;
  for (var slice = 0u; slice < ${slices}u; slice++) { value += partial[slice * ${elements}u + at]; }
  done(at / ${m * n}u, at / ${n}u % ${m}u, at % ${n}u, value);
}
`,
    pass: { entry: "add", workgroups },
    elements: slices * elements,
  };
}
