// device/webgpu/matmul/block.ts: a few rows and columns of the product in the registers of each thread; no workgroup
// memory and no barriers, which are slow where a CPU plays the GPU.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { sizeOf } from "../../../shape.ts";
import { unravel } from "../body.ts";
import { accessOf, bindingCode, grid, moduleCode, type Program, workgroupNumber } from "../program.ts";
import { finishCode } from "./finish.ts";
import { baseLine, elementText, loadFunction, positionText, type Side, sidesOf } from "./operand.ts";

const threads = 32;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** A product with `rows` x `columns` elements a thread; `columns` is a multiple of four. */
export function emitBlockMatmul(kernel: MatmulKernel, rows: number, columns: number): Omit<Program, "variant"> {
  const { label, batch, m, n, k, bindings } = kernel;
  const { a, b, vec4: loads } = sidesOf(kernel);
  const across = Math.ceil(n / columns);
  const perBatch = Math.ceil(m / rows) * across;
  const total = perBatch * sizeOf(batch);
  const { workgroups, width } = grid(label, Math.ceil(total / threads));
  const finish = finishCode(kernel, loads, m % rows === 0 && n % columns === 0);
  const { vec4 } = finish;

  const lines: string[] = [];
  const body = { line: (text: string) => void lines.push(text) };
  body.line(`let block = (${workgroupNumber("workgroup", width, workgroups[1])}) * ${threads}u + local;`);
  body.line(`if (block >= ${total}u) { return; }`);
  body.line(`let z = block / ${perBatch}u;`);
  body.line(`let row = (block % ${perBatch}u) / ${across}u * ${rows}u;`);
  body.line(`let column = block % ${perBatch}u % ${across}u * ${columns}u;`);
  if (kernel.symmetric) body.line(`if (row >= column + ${columns}u) { return; }`);
  const coordinates = unravel(batch, "z", "z", body);
  body.line(baseLine(a, coordinates));
  body.line(baseLine(b, coordinates));
  // rows and columns past the edge repeat the last one (or are zero); `finish` drops them
  for (const i of range(rows)) body.line(`let row${i} = ${clamped("row", i, m, rows)};`);
  for (const j of range(columns / 4))
    for (const c of range(4)) body.line(`let column${4 * j + c} = ${clamped("column", 4 * j + c, n, columns)};`);
  for (const i of range(rows)) for (const j of range(columns / 4)) body.line(`var c${i}_${j} = vec4<f32>();`);

  const whole = k - (k % 4);
  if (whole > 0) {
    body.line(`for (var k = 0u; k < ${whole}u; k += 4u) {`);
    for (const line of stepOfFour(a, b, rows, columns)) body.line(`  ${line}`);
    body.line("}");
  }
  for (let rest = whole; rest < k; rest++) {
    body.line("{");
    for (const i of range(rows))
      body.line(`  let a${i} = ${elementText(vec4, a.binding, `baseA + ${positionText(a, `row${i}`, `${rest}u`)}`)};`);
    for (const j of range(columns / 4)) {
      const parts = range(4).map((c) =>
        elementText(vec4, b.binding, `baseB + ${positionText(b, `column${4 * j + c}`, `${rest}u`)}`),
      );
      body.line(`  let b_${j} = vec4<f32>(${parts.join(", ")});`);
    }
    for (const i of range(rows)) for (const j of range(columns / 4)) body.line(`  c${i}_${j} += a${i} * b_${j};`);
    body.line("}");
  }
  for (const i of range(rows))
    for (const j of range(columns / 4)) body.line(`finish4(z, row + ${i}u, column + ${4 * j}u, c${i}_${j});`);

  const functions = `${loadFunction(a, vec4, a.along === "outer" && m % rows !== 0, false)}${loadFunction(b, vec4, b.along === "outer" && n % columns !== 0, false)}${finish.code}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${lines.map((line) => `  ${line}\n`).join("")}}
`;
  return {
    label,
    code: moduleCode(bindingCode(bindings, vec4), functions),
    passes: [{ entry: "main", workgroups }],
    access: accessOf(bindings),
    scratch: [],
  };
}

const clamped = (name: string, i: number, size: number, block: number): string => {
  const text = i === 0 ? name : `${name} + ${i}u`;
  return size % block === 0 || i === 0 ? text : `min(${text}, ${size - 1}u)`;
};

/** c += A[rows, k..k+3] B[k..k+3, columns] */
function stepOfFour(a: Side, b: Side, rows: number, columns: number): string[] {
  const lines: string[] = [];
  // A: along k one load a row; along rows one load for each of the four k
  const aText = (i: number, s: number): string =>
    a.along === "k" ? `a${i}.${"xyzw"[s]}` : `a${s}_${i >> 2}.${"xyzw"[i % 4]}`;
  if (a.along === "k") for (const i of range(rows)) lines.push(`let a${i} = loadA(baseA, row${i}, k);`);
  else
    for (const s of range(4))
      for (const q of range(Math.ceil(rows / 4)))
        lines.push(`let a${s}_${q} = loadA(baseA, row + ${4 * q}u, k + ${s}u);`);
  const bText = (j: number, s: number): string =>
    b.along === "outer"
      ? `b${s}_${j}`
      : `vec4<f32>(${range(4)
          .map((c) => `b_${4 * j + c}.${"xyzw"[s]}`)
          .join(", ")})`;
  if (b.along === "k") for (const j of range(columns)) lines.push(`let b_${j} = loadB(baseB, column${j}, k);`);
  else
    for (const s of range(4))
      for (const j of range(columns / 4)) lines.push(`let b${s}_${j} = loadB(baseB, column + ${4 * j}u, k + ${s}u);`);
  for (const s of range(4))
    for (const i of range(rows))
      for (const j of range(columns / 4)) lines.push(`c${i}_${j} += ${aText(i, s)} * ${bText(j, s)};`);
  return lines;
}
