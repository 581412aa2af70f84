// device/webgpu/matmul/finish.ts: what happens to an element of the product: the kernel's stores, as WGSL functions.
import { affineStrides } from "../../../compiler/affine.ts";
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { Body, loadElement, unravel } from "../body.ts";
import { emitStores } from "../emitLoop.ts";
import { elementText } from "./operand.ts";

/** Functions that end a product, and the bindings declared as vec4 with those that they store to. */
export interface Finish {
  readonly code: string;
  readonly vec4: ReadonlySet<number>;
}

const indent = (lines: readonly string[]): string => lines.map((line) => `  ${line}\n`).join("");

/** Leaves a function for elements outside, or below the diagonal of a symmetric product; nothing where there are none. */
function guard({ m, n, symmetric }: MatmulKernel, whole: boolean): string {
  const outside = [whole ? "" : `row >= ${m}u || column >= ${n}u`, symmetric ? "row > column" : ""].filter(Boolean);
  return outside.length === 0 ? "" : `  if (${outside.join(" || ")}) { return; }\n`;
}

/** `finish4` by way of `finish`. */
const finishEach = `fn finish4(z: u32, row: u32, column: u32, value: vec4<f32>) {
  finish(z, row, column, value.x);
  finish(z, row, column + 1u, value.y);
  finish(z, row, column + 2u, value.z);
  finish(z, row, column + 3u, value.w);
}
`;

/**
 * `fn <name>(z, row, column, value)`: the kernel's stores for one element of batch entry z, and for its mirror image where
 * the product is symmetric: by one piece of code, so that equal values give equal results.
 */
export function storesFunction(name: string, kernel: MatmulKernel, vec4: ReadonlySet<number>, whole: boolean): string {
  const { batch, symmetric } = kernel;
  const place = symmetric ? ["i", "j"] : ["row", "column"];
  const variables = new Map([...batch.map((_, i) => `z${i}`), ...place].map((text, i) => [i, text] as const));
  const body = new Body(variables, {
    load: (binding, index, dtype) =>
      vec4.has(binding) ? elementText(vec4, binding, index) : loadElement(binding, index, dtype),
    result: () => "value",
  });
  unravel(batch, "z", "z", body);
  emitStores(kernel.stores, body);
  const stores = symmetric
    ? [
        "for (var side = 0u; side < select(1u, 2u, row < column); side++) {",
        "  let i = select(row, column, side == 1u);",
        "  let j = select(column, row, side == 1u);",
        ...body.close().map((line) => `  ${line}`),
        "}",
      ]
    : body.close();
  return `fn ${name}(z: u32, row: u32, column: u32, value: f32) {\n${guard(kernel, whole)}${indent(stores)}}\n`;
}

/**
 * `finish4(z, row, column, value)`: ends four neighbouring columns from a multiple of four on, as one store where the product
 * is stored as it is. `whole`: it is called for elements inside only.
 */
export function finishCode(kernel: MatmulKernel, vec4: ReadonlySet<number>, whole: boolean): Finish {
  const target = vectorTarget(kernel);
  if (!target) return { code: storesFunction("finish", kernel, vec4, whole) + finishEach, vec4 };
  const { binding, offset, strides } = target;
  const body = new Body(new Map(), { load: loadElement, result: () => "value" });
  const names = unravel(kernel.batch, "z", "z", body);
  const at = [...names, "row"].map((text, i) => `${text} * ${strides[i]}u`).join(" + ");
  const code = `fn finish4(z: u32, row: u32, column: u32, value: vec4<f32>) {
${guard(kernel, whole)}${indent(body.close())}  b${binding}[(${at} + column + ${offset}u) >> 2u] = value;
}
`;
  return { code, vec4: new Set([...vec4, binding]) };
}

/** Stores to `partial`, the scratch buffer [entries, m, n]; z counts entries. */
export function partialCode(kernel: MatmulKernel, vec4: ReadonlySet<number>, whole: boolean): Finish {
  const { m, n } = kernel;
  const code = `fn finish(z: u32, row: u32, column: u32, value: f32) {
${guard(kernel, whole)}  partial[(z * ${m}u + row) * ${n}u + column] = value;
}
${finishEach}`;
  return { code, vec4 };
}

/** Where the product is stored as it is, four columns at a time: alone, contiguous along columns and aligned. */
function vectorTarget(kernel: MatmulKernel): { binding: number; offset: number; strides: number[] } | undefined {
  const { batch, m, n, symmetric, stores, bindings } = kernel;
  const [store] = stores;
  if (symmetric || stores.length !== 1 || store!.value.kind !== "result" || bindings[store!.target]!.access !== "write")
    return undefined;
  const affine = affineStrides(store!.index, batch.length + 2);
  if (!affine || n % 4 !== 0 || affine.offset % 4 !== 0) return undefined;
  const strides = affine.strides.slice(0, -1);
  const contiguous = affine.strides[batch.length + 1] === 1;
  const aligned = [...batch, m].every((size, i) => size === 1 || (strides[i]! >= 0 && strides[i]! % 4 === 0));
  return contiguous && aligned ? { binding: store!.target, offset: affine.offset, strides } : undefined;
}
