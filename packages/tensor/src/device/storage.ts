// device/storage.ts: who owns the bytes of a realised tensor.
import type { DType } from "../dtype.ts";
import type { Device } from "./device.ts";

/**
 * The memory behind a realised tensor. Dead once disposed or donated; `reason` then says how it ended.
 * `handle` is the device's own: a typed array on the CPU, a GPU buffer on WebGPU.
 */
export interface Storage {
  readonly device: Device;
  readonly dtype: DType;
  readonly size: number;
  handle: unknown;
  dead: string | null;
}
