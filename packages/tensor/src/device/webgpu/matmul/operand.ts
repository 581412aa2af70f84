// device/webgpu/matmul/operand.ts: how a kernel reads one side of a product. A is rows x k, B is k x columns; both are seen
// here as `outer` x k, so that the four transpose modes are two: contiguous along k, or along the outer dimension.
import type { Binding, MatmulKernel } from "../../../compiler/kernel.ts";
import { elementText } from "../program.ts";

/** One side of a product, seen as outer x k. */
export interface Side {
  readonly name: "A" | "B";
  readonly binding: number;
  readonly stored: Binding;
  readonly offset: number;
  readonly batchStrides: readonly number[];
  readonly outer: number;
  readonly k: number;
  readonly outerStride: number;
  readonly kStride: number;
  /** The dimension along which four neighbours are loaded together. */
  readonly along: "k" | "outer";
  /** Whether the operand is stored in f16. */
  readonly half: boolean;
  /** Whether the four, or eight f16, may be loaded as one vec4: nothing is misaligned and no group is cut by an edge. */
  readonly aligned: boolean;
}

/** The sides of a product, and the bindings that can be declared as arrays of vec4. */
export function sidesOf(kernel: MatmulKernel): { a: Side; b: Side; vec4: Set<number> } {
  const { m, n, k, a, b, bindings } = kernel;
  const side = (name: "A" | "B", outer: number, outerStride: number, kStride: number): Side => {
    const { binding, offset, batchStrides } = name === "A" ? a : b;
    const along = kStride === 1 || outerStride !== 1 ? "k" : "outer";
    const unit = along === "k" ? kStride : outerStride;
    const other = along === "k" ? outerStride : kStride;
    const stored = bindings[binding]!;
    const half = stored.dtype === "f16";
    const group = half ? 8 : 4;
    const aligned =
      unit === 1 &&
      stored.access === "read" &&
      [along === "k" ? k : outer, other, offset, ...batchStrides].every((x) => x % group === 0);
    return { name, binding, stored, offset, batchStrides, outer, k, outerStride, kStride, along, half, aligned };
  };
  const sides = { a: side("A", m, a.rowStride, a.columnStride), b: side("B", n, b.columnStride, b.rowStride) };
  return { ...sides, vec4: new Set([sides.a, sides.b].filter((s) => s.aligned).map((s) => s.binding)) };
}

/** Text of one element of a side; `vec4`: the bindings that are declared so. */
export const sideText = ({ binding, stored }: Side, vec4: ReadonlySet<number>, at: string): string =>
  elementText(stored, binding, vec4.has(binding), at);

/** A distance as WGSL: arithmetic on u32 wraps, so that negative ones, of flipped operands, cost nothing. */
export const distance = (elements: number): string => `${elements >>> 0}u`;

const times = (text: string, by: number): string => (by === 1 ? text : `${text} * ${distance(by)}`);

/** Text of the position of element (outer, k) relative to the batch's base. */
export const positionText = ({ outerStride, kStride }: Side, outer: string, k: string): string =>
  [outerStride === 0 ? "" : times(outer, outerStride), kStride === 0 ? "" : times(k, kStride)]
    .filter(Boolean)
    .join(" + ") || "0u";

/** Statement that defines `base<name>`: where a batch entry begins, given the texts of the batch coordinates. */
export function baseLine({ name, offset, batchStrides }: Side, coordinates: readonly string[]): string {
  const parts = batchStrides.map((stride, i) => (stride === 0 ? "" : times(coordinates[i]!, stride))).filter(Boolean);
  return `let base${name} = ${[`${offset}u`, ...parts].join(" + ")};`;
}

/**
 * `fn load<name>(base, outer, k) -> vec4<f32>`: four neighbours from (outer, k) on, along the side's direction; zero outside
 * of the matrix. `outerEdge` and `kEdge` say whether positions may lie outside at all. Aligned sides in f16 are read without it.
 */
export function loadFunction(side: Side, vec4: ReadonlySet<number>, outerEdge: boolean, kEdge: boolean): string {
  const { name, binding, along, aligned } = side;
  const inside = (outer: string, k: string): string =>
    [outerEdge ? `${outer} < ${side.outer}u` : "", kEdge ? `${k} < ${side.k}u` : ""].filter(Boolean).join(" && ");
  const head = `fn load${name}(base: u32, outer: u32, k: u32) -> vec4<f32> {\n`;
  // no branches: outside, element 0 is read and dropped
  const guarded = (read: (index: string) => string, index: string, condition: string, zero: string): string =>
    condition ? `select(${zero}, ${read(`select(0u, ${index}, ${condition})`)}, ${condition})` : read(index);
  if (aligned) {
    const index = `(base + ${positionText(side, "outer", "k")}) >> 2u`;
    return `${head}  return ${guarded((at) => `b${binding}[${at}]`, index, inside("outer", "k"), "vec4<f32>()")};\n}\n`;
  }
  const components = [0, 1, 2, 3].map((i) => {
    const outer = along === "outer" && i > 0 ? `(outer + ${i}u)` : "outer";
    const k = along === "k" && i > 0 ? `(k + ${i}u)` : "k";
    const index = `base + ${positionText(side, outer, k)}`;
    const at = inside(outer, k) ? `select(0u, ${index}, in${i})` : index;
    const lines = inside(outer, k) ? `  let in${i} = ${inside(outer, k)};\n` : "";
    const load = sideText(side, vec4, `at${i}`);
    return `${lines}  let at${i} = ${at};\n  let v${i} = ${inside(outer, k) ? `select(0.0f, ${load}, in${i})` : load};\n`;
  });
  return `${head}${components.join("")}  return vec4<f32>(v0, v1, v2, v3);\n}\n`;
}

/**
 * Where four neighbouring rows (columns of B) from `row`, a multiple of four, lie at `k`: statements, and the text of each row's
 * position, in vec4s where the side is aligned. Rows past the edge repeat the last ones, without a comparison later.
 *
 * @param name - unique among the quads of a kernel
 * @param edge - whether rows may lie outside at all
 */
export function quadPositions(side: Side, name: string, row: string, k: string, edge: boolean) {
  const { outer, outerStride, kStride, aligned, along } = side;
  const at = (text: string): string => {
    const position = `base${side.name} + (${text}) * ${distance(outerStride)} + (${k}) * ${distance(kStride)}`;
    return aligned ? `(${position}) >> 2u` : position;
  };
  // a quad may lie partly outside: each of its rows has a position of its own
  if (edge && outer % 4 !== 0 && !(aligned && along === "outer")) {
    const lines = [0, 1, 2, 3].map((j) => `let p${name}_${j} = ${at(`min(${row} + ${j}u, ${outer - 1}u)`)};`);
    return { lines, position: (j: number): string => `p${name}_${j}` };
  }
  const apart = aligned ? outerStride / 4 : outerStride;
  return {
    lines: [`let p${name} = ${at(edge ? `min(${row}, ${outer - 4}u)` : row)};`],
    position: (j: number): string => (j === 0 ? `p${name}` : `p${name} + ${distance(j * apart)}`),
  };
}
