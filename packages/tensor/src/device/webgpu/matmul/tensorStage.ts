// device/webgpu/matmul/tensorStage.ts: the tiles of one side of a product on a matrix unit: where they lie in workgroup
// memory, and how a workgroup brings the next one there.
//
// Robust access costs nothing in the loop over k: a tile is cut into one panel for each row (or column) of subgroups, so that
// every matrix lies at a constant place in an array of constant length, and every index into a panel is made of +, *, / and %
// on the invocation's number, whose bounds the compiler works out (Tint's integer range analysis) and need not check.
import { halves, type MatrixMemory } from "./matrixUnit.ts";
import { distance, positionText, type Side } from "./operand.ts";

/** Steps along k: in all, and in one slice. All slices have as many; what lies past k is zero. */
export interface Steps {
  readonly total: number;
  readonly each: number;
}

/** One side's tiles: `size` rows of A or columns of B by `depth` of k. */
export interface Staged {
  readonly side: Side;
  readonly size: number;
  readonly depth: number;
  /** Tiles along the side, and the text of a tile's number among them. */
  readonly tiles: number;
  readonly place: string;
  /** Parts that different subgroups read, and rows (or columns) in each. */
  readonly panels: number;
  readonly perPanel: number;
  /** Groups of eight in a line of a tile, and in all of it. A line is an outer index (along k) or a k (along outer). */
  readonly width: number;
  readonly items: number;
  readonly memory: MatrixMemory;
  /** Whether a pass before has rounded the tiles. */
  readonly packed: boolean;
  /** Whether eight f16 come in one piece, packed or from where they are stored; else f32 are rounded on the way in. */
  readonly eights: boolean;
  /** Whether a thread's share of a tile is written out. Loads that may be misaligned are long, so those are a loop. */
  readonly unrolled: boolean;
  /** Whether tiles reach over the matrix. */
  readonly outerEdge: boolean;
  readonly kEdge: boolean;
}

export function stagedSide(
  side: Side,
  size: number,
  panels: number,
  depth: number,
  steps: Steps,
  packed: boolean,
  unrolls: boolean,
): Staged {
  const alongK = side.along === "k";
  const perPanel = size / panels;
  return {
    side,
    size,
    depth,
    tiles: Math.ceil(side.outer / size),
    place: side.name === "A" ? "tileRow" : "tileColumn",
    panels,
    perPanel,
    width: (alongK ? depth : size) / halves,
    items: (size * depth) / halves,
    memory: {
      name: `tile${side.name}`,
      index: `panel${side.name}`,
      // one vec4 of padding: eight lines that are read at once begin in different memory banks
      pitch: (alongK ? depth : perPanel) / halves + 1,
      line: alongK === (side.name === "A") ? "row" : "column",
    },
    packed,
    eights: packed || (side.half && side.aligned),
    unrolled: unrolls && (packed || side.aligned),
    outerEdge: side.outer % size !== 0,
    kEdge: steps.total * depth > side.k,
  };
}

/** Declaration of the tile in workgroup memory. */
export const tileDeclaration = ({ side, memory, panels, perPanel, depth }: Staged): string =>
  `var<workgroup> ${memory.name}: array<array<vec4<u32>, ${memory.pitch * (side.along === "k" ? perPanel : depth)}>, ${panels}>;\n`;

/** Bytes of a tile of `size` rows (or columns), at most: those that lie along k have the more padding. */
export const tileBytes = (size: number, depth: number): number => size * (depth / halves + 1) * 16;

/** Where matrix `i` along the side and `q` along k begins in a panel; `outer` and `k` are the sides of a matrix. */
export const matrixOffset = ({ side, memory }: Staged, outer: number, k: number, i: number, q: number): number =>
  side.along === "k" ? i * outer * memory.pitch + (q * k) / halves : q * k * memory.pitch + (i * outer) / halves;

/** Groups of eight that a thread moves for each tile. */
const shareOf = ({ items }: Staged, threads: number): number => Math.ceil(items / threads);

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Registers for this thread's share of the next tile: a vec4<u32> of packed f16, or two vec4<f32>, for each group. */
export function declareNext(s: Staged, threads: number): string {
  const count = shareOf(s, threads);
  const name = `next${s.side.name}`;
  const parts = s.eights ? ["u32"] : ["f32", "f32"];
  if (!s.unrolled) return parts.map((type, p) => `var ${name}_${p}: array<vec4<${type}>, ${count}>;`).join(" ");
  return range(count)
    .flatMap((i) => parts.map((type, p) => `var ${name}${i}_${p}: vec4<${type}>;`))
    .join(" ");
}

/** What a statement for one group of this thread's share may name. */
interface Share {
  readonly item: string;
  readonly next: readonly string[];
  /** Where the group lies in the first tile, of a side that is stored in f16: in vec4s. */
  readonly from: string;
}

/** One statement for each group of this thread's share. */
function eachShare(s: Staged, threads: number, statement: (share: Share) => string): string[] {
  const count = shareOf(s, threads);
  const name = `next${s.side.name}`;
  const from = `from${s.side.name}`;
  const parts = s.eights ? [0] : [0, 1];
  const guarded = (item: string, text: string): string =>
    s.items % threads === 0 ? text : `if (${item} < ${s.items}u) { ${text} }`;
  if (!s.unrolled) {
    const item = `(local + i * ${threads}u)`;
    const text = statement({ item, next: parts.map((p) => `${name}_${p}[i]`), from: `${from}[i]` });
    return [`for (var i = 0u; i < ${count}u; i++) { ${guarded(item, text)} }`];
  }
  return range(count).map((i) => {
    const item = `(local + ${i * threads}u)`;
    return guarded(item, statement({ item, next: parts.map((p) => `${name}${i}_${p}`), from: `${from}${i}` }));
  });
}

/**
 * Of a side that is stored in f16, where this thread's groups lie in the first tile. Rows past the edge are the first one again:
 * what comes of them is not stored.
 */
export function placeLines(s: Staged, threads: number): string[] {
  const { side, size, width, place, outerEdge } = s;
  if (s.packed || !s.eights) return [];
  const count = shareOf(s, threads);
  const declared = s.unrolled
    ? range(count).map((i) => `var from${side.name}${i} = 0u;`)
    : [`var from${side.name}: array<u32, ${count}>;`];
  const assigned = eachShare(s, threads, ({ item, from }) => {
    const [line, inLine] = [`${item} / ${width}u`, `${item} % ${width}u * ${halves}u`];
    const [inTile, k] = side.along === "k" ? [line, inLine] : [inLine, line];
    const outer = `(${place} * ${size}u + ${inTile})`;
    const row = outerEdge ? `select(0u, ${outer}, ${outer} < ${side.outer}u)` : outer;
    return `${from} = (base${side.name} + ${positionText(side, row, `(${k})`)}) / ${halves}u;`;
  });
  return [...declared, ...assigned];
}

/** Loads this thread's share of tile `step` into registers. */
export const fetchLines = (s: Staged, threads: number, step: string): string[] =>
  eachShare(s, threads, ({ item, next, from }) => {
    if (s.packed) return `${next[0]} = packed[base${s.side.name} + ${step} * ${s.items}u + ${item}];`;
    if (s.eights) return `${next[0]} = ${storedText(s, item, from, step)};`;
    const [low, high] = loadEight(s, item, step);
    return `${next[0]} = ${low}; ${next[1]} = ${high};`;
  });

/** Text of the eight f16 of a group of the tile at `step`, where they are stored; zero past k. */
function storedText({ side, width, depth, kEdge }: Staged, item: string, from: string, step: string): string {
  const at = `${from} + ${step} * ${distance((depth * side.kStride) / halves)}`;
  if (!kEdge) return `b${side.binding}[${at}]`;
  const k = side.along === "k" ? `${item} % ${width}u * ${halves}u` : `${item} / ${width}u`;
  const inside = `${step} * ${depth}u + ${k} < ${side.k}u`;
  return `select(vec4<u32>(), b${side.binding}[select(0u, ${at}, ${inside})], ${inside})`;
}

/** Moves the registers into the tile, rounded. */
export const stageLines = (s: Staged, threads: number): string[] =>
  eachShare(s, threads, ({ item, next }) => {
    const { side, memory, width, perPanel } = s;
    const groups = perPanel / halves;
    const [panel, at] =
      side.along === "k"
        ? [
            `${item} / ${width * perPanel}u`,
            `${item} / ${width}u % ${perPanel}u * ${memory.pitch}u + ${item} % ${width}u`,
          ]
        : [
            `${item} % ${width}u / ${groups}u`,
            `${item} / ${width}u * ${memory.pitch}u + ${item} % ${width}u % ${groups}u`,
          ];
    return `${memory.name}[${panel}][${at}] = ${s.eights ? next[0] : rounded(next[0]!, next[1]!)};`;
  });

/** Texts of the two vec4<f32> of group `item` of the tile at step `step`. */
export function loadEight({ side, size, width, depth, place }: Staged, item: string, step: string): [string, string] {
  const line = `${item} / ${width}u`;
  const load = (more: string): string => {
    const inLine = `${item} % ${width}u * ${halves}u${more}`;
    const [outer, k] = side.along === "k" ? [line, inLine] : [inLine, line];
    return `load${side.name}(base${side.name}, ${place} * ${size}u + ${outer}, ${step} * ${depth}u + ${k})`;
  };
  return [load(""), load(" + 4u")];
}

/** Text of a vec4<u32>: eight f32 rounded to f16, to the nearest and ties to even. */
export const rounded = (low: string, high: string): string =>
  `vec4<u32>(pack2x16float(${low}.xy), pack2x16float(${low}.zw), pack2x16float(${high}.xy), pack2x16float(${high}.zw))`;
