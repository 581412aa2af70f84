// moe/groupedBlocks.ts: a grouped product on WebGPU without barriers, a block of 4 x 4 entries a thread: for adapters that run
// on the CPU.
import type { WebGpuFusedKernel } from "@mc/tensor";
import { rowGrid } from "../wgsl.ts";
import type { GroupedProblem, ProblemOperand } from "./groupedProblem.ts";

const side = 4;

/** The kernel of a grouped product. Rows and columns past the edge repeat the last one and are not stored. */
export function groupedBlocks(problem: GroupedProblem): WebGpuFusedKernel {
  const { entry, columns } = problem;
  const across = Math.ceil(columns / side);
  const blocks = problem.rowTiles(side) * across;
  const grid = rowGrid(blocks);
  return {
    variant: "blocks",
    passes: [{ entry, workgroups: grid.workgroups }],
    wgsl: (inputs, [output]) => {
      const { place, a, b, c } = problem.text(inputs, output!, side);
      const four = [0, 1, 2, 3];
      return `
@compute @workgroup_size(${grid.threads})
fn ${entry}(@builtin(global_invocation_id) id: vec3<u32>) {
  let block = ${grid.index};
  if (block >= ${blocks}u) { return; }
  let rowTile = block / ${across}u;
  let column = block % ${across}u * ${side}u;
  ${place}
  if (row >= rowEnd) { return; }
  ${four.map((i) => `let rowAt${i} = ${lineAt(a, `min(row + ${i}u, rowEnd - 1u)`)};`).join("\n  ")}
  ${four.map((j) => `let columnAt${j} = ${lineAt(b, `min(column + ${j}u, ${columns - 1}u)`)};`).join("\n  ")}
  ${four.map((i) => `var sum${i} = vec4<f32>();`).join(" ")}
  for (var k = kStart; k < kEnd; k++) {
    let right = vec4<f32>(${four.map((j) => entryAt(b, `columnAt${j}`)).join(", ")});
    ${four.map((i) => `sum${i} += ${entryAt(a, `rowAt${i}`)} * right;`).join("\n    ")}
  }
  ${four
    .map((i) =>
      four
        .map(
          (j) =>
            `if (row + ${i}u < rowEnd && column + ${j}u < ${columns}u) { ${c(`(row + ${i}u)`, `column + ${j}u`)} = sum${i}[${j}]; }`,
        )
        .join("\n  "),
    )
    .join("\n  ")}
}`;
    },
  };
}

const lineAt = ({ base, line }: ProblemOperand, i: string): string => `${base} + ${i} * ${line >>> 0}u`;
const entryAt = ({ name, k }: ProblemOperand, at: string): string => `${name}[${at} + k * ${k >>> 0}u]`;
