// device/webgpu/wide.ts: element-wise kernels with four neighbouring points a thread: a quarter of the threads, and memory
// moved sixteen bytes at a time.
import type { Index } from "../../compiler/affine.ts";
import type { LoopKernel, Value } from "../../compiler/kernel.ts";
import { visitValues } from "../../compiler/values.ts";
import type { DType } from "../../dtype.ts";
import type { ScalarOp } from "../../scalar.ts";
import { sizeOf } from "../../shape.ts";
import { Body, isRider, operation, storeLine, unravel } from "./body.ts";
import {
  accessOf,
  bindingCode,
  elementText,
  grid,
  moduleCode,
  type Program,
  type Target,
  workgroupNumber,
} from "./program.ts";

type KernelValue = Value<number>;

/** Below this many points nothing is gained. */
const smallest = 1 << 16;

/** Bindings that can be declared as vec4, and the values that differ among the four points. */
export interface Wide {
  readonly vec4: ReadonlySet<number>;
  readonly varying: ReadonlySet<number>;
}

/**
 * By how much an index grows from one of four neighbours to the next; undefined where that is no constant, because the variable is
 * inside a remainder, a value, or a division that does not give all four the same.
 */
function coefficientOf(index: Index, variable: number, varying: ReadonlySet<number>): number | undefined {
  let coefficient = 0;
  for (const term of index.terms) {
    const { atom } = term;
    if (atom.kind === "variable") coefficient += atom.variable === variable ? term.coefficient : 0;
    else if (atom.kind === "div" && isAlike(atom, variable, varying)) continue;
    else if (
      atom.kind === "value"
        ? varying.has((atom.value as KernelValue).id)
        : coefficientOf(atom.of, variable, varying) !== 0
    )
      return undefined;
  }
  return coefficient;
}

/** Whether a division gives the same for four neighbours: floor((4 q + r) / by), r < 4, is floor(4 q / by) for multiples of four. */
const isAlike = ({ of, by }: { of: Index; by: number }, variable: number, varying: ReadonlySet<number>): boolean =>
  by % 4 === 0 && coefficientOf(of, variable, varying) === 1 && isAligned(of, variable);

/** Whether four neighbours along `variable` from a multiple of four on begin at a multiple of four. */
const isAligned = (index: Index, variable: number): boolean =>
  index.constant % 4 === 0 &&
  index.terms.every(({ atom, coefficient }) =>
    atom.kind === "variable" && atom.variable === variable ? coefficient === 1 : coefficient % 4 === 0,
  );

/** Whether so many points are done four at a time, where that is possible. */
export const isWorthWide = (points: number, { variants: { elementWise: forced } }: Target): boolean =>
  forced ? forced === "wide" : points >= smallest;

/** How a kernel can be done four points at a time, or undefined where it cannot or should not. */
export const chooseWide = (kernel: LoopKernel, target: Target): Wide | undefined =>
  kernel.reductions.length === 0 && isWorthWide(sizeOf(kernel.shape), target) ? wideStores(kernel) : undefined;

/** Stores over a space. */
export interface WideSpace extends Pick<LoopKernel, "shape" | "stores" | "bindings"> {
  /** The variable of the last dimension; default its number in the shape. */
  readonly variable?: number;
  /** Whether the kernel's results differ from one element to the next, as a product's do; default true. */
  readonly resultsVary?: boolean;
}

/** How stores over a space can be done for four points along its last dimension, or undefined where they cannot. */
export function wideStores({ shape, stores, bindings, variable, resultsVary = true }: WideSpace): Wide | undefined {
  const last = variable ?? shape.length - 1;
  if (shape.length === 0 || shape.at(-1)! % 4 !== 0) return undefined;
  const varying = new Set<number>();
  const aligned = new Set<number>();
  const misaligned = new Set<number>();
  let possible = true;
  const access = (binding: number, index: Index, masked: boolean, load: boolean): boolean => {
    const coefficient = coefficientOf(index, last, varying);
    if (coefficient === undefined) possible = false;
    // f16 that a loop reads it reads one by one: nobody copies much of it
    const together =
      coefficient === 1 && isAligned(index, last) && !masked && !(load && bindings[binding]!.dtype === "f16");
    (together ? aligned : misaligned).add(binding);
    return coefficient !== 0;
  };
  visitValues(
    stores.map((s) => s.value),
    (v) => {
      if (v.kind === "result") {
        if (resultsVary) varying.add(v.id);
      } else if (v.kind === "op" && v.args.some((a) => varying.has(a.id))) varying.add(v.id);
      else if (v.kind === "index") {
        const coefficient = coefficientOf(v.index, last, varying);
        if (coefficient === undefined) possible = false;
        if (coefficient !== 0) varying.add(v.id);
      } else if (v.kind === "load") {
        const masked = v.mask !== undefined && varying.has(v.mask.id);
        if (access(v.source, v.index, masked, true) || masked) varying.add(v.id);
      }
    },
  );
  for (const store of stores)
    if (!access(store.target, store.index, false, false) && !isRider(store, sizeOf(shape))) possible = false;
  // a single element of a vec4 can be read, but not written without a race on the other three
  const vec4 = new Set([...aligned].filter((b) => bindings[b]!.access === "read" || !misaligned.has(b)));
  return possible && vec4.size > 0 ? { vec4, varying } : undefined;
}

/** Operations whose WGSL is the same for vectors. */
const vectorOps: ReadonlySet<ScalarOp> = new Set([
  ...(["add", "sub", "mul", "neg", "abs", "floor", "ceil", "trunc", "sqrt", "rsqrt"] as const),
  ...(["eq", "ne", "lt", "le", "gt", "ge", "not", "select", "bitAnd", "bitOr", "bitXor"] as const),
]);

const components = ["x", "y", "z", "w"];

/** A kernel chosen by `chooseWide` as a program. */
export function emitWide(kernel: LoopKernel, wide: Wide, { software }: Target): Program {
  const { label, shape, bindings } = kernel;
  const { vec4 } = wide;
  const last = shape.length - 1;
  const threads = software ? 64 : 256;
  const quads = sizeOf(shape) / 4;
  const { workgroups, width } = grid(label, Math.ceil(quads / threads));
  const body = new Body(new Map(shape.map((_, i) => [i, i === last ? "first" : `v${i}`])), {
    load: (binding, at) => elementText(bindings[binding]!, binding, vec4.has(binding), at),
    result: () => "",
  });
  body.line(`let place = (${workgroupNumber("workgroup", width, workgroups[1])}) * ${threads}u + local;`);
  body.line(`if (place >= ${quads}u) { return; }`);
  unravel([...shape.slice(0, -1), shape[last]! / 4], "place", "v", body);
  body.line(`let first = v${last} * 4u;`);
  emitWideStores(kernel, wide, body);

  const main = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${body
  .close()
  .map((line) => `  ${line}\n`)
  .join("")}}
`;
  return {
    label,
    variant: "loop wide",
    code: moduleCode(bindingCode(bindings, vec4), main),
    passes: [{ entry: "main", workgroups }],
    access: accessOf(bindings),
    scratch: [],
  };
}

/**
 * Statements that store four neighbours: every value first, then every write. The body's variable for the last dimension is the
 * first of the four; `result` is the text of a vec4, the kernel's results at the four.
 */
export function emitWideStores(
  { shape, stores, bindings, variable }: WideSpace,
  { vec4, varying }: Wide,
  body: Body,
  result = "",
): void {
  const last = variable ?? shape.length - 1;
  const elementOf = (binding: number, at: string): string =>
    elementText(bindings[binding]!, binding, vec4.has(binding), at);
  // texts of varying values, each a vec4; everything else is the body's
  const wide = new Map<number, string>();
  const splat = (v: KernelValue): string => wide.get(v.id) ?? `vec4<${v.dtype}>(${body.value(v)})`;
  const component = (v: KernelValue, c: number): string =>
    wide.has(v.id) ? `${wide.get(v.id)}.${components[c]}` : body.value(v);
  const each = (dtype: DType, text: (c: number) => string): string =>
    `vec4<${dtype}>(${components.map((_, c) => text(c)).join(", ")})`;
  const shifted = (index: Index, c: number): string =>
    body.index(c === 0 ? index : { ...index, constant: index.constant + c * coefficientOf(index, last, varying)! });

  const textOf = (v: KernelValue): string => {
    switch (v.kind) {
      case "op":
        return vectorOps.has(v.op) || (v.op === "div" && v.dtype === "f32")
          ? operation(v, v.args.map(splat))
          : each(v.dtype, (c) =>
              operation(
                v,
                v.args.map((a) => component(a, c)),
              ),
            );
      case "index":
        return each("i32", (c) => `i32(${shifted(v.index, c)})`);
      case "load": {
        const mask = v.mask;
        if (vec4.has(v.source) && isAligned(v.index, last) && !(mask && wide.has(mask.id))) {
          const at = mask ? `select(0u, ${body.index(v.index)}, ${body.value(mask)})` : body.index(v.index);
          const quad = `b${v.source}[(${at}) >> 2u]`;
          return v.dtype === "bool" ? `${quad} != vec4<u32>(0u)` : quad;
        }
        return each(v.dtype, (c) =>
          elementOf(v.source, mask ? `select(0u, ${shifted(v.index, c)}, ${component(mask, c)})` : shifted(v.index, c)),
        );
      }
      default:
        throw new Error(`internal: a ${v.kind} does not vary; please report this`);
    }
  };
  visitValues(
    stores.map((s) => s.value),
    (v) => {
      if (!varying.has(v.id)) return;
      if (v.kind === "result") {
        wide.set(v.id, result);
        return;
      }
      const name = `w${wide.size}`;
      body.line(`let ${name} = ${textOf(v)};`);
      wide.set(v.id, name);
    },
  );
  const writes = stores.flatMap((store) => {
    const { target, index, value } = store;
    if (vec4.has(target)) {
      const four = splat(value);
      const { dtype } = bindings[target]!;
      const stored =
        dtype === "bool"
          ? `select(vec4<u32>(0u), vec4<u32>(1u), ${four})`
          : dtype === "f16"
            ? `vec2<u32>(pack2x16float(${four}.xy), pack2x16float(${four}.zw))`
            : four;
      return [`b${target}[(${body.index(index)}) >> 2u] = ${stored};`];
    }
    const writeOne = (c: number): string => storeLine(bindings, target, shifted(index, c), component(value, c));
    return isRider(store, sizeOf(shape))
      ? [`if (place == 0u) { ${writeOne(0)} }`]
      : components.map((_, c) => writeOne(c));
  });
  for (const write of writes) body.line(write);
}
