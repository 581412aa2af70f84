// device/webgpu/matmul/block.ts: four rows and four columns of the product in the registers of each thread; no workgroup memory
// and no barriers, which are slow where a CPU plays the GPU.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { unravel } from "../body.ts";
import { accessOf, bindingCode, grid, moduleCode, type Program, workgroupNumber } from "../program.ts";
import { beyond, finishCode } from "./finish.ts";
import { baseLine, loadFunction, positionText, type Side, sidesOf, sideText } from "./operand.ts";

const threads = 32;
const four = [0, 1, 2, 3];

/** A product with 4 x 4 elements a thread. */
export function emitBlockMatmul(kernel: MatmulKernel): Omit<Program, "variant"> {
  const { label, batch, m, n, k, symmetric, bindings } = kernel;
  const { a, b, vec4: loads } = sidesOf(kernel);
  const across = Math.ceil(n / 4);
  const perBatch = Math.ceil(m / 4) * across;
  const total = perBatch * sizeOf(batch);
  const { workgroups, width } = grid(label, Math.ceil(total / threads));
  const finish = finishCode(kernel, loads, m % 4 === 0 && n % 4 === 0 ? "" : beyond(kernel));
  const { vec4 } = finish;

  const lines: string[] = [];
  const body = { line: (text: string) => void lines.push(text) };
  body.line(`let block = (${workgroupNumber("workgroup", width, workgroups[1])}) * ${threads}u + local;`);
  body.line(`if (block >= ${total}u) { return; }`);
  body.line(`let z = block / ${perBatch}u;`);
  body.line(`let row = (block % ${perBatch}u) / ${across}u * 4u;`);
  body.line(`let column = block % ${perBatch}u % ${across}u * 4u;`);
  if (symmetric) body.line("if (row > column) { return; }");
  const coordinates = unravel(batch, "z", "z", body);
  body.line(baseLine(a, coordinates));
  body.line(baseLine(b, coordinates));
  // rows and columns past the edge repeat the last one (or are zero); `finishBlock` drops them
  for (const i of four) body.line(`let row${i} = ${clamped("row", i, m)};`);
  for (const j of four) body.line(`let column${j} = ${clamped("column", j, n)};`);
  for (const i of four) body.line(`var c${i} = vec4<f32>();`);

  const whole = k - (k % 4);
  if (whole > 0) {
    body.line(`for (var k = 0u; k < ${whole}u; k += 4u) {`);
    for (const line of stepOfFour(a, b)) body.line(`  ${line}`);
    body.line("}");
  }
  const element = (side: Side, outer: string, at: number): string =>
    sideText(side, vec4, `base${side.name} + ${positionText(side, outer, `${at}u`)}`);
  for (let rest = whole; rest < k; rest++) {
    body.line("{");
    body.line(`  let right = vec4<f32>(${four.map((j) => element(b, `column${j}`, rest)).join(", ")});`);
    for (const i of four) body.line(`  c${i} += ${element(a, `row${i}`, rest)} * right;`);
    body.line("}");
  }
  body.line("finishBlock(z, row, column, mat4x4<f32>(c0, c1, c2, c3));");

  const loadsOf = (side: Side, size: number): string =>
    loadFunction(side, vec4, side.along === "outer" && size % 4 !== 0, false);
  const main = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${lines.map((line) => `  ${line}\n`).join("")}}
`;
  return {
    label,
    code: moduleCode(bindingCode(bindings, vec4), loadsOf(a, m) + loadsOf(b, n) + finish.code + main),
    passes: [{ entry: "main", workgroups }],
    access: accessOf(bindings),
    scratch: [],
  };
}

const clamped = (name: string, i: number, size: number): string => {
  const text = i === 0 ? name : `${name} + ${i}u`;
  return size % 4 === 0 || i === 0 ? text : `min(${text}, ${size - 1}u)`;
};

/** c += A[rows, k..k+3] B[k..k+3, columns]: along k one load a row, along rows one load for each of the four k. */
function stepOfFour(a: Side, b: Side): string[] {
  const loads = (side: Side, outer: string): string[] =>
    four.map((i) =>
      side.along === "k"
        ? `let ${side.name}${i} = load${side.name}(base${side.name}, ${outer}${i}, k);`
        : `let ${side.name}${i} = load${side.name}(base${side.name}, ${outer}, k + ${i}u);`,
    );
  const left = (i: number, s: number): string => (a.along === "k" ? `A${i}.${"xyzw"[s]}` : `A${s}.${"xyzw"[i]}`);
  const right = (s: number): string =>
    b.along === "outer" ? `B${s}` : `vec4<f32>(${four.map((c) => `B${c}.${"xyzw"[s]}`).join(", ")})`;
  return [
    ...loads(a, "row"),
    ...loads(b, "column"),
    ...four.flatMap((s) => four.map((i) => `c${i} += ${left(i, s)} * ${right(s)};`)),
  ];
}
