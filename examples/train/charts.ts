// charts.ts: lines over steps, drawn as SVG by Vega.
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** A value at a step. Points of one series make a line; series of one group share a colour, and the group is named in the legend. */
export interface ChartPoint {
  step: number;
  value: number;
  series: string;
  group: string;
}

/** A plot of one or more series over the steps of a run. */
export interface Chart {
  title: string;
  /** What the vertical axis counts. */
  unit: string;
  points: readonly ChartPoint[];
  /** Horizontal lines to compare with. */
  lines: readonly { value: number; label: string }[];
  /** True for counts: the value stays until it changes. */
  steps?: boolean;
}

/** The chart as an SVG element. */
export async function drawChart(chart: Chart): Promise<string> {
  const view = new View(parse(compile(specOf(chart)).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  // A role and a name, for those who cannot see it.
  return svg.replace("<svg ", `<svg role="img" aria-label="${chart.title}" `);
}

function specOf({ unit, points, lines, steps }: Chart): TopLevelSpec {
  const several = points.some(({ group }) => group !== "");
  const x = { field: "step", type: "quantitative", title: "step", scale: { nice: false } } as const;
  const y = {
    field: "value",
    type: "quantitative",
    title: unit,
    scale: { zero: steps === true },
    axis: steps === true ? { tickMinStep: 1, format: "d" } : {},
  } as const;
  const color = several
    ? ({
        field: "group",
        type: "nominal",
        sort: null,
        title: null,
        scale: { scheme: "tableau10" },
        legend: { orient: "bottom", columns: 4, columnPadding: 6 },
      } as const)
    : ({ value: "#0969da" } as const);
  const last = points.at(-1)?.step ?? 1;
  return {
    width: 440,
    height: 240,
    background: "white",
    config: { view: { stroke: null }, axis: { gridColor: "#eaeef2", domainColor: "#8c959f", tickColor: "#8c959f" } },
    layer: [
      {
        data: { values: points.map((point) => ({ ...point })) },
        mark: {
          type: "line",
          strokeWidth: 1.25,
          interpolate: steps === true ? "step-after" : "linear",
          point: points.length < 3,
        },
        encoding: { x, y, color, detail: { field: "series", type: "nominal" } },
      },
      {
        data: { values: lines.map((line) => ({ ...line })) },
        mark: { type: "rule", strokeDash: [4, 3], color: "#57606a" },
        encoding: { y: { field: "value", type: "quantitative" } },
      },
      {
        data: { values: lines.map((line) => ({ ...line, step: last })) },
        mark: { type: "text", align: "right", baseline: "bottom", dy: -2, color: "#57606a" },
        encoding: { x, y: { field: "value", type: "quantitative" }, text: { field: "label", type: "nominal" } },
      },
    ],
  };
}
