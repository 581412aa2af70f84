// device/webgpu/matmul/tensorPack.ts: operands rounded to f16 before a product, in scratch memory, tile after tile in the
// order in which workgroups read them. The product then moves half the bytes, and knows neither edges nor alignment.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { unravel } from "../body.ts";
import { grid, type Pass, workgroupNumber } from "../program.ts";
import { baseLine } from "./operand.ts";
import { loadEight, rounded, type Staged, type Steps } from "./tensorStage.ts";

/** The pass that packs, and where packed tiles lie. */
export interface Packing {
  readonly declaration: string;
  readonly code: string;
  readonly pass: Pass;
  /** f32 elements of scratch memory, the buffer `packed`. */
  readonly elements: number;
  /** Statement that defines `base<name>` of a packed side: its first vec4 for the batch coordinates at hand. */
  baseLine(s: Staged, coordinates: readonly string[]): string;
}

const threads = 64;

/** One side's part of the scratch memory: [entries, tiles, steps, items] vec4s from `offset` on. */
interface Region {
  readonly staged: Staged;
  /** Batch dimensions along which the operand differs. */
  readonly dimensions: readonly number[];
  readonly length: number;
  readonly offset: number;
}

/** Packs the sides that are marked so; undefined if none is. `binding`: number of the scratch buffer. */
export function packing(
  { label, batch }: MatmulKernel,
  sides: readonly Staged[],
  steps: Steps,
  binding: number,
): Packing | undefined {
  const regions: Region[] = [];
  let end = 0;
  for (const staged of sides.filter((s) => s.packed)) {
    const dimensions = batch.flatMap((_, d) => (staged.side.batchStrides[d] === 0 ? [] : [d]));
    const length = sizeOf(dimensions.map((d) => batch[d]!)) * staged.tiles * steps.total * staged.items;
    const [twin] = regions.filter((r) => sameTiles(r.staged, staged));
    regions.push({ staged, dimensions, length, offset: twin ? twin.offset : end });
    if (!twin) end += length;
  }
  if (regions.length === 0) return undefined;
  const own = regions.filter((r, i) => regions.findIndex((other) => other.offset === r.offset) === i);
  const { workgroups, width } = grid(label, Math.ceil(end / threads));
  const calls = own.map(
    ({ staged, offset, length }) =>
      `  if (at >= ${offset}u && at < ${offset + length}u) { pack${staged.side.name}(at - ${offset}u); }\n`,
  );
  return {
    declaration: `@group(0) @binding(${binding}) var<storage, read_write> packed: array<vec4<u32>>;\n`,
    code: `${own.map((region) => packFunction(region, batch, steps)).join("")}
@compute @workgroup_size(${threads})
fn pack(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (${workgroupNumber("workgroup", width, workgroups[1])}) * ${threads}u + local;
${calls.join("")}}
`,
    pass: { entry: "pack", workgroups },
    elements: 4 * end,
    baseLine(s, coordinates) {
      const { dimensions, offset } = regions.find((r) => r.staged === s)!;
      const entry = dimensions.reduce((text, d) => (text ? `(${text}) * ${batch[d]}u + ` : "") + coordinates[d], "");
      const tile = entry ? `(${entry}) * ${s.tiles}u + ${s.place}` : s.place;
      return `let base${s.side.name} = ${offset}u + (${tile}) * ${steps.total * s.items}u;`;
    },
  };
}

/** Whether two sides read the same numbers in the same tiles, as in X X^T. */
function sameTiles(a: Staged, b: Staged): boolean {
  const of = ({ side, size }: Staged): string => {
    const { binding, offset, batchStrides, outer, outerStride, kStride } = side;
    return [size, binding, offset, ...batchStrides, outer, outerStride, kStride].join();
  };
  return of(a) === of(b);
}

/** `fn pack<name>(at)`: vec4 `at` of the side's region. */
function packFunction({ staged, dimensions, offset }: Region, batch: readonly number[], steps: Steps): string {
  const { side, items, tiles, place } = staged;
  const lines: string[] = [];
  const body = { line: (text: string) => void lines.push(text) };
  body.line(`let item = at % ${items}u;`);
  body.line(`let step = at / ${items}u % ${steps.total}u;`);
  body.line(`let ${place} = at / ${items * steps.total}u % ${tiles}u;`);
  body.line(`let entry = at / ${items * steps.total * tiles}u;`);
  const sizes = dimensions.map((d) => batch[d]!);
  const names = unravel(sizes, "entry", "z", body);
  body.line(
    baseLine(
      side,
      batch.map((_, d) => names[dimensions.indexOf(d)] ?? "0u"),
    ),
  );
  const [low, high] = loadEight(staged, "item", "step");
  body.line(`let low = ${low};`);
  body.line(`let high = ${high};`);
  body.line(`packed[${offset}u + at] = ${rounded("low", "high")};`);
  return `fn pack${side.name}(at: u32) {\n${lines.map((line) => `  ${line}\n`).join("")}}\n`;
}
