// device/webgpu/matmul/operand.ts: how a kernel reads one side of a product. A is rows x k, B is k x columns; both are seen
// here as `outer` x k, so that the four transpose modes are two: contiguous along k, or along the outer dimension.
import type { MatmulKernel } from "../../../compiler/kernel.ts";

/** One side of a product, seen as outer x k. */
export interface Side {
  readonly name: "A" | "B";
  readonly binding: number;
  readonly offset: number;
  readonly batchStrides: readonly number[];
  readonly outer: number;
  readonly k: number;
  readonly outerStride: number;
  readonly kStride: number;
  /** The dimension along which four neighbours are loaded together. */
  readonly along: "k" | "outer";
  /** Whether the four may be loaded as one vec4: nothing is misaligned and no four is cut by an edge. */
  readonly aligned: boolean;
}

const fours = (...numbers: number[]): boolean => numbers.every((x) => x % 4 === 0);

/** The sides of a product, and the bindings that can be declared as arrays of vec4. */
export function sidesOf(kernel: MatmulKernel): { a: Side; b: Side; vec4: Set<number> } {
  const { m, n, k, a, b, bindings } = kernel;
  const side = (name: "A" | "B", outer: number, outerStride: number, kStride: number): Side => {
    const { binding, offset, batchStrides } = name === "A" ? a : b;
    const along = kStride === 1 || outerStride !== 1 ? "k" : "outer";
    const unit = along === "k" ? kStride : outerStride;
    const other = along === "k" ? outerStride : kStride;
    const aligned =
      unit === 1 &&
      bindings[binding]!.access === "read" &&
      fours(along === "k" ? k : outer, other, offset, ...batchStrides);
    return { name, binding, offset, batchStrides, outer, k, outerStride, kStride, along, aligned };
  };
  const sides = { a: side("A", m, a.rowStride, a.columnStride), b: side("B", n, b.columnStride, b.rowStride) };
  return { ...sides, vec4: new Set([sides.a, sides.b].filter((s) => s.aligned).map((s) => s.binding)) };
}

/** Text of one f32 of a binding that may be declared as vec4. */
export const elementText = (vec4: ReadonlySet<number>, binding: number, index: string): string =>
  vec4.has(binding) ? `b${binding}[(${index}) >> 2u][(${index}) & 3u]` : `b${binding}[${index}]`;

const times = (text: string, by: number): string => (by === 1 ? text : `${text} * ${by}u`);

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
 * of the matrix. `outerEdge` and `kEdge` say whether positions may lie outside at all.
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
    const load = elementText(vec4, binding, `at${i}`);
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
    const position = `base${side.name} + (${text}) * ${outerStride}u + (${k}) * ${kStride}u`;
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
    position: (j: number): string => (j === 0 ? `p${name}` : `p${name} + ${j * apart}u`),
  };
}
