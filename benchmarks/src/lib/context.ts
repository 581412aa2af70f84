// lib/context.ts: what every sub-command is given.
import { type ConnectOptions, connect, type Device, type MatmulPrecision } from "@mc/tensor";
import type { Peaks } from "./machine.ts";
import type { Report } from "./report.ts";

/** A run of one sub-command. */
export interface Context {
  readonly device: Device;
  /** How `device` was connected: for another one like it. */
  readonly connection: ConnectOptions;
  readonly precision: MatmulPrecision;
  /** True on a CPU, or a GPU that a CPU emulates: sizes that such a device finishes. */
  readonly small: boolean;
  /** Seconds a case. */
  readonly budget: number;
  /** Whether a case was asked for, by the text of its name and shape. */
  readonly wanted: (name: string) => boolean;
  readonly peaks: Peaks | undefined;
  readonly report: Report;
}

/** A fresh device, given back after `use`: its peak of memory and its pipelines are those of `use` alone. */
export async function withFreshDevice<R>(options: ConnectOptions, use: (device: Device) => Promise<R>): Promise<R> {
  const device = await connect(options);
  try {
    return await use(device);
  } finally {
    if ("destroy" in device) (device as Device & { destroy(): void }).destroy();
  }
}
