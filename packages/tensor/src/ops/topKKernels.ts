// ops/topKKernels.ts: the k largest of each row of a matrix: by insertion on the CPU, in k passes on a GPU.
import type { CpuFusedKernel } from "../device/cpu/fused.ts";
import type { WebGpuFusedKernel, WgslOperand } from "../device/webgpu/fused.ts";
import { grid, workgroupNumber } from "../device/webgpu/program.ts";
import type { TypedArray } from "../dtype.ts";

/** Rows of `n` elements, of each of which `k` are wanted. */
export interface TopKSizes {
  readonly rows: number;
  readonly n: number;
  readonly k: number;
}

/** Up to so many are kept sorted while a row is walked; more are found by sorting the row. */
const insertionLimit = 64;

/** On the CPU. Equal elements stay in the order of their places. */
export function topKCpu({ rows, n, k }: TopKSizes): CpuFusedKernel {
  return {
    contiguous: true,
    run: ([from], [to]) => {
      const select = k <= insertionLimit ? selectByInsertion : selectBySorting;
      const values = new Float64Array(k);
      const places = to!.data as Int32Array;
      for (let r = 0; r < rows; r++) select(from!.data, from!.offset + r * n, n, places, to!.offset + r * k, values);
    },
  };
}

/** Writes the places of the largest elements of `x[at..at + n]` to `places[to..]`, as many as `values` has room for. */
type Select = (x: TypedArray, at: number, n: number, places: Int32Array, to: number, values: Float64Array) => void;

/** NaN as +infinity. */
const keyOf = (x: number): number => (Number.isNaN(x) ? Number.POSITIVE_INFINITY : x);

/** Keeps the largest so far, descending: an element moves past smaller ones only. */
const selectByInsertion: Select = (x, at, n, places, to, values) => {
  const last = values.length - 1;
  let least = Number.NaN; // of those kept, once there are k: nothing is <= NaN
  for (let i = 0; i < n; i++) {
    const v = x[at + i]!;
    if (v <= least) continue;
    const key = keyOf(v);
    if (key <= least) continue;
    let place = Math.min(i, last);
    for (; place > 0 && key > values[place - 1]!; place--) {
      values[place] = values[place - 1]!;
      places[to + place] = places[to + place - 1]!;
    }
    values[place] = key;
    places[to + place] = i;
    if (i >= last) least = values[last]!;
  }
};

const selectBySorting: Select = (x, at, n, places, to, values) => {
  const key = (i: number): number => keyOf(x[at + i]!);
  // a difference of infinities of one sign is NaN: like 0, it leaves the order to the places
  const order = Int32Array.from({ length: n }, (_, i) => i).sort((a, b) => key(b) - key(a) || a - b);
  places.set(order.subarray(0, values.length), to);
};

// Elements as u32 keys in their order, NaN as +infinity. Every key lies above 0 and below 0xffffffff. Pass j finds the best of
// those that come after the one found in pass j - 1: smaller ones, and equal ones with a larger index.

const wgslKey = (x: WgslOperand, base: string): string =>
  `min(mc_order(${x.name}[${base} + i * ${x.strides.at(-1)}u]), 0xff800000u)`;

const candidate = (x: WgslOperand, base: string): string => `
      let key = ${wgslKey(x, base)};
      if ((key < lastKey || (key == lastKey && i > lastPlace)) && key > bestKey) {
        bestKey = key;
        bestPlace = i;
      }`;

/** A thread a row: for adapters that run on the CPU. */
export function topKThreads({ rows, n, k }: TopKSizes): WebGpuFusedKernel {
  const { workgroups, width } = grid("topK", Math.ceil(rows / 64));
  return {
    variant: "threads",
    contiguous: true,
    passes: [{ entry: "topK", workgroups }],
    wgsl: ([x], [places]) => `
@compute @workgroup_size(64)
fn topK(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x + id.y * ${width * 64}u;
  if (row >= ${rows}u) { return; }
  let base = ${x!.offset}u + row * ${n}u;
  var lastKey = 0xffffffffu;
  var lastPlace = 0u;
  for (var j = 0u; j < ${k}u; j++) {
    var bestKey = 0u;
    var bestPlace = 0u;
    for (var i = 0u; i < ${n}u; i++) {${candidate(x!, "base")}
    }
    ${places!.name}[${places!.offset}u + row * ${k}u + j] = i32(bestPlace);
    lastKey = bestKey;
    lastPlace = bestPlace;
  }
}`,
  };
}

/** A workgroup a row: its threads search a part each, and a tree finds the best of those. */
export function topKWorkgroups({ rows, n, k }: TopKSizes): WebGpuFusedKernel {
  const { workgroups, width } = grid("topK", rows);
  const threads = n > 1024 ? 256 : 64;
  return {
    variant: "workgroups",
    contiguous: true,
    passes: [{ entry: "topK", workgroups }],
    wgsl: ([x], [places]) => `
var<workgroup> keys: array<u32, ${threads}>;
var<workgroup> found: array<u32, ${threads}>;
@compute @workgroup_size(${threads})
fn topK(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = ${workgroupNumber("workgroup", width, workgroups[1])};
  let base = ${x!.offset}u + row * ${n}u;
  let live = row < ${rows}u;
  var lastKey = 0xffffffffu;
  var lastPlace = 0u;
  for (var j = 0u; j < ${k}u; j++) {
    var bestKey = 0u;
    var bestPlace = 0u;
    for (var i = select(${n}u, thread, live); i < ${n}u; i += ${threads}u) {${candidate(x!, "base")}
    }
    keys[thread] = bestKey;
    found[thread] = bestPlace;
    for (var step = ${threads / 2}u; step > 0u; step /= 2u) {
      workgroupBarrier();
      if (thread < step) {
        let other = thread + step;
        if (keys[other] > keys[thread] || (keys[other] == keys[thread] && found[other] < found[thread])) {
          keys[thread] = keys[other];
          found[thread] = found[other];
        }
      }
    }
    workgroupBarrier();
    lastKey = keys[0];
    lastPlace = found[0];
    workgroupBarrier();
    if (live && thread == 0u) { ${places!.name}[${places!.offset}u + row * ${k}u + j] = i32(lastPlace); }
  }
}`,
  };
}
