// wgsl.ts: pieces of WGSL that the kernels of this package share.
import type { WgslOperand } from "@mc/tensor";

const workgroup = 64;

/** One thread for each of `count` rows, folded to two dimensions: a dimension holds at most 65535 workgroups. */
export function rowGrid(count: number): {
  threads: number;
  workgroups: readonly [number, number, number];
  index: string;
} {
  const groups = Math.ceil(count / workgroup);
  const wide = Math.min(groups, 65535);
  return {
    threads: workgroup,
    workgroups: [wide, Math.ceil(groups / wide), 1],
    index: `id.x + id.y * ${wide * workgroup}u`,
  };
}

/** u32 arithmetic wraps, so a negative stride is written modulo 2^32. */
const u32 = (x: number): string => `${x >>> 0}u`;

/** A finite f32 literal. */
export function literal(x: number): string {
  const text = String(Math.fround(x));
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** Position in the buffer of an operand's element at the leading coordinates `at`. */
export function offsetOf({ offset, strides }: WgslOperand, at: readonly string[]): string {
  return [u32(offset), ...at.map((x, axis) => `${x} * ${u32(strides[axis]!)}`)].join(" + ");
}

/** Feature `d` of the row that begins at `base`. */
export function elementOf({ name, strides }: WgslOperand, base: string, d: string): string {
  const step = strides.at(-1)!;
  return `${name}[${base} + ${d}${step === 1 ? "" : ` * ${u32(step)}`}]`;
}
