// moe/sortKernels.ts: the counting sort on WebGPU. Every place has one owner, so no order is left to chance.
import type { WebGpuFusedKernel, WgslOperand } from "@mc/tensor";
import { rowGrid } from "../wgsl.ts";

const expertAt = (experts: WgslOperand, n: string, numExperts: number): string =>
  `clamp(${experts.name}[${experts.offset}u + ${n}], 0, ${numExperts - 1})`;

/** Writes assignment n to place p. */
const put = (order: WgslOperand, place: WgslOperand): string => `
      ${order.name}[${order.offset}u + p] = i32(n);
      ${place.name}[${place.offset}u + n] = i32(p);`;

/** A thread an expert, which walks all assignments twice: for adapters that run on the CPU. */
export function sortThreads(size: number, numExperts: number): WebGpuFusedKernel {
  const grid = rowGrid(numExperts + 1);
  return {
    variant: "threads",
    contiguous: true,
    passes: [{ entry: "sortByExpert", workgroups: grid.workgroups }],
    wgsl: ([experts], [offsets, order, place]) => `
@compute @workgroup_size(${grid.threads})
fn sortByExpert(@builtin(global_invocation_id) id: vec3<u32>) {
  let e = ${grid.index};
  if (e > ${numExperts}u) { return; }
  var p = 0u;
  for (var n = 0u; n < ${size}u; n++) { p += select(0u, 1u, ${expertAt(experts!, "n", numExperts)} < i32(e)); }
  ${offsets!.name}[${offsets!.offset}u + e] = i32(p);
  for (var n = 0u; n < ${size}u; n++) {
    if (${expertAt(experts!, "n", numExperts)} == i32(e)) {${put(order!, place!)}
      p++;
    }
  }
}`,
  };
}

const threads = 256;

/**
 * A workgroup an expert, a run of consecutive assignments a thread: each counts those of smaller experts and those of its own
 * in its run, prefix sums over the threads give the place where each run's begin.
 */
export function sortWorkgroups(size: number, numExperts: number): WebGpuFusedKernel {
  const run = Math.ceil(size / threads);
  return {
    variant: "workgroups",
    contiguous: true,
    passes: [{ entry: "sortByExpert", workgroups: [numExperts + 1, 1, 1] }],
    wgsl: ([experts], [offsets, order, place]) => `
var<workgroup> counts: array<vec2<u32>, ${threads}>;
@compute @workgroup_size(${threads})
fn sortByExpert(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let e = i32(workgroup.x);
  let start = min(thread * ${run}u, ${size}u);
  let end = min(start + ${run}u, ${size}u);
  var mine = vec2<u32>(); // of smaller experts, of this one
  for (var n = start; n < end; n++) {
    let expert = ${expertAt(experts!, "n", numExperts)};
    mine += vec2<u32>(select(0u, 1u, expert < e), select(0u, 1u, expert == e));
  }
  counts[thread] = mine;
  for (var step = 1u; step < ${threads}u; step *= 2u) {
    workgroupBarrier();
    let before = select(vec2<u32>(), counts[max(thread, step) - step], thread >= step);
    workgroupBarrier();
    counts[thread] += before;
  }
  workgroupBarrier();
  let first = counts[${threads - 1}].x;
  if (thread == 0u) { ${offsets!.name}[${offsets!.offset}u + workgroup.x] = i32(first); }
  var p = first + counts[thread].y - mine.y;
  for (var n = start; n < end; n++) {
    if (${expertAt(experts!, "n", numExperts)} == e) {${put(order!, place!)}
      p++;
    }
  }
}`,
  };
}
