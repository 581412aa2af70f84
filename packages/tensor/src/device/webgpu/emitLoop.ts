// device/webgpu/emitLoop.ts: element-wise and reduction kernels as WGSL.
import type { LoopKernel, Reduction, Spread, Store } from "../../compiler/kernel.ts";
import type { DType } from "../../dtype.ts";
import { invariant } from "../../errors.ts";
import { sizeOf } from "../../shape.ts";
import { Body, isRider, storeLine, unravel } from "./body.ts";
import { storageType, wgslLiteral, wgslType } from "./helpers.ts";
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
import { chooseLanes, type Lanes } from "./reduceRegime.ts";
import { chooseWide, emitWide, emitWideStores, isWorthWide, type Wide, type WideSpace, wideStores } from "./wide.ts";

/** Statements that store `stores`: every value first, then every write. */
export function emitStores({ stores, bindings }: Pick<LoopKernel, "stores" | "bindings">, body: Body): void {
  const writes = stores.map(({ target, index, value }) => {
    const at = body.index(index);
    return storeLine(bindings, target, at, body.value(value));
  });
  for (const write of writes) body.line(write);
}

/** A loop kernel as a WGSL program. */
export function emitLoop(kernel: LoopKernel, target: Target): Program {
  const { label, shape, bindings, reductions, stores, spread } = kernel;
  const points = sizeOf(shape);
  const access = accessOf(bindings);
  if (points === 0 || stores.length + (spread?.stores.length ?? 0) === 0)
    return { label, variant: "nothing", code: "", passes: [], access, scratch: [] };

  const wide = chooseWide(kernel, target);
  if (wide) return emitWide(kernel, wide, target);
  const lanes = chooseLanes(kernel, target);
  const { workgroups, width } = grid(label, Math.ceil(points / lanes.points));
  const wideSpread = spread && chooseWideSpread(kernel, spread, target);
  const vec4 = wideSpread?.vec4 ?? new Set();
  const body = new Body(new Map(shape.map((_, i) => [i, `v${i}`])), {
    load: (b, at) => elementText(bindings[b]!, b, vec4.has(b), at),
    result: (n) => `r${n}`,
  });

  const threads = lanes.points * lanes.lanes;
  const group = workgroupNumber("workgroup", width, workgroups[1]);
  const point =
    lanes.lanes === 1 ? "local" : lanes.pointsFirst ? `local % ${lanes.points}u` : `local / ${lanes.lanes}u`;
  body.line(lanes.points === 1 ? `let place = ${group};` : `let place = (${group}) * ${lanes.points}u + ${point};`);
  if (lanes.lanes === 1) {
    body.line(`if (place >= ${points}u) { return; }`);
    body.line("let point = place;");
  } else {
    body.line(`let lane = ${lanes.pointsFirst ? `local / ${lanes.points}u` : `local % ${lanes.lanes}u`};`);
    body.line(`let point = min(place, ${points - 1}u);`);
  }
  unravel(shape, "point", "v", body);
  for (const [n, reduction] of reductions.entries()) emitReduction(n, reduction, lanes, body);
  for (const { value } of stores) body.value(value);
  const storeIf = (conditions: readonly string[], some: readonly Store<number>[]): void => {
    if (some.length === 0) return;
    body.open(new Map());
    emitStores({ stores: some, bindings }, body);
    const lines = body.close();
    if (conditions.length > 0) lines.splice(0, lines.length, `if (${conditions.join(" && ")}) {`, ...lines, "}");
    for (const line of lines) body.line(line);
  };
  const firstLaneOnly = lanes.lanes === 1 ? [] : ["lane == 0u"];
  storeIf(
    lanes.lanes === 1 ? [] : [...firstLaneOnly, `place < ${points}u`],
    stores.filter((s) => !isRider(s, points)),
  );
  storeIf(
    [...firstLaneOnly, "place == 0u"],
    stores.filter((s) => isRider(s, points)),
  );
  if (spread) emitSpread(kernel, spread, wideSpread, lanes, body);

  const shared = new Set(reductions.flatMap((r) => partialTypes(r)));
  const sharedCode =
    lanes.lanes === 1 ? "" : [...shared].map((t) => `var<workgroup> lanes_${t}: array<${t}, ${threads}>;\n`).join("");
  const main = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
${indent(body.close())}
}
`;
  return {
    label,
    variant: reductions.length === 0 ? "loop" : lanes.lanes === 1 ? "reduce thread" : "reduce workgroup",
    code: moduleCode(bindingCode(bindings, vec4) + sharedCode, main),
    passes: [{ entry: "main", workgroups }],
    access,
    scratch: [],
  };
}

/** What is stored beside the points as a space for `wideStores`: a row's reductions are the same for all of its elements. */
const spreadSpace = ({ bindings }: LoopKernel, { firstVariable, shape, stores }: Spread<number>): WideSpace => ({
  shape,
  stores,
  bindings,
  variable: firstVariable + shape.length - 1,
  resultsVary: false,
});

/** Whether elements beside the points can be stored four at a time, and how. */
function chooseWideSpread(kernel: LoopKernel, spread: Spread<number>, target: Target): Wide | undefined {
  if (!isWorthWide(sizeOf(kernel.shape) * sizeOf(spread.shape), target)) return undefined;
  const wide = wideStores(spreadSpace(kernel, spread));
  const byPoints = kernel.stores.map((s) => s.target);
  return wide && !byPoints.some((b) => wide.vec4.has(b)) ? wide : undefined;
}

/** Each lane takes every lanes-th element beside the point, or every lanes-th four of them. */
function emitSpread(
  kernel: LoopKernel,
  spread: Spread<number>,
  wide: Wide | undefined,
  lanes: Lanes,
  body: Body,
): void {
  const { firstVariable, shape } = spread;
  const last = shape.length - 1;
  const names = shape.map((_, i) => (wide && i === last ? "first" : last === 0 ? "beside" : `s${i}`));
  body.open(new Map(names.map((name, i) => [firstVariable + i, name])));
  const steps = wide ? [...shape.slice(0, -1), shape[last]! / 4] : shape;
  if (last > 0) unravel(steps, "beside", "s", body);
  if (wide) {
    body.line(`let first = ${last > 0 ? `s${last}` : "beside"} * 4u;`);
    emitWideStores(spreadSpace(kernel, spread), wide, body);
  } else emitStores({ stores: spread.stores, bindings: kernel.bindings }, body);
  const lines = body.close();
  const [from, step] = lanes.lanes > 1 ? ["lane", lanes.lanes] : ["0u", 1];
  const inside = lanes.lanes > 1 ? `place < ${sizeOf(kernel.shape)}u && ` : "";
  body.line(`for (var beside = ${from}; ${inside}beside < ${sizeOf(steps)}u; beside += ${step}u) {`);
  for (const line of lines) body.line(`  ${line}`);
  body.line("}");
}

const indent = (lines: readonly string[]): string => lines.map((line) => `  ${line}`).join("\n");

/** How partial results of a reduction begin, take in an element, and join. */
interface Rule {
  readonly start: string;
  readonly join: (a: string, b: string) => string;
}

function rule({ reduce }: Reduction, dtype: DType): Rule {
  switch (reduce) {
    case "sum":
      return { start: wgslLiteral(0, dtype), join: (a, b) => `${a} + ${b}` };
    case "max":
    case "min": {
      const sign = reduce === "max" ? -1 : 1;
      const start =
        dtype === "f32"
          ? sign * Infinity
          : dtype === "u32"
            ? sign < 0
              ? 0
              : 0xffffffff
            : sign < 0
              ? -2147483648
              : 2147483647;
      const join = dtype === "f32" ? `mc_${reduce}` : reduce;
      return { start: wgslLiteral(start, dtype), join: (a, b) => `${join}(${a}, ${b})` };
    }
    case "argmax":
      throw new Error("internal: argmax has two partial results; please report this");
  }
}

/** Types of a reduction's partial results in workgroup memory. */
const partialTypes = ({ reduce, value }: Reduction<number>): string[] =>
  reduce === "argmax" ? ["u32"] : [storageType(value.dtype)];

/** Key whose unsigned order is the order of the values, NaN last. */
function orderKey(text: string, dtype: DType): string {
  return dtype === "f32" ? `mc_order(${text})` : dtype === "i32" ? `bitcast<u32>(${text}) ^ 0x80000000u` : text;
}

function emitReduction(n: number, reduction: Reduction<number>, lanes: Lanes, body: Body): void {
  const size = sizeOf(reduction.shape);
  if (reduction.reduce === "argmax") emitArgmax(n, reduction, size, lanes, body);
  else emitFold(n, reduction, size, lanes, body);
}

/** sum, max, min: r = start; r = join(r, value) over the loop; then a tree over the lanes. */
function emitFold(n: number, reduction: Reduction<number>, size: number, lanes: Lanes, body: Body): void {
  const { dtype } = reduction.value;
  const { start, join } = rule(reduction, dtype);
  body.line(`var r${n}: ${wgslType(dtype)} = ${start};`);
  if (size > 0) {
    // a long f32 sum is a sum of sums of `stretch` elements: its rounding error grows with the square root of the length
    const blocked = reduction.reduce === "sum" && dtype === "f32" && size / lanes.lanes > 2 * stretch;
    const into = blocked ? `r${n}p` : `r${n}`;
    const emit = (value: string) => `${into} = ${join(into, value)};`;
    const around = blocked ? { before: `var ${into} = 0.0f;`, after: `r${n} += ${into};` } : undefined;
    emitWalk(n, reduction, lanes, around, body, () => body.line(emit(body.value(reduction.value))));
  }
  if (lanes.lanes > 1) {
    const array = `lanes_${partialTypes(reduction)[0]}`;
    emitTree(lanes, body, [`${array}[local] = r${n};`], (a, b) => [
      `${array}[${a}] = ${join(`${array}[${a}]`, `${array}[${b}]`)};`,
    ]);
    body.line(`r${n} = ${array}[${firstLane(lanes)}];`);
  }
}

const stretch = 64;

/** argmax: the largest key and the first position that has it. */
function emitArgmax(n: number, reduction: Reduction<number>, size: number, lanes: Lanes, body: Body): void {
  invariant(size > 0, "argmax over nothing");
  body.line(`var r${n}k = 0u;`);
  body.line(`var r${n}p = ${lanes.lanes > 1 ? "lane" : "0u"};`);
  emitWalk(n, reduction, lanes, undefined, body, () => {
    body.line(`let r${n}x = ${orderKey(body.value(reduction.value), reduction.value.dtype)};`);
    body.line(`if (r${n}x > r${n}k) { r${n}k = r${n}x; r${n}p = k${n}; }`);
  });
  if (lanes.lanes > 1) {
    // first the largest key of all lanes, then the smallest position among the lanes that hold it; idle lanes hold none
    emitTree(lanes, body, [`lanes_u32[local] = r${n}k;`], (a, b) => [
      `lanes_u32[${a}] = max(lanes_u32[${a}], lanes_u32[${b}]);`,
    ]);
    body.line(`let r${n}m = lanes_u32[${firstLane(lanes)}];`);
    emitTree(
      lanes,
      body,
      [`lanes_u32[local] = select(0xffffffffu, r${n}p, r${n}k == r${n}m && lane < ${size}u);`],
      (a, b) => [`lanes_u32[${a}] = min(lanes_u32[${a}], lanes_u32[${b}]);`],
    );
    body.line(`r${n}p = lanes_u32[${firstLane(lanes)}];`);
  }
  body.line(`let r${n} = i32(r${n}p);`);
}

/** Statements for an element up to which a lane's next elements are written out beside it. */
const mostLines = 32;

/** A loop over the reduced elements of one lane, in row-major order; `k<n>` is the position. */
function emitWalk(
  n: number,
  { firstVariable, shape }: Reduction<number>,
  { lanes: step, ahead }: Lanes,
  blocked: { before: string; after: string } | undefined,
  body: Body,
  each: () => void,
): void {
  const k = `k${n}`;
  const size = sizeOf(shape);
  body.open(new Map(shape.map((_, i) => [firstVariable + i, shape.length === 1 ? k : `${k}v${i}`])));
  if (shape.length > 1) unravel(shape, k, `${k}v`, body);
  each();
  const lines = body.close();
  const begin = step > 1 ? "lane" : "0u";
  const loop = (from: string, to: string, margin: string): void => {
    body.line(`${margin}var ${k}n = ${from};`);
    if (ahead > 1 && size > (ahead - 1) * step && lines.length <= mostLines) {
      body.line(`${margin}for (; ${k}n + ${(ahead - 1) * step}u < ${to}; ${k}n += ${ahead * step}u) {`);
      for (let i = 0; i < ahead; i++) body.line(`${margin}  { let ${k} = ${k}n + ${i * step}u; ${lines.join(" ")} }`);
      body.line(`${margin}}`);
    }
    body.line(`${margin}for (; ${k}n < ${to}; ${k}n += ${step}u) { let ${k} = ${k}n; ${lines.join(" ")} }`);
  };
  if (!blocked) {
    loop(begin, `${size}u`, "");
    return;
  }
  body.line(`for (var ${k}b = ${begin}; ${k}b < ${size}u; ${k}b += ${step * stretch}u) {`);
  body.line(`  ${blocked.before}`);
  loop(`${k}b`, `min(${k}b + ${step * stretch}u, ${size}u)`, "  ");
  body.line(`  ${blocked.after}`);
  body.line("}");
}

/** Place in workgroup memory of the first lane of this thread's point. */
const firstLane = (lanes: Lanes): string => (lanes.pointsFirst ? `local % ${lanes.points}u` : `local - lane`);

/** Halves the number of live lanes until one is left: the same order of additions at every run. */
function emitTree(lanes: Lanes, body: Body, put: readonly string[], join: (a: string, b: string) => string[]): void {
  const stride = lanes.pointsFirst ? lanes.points : 1;
  body.line("workgroupBarrier();");
  for (const line of put) body.line(line);
  for (let half = lanes.lanes / 2; half >= 1; half /= 2) {
    body.line("workgroupBarrier();");
    body.line(`if (lane < ${half}u) { ${join("local", `local + ${half * stride}u`).join(" ")} }`);
  }
  body.line("workgroupBarrier();");
}
