// device/webgpu/matmul/stage.ts: how the threads of a workgroup bring the next tile of one side from memory to workgroup memory.
//
// Both sides' tiles end up alike, whatever the transpose mode: line k holds the tile's rows of A (columns of B), four to a vec4,
// so that a thread reads its block with a few vec4 loads for each k. What is contiguous along k is transposed on the way,
// four by four, in registers. All positions are worked out before the loop over k; inside it nothing is compared, except in
// the last round where k ends within it.
//
// Neighbouring threads load along what is contiguous: along k, four threads read 64 bytes of a row, and the eight that
// store together hold two quads of rows at four values of k. So that these fall into eight different groups of memory banks,
// such a tile has two vec4s of padding after every four lines. On an H200 that is 39 TFLOP/s where eight threads that read
// eight rows make 32 (128x64 tiles, 4096 cubed); rotating the quads of a line instead takes as much as it saves.
import { distance, quadPositions, type Side, sideText } from "./operand.ts";
import { type Edge, range } from "./tile.ts";

/** Values of k in a tile. */
export const depth = 16;
/** Fours of them. */
export const depthFours = depth / 4;
/** vec4s after four lines of a tile that is transposed on the way. */
const padding = 2;

/** Workgroup memory of a tile of so many rows (columns), at most. */
export const stageBytes = (size: number): number => 16 * depthFours * (size + padding);

/** What a thread moves at a time: a 4x4 block, contiguous along k; four neighbours along the outer side; four elements. */
type Item = "block" | "quad" | "gather";

/** One side's share of the work of a round. */
export interface Stage {
  readonly side: Side;
  /** Rows of A or columns of B in the tile. */
  readonly size: number;
  readonly threads: number;
  readonly item: Item;
  /** Items in the tile. */
  readonly items: number;
  /** vec4s in one line of the tile, and in four lines with the padding after them. */
  readonly width: number;
  readonly four: number;
  readonly edge: Edge;
}

export function stageOf(side: Side, size: number, edge: Edge, threads: number): Stage {
  const item = side.aligned ? (side.along === "k" ? "block" : "quad") : "gather";
  const items = (size * depth) / (item === "block" ? 16 : 4);
  const width = size / 4;
  const four = 4 * width + (side.along === "k" ? padding : 0);
  return { side, size, threads, item, items, width, four, edge };
}

/** Some threads have nothing to move: A's are the first ones, B's the last. */
const partial = ({ items, threads }: Stage): boolean => items < threads;
const count = ({ items, threads }: Stage): number => Math.ceil(items / threads);

/** The registers of two stages; where each takes a part of the threads they are the same ones. */
export function registers(stages: readonly [Stage, Stage]): { declare: string; name: (s: Stage) => string } {
  const shared = stages.every(partial);
  const name = (s: Stage): string => (shared ? "next" : `next${s.side.name}`);
  const size = (s: Stage): number => count(s) * (s.item === "block" ? 4 : 1);
  const groups = shared
    ? [["next", Math.max(...stages.map(size))] as const]
    : stages.map((s) => [name(s), size(s)] as const);
  const declare = groups.flatMap(([text, n]) => range(n).map((i) => `var ${text}${i} = vec4<f32>();`)).join(" ");
  return { declare, name };
}

/** Statements before the loop. */
export const prepareLines = (s: Stage): string[] => placesOf(s).flatMap(({ lines }) => lines);

/** Where one of a thread's items lies: texts. */
interface Place {
  /** What must be defined before. */
  readonly lines: readonly string[];
  /** Its first k within the tile. */
  readonly k: string;
  /** Its first vec4 in the tile. */
  readonly staged: string;
  /** Row j of its four in memory, but for k0. */
  readonly position: (j: number) => string;
}

/**
 * Which item is number `at`: texts of its quad of rows `r` and its `k`, and how far a thread's next item, `threads` numbers later, is
 * from it in each.
 */
function orderOf({
  item,
  along,
  at,
  width,
  threads,
}: {
  item: Item;
  along: Side["along"];
  at: string;
  width: number;
  threads: number;
}) {
  if (along === "outer") return { r: `${at} % ${width}u`, k: `${at} / ${width}u`, nextR: 0, nextK: threads / width };
  if (item === "block")
    return { r: `${at} / ${depthFours}u`, k: `${at} % ${depthFours}u * 4u`, nextR: threads / depthFours, nextK: 0 };
  return {
    r: `${at} / ${depthFours}u % 2u + ${at} / ${2 * depth}u * 2u`,
    k: `${at} % ${depthFours}u * 4u + ${at} / ${2 * depthFours}u % 4u`,
    nextR: threads / depth,
    nextK: 0,
  };
}

/** Items of a thread are a constant distance apart, so that few registers say where all of them are. */
function placesOf({ side, threads, item, items, width, four, edge }: Stage): Place[] {
  const { name, along, aligned, outerStride, kStride } = side;
  const corner = name === "A" ? "row0" : "column0";
  const at = items < threads ? `(local % ${items}u)` : "local";
  const [r, k, t] = [`r${name}`, `k${name}`, `t${name}`];
  const order = orderOf({ item, along, at, width, threads });
  const { nextR, nextK } = order;
  const first = [
    `let ${r} = ${order.r};`,
    `let ${k} = ${order.k};`,
    `let ${t} = ${k} / 4u * ${four}u + ${k} % 4u * ${width}u + ${r};`,
  ];
  const quad = (i: number): string => `${corner} + (${r} + ${i * nextR}u) * 4u`;
  const shared = quadPositions(side, name, quad(0), k, false);
  return range(Math.ceil(items / threads)).map((i) => {
    const places = { k: `${k} + ${i * nextK}u`, staged: `${t} + ${(i * nextK * four) / 4 + i * nextR}u` };
    const begin = i === 0 ? first : [];
    if (edge === "clamped") {
      const own = quadPositions(side, `${name}${i}`, quad(i), places.k, true);
      return { ...places, lines: [...begin, ...own.lines], position: own.position };
    }
    const apart = (i * (nextR * 4 * outerStride + nextK * kStride)) / (aligned ? 4 : 1);
    return {
      ...places,
      lines: i === 0 ? [...begin, ...shared.lines] : [],
      position: (j) => (apart === 0 ? shared.position(j) : `${shared.position(j)} + ${distance(apart)}`),
    };
  });
}

/**
 * Statements that load this thread's items of the tile that begins at `k0`. With `end`, what lies at or past it is zero.
 *
 * @param vec4 - bindings declared as vec4
 */
export function fetchLines(s: Stage, vec4: ReadonlySet<number>, register: string, end?: string): string[] {
  const { side, item } = s;
  const { name, binding, kStride } = side;
  const step =
    item === "block" ? "k0 >> 2u" : item === "quad" ? `k0 * ${distance(kStride / 4)}` : `k0 * ${distance(kStride)}`;
  const lines = placesOf(s).flatMap(({ position, k }, i) => {
    const load = (row: number, zero: string): string => {
      const at = `${position(row)} + s${name}`;
      const read = (text: string): string => (item === "gather" ? sideText(side, vec4, text) : `b${binding}[${text}]`);
      return end ? `select(${zero}, ${read(`select(0u, ${at}, in${name}${i})`)}, in${name}${i})` : read(at);
    };
    const values =
      item === "block"
        ? range(4).map((j) => load(j, "vec4<f32>()"))
        : [
            item === "quad"
              ? load(0, "vec4<f32>()")
              : `vec4<f32>(${range(4)
                  .map((j) => load(j, "0.0f"))
                  .join(", ")})`,
          ];
    return [
      ...(end ? [`let in${name}${i} = k0 + ${k} < ${end};`] : []),
      ...values.map((value, j) => `${register}${values.length * i + j} = ${value};`),
    ];
  });
  return forThreads(s, [`let s${name} = ${step};`, ...lines]);
}

/** Statements that put the registers into the tile. */
export function storeLines(s: Stage, register: string): string[] {
  const { side, item, width } = s;
  const { name } = side;
  const lines = placesOf(s).flatMap(({ staged }, i) => {
    const at = (line: number): string => `tile${name}[${staged} + ${line * width}u]`;
    if (item !== "block") return [`${at(0)} = ${register}${i};`];
    const column = (t: number): string =>
      range(4)
        .map((j) => `${register}${4 * i + j}.${"xyzw"[t]}`)
        .join(", ");
    return range(4).map((t) => `${at(t)} = vec4<f32>(${column(t)});`);
  });
  return forThreads(s, lines);
}

function forThreads(s: Stage, lines: readonly string[]): string[] {
  const { side, items, threads } = s;
  const mine = !partial(s) ? "" : side.name === "A" ? `if (local < ${items}u) ` : `if (local >= ${threads - items}u) `;
  return [`${mine}{`, ...lines.map((line) => `  ${line}`), "}"];
}
