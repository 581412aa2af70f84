// device/webgpu/matmul/finish.ts: what happens to elements of the product: the kernel's stores, as WGSL functions.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { Body, unravel } from "../body.ts";
import { emitStores } from "../emitLoop.ts";
import { elementText } from "../program.ts";
import { emitWideStores, wideStores } from "../wide.ts";

/** Functions that end a product, and the bindings declared as vec4 with those that they read and store to. */
export interface Finish {
  readonly code: string;
  readonly vec4: ReadonlySet<number>;
}

const indent = (lines: readonly string[]): string => lines.map((line) => `  ${line}\n`).join("");

/** Leaves a function for elements that are not to be stored. */
export const guardLine = (outside: string): string => (outside ? `  if (${outside}) { return; }\n` : "");

/** Condition for elements outside of the matrix. */
export const beyond = ({ m, n }: MatmulKernel): string => `row >= ${m}u || column >= ${n}u`;

/**
 * WGSL functions that end elements of batch entry `z`:
 *
 * - `finish4(z, row, column, value: vec4<f32>)`: four neighbouring columns, from a multiple of four on if n is one;
 * - `finishBlock(z, row, column, block: mat4x4<f32>)`: four such rows, each vector of `block` one of them. Of a symmetric
 *   product, whose blocks begin at multiples of four, those below the diagonal are dropped and those above it are stored twice.
 *
 * @param vec4 - bindings that are declared as vec4 by whoever reads the operands
 * @param outside - condition on `row` and `column` for elements that are dropped; "" if none of them come
 * @param name - what the functions' names begin with
 */
export function finishCode(kernel: MatmulKernel, vec4: ReadonlySet<number>, outside: string, name = "finish"): Finish {
  const four = finishFour(kernel, vec4, outside, name);
  return { code: four.code + (kernel.symmetric ? symmetricBlock : plainBlock)(name), vec4: four.vec4 };
}

/** `finish4`: with vec4 loads and stores where all lies aligned, else element by element. */
function finishFour(kernel: MatmulKernel, vec4: ReadonlySet<number>, outside: string, name: string): Finish {
  const { batch, m, n, stores, bindings } = kernel;
  const space = { shape: [...batch, m, n], stores, bindings };
  const wide = wideStores(space);
  const declared = new Set([...vec4, ...(wide?.vec4 ?? [])]);
  const variables = new Map([...batch.map((_, i) => `z${i}`), "row", "column"].map((text, i) => [i, text] as const));
  const body = new Body(variables, {
    load: (b, at) => elementText(bindings[b]!, b, declared.has(b), at),
    result: () => "value",
  });
  unravel(batch, "z", "z", body);
  if (wide) {
    emitWideStores(space, { ...wide, vec4: declared }, body, "value");
    const code = `fn ${name}4(z: u32, row: u32, column: u32, value: vec4<f32>) {
${guardLine(outside)}${indent(body.close())}}
`;
    return { code, vec4: declared };
  }
  emitStores(space, body);
  const code = `fn ${name}(z: u32, row: u32, column: u32, value: f32) {
${guardLine(outside)}${indent(body.close())}}
fn ${name}4(z: u32, row: u32, column: u32, value: vec4<f32>) {
  ${name}(z, row, column, value.x);
  ${name}(z, row, column + 1u, value.y);
  ${name}(z, row, column + 2u, value.z);
  ${name}(z, row, column + 3u, value.w);
}
`;
  return { code, vec4: declared };
}

const fourRows = (name: string, row: string, column: string): string =>
  [0, 1, 2, 3].map((i) => `${name}4(z, ${row}${i === 0 ? "" : ` + ${i}u`}, ${column}, block[${i}]);`).join(" ");

const plainBlock = (name: string): string => `fn ${name}Block(z: u32, row: u32, column: u32, block: mat4x4<f32>) {
  ${fourRows(name, "row", "column")}
}
`;

// rows and columns are multiples of four, so a block lies above the diagonal, on it, or below
const symmetricBlock = (name: string): string => `fn ${name}Block(z: u32, row: u32, column: u32, given: mat4x4<f32>) {
  if (row > column) { return; }
  var block = given;
  if (row == column) {
    block = mat4x4<f32>(
      given[0],
      vec4<f32>(given[0].y, given[1].yzw),
      vec4<f32>(given[0].z, given[1].z, given[2].zw),
      vec4<f32>(given[0].w, given[1].w, given[2].w, given[3].w));
  }
  for (var side = 0u; side < select(1u, 2u, row < column); side++) {
    let i = select(row, column, side == 1u);
    let j = select(column, row, side == 1u);
    ${fourRows(name, "i", "j")}
    block = transpose(block);
  }
}
`;
