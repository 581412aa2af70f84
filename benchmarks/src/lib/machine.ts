// lib/machine.ts: what a run ran on, and how fast that machine can be at best.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { cpus } from "node:os";
import { type Device, measureRoofline } from "@mc/tensor";
import data from "../../machines.json" with { type: "json" };

/** Rates that a machine reaches at best: TFLOP/s of f32 and of half-precision products, and GB/s of memory. */
export interface Peaks {
  readonly f32: number;
  /** Missing where nobody has measured it. */
  readonly f16?: number;
  readonly gigabytesPerSecond: number;
  /** Where the rates come from. */
  readonly source: string;
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
  /** Dawn features that were switched on: "disable_robustness", for example. */
  readonly toggles: readonly string[];
  /** The rates behind `floor_ms`. */
  readonly peaks: Peaks | null;
}

/** Describes a run on this machine. `machine`: its name, if it does not say it itself. */
export async function describeMachine(
  device: Device,
  { suite, machine: name, toggles }: { suite: string; machine?: string | undefined; toggles: readonly string[] },
): Promise<Machine> {
  const gpu = device.kind === "webgpu" && !device.software ? nvidia() : undefined;
  const machine = name ?? gpu?.name ?? `${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${cpus().length} threads`;
  return {
    suite,
    machine,
    driver: gpu?.driver ?? "",
    device: device.description,
    date: new Date().toISOString().slice(0, 10),
    versions: { node: process.versions.node, webgpu: packageVersion("webgpu") },
    commit: process.env.MC_COMMIT ?? output("git", ["rev-parse", "--short", "HEAD"]) ?? "",
    toggles,
    peaks: (await peaksOf(device, machine)) ?? null,
  };
}

/**
 * The peaks of a machine: those of `machines.json`, else what two probes reach on its GPU. None on CPUs, where the probe would be
 * the very kernel that it is to judge.
 */
async function peaksOf(device: Device, machine: string): Promise<Peaks | undefined> {
  if (device.kind === "cpu" || device.software) return undefined;
  const known = data.machines.find(({ match }) => new RegExp(match).test(machine));
  if (known) return { ...known.tflops, gigabytesPerSecond: known.gigabytesPerSecond, source: known.source };
  try {
    const { gflops, gbs } = await measureRoofline(device);
    return { f32: gflops / 1000, gigabytesPerSecond: gbs, source: "probes: our own fastest product and copy" };
  } catch {
    return undefined; // a GPU without timestamps: then there are no floors
  }
}

/** Least time of `flops` and `bytes` on a machine, milliseconds: max(flops / peak, bytes / bandwidth). */
export function floorMs(
  peaks: Peaks | undefined,
  precision: "f32" | "f16",
  flops: number,
  bytes: number,
): number | null {
  const peak = peaks?.[precision];
  if (!peaks || !peak) return null;
  return Math.max(flops / (peak * 1e9), bytes / (peaks.gigabytesPerSecond * 1e6));
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
