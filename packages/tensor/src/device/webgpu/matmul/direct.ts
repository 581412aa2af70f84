// device/webgpu/matmul/direct.ts: each thread reads what it multiplies straight from memory, through the cache: no workgroup
// memory and no barriers, for GPUs whose first-level cache is as fast as their workgroup memory.
import type { MatmulKernel } from "../../../compiler/kernel.ts";
import { unravel } from "../body.ts";
import { accessOf, bindingCode, moduleCode, type Program } from "../program.ts";
import { finishCode } from "./finish.ts";
import { baseLine, elementText, quadPositions, type Side, sidesOf } from "./operand.ts";
import { addLines, finishLines, type Patch, placeLines, range, strideOf, sumLines, threadsOf, walk } from "./patch.ts";

/** A product by patches, without workgroup memory. */
export function emitDirectMatmul(kernel: MatmulKernel, patch: Patch): Omit<Program, "variant"> {
  const { label, m, n, k, batch, bindings } = kernel;
  const { rows, columns, threadRows, threadColumns } = patch;
  const { a, b, vec4 } = sidesOf(kernel);
  const edges = { A: m % rows !== 0, B: n % columns !== 0 };
  const finish = finishCode(kernel, vec4, !edges.A && !edges.B);
  const { workgroups, lines } = walk(kernel, patch, 1);
  const stride = strideOf(patch);

  const coordinates = unravel(batch, "entry", "z", { line: (text) => void lines.push(text) });
  lines.push(baseLine(a, coordinates), baseLine(b, coordinates), ...placeLines(patch));
  const quads = (side: Side, count: number, corner: string, place: string, apart: number) =>
    range(count).map((i) =>
      quadPositions(side, `${side.name}${i}`, `${corner} + (${place} + ${i * apart}u) * 4u`, "0u", edges[side.name]),
    );
  const ofA = quads(a, threadRows / 4, "row0", "ty", stride.rows);
  const ofB = quads(b, threadColumns / 4, "column0", "tx", stride.columns);
  for (const { lines: place } of [...ofA, ...ofB]) lines.push(...place);
  lines.push(...sumLines(patch));

  /** Loads and sums of `count` values of k from `k` on. */
  const step = (count: number): string[] => {
    const left = (i: number, t: number): string =>
      a.aligned && a.along === "k" ? `A${i >> 2}_${i % 4}.${"xyzw"[t]}` : `A${i >> 2}_${t}.${"xyzw"[i % 4]}`;
    const right = (j: number, t: number): string =>
      b.aligned && b.along === "k"
        ? `vec4<f32>(${range(4)
            .map((c) => `B${j}_${c}.${"xyzw"[t]}`)
            .join(", ")})`
        : `B${j}_${t}`;
    return [
      ...ofA.flatMap((at, i) => loadLines(a, finish.vec4, `A${i}`, at.position, count)),
      ...ofB.flatMap((at, j) => loadLines(b, finish.vec4, `B${j}`, at.position, count)),
      ...range(count).flatMap((t) =>
        addLines(
          patch,
          (i) => left(i, t),
          (j) => right(j, t),
        ),
      ),
    ];
  };
  if (k >= 4) {
    lines.push(`for (var q = 0u; q < ${Math.floor(k / 4)}u; q++) {`, "  let k = q * 4u;");
    lines.push(...step(4).map((line) => `  ${line}`), "}");
  }
  if (k % 4 > 0) lines.push("{", `  let k = ${k - (k % 4)}u;`, ...step(k % 4).map((line) => `  ${line}`), "}");
  lines.push(...finishLines(patch));

  const main = `@compute @workgroup_size(${threadsOf(patch)})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${lines.map((line) => `  ${line}\n`).join("")}}
`;
  return {
    label,
    code: moduleCode(bindingCode(bindings, finish.vec4), finish.code + main),
    passes: [{ entry: "main", workgroups }],
    access: accessOf(bindings),
    scratch: [],
  };
}

/**
 * A quad of rows at `count` values of k as vec4s: along k `<name>_<row>`, else `<name>_<t>` for value t of k.
 */
function loadLines(
  { binding, along, aligned, kStride }: Side,
  vec4: ReadonlySet<number>,
  name: string,
  position: (row: number) => string,
  count: number,
): string[] {
  if (aligned && along === "k")
    return range(4).map((j) => `let ${name}_${j} = b${binding}[${position(j)} + (k >> 2u)];`);
  return range(count).map((t) => {
    if (aligned) return `let ${name}_${t} = b${binding}[${position(0)} + (k + ${t}u) * ${kStride / 4}u];`;
    const parts = range(4).map((j) => elementText(vec4, binding, `${position(j)} + (k + ${t}u) * ${kStride}u`));
    return `let ${name}_${t} = vec4<f32>(${parts.join(", ")});`;
  });
}
