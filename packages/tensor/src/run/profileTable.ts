// run/profileTable.ts: a profile as text.
import type { Profile } from "./profile.ts";

/** Labels of long fusions name their first ops. */
const LABEL_LENGTH = 56;

/** Totals, then a line for each group of kernels, the longest first. */
export function profileTable(profile: Omit<Profile, "toString">): string {
  const { groups, roofline, runs, device, dispatches, submits, clockStepMs } = profile;
  const head = ["ms", "share", "floor ms", "x floor", "GFLOP/s", "GB/s", "count", "kernel"];
  const rows = groups.map((g) => [
    time(g.medianMs),
    `${(100 * g.share).toFixed(1)} %`,
    time(g.floorMs),
    figure(g.distance),
    figure(g.flops / g.medianMs / 1e6),
    figure(g.bytes / g.medianMs / 1e6),
    g.count === 1 ? "" : `x${g.count}`,
    `${g.variant} [${g.shape.join(", ")}] ${shorten(g.label)}`,
  ]);
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i === head.length - 1 ? cell : cell.padStart(widths[i]!))).join("  ");
  return [
    `${device}: ${dispatches} dispatches in ${submits} submits, medians of ${runs} runs`,
    `a replay takes ${time(profile.wallMs)} ms: kernels one by one ${time(profile.kernelMs)} ms, together ${time(profile.gpuMs)} ms, gaps ${time(profile.gapMs)} ms; JavaScript ${time(profile.javascriptMs)} ms, ${figure(profile.javascriptUsPerDispatch)} us a dispatch`,
    `floor ${time(profile.floorMs)} ms at ${figure(roofline.gflops)} GFLOP/s${roofline.tensorGflops ? ` (f16 products ${figure(roofline.tensorGflops)})` : ""} and ${figure(roofline.gbs)} GB/s`,
    ...(clockStepMs > 0.01
      ? [
          `this clock has steps of ${figure(clockStepMs)} ms, too coarse for short kernels: connect({ timestamps: "exact" })`,
        ]
      : []),
    line(head),
    ...rows.map(line),
  ].join("\n");
}

const time = (ms: number): string => ms.toFixed(3);

/** Three digits that matter. */
const figure = (x: number): string => (Number.isFinite(x) ? (x >= 100 ? x.toFixed(0) : x.toPrecision(3)) : "-");

const shorten = (label: string): string =>
  label.length <= LABEL_LENGTH ? label : `${label.slice(0, LABEL_LENGTH - 3)}...`;
