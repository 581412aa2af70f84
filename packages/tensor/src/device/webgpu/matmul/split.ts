// device/webgpu/matmul/split.ts: a product whose inner dimension is cut into slices: partial products in scratch memory, and a
// second pass that adds them up in order, so that the result is the same at every run.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { grid, type Pass, workgroupNumber } from "../program.ts";
import { beyond, type Finish, finishCode, guardLine } from "./finish.ts";

const addThreads = 64;
const fours = (n: number): number => Math.ceil(n / 4);

/**
 * `finish4` and `finishBlock` of the first pass: they store to `partial`, vec4s [slices, entries, m, n / 4]; their z is
 * `slice * entries + entry`.
 */
export function partialCode({ m, n, symmetric }: MatmulKernel, vec4: ReadonlySet<number>, outside: string): Finish {
  const rows = [0, 1, 2, 3].map((i) => `  finish4(z, row + ${i}u, column, block[${i}]);\n`).join("");
  const code = `fn finish4(z: u32, row: u32, column: u32, value: vec4<f32>) {
${guardLine(outside)}  partial[(z * ${m}u + row) * ${fours(n)}u + (column >> 2u)] = value;
}
fn finishBlock(z: u32, row: u32, column: u32, block: mat4x4<f32>) {
${symmetric ? "  if (row > column) { return; }\n" : ""}${rows}}
`;
  return { code, vec4 };
}

/** The second pass over partial products, and their scratch memory. */
export interface AddPass {
  readonly declaration: string;
  readonly code: string;
  readonly pass: Pass;
  /** f32 elements of the scratch buffer `partial`. */
  readonly elements: number;
  /** Bindings declared as vec4 with those of the first pass. */
  readonly vec4: ReadonlySet<number>;
}

/** The sum over slices in order, then the kernel's stores. `binding`: number of the scratch buffer. */
export function addPass(kernel: MatmulKernel, vec4: ReadonlySet<number>, slices: number, binding: number): AddPass {
  const { label, batch, m, n, symmetric } = kernel;
  const entries = sizeOf(batch);
  const finish = finishCode(kernel, vec4, beyond(kernel), "done");
  // a thread for each four columns, or, where blocks are mirrored, for each four rows of them
  const [rows, tall] = symmetric ? [fours(m), 4] : [m, 1];
  const total = entries * rows * fours(n);
  const { workgroups, width } = grid(label, Math.ceil(total / addThreads));
  const sum = (i: number): string => `sumOf((z * ${m}u + min(row + ${i}u, ${m - 1}u)) * ${fours(n)}u + column)`;
  const ending = symmetric
    ? `  if (row > column * 4u) { return; }
  doneBlock(z, row, column * 4u, mat4x4<f32>(${[0, 1, 2, 3].map(sum).join(", ")}));`
    : `  done4(z, row, column * 4u, ${sum(0)});`;
  return {
    declaration: `@group(0) @binding(${binding}) var<storage, read_write> partial: array<vec4<f32>>;\n`,
    code: `${finish.code}fn sumOf(at: u32) -> vec4<f32> {
  var value = vec4<f32>();
  for (var slice = 0u; slice < ${slices}u; slice++) { value += partial[slice * ${entries * m * fours(n)}u + at]; }
  return value;
}
@compute @workgroup_size(${addThreads})
fn add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (${workgroupNumber("workgroup", width, workgroups[1])}) * ${addThreads}u + local;
  if (at >= ${total}u) { return; }
  let z = at / ${rows * fours(n)}u;
  let row = at / ${fours(n)}u % ${rows}u * ${tall}u;
  let column = at % ${fours(n)}u;
${ending}
}
`,
    pass: { entry: "add", workgroups },
    elements: slices * entries * m * fours(n) * 4,
    vec4: finish.vec4,
  };
}
