// device/webgpu/reduceRegime.ts: how many threads work on one point of a reduction. Decided by the kernel and the class of
// device alone, because it decides the order of additions.
import type { LoopKernel } from "../../compiler/kernel.ts";
import { visitValues } from "../../compiler/values.ts";
import { sizeOf } from "../../shape.ts";
import type { Target } from "./program.ts";

/** A workgroup of `points` times `lanes` threads: each point's reduction is shared by `lanes` of them. */
export interface Lanes {
  readonly points: number;
  readonly lanes: number;
  /** Neighbouring threads hold neighbouring points (else neighbouring lanes of one point). */
  readonly pointsFirst: boolean;
  /** Elements of a lane whose loads are on their way before the first of them is joined. Order and bits do not depend on it. */
  readonly ahead: number;
}

/** Threads in a workgroup: 256 is what every WebGPU device grants. */
const threads = 256;

const powerOfTwo = (x: number, low: number, high: number): number =>
  Math.min(high, Math.max(low, 2 ** Math.floor(Math.log2(Math.max(1, x)))));

export function chooseLanes(kernel: LoopKernel, target: Target): Lanes {
  // a load takes as long as hundreds of additions, except where a CPU plays the GPU
  const { software, variants } = target;
  return { ...chooseShare(kernel, target), ahead: software && variants.reduce === undefined ? 1 : 4 };
}

function chooseShare(kernel: LoopKernel, { software, variants }: Target): Omit<Lanes, "ahead"> {
  const length = Math.max(0, ...kernel.reductions.map((r) => sizeOf(r.shape)));
  const points = sizeOf(kernel.shape);
  const forced = variants.reduce;
  const alone = { points: software ? 64 : threads, lanes: 1, pointsFirst: true };
  if (length === 0 || forced === "thread" || (forced === undefined && (software || length < 32))) return alone;

  if (readsAlongReduction(kernel)) {
    // neighbouring lanes read neighbouring elements, each at least four
    const lanes = powerOfTwo(length / 4, 8, threads);
    return { points: Math.min(threads / lanes, powerOfTwo(points, 1, threads)), lanes, pointsFirst: false };
  }
  // neighbouring points read neighbouring elements; more lanes the fewer the points
  if (forced === undefined && points >= 65536) return alone;
  const lanes = powerOfTwo(length / 8, 4, points >= 16384 ? 8 : points >= 8192 ? 16 : 32);
  return { points: threads / lanes, lanes, pointsFirst: true };
}

/** Whether the reductions' loads are contiguous along the innermost reduced variable rather than along the points. */
function readsAlongReduction(kernel: LoopKernel): boolean {
  let along = 0;
  let across = 0;
  const last = kernel.shape.length - 1;
  for (const { firstVariable, shape, value } of kernel.reductions) {
    const inner = shape.findLastIndex((d) => d > 1);
    if (inner < 0) continue;
    visitValues([value], (v) => {
      if (v.kind !== "load") return;
      for (const { atom, coefficient } of v.index.terms) {
        if (atom.kind !== "variable" || Math.abs(coefficient) !== 1) continue;
        if (atom.variable === firstVariable + inner) along++;
        else if (atom.variable <= last) across++;
      }
    });
  }
  return along >= across;
}
