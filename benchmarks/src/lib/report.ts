// lib/report.ts: results as JSON lines or as an aligned table, one line a case as it comes.
import type { Machine } from "./machine.ts";

/** One result: what stands in a line. */
export type Line = Readonly<Record<string, unknown>>;

/** Prints results and counts those that are wrong. */
export interface Report {
  /** A result; one with a `failed` is wrong. */
  line(line: Line): void;
  /** Something that cannot run here, and why. */
  missing(what: string, reason: string): void;
  /** Text beside the results; JSON lines leave it out. */
  note(text: string): void;
  readonly failures: number;
}

interface Column {
  readonly key: string;
  readonly width: number;
  readonly unit?: string;
}

/** Columns of the readable table; JSON lines hold more. Text is cut to its width, numbers have four digits. */
const columns: readonly Column[] = [
  { key: "framework", width: -14 },
  { key: "name", width: -38 },
  { key: "shape", width: -22 },
  { key: "dtype", width: -5 },
  { key: "kernel", width: -26 },
  { key: "median_ms", width: 10 },
  { key: "min_ms", width: 10 },
  { key: "max_ms", width: 10 },
  { key: "gflops", width: 10 },
  { key: "gbs", width: 9 },
  { key: "floor_ms", width: 10 },
  { key: "ratio", width: 6 },
  { key: "dispatches", width: 10 },
  { key: "submits", width: 7 },
  { key: "js_us_dispatch", width: 14 },
  { key: "submit_us_dispatch", width: 18 },
  { key: "trace_and_plan_ms", width: 17 },
  { key: "first_step_ms", width: 13 },
  { key: "first_step_s", width: 12 },
  { key: "peak_mib", width: 9 },
  { key: "parameters_and_state_mib", width: 24 },
  { key: "intermediates_mib", width: 17 },
  { key: "pytorch_mib", width: 11 },
  { key: "plan_gflop", width: 10 },
  { key: "numExperts", width: 10 },
  { key: "mflop", width: 10 },
  { key: "time_to_first", width: 13 },
  { key: "flops_to_first", width: 14 },
  { key: "error", width: 10 },
];

/** Columns of each sub-command. */
export const views = {
  kernels: ["name", "shape", "dtype", "kernel", "median_ms", "min_ms", "max_ms", "gflops", "gbs", "floor_ms", "ratio"],
  optim: [
    "name",
    "shape",
    "dtype",
    "median_ms",
    "min_ms",
    "max_ms",
    "gflops",
    "gbs",
    "floor_ms",
    "dispatches",
    "js_us_dispatch",
  ],
  train: [
    "name",
    "dtype",
    "median_ms",
    "min_ms",
    "max_ms",
    "gflops",
    "floor_ms",
    "dispatches",
    "js_us_dispatch",
    "first_step_s",
    "peak_mib",
  ],
  moe: ["name", "numExperts", "median_ms", "min_ms", "max_ms", "gflops", "mflop", "time_to_first", "flops_to_first"],
  memory: ["name", "peak_mib", "parameters_and_state_mib", "intermediates_mib", "pytorch_mib", "plan_gflop", "kernels"],
  replay: [
    "name",
    "median_ms",
    "min_ms",
    "max_ms",
    "dispatches",
    "submits",
    "js_us_dispatch",
    "submit_us_dispatch",
    "trace_and_plan_ms",
    "first_step_ms",
  ],
  profile: [], // prints a table of its own
  verify: ["name", "shape", "dtype", "kernel", "error"],
  sweep: ["name", "shape", "kernel", "median_ms", "min_ms", "max_ms", "gflops", "floor_ms"],
} as const satisfies Record<string, readonly string[]>;

/** What to print with. */
export interface ReportOptions {
  readonly json: boolean;
  readonly machine: Machine;
  readonly view: readonly string[];
  /** Whether results of several frameworks will come: then each line begins with its own. */
  readonly peers?: boolean;
  /** Where lines go; default standard output. */
  readonly print?: (text: string) => void;
}

/** Starts a report: the machine first, then a line a result. */
export function startReport({ json, machine, view, peers = false, print = console.log }: ReportOptions): Report {
  let failures = 0;
  const shown = columns.filter(({ key }) => view.includes(key) || (peers && key === "framework"));
  if (json) print(JSON.stringify(machine));
  else {
    const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
    print(
      `${machine.device} on ${[machine.machine, machine.driver, ...versions, ...machine.toggles, machine.date].filter(Boolean).join(", ")}`,
    );
    if (shown.length > 0) print(shown.map(({ key, width }) => pad(key, width)).join("  "));
  }
  return {
    get failures() {
      return failures;
    },
    line(line) {
      // a peer that is wrong is shown; it is not our failure
      if (line.failed !== undefined && line.framework === undefined) failures++;
      if (json) return print(JSON.stringify(line, rounded));
      if (shown.length === 0) return;
      const text = shown.map(({ key, width }) => pad(cell(key, line[key]), width)).join("  ");
      print(line.failed === undefined ? text : `${text}  WRONG: ${line.failed}`);
    },
    note(text) {
      if (!json) print(text);
    },
    missing(what, reason) {
      print(json ? JSON.stringify({ framework: what, missing: reason }) : `${what}: not measured: ${reason}`);
    },
  };
}

/** Four significant digits: times are not known better. */
export const short = (x: number): number => Number(x.toPrecision(4));

const rounded = (_: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isInteger(value) ? short(value) : value;

const pad = (text: string, width: number): string =>
  width < 0 ? text.slice(0, -width).padEnd(-width) : text.padStart(width);

function cell(key: string, value: unknown): string {
  if (value === undefined || value === null) return key === "framework" ? "mc" : "-";
  if (typeof value === "number") return String(short(value));
  return Array.isArray(value) ? value.join(" x ") : String(value);
}
