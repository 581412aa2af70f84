// device/webgpu/program.ts: a kernel as the WebGPU device runs it: one WGSL module and its passes. Plain data, made by pure
// functions, so that it can be read and tested without a GPU.
import type { Binding } from "../../compiler/kernel.ts";
import { DeviceError } from "../../errors.ts";
import { helperCode, storageType } from "./helpers.ts";
import type { MatrixUnit } from "./matmul/matrixUnit.ts";
import type { TensorPlan } from "./matmul/tensorCore.ts";
import type { TileName } from "./matmul/tiles.ts";

/** One dispatch of an entry point. */
export interface Pass {
  readonly entry: string;
  readonly workgroups: readonly [number, number, number];
}

/** WGSL and how to run it. No passes: there is nothing to do. */
export interface Program {
  readonly label: string;
  /** Which kernel this is of those that could run: "loop wide", "reduce workgroup", "matmul 64x64x16/8x8", "fused tiles". */
  readonly variant: string;
  readonly code: string;
  readonly passes: readonly Pass[];
  /** Access of binding i; scratch buffers follow the kernel's own. */
  readonly access: readonly ("read" | "write")[];
  /** f32 elements of each scratch buffer. */
  readonly scratch: readonly number[];
}

/**
 * What code generation may depend on: the class of the device and forced variants. Equal targets and equal kernels give equal
 * text on every host.
 */
export interface Target {
  /** A CPU that emulates a GPU: no barriers, few long threads. */
  readonly software: boolean;
  /** Workgroup memory: products of large tiles take what not every device has. */
  readonly workgroupBytes: number;
  /** Where products run in f16; undefined: they run in f32. */
  readonly matrixUnit?: MatrixUnit;
  readonly variants: Variants;
}

/** Forces kernel variants, for tests; without it capability and shape choose. */
export interface Variants {
  readonly matmul?: MatmulVariant;
  /** Slices that a forced tile cuts the inner dimension of products into; default 1. */
  readonly slices?: number;
  readonly reduce?: ReduceVariant;
  readonly elementWise?: ElementWiseVariant;
  /** Products run on a matrix unit played by plain loops, on any device. */
  readonly matrixUnit?: "emulated";
  /** How every product on a matrix unit runs. */
  readonly tensor?: TensorPlan;
}

/**
 * "naive": a thread an element; "vector": a reduction for matrix-vector shapes; "block": 4x4 elements a thread, no barriers; a
 * tile in workgroup memory, by its name in `matmul/tiles.ts`.
 * Products in f16 are not among them: those run on a matrix unit, as `Variants.tensor` says.
 */
export type MatmulVariant = "naive" | "vector" | "block" | TileName;

/** "thread": a thread a point; "workgroup": several lanes a point and a tree in workgroup memory. */
export type ReduceVariant = "thread" | "workgroup";

/** "scalar": an element a thread; "wide": four neighbours a thread, loaded and stored together where they lie aligned. */
export type ElementWiseVariant = "scalar" | "wide";

const maxWorkgroups = 65535;

/** Workgroups of a dispatch: one dimension while that fits, else two. Kernels number them as `x + y * gridWidth`. */
export function grid(label: string, groups: number): { workgroups: readonly [number, number, number]; width: number } {
  if (groups <= maxWorkgroups) return { workgroups: [groups, 1, 1], width: groups };
  const height = Math.ceil(groups / maxWorkgroups);
  const width = Math.ceil(groups / height);
  if (height > maxWorkgroups)
    throw new DeviceError(
      "limit",
      `${label}: needs ${groups} workgroups, more than WebGPU can start; use smaller tensors`,
    );
  return { workgroups: [width, height, 1], width };
}

/** WGSL text of the workgroup's number: `id` is the `workgroup_id` builtin. */
export const workgroupNumber = (id: string, width: number, height: number): string =>
  height === 1 ? `${id}.x` : `${id}.x + ${id}.y * ${width}u`;

/** Declarations of bindings `b0`, `b1`, ...; those named in `vec4` hold four elements an entry, or eight f16 that are only read. */
export function bindingCode(bindings: readonly Binding[], vec4: ReadonlySet<number> = new Set()): string {
  return bindings
    .map((binding, i) => {
      const access = binding.access === "read" ? "read" : "read_write";
      return `@group(0) @binding(${i}) var<storage, ${access}> b${i}: array<${entryType(binding, vec4.has(i))}>;\n`;
    })
    .join("");
}

/** f16 lies in pairs in a u32: eight are read at a time, four written; one that is written by itself shares its word with another. */
function entryType({ dtype, access }: Binding, fours: boolean): string {
  if (dtype !== "f16") return fours ? `vec4<${storageType(dtype)}>` : storageType(dtype);
  if (access === "read") return fours ? "vec4<u32>" : "u32";
  return fours ? "vec2<u32>" : "atomic<u32>";
}

/** Text of the value at `at` of a binding, which is the buffer `b<number>`; `fours`: as `bindingCode` declares it. */
export function elementText({ dtype, access }: Binding, number: number, fours: boolean, at: string): string {
  const entry = fours ? `b${number}[(${at}) >> 2u][(${at}) & 3u]` : `b${number}[${at}]`;
  if (dtype === "bool") return `(${entry} != 0u)`;
  if (dtype !== "f16") return entry;
  const pair = `(${at}) >> 1u`;
  const word = fours
    ? access === "read"
      ? `b${number}[(${at}) >> 3u][(${pair}) & 3u]`
      : `b${number}[(${at}) >> 2u][(${pair}) & 1u]`
    : access === "read"
      ? `b${number}[${pair}]`
      : `atomicLoad(&b${number}[${pair}])`;
  return `unpack2x16float(${word})[(${at}) & 1u]`;
}

export const accessOf = (bindings: readonly Binding[]): ("read" | "write")[] =>
  bindings.map((b) => (b.access === "read" ? "read" : "write"));

/** A whole module: helpers that the rest uses, declarations, functions. */
export const moduleCode = (declarations: string, functions: string): string =>
  `${helperCode(declarations + functions)}${declarations}\n${functions}`;
