// runFolder.ts: the folder that a run leaves behind.
import { appendFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type FinalMetrics, metricsLine, type StepMetrics } from "./metrics.ts";
import { UsageError } from "./options.ts";

/** Writes a run's files: `metrics.jsonl` line by line, the others whole. */
export interface RunFolder {
  readonly path: string;
  /** Adds lines to `metrics.jsonl`. */
  addMetrics(lines: readonly (StepMetrics | FinalMetrics)[]): void;
  /** Writes a file under a temporary name first, so that nobody ever reads half of it. */
  write(name: string, content: string | Uint8Array): void;
}

/**
 * Makes the folder and an empty `metrics.jsonl` in it; a file of an earlier run there is replaced.
 *
 * @throws UsageError when the folder cannot be made or written
 */
export function openRunFolder(path: string): RunFolder {
  const metricsPath = join(path, "metrics.jsonl");
  try {
    makeFolder(path);
    writeFileSync(metricsPath, "");
  } catch (error) {
    throw new UsageError(`--out: cannot write to ${path}: ${(error as Error).message}`);
  }
  return {
    path,
    addMetrics: (lines) => appendFileSync(metricsPath, lines.map(metricsLine).join("")),
    write(name, content) {
      const temporary = join(path, `.${name}.part`);
      writeFileSync(temporary, content);
      renameSync(temporary, join(path, name));
    },
  };
}

/** A folder and those above it, one at a time: Node's recursive mkdir never returns where mkdir answers ENOENT, as under /proc. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
}
