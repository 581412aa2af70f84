// picture.ts: `npm run bench -- picture RESULTS SVG`: a profile's lines as a picture, drawn by Vega.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { ProfileGroup, ProfileTotals } from "./profile.ts";
import { parseResults } from "./tables.ts";

/** Groups with a bar of their own. */
const BARS = 18;
/** Characters of a kernel's name. */
const NAME = 64;

const parts = ["floor", "above the floor", "no kernel runs"] as const;
const colours = ["#1a7f37", "#f0883e", "#d0d7de"];

/** One piece of a bar. */
interface Piece {
  readonly bar: string;
  readonly part: (typeof parts)[number];
  readonly ms: number;
}

/** Reads `profile --json` lines from one file and draws a profile of them to another. @param name - "10M muon"; default the first */
export async function writePicture(from: string, to: string, name?: string): Promise<void> {
  const { header, lines } = parseResults(basename(from), readFileSync(from, "utf8"));
  const totals = lines.find((line) => line.total && line.name === (name ?? line.name)) as unknown as
    | ProfileTotals
    | undefined;
  if (!totals)
    throw new Error(
      `bench picture: ${from} holds no profile${name ? ` of ${name}` : ""}; make one with bench profile --json`,
    );
  const groups = lines.filter((line) => line.name === totals.name && !line.total) as unknown as ProfileGroup[];
  writeFileSync(to, `${await drawProfile(`${header.device} on ${header.machine}`, totals, groups)}\n`);
}

/** The picture: the replay as one bar, then a bar for each of the longest groups of kernels. */
async function drawProfile(machine: string, totals: ProfileTotals, groups: readonly ProfileGroup[]): Promise<string> {
  const view = new View(parse(compile(specOf(machine, totals, groups)).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  const name = `Where the time of a training step goes: ${totals.name}`;
  return svg.replace("<svg ", `<svg role="img" aria-label="${name}" `);
}

function specOf(machine: string, totals: ProfileTotals, groups: readonly ProfileGroup[]): TopLevelSpec {
  const longest = groups.slice(0, BARS);
  const others = groups.slice(BARS);
  const rows = longest.map((g) => ({
    bar: shorten(`${g.variant} [${g.shape.join(", ")}] ${g.label}`, g.count > 1 ? ` x${g.count}` : ""),
    ms: g.median_ms,
    floor: g.floor_ms,
  }));
  const sum = (f: (g: ProfileGroup) => number): number => others.reduce((s, g) => s + f(g), 0);
  if (others.length > 0)
    rows.push({
      bar: `${sum((g) => g.count)} other kernels of ${others.length} kinds`,
      ms: sum((g) => g.median_ms),
      floor: sum((g) => g.floor_ms),
    });
  const pieces = rows.flatMap(({ bar, ms, floor }) => piecesOf(bar, ms, floor));
  const texts = rows.map(({ bar, ms, floor }) => ({
    bar,
    ms,
    text: `${((100 * ms) / totals.kernel_ms).toFixed(1)} %, ${digits(ms / floor)} x floor`,
  }));
  const whole: Piece[] = [
    ...piecesOf("a replay", totals.kernel_ms, totals.floor_ms),
    { bar: "a replay", part: "no kernel runs", ms: Math.max(0, totals.wall_ms - totals.kernel_ms) },
  ];
  const bars = (values: readonly Piece[], height: number, axis: string) => ({
    data: { values: values.map((piece) => ({ ...piece, order: parts.indexOf(piece.part) })) },
    mark: { type: "bar", height } as const,
    encoding: {
      y: { field: "bar", type: "nominal", sort: null, title: null, axis: { labelLimit: 480 } },
      x: { field: "ms", type: "quantitative", title: axis },
      color: {
        field: "part",
        type: "nominal",
        scale: { domain: [...parts], range: colours },
        legend: { orient: "top", title: null },
      },
      order: { field: "order" },
    } as const,
  });
  return {
    background: "white",
    padding: 12,
    title: {
      text: `Where the time of a training step goes: ${totals.name}`,
      subtitle: [
        machine,
        `${totals.dispatches} dispatches, ${totals.submits} submits; a replay ${digits(totals.wall_ms)} ms, kernels ${digits(totals.kernel_ms)} ms, JavaScript ${digits(totals.js_ms)} ms`,
        `floor ${digits(totals.floor_ms)} ms at ${digits(totals.peak_gflops / 1000)} TFLOP/s and ${digits(totals.peak_gbs)} GB/s; medians of ${totals.runs} runs`,
      ],
      anchor: "start",
    },
    config: { view: { stroke: null }, axis: { gridColor: "#eaeef2", domainColor: "#8c959f", tickColor: "#8c959f" } },
    vconcat: [
      { width: 480, height: 28, ...bars(whole, 18, "ms") },
      {
        width: 480,
        height: { step: 20 },
        layer: [
          bars(pieces, 14, "ms, all kernels of a kind together"),
          {
            data: { values: texts },
            mark: { type: "text", align: "left", dx: 4, color: "#57606a", fontSize: 10 },
            encoding: {
              y: { field: "bar", type: "nominal", sort: null },
              x: { field: "ms", type: "quantitative" },
              text: { field: "text", type: "nominal" },
            },
          },
        ],
      },
    ],
  } as TopLevelSpec;
}

/** A time as its floor and what is above: where a kernel beats its floor, all of it is floor. */
const piecesOf = (bar: string, ms: number, floor: number): Piece[] => [
  { bar, part: "floor", ms: Math.min(ms, floor) },
  { bar, part: "above the floor", ms: Math.max(0, ms - floor) },
];

/** Three significant digits, never an exponent. */
const digits = (x: number): string => String(Number(x.toPrecision(3)));

const shorten = (name: string, end: string): string =>
  (name.length + end.length <= NAME ? name : `${name.slice(0, NAME - 1 - end.length)}…`) + end;
