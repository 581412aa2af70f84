// run/explain.ts: shows the kernels behind a function or a lazy value.
import { costOf } from "../compiler/cost.ts";
import type { KernelSpec } from "../compiler/kernel.ts";
import { leavesOf, makePlan, type Plan } from "../compiler/plan.ts";
import { connectedDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import { deviceBytes, type StoredType } from "../dtype.ts";
import { Tensor } from "../tensor.ts";
import { compile, recordingOf } from "./compile.ts";
import type { Recording } from "./record.ts";
import { treeLeaves } from "./tree.ts";

/** One kernel of a plan. */
export interface KernelExplanation {
  /** Names of the ops it computes, joined by "+". */
  readonly label: string;
  readonly kind: "loop" | "matmul" | "fused";
  /** Which kernel was chosen of those that could run: "loop wide", "reduce workgroup", "matmul 64x64x16/8x8", "fused tiles". */
  readonly variant: string;
  /** Size of the space it runs over: points and reduced length, [batch, m, n, k] of a product, a fused op's first output. */
  readonly shape: readonly number[];
  readonly bindings: readonly { readonly dtype: StoredType; readonly size: number; readonly access: string }[];
  /** Dispatches of one run: passes of the kernel; a product split along k has two. */
  readonly dispatches: number;
  /**
   * Floating-point operations of one run: 2 m n k of a product, half of that where it is symmetric; of a loop its additions, multiplications, divisions, powers and
   * transcendentals, each one, at every point, those that no reduced variable moves once a point; joins of a reduction too.
   * Comparisons, minima, roundings and integers are not counted. Of a fused op what it declares.
   */
  readonly flops: number;
  /**
   * Bytes that one run must move: each distinct element that it reads, once, and each that it writes, once; of a slice the
   * slice. A look-up counts as many rows as it looks up, at most the table. Caches, scratch memory and repeated reads do not count.
   */
  readonly bytes: number;
  /** WGSL or JavaScript that runs. */
  readonly code: string;
  /** FNV-1a (64 bits, hexadecimal) of `code`. */
  readonly hash: string;
}

/** What a plan does. */
export interface Explanation {
  /** The device's description. */
  readonly device: string;
  /** In the order in which they run. */
  readonly kernels: readonly KernelExplanation[];
  /** Distinct kernels. */
  readonly pipelines: number;
  /** Dispatches of one replay. */
  readonly dispatches: number;
  /** Queue submissions of one replay; 0 on the CPU. */
  readonly submits: number;
  /** Milliseconds that the shortest call of this compiled function took so far, from call to return; undefined before its first replay (the second call). On the CPU that includes the kernels. */
  readonly javascriptMs: number | undefined;
  readonly flops: number;
  readonly bytes: number;
  /** Bytes of intermediates that stay with the plan. */
  readonly temporaryBytes: number;
  /** A table, one line a kernel. */
  toString(): string;
}

/**
 * Lists the kernels of a function called with `args`, or of lazy tensors, without running them. `profile` times them.
 *
 * @param target - a compiled or plain function, or a tree of tensors
 * @example console.log(String(explain((x: Tensor, w: Tensor) => gelu(add(mul(x, w), 1)), x, w)));
 */
export function explain<Args extends unknown[]>(
  target: ((...args: Args) => unknown) | object,
  ...args: Args
): Explanation {
  if (typeof target === "function") {
    const { recording } = recordedCall(target as (...args: unknown[]) => unknown, args);
    return explainPlan(recording.plan, recording.device, recording.javascriptMs);
  }
  const nodes = treeLeaves<unknown>(target).flatMap((x) => (x instanceof Tensor ? [x.node] : []));
  const device = nodes[0]?.device ?? connectedDevice();
  return explainPlan(makePlan({ device, leaves: leavesOf(nodes), outputs: nodes }), device);
}

/** @internal The recording of a compiled function's call; a plain function is compiled first. */
function recordedCall(
  fn: (...args: unknown[]) => unknown,
  args: readonly unknown[],
): { readonly recording: Recording; readonly tensors: readonly Tensor[] } {
  return (recordingOf.get(fn) ?? recordingOf.get(compile(fn))!)(args);
}

/** @internal */
export function explainPlan(plan: Plan, device: Device, javascriptMs?: number): Explanation {
  const kernels = plan.kernels.map((spec, i) => explainKernel(spec, plan.launches[i]!.executable, device));
  const total = (f: (k: KernelExplanation) => number): number => kernels.reduce((s, k) => s + f(k), 0);
  const dispatches = total((k) => k.dispatches);
  const out = {
    device: device.description,
    kernels,
    pipelines: new Set(kernels.map((k) => k.hash)).size,
    dispatches,
    submits: device.submitsOf(dispatches),
    javascriptMs,
    flops: total((k) => k.flops),
    bytes: total((k) => k.bytes),
    temporaryBytes: plan.slots.reduce(
      (s, slot) => (slot.role === "temporary" && !slot.within ? s + slot.size * deviceBytes(slot.dtype, device) : s),
      0,
    ),
  };
  return { ...out, toString: () => tableOf(out) };
}

function explainKernel(
  spec: KernelSpec,
  { code, variant, dispatches }: Plan["launches"][number]["executable"],
  device: Device,
): KernelExplanation {
  const { flops, elements } = costOf(spec);
  return {
    label: spec.label,
    kind: spec.kind,
    variant,
    shape: spaceOf(spec),
    bindings: spec.bindings.map(({ dtype, size, access }) => ({ dtype, size, access })),
    dispatches,
    flops,
    bytes: spec.bindings.reduce((s, { dtype }, i) => s + elements[i]! * deviceBytes(dtype, device), 0),
    code,
    hash: fnv1a(code),
  };
}

function spaceOf(spec: KernelSpec): readonly number[] {
  if (spec.kind === "loop") return [...spec.shape, ...spec.reductions.slice(0, 1).flatMap((r) => r.shape)];
  return spec.kind === "matmul" ? [...spec.batch, spec.m, spec.n, spec.k] : spec.outputs[0]!.shape;
}

function tableOf({
  device,
  kernels,
  pipelines,
  dispatches,
  submits,
  javascriptMs,
  ...totals
}: Omit<Explanation, "toString">): string {
  const { flops, bytes, temporaryBytes } = totals;
  const mega = (x: number): string => (x / 1e6).toFixed(2);
  const known = javascriptMs === undefined ? "" : `, JavaScript ${javascriptMs.toFixed(2)} ms`;
  return [
    `${kernels.length} kernels (${pipelines} distinct) on ${device}: ${mega(flops)} MFLOP, ${mega(bytes)} MB, ${mega(temporaryBytes)} MB of intermediates`,
    `a replay: ${dispatches} dispatches, ${submits} submits${known}`,
    ...kernels.map((k, i) =>
      [
        String(i).padStart(4),
        k.variant.padEnd(18),
        `[${k.shape.join(", ")}]`.padEnd(22),
        `${mega(k.flops).padStart(9)} MFLOP`,
        `${mega(k.bytes).padStart(8)} MB`,
        `${String(k.bindings.length).padStart(2)} buffers`,
        k.hash,
        k.label,
      ].join("  "),
    ),
  ].join("\n");
}

/** FNV-1a, 64 bits as two interleaved 32-bit halves; for comparing code, not for security. */
function fnv1a(text: string): string {
  let a = 0x811c9dc5;
  let b = 0xcbf29ce4;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 0x01000193) >>> 0;
    b = Math.imul(b ^ (c + i), 0x01000193) >>> 0;
  }
  return a.toString(16).padStart(8, "0") + b.toString(16).padStart(8, "0");
}
