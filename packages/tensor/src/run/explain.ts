// run/explain.ts: shows the kernels behind a function or a lazy value.
import type { KernelSpec, MatmulKernel } from "../compiler/kernel.ts";
import { leavesOf, makePlan, type Plan } from "../compiler/plan.ts";
import { visitValues } from "../compiler/values.ts";
import { connectedDevice } from "../device/current.ts";
import { type DType, hostBytes, type Precision } from "../dtype.ts";
import { scalarRow } from "../scalar.ts";
import { sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { compile, recordingOf } from "./compile.ts";
import { treeLeaves } from "./tree.ts";

/** One kernel of a plan. */
export interface KernelExplanation {
  /** Names of the ops it computes, joined by "+". */
  readonly label: string;
  readonly kind: "loop" | "matmul" | "fused";
  /** Size of the space it runs over. */
  readonly shape: readonly number[];
  readonly bindings: readonly { readonly dtype: DType; readonly size: number; readonly access: string }[];
  /** Floating-point operations, counted from the kernel (transcendentals as one); of a fused op what it declares. */
  readonly flops: number;
  /** Bytes moved if every buffer it binds were read or written once. */
  readonly bytes: number;
  /** WGSL or JavaScript that runs. */
  readonly code: string;
  /** FNV-1a (64 bits, hexadecimal) of `code`. */
  readonly hash: string;
}

/** What a plan does. */
export interface Explanation {
  readonly device: string;
  readonly kernels: readonly KernelExplanation[];
  /** Distinct kernels. */
  readonly pipelines: number;
  readonly flops: number;
  readonly bytes: number;
  /** Bytes of intermediates that stay with the plan. */
  readonly temporaryBytes: number;
  /** A table, one line a kernel. */
  toString(): string;
}

/**
 * Lists the kernels of a function called with `args`, or of lazy tensors, without running them.
 *
 * @param target - a compiled or plain function, or a tree of tensors
 * @example console.log(String(explain((x: Tensor, w: Tensor) => gelu(add(mul(x, w), 1)), x, w)));
 */
export function explain<Args extends unknown[]>(
  target: ((...args: Args) => unknown) | object,
  ...args: Args
): Explanation {
  if (typeof target === "function") {
    const known =
      recordingOf.get(target as (...a: never[]) => unknown) ??
      recordingOf.get(compile(target as (...a: unknown[]) => unknown) as (...a: never[]) => unknown)!;
    const { plan, device } = known(args);
    return summarise(plan, device.description, device.precision);
  }
  const nodes = treeLeaves<unknown>(target).flatMap((x) => (x instanceof Tensor ? [x.node] : []));
  const device = nodes[0]?.device ?? connectedDevice();
  const plan = makePlan({ device, leaves: leavesOf(nodes), outputs: nodes });
  return summarise(plan, device.description, device.precision);
}

function summarise(plan: Plan, device: string, precision: Precision): Explanation {
  const kernels = plan.kernels.map((spec, i): KernelExplanation => {
    const { code } = plan.launches[i]!.executable;
    const bindings = spec.bindings.map(({ dtype, size, access }) => ({ dtype, size, access }));
    const bytes = bindings.reduce(
      (s, b) => s + b.size * hostBytes(b.dtype, precision) * (b.access === "readwrite" ? 2 : 1),
      0,
    );
    return {
      label: spec.label,
      kind: spec.kind,
      shape: spaceOf(spec),
      bindings,
      flops: flopsOf(spec),
      bytes,
      code,
      hash: fnv1a(code),
    };
  });
  const total = (f: (k: KernelExplanation) => number): number => kernels.reduce((s, k) => s + f(k), 0);
  const temporaryBytes = plan.slots.reduce(
    (s, slot) => (slot.role === "temporary" ? s + slot.size * hostBytes(slot.dtype, precision) : s),
    0,
  );
  const out = {
    device,
    kernels,
    pipelines: new Set(kernels.map((k) => k.hash)).size,
    flops: total((k) => k.flops),
    bytes: total((k) => k.bytes),
    temporaryBytes,
  };
  return {
    ...out,
    toString: () =>
      [
        `${kernels.length} kernels (${out.pipelines} distinct) on ${device}: ${(out.flops / 1e6).toFixed(2)} MFLOP, ${(out.bytes / 1e6).toFixed(2)} MB, ${(temporaryBytes / 1e6).toFixed(2)} MB of intermediates`,
        ...kernels.map(
          (k, i) =>
            `${String(i).padStart(4)}  ${k.kind.padEnd(6)} ${`[${k.shape.join(", ")}]`.padEnd(22)} ${String(k.bindings.length).padStart(2)} buffers  ${k.hash}  ${k.label}`,
        ),
      ].join("\n"),
  };
}

function spaceOf(spec: KernelSpec): readonly number[] {
  if (spec.kind === "loop") return [...spec.shape, ...spec.reductions.slice(0, 1).flatMap((r) => r.shape)];
  return spec.kind === "matmul" ? [...spec.batch, spec.m, spec.n, spec.k] : spec.outputs[0]!.shape;
}

/** Multiplications and additions of one product; a symmetric one needs those on and above the diagonal. */
const productFlops = ({ m, n, k, symmetric }: MatmulKernel): number => (symmetric ? n * (n + 1) * k : 2 * m * n * k);

function flopsOf(spec: KernelSpec): number {
  if (spec.kind === "fused") return spec.op.flops?.(spec.inputSpecs, spec.params) ?? 0;
  const count = (values: Parameters<typeof visitValues>[0]): number => {
    let n = 0;
    visitValues(values, (v) => {
      if (v.kind === "op" && v.dtype === "f32" && scalarRow(v.op).rounds !== false) n++;
    });
    return n;
  };
  if (spec.kind === "matmul")
    return sizeOf(spec.batch) * (productFlops(spec) + spec.m * spec.n * count(spec.stores.map((s) => s.value)));
  const points = sizeOf(spec.shape);
  const inner = spec.reductions.reduce((s, r) => s + sizeOf(r.shape) * (count([r.value]) + 1), 0);
  const beside = spec.spread ? sizeOf(spec.spread.shape) * count(spec.spread.stores.map((s) => s.value)) : 0;
  return points * (inner + count(spec.stores.map((s) => s.value)) + beside);
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
