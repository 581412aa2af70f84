// lib/machine.ts: what a run ran on, and how fast that machine can be at best.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { cpus } from "node:os";
import type { Device } from "@mc/tensor";
import data from "../../machines.json" with { type: "json" };

/** Rates that a machine reaches at best; where they come from stands in `machines.json`. */
export interface Peaks {
  readonly f32: number;
  readonly f16: number;
  readonly gigabytesPerSecond: number;
}

/** The first line of a file of results. */
export interface Machine {
  /** The sub-command. */
  readonly suite: string;
  readonly machine: string;
  readonly driver: string;
  readonly device: string;
  readonly date: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly commit: string;
}

/** Describes a run of `suite` on this machine. @param name - the machine's name, if it does not say it itself */
export function describeMachine(suite: string, device: Device, name?: string): Machine {
  const gpu = device.kind === "webgpu" && !device.software ? nvidia() : undefined;
  return {
    suite,
    machine: name ?? gpu?.name ?? `${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${cpus().length} threads`,
    driver: gpu?.driver ?? "",
    device: device.description,
    date: new Date().toISOString().slice(0, 10),
    versions: { node: process.versions.node, webgpu: packageVersion("webgpu") },
    commit: process.env.MC_COMMIT ?? output("git", ["rev-parse", "--short", "HEAD"]) ?? "",
  };
}

/** The peaks of a machine that `machines.json` knows. */
export function peaksOf({ machine, device }: Pick<Machine, "machine" | "device">): Peaks | undefined {
  // a CPU of a machine with a known GPU is not that GPU
  const known = device.startsWith("cpu")
    ? undefined
    : data.machines.find(({ match }) => new RegExp(match).test(machine));
  return known && { ...known.tflops, gigabytesPerSecond: known.gigabytesPerSecond };
}

/** Least time of `flops` and `bytes` on a machine, milliseconds: max(flops / peak, bytes / bandwidth). */
export function floorMs(
  peaks: Peaks | undefined,
  precision: "f32" | "f16",
  flops: number,
  bytes: number,
): number | null {
  if (!peaks) return null;
  return Math.max(flops / (peaks[precision] * 1e9), bytes / (peaks.gigabytesPerSecond * 1e6));
}

function nvidia(): { name: string; driver: string } | undefined {
  const line = output("nvidia-smi", ["--query-gpu=name,driver_version", "--format=csv,noheader"])?.split("\n")[0];
  const [name, driver] = line?.split(",").map((part) => part.trim()) ?? [];
  return name && driver ? { name, driver } : undefined;
}

function output(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined; // not installed, or no such repository: then it stays unknown
  }
}

function packageVersion(name: string): string {
  try {
    return (createRequire(import.meta.url)(`${name}/package.json`) as { version: string }).version;
  } catch {
    return "";
  }
}
