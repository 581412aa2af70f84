// device/webgpu/matmulPrecision.ts: in which precision a device multiplies matrices, and what it takes to do better than f32.
import { DeviceError } from "../../errors.ts";
import type { MatmulPrecision } from "../device.ts";
import { emulatedUnit, type MatrixUnit } from "./matmul/matrixUnit.ts";
import { kindsFor } from "./matmul/tensorTiles.ts";
import type { Variants } from "./program.ts";

/** Features that subgroup matrices of f16 need. */
export const matrixFeatures = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];

/** Dawn shows those features only with these toggles. */
export const matrixToggles = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];

/** What a matrix unit can do, as adapters that have one list it. */
interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What is known of a GPU: its features and limits, and its adapter's info where there is one. */
export interface GpuFacts {
  readonly features: ReadonlySet<string>;
  readonly limits: Pick<GPUSupportedLimits, "maxComputeWorkgroupStorageSize" | "maxComputeInvocationsPerWorkgroup">;
  readonly info: (GPUAdapterInfo & { readonly subgroupMatrixConfigs?: Iterable<MatrixConfig> }) | undefined;
}

/** A list of preferences as `connect` takes them, without repetitions. */
export const preferences = (
  wanted: MatmulPrecision | readonly MatmulPrecision[] = "f32",
): readonly MatmulPrecision[] => (typeof wanted === "string" ? [wanted] : wanted);

/**
 * The first precision of a list that the GPU offers, and the matrix unit that it takes.
 *
 * @throws DeviceError("unsupported") if there is none
 */
export function choosePrecision(
  wanted: readonly MatmulPrecision[],
  facts: GpuFacts,
  variants: Variants,
): { precision: MatmulPrecision; unit: MatrixUnit | undefined } {
  let missing = "`matmulPrecision` must name one";
  for (const precision of wanted) {
    if (precision === "f32") return { precision, unit: undefined };
    const unit = variants.matrixUnit === "emulated" ? emulatedUnit : findUnit(facts);
    if (typeof unit !== "string") return { precision, unit };
    missing = unit;
  }
  throw noSuchPrecision(missing);
}

/** Why matrices cannot be multiplied as asked, and what helps. */
export const noSuchPrecision = (missing: string): DeviceError =>
  new DeviceError(
    "unsupported",
    `connect: this device cannot multiply matrices in f16: ${missing}. Pass matmulPrecision: ["f16", "f32"] to run in f32 where f16 is missing`,
  );

/** The matrix unit of a GPU that multiplies f16 and adds up f32, or what it lacks. */
function findUnit({ features, limits, info }: GpuFacts): MatrixUnit | string {
  const lacking = matrixFeatures.filter((name) => !features.has(name));
  if (lacking.length > 0)
    return `it lacks the WebGPU feature${lacking.length > 1 ? "s" : ""} ${lacking.join(", ")} (Dawn in Node needs the toggles ${matrixToggles.join(" and ")}, which connect sets unless \`gpu\` is given; Chrome needs --enable-unsafe-webgpu)`;
  const { subgroupMinSize, subgroupMaxSize } = info ?? {};
  if (!subgroupMaxSize || subgroupMinSize !== subgroupMaxSize)
    return `its subgroups have no fixed size (from ${subgroupMinSize ?? "?"} to ${subgroupMaxSize ?? "?"})`;
  const { maxComputeWorkgroupStorageSize: workgroupBytes, maxComputeInvocationsPerWorkgroup: invocations } = limits;
  const subgroups = Math.floor(invocations / subgroupMaxSize);
  const configs = [...(info?.subgroupMatrixConfigs ?? [])];
  const units = configs.flatMap(({ componentType, resultComponentType, M: m, N: n, K: k }) =>
    componentType === "f16" && resultComponentType === "f32" && [m, n, k].every((size) => size === 8 || size === 16)
      ? [{ dialect: "subgroup", m, n, k, subgroupSize: subgroupMaxSize, subgroups } as const]
      : [],
  );
  const work = ({ m, n, k }: MatrixUnit): number => m * n * k;
  const [best] = units.sort((a, b) => work(b) - work(a));
  if (best && kindsFor(best, workgroupBytes).length === 0)
    return `a workgroup has ${workgroupBytes} bytes and ${invocations} invocations, too few for any tile`;
  return (
    best ??
    `its matrix unit offers ${configs.map((c) => `${c.componentType} to ${c.resultComponentType} ${c.M}x${c.N}x${c.K}`).join(", ") || "nothing"}, none of it f16 to f32 in sizes of 8 and 16`
  );
}
