// progress.ts: how far a run is, as a live line on a terminal, as a line now and then elsewhere.
import { SingleBar } from "cli-progress";
import { largestLoad, largestLogit, type StepMetrics } from "./metrics.ts";

/** Shows how far a run is. */
export interface Progress {
  /** Tells the figures of the newest step. */
  update(metrics: StepMetrics): void;
  /** Leaves the live line as it is; what is printed next stands below it. */
  stop(): void;
}

/** Options of `createProgress`. */
export interface ProgressOptions {
  /** Steps of the whole run. */
  steps: number;
  /** False: show nothing. */
  enabled: boolean;
  /** Default: standard output. */
  stream?: NodeJS.WriteStream;
}

// Without a terminal: at most this many lines a run, besides the first and the last step's.
const PLAIN_LINES = 20;

/** A live line where the stream is a terminal, else plain lines, or nothing. */
export function createProgress({ steps, enabled, stream = process.stdout }: ProgressOptions): Progress {
  if (!enabled) return { update: () => {}, stop: () => {} };
  return stream.isTTY ? liveLine(steps, stream) : plainLines(steps, stream);
}

function liveLine(steps: number, stream: NodeJS.WriteStream): Progress {
  const bar = new SingleBar({
    format: "{bar} {value}/{total} {figures}",
    barsize: 4,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    hideCursor: true,
    gracefulExit: false, // Ctrl-C is the job's own to handle
    stream,
  });
  bar.start(steps, 0, { figures: "preparing the first step" });
  return {
    update: (metrics) => bar.update(metrics.step, { figures: figures(metrics, steps) }),
    stop: () => bar.stop(),
  };
}

function plainLines(steps: number, stream: NodeJS.WriteStream): Progress {
  const every = Math.ceil(steps / PLAIN_LINES);
  let next = 1;
  return {
    update: (metrics) => {
      if (metrics.step < next && metrics.step < steps) return;
      next = (Math.floor(metrics.step / every) + 1) * every;
      stream.write(`step ${metrics.step}/${steps}  ${figures(metrics, steps)}\n`);
    },
    stop: () => {},
  };
}

/** `loss 2.031  9,120 tok/s  logit 13  3 clipped  load 1.4x  1:07 left` */
export function figures(metrics: StepMetrics, steps: number): string {
  const left = (metrics.seconds / metrics.step) * (steps - metrics.step);
  const load = largestLoad(metrics);
  return [
    `loss ${metrics.loss.toFixed(3)}`,
    `${Math.round(metrics.tokensPerSecond).toLocaleString("en")} tok/s`,
    `logit ${largestLogit(metrics).toFixed(0)}`,
    `${metrics.clippedHeads} clipped`,
    ...(load === undefined ? [] : [`load ${load.toFixed(1)}x`]),
    `${duration(left)} left`,
  ].join("  ");
}

/** Seconds as 1:07 or 2:03:04. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
