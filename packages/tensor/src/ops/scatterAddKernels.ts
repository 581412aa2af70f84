// ops/scatterAddKernels.ts: adding at indices. Every place of the result has one owner, which adds in the order of the source:
// the same result in every run, and no atomics.
import type { CpuFusedKernel, CpuOperand } from "../device/cpu/fused.ts";
import type { WebGpuFusedKernel, WgslOperand } from "../device/webgpu/fused.ts";
import { grid } from "../device/webgpu/program.ts";
import { type Shape, sizeOf, stridesOf } from "../shape.ts";

/** The result has `size` places along `axis`. */
export interface ScatterParams {
  readonly axis: number;
  readonly size: number;
}

/** On the CPU: from entry to entry, all columns of one at a time. */
export function scatterAddCpu({ axis, size }: ScatterParams): CpuFusedKernel {
  return {
    run: ([indices, src], [out]) => {
      out!.data.fill(0, out!.offset, out!.offset + sizeOf(out!.shape));
      const others = src!.shape.map((_, i) => i).filter((i) => i !== axis);
      const columns = (o: CpuOperand): Int32Array =>
        positionsOf(
          others.map((i) => src!.shape[i]!),
          others.map((i) => o.strides[i]!),
          o.offset,
        );
      const [fromIndices, fromSrc, to] = [columns(indices!), columns(src!), columns(out!)];
      const [indexStep, srcStep, outStep] = [indices!.strides[axis]!, src!.strides[axis]!, out!.strides[axis]!];
      for (let n = 0; n < src!.shape[axis]!; n++) {
        for (let c = 0; c < to.length; c++) {
          const v = indices!.data[fromIndices[c]! + n * indexStep]!;
          if (v >= 0 && v < size) out!.data[to[c]! + v * outStep]! += src!.data[fromSrc[c]! + n * srcStep]!;
        }
      }
    },
  };
}

/** Positions of all elements of a strided box, row-major. */
function positionsOf(shape: Shape, strides: readonly number[], offset: number): Int32Array {
  let positions = Int32Array.of(offset);
  shape.forEach((d, i) => {
    const next = new Int32Array(positions.length * d);
    positions.forEach((p, at) => {
      for (let k = 0; k < d; k++) next[at * d + k] = p + k * strides[i]!;
    });
    positions = next;
  });
  return positions;
}

/** Threads that keep a GPU busy. */
const enoughThreads = 16384;

/**
 * On WebGPU: `parts` threads a column, of which each owns every `parts`-th place, walks all entries of the column and adds its
 * own. By default as many as keep a GPU busy: with few columns (a table of embeddings) one thread each would not.
 */
export function scatterAddThreads(
  shape: Shape,
  { axis, size }: ScatterParams,
  parts = Math.max(1, Math.min(size, 64, Math.ceil(enoughThreads / sizeOf(shape.filter((_, i) => i !== axis))))),
): WebGpuFusedKernel {
  const columnShape = shape.filter((_, i) => i !== axis);
  const columns = sizeOf(columnShape);
  const { workgroups, width } = grid("scatterAdd", Math.ceil((columns * parts) / 64));
  return {
    passes: [{ entry: "scatterAdd", workgroups }],
    wgsl: ([indices, src], [out]) => {
      const strides = stridesOf(columnShape);
      const at = (o: WgslOperand): string =>
        [
          `${o.offset}u`,
          ...columnShape.map((d, i) => `((column / ${strides[i]}u) % ${d}u) * ${o.strides[i < axis ? i : i + 1]}u`),
        ].join(" + ");
      const owned = parts === 1 ? "" : ` && v % ${parts}u == part`;
      return `
@compute @workgroup_size(64)
fn scatterAdd(@builtin(global_invocation_id) id: vec3<u32>) {
  let thread = id.x + id.y * ${width * 64}u;
  if (thread >= ${columns * parts}u) { return; }
  let column = thread % ${columns}u;
  let part = thread / ${columns}u;
  let fromIndices = ${at(indices!)};
  let fromSrc = ${at(src!)};
  let toOut = ${at(out!)};
  for (var v = part; v < ${size}u; v += ${parts}u) { ${out!.name}[toOut + v * ${out!.strides[axis]}u] = 0; }
  for (var n = 0u; n < ${shape[axis]}u; n++) {
    let v = u32(${indices!.name}[fromIndices + n * ${indices!.strides[axis]}u]);
    if (v < ${size}u${owned}) {
      let to = toOut + v * ${out!.strides[axis]}u;
      ${out!.name}[to] = ${out!.name}[to] + ${src!.name}[fromSrc + n * ${src!.strides[axis]}u];
    }
  }
}`;
    },
  };
}
