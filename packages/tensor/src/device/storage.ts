// device/storage.ts: who owns the bytes of a realised tensor.
import type { DType } from "../dtype.ts";
import type { Device } from "./device.ts";

/**
 * The memory behind a realised tensor. Dead once disposed or donated; `reason` then says how it ended.
 * `handle` is the device's own: a typed array on the CPU, a GPU buffer on WebGPU.
 */
export interface Storage {
  /** No other storage has it: a value that was seen before is known by it. */
  readonly id: number;
  readonly device: Device;
  readonly dtype: DType;
  readonly size: number;
  handle: unknown;
  dead: string | null;
  /** Set where the memory is a part of another storage's: that one, and the element of it at which this begins. */
  arena: { readonly whole: Storage; readonly offset: number } | undefined;
  /** Live storages that are parts of this one: the last to be released takes it along. */
  parts: number;
  /** Number of the last call of a compiled function that met it among its arguments. */
  call: number;
}

let nextId = 0;

/** A storage of its own, or a part of an arena. */
export const createStorage = (
  device: Device,
  dtype: DType,
  size: number,
  handle: unknown,
  arena?: Storage["arena"],
): Storage => ({ id: nextId++, device, dtype, size, handle, dead: null, arena, parts: 0, call: 0 });

/** A storage over `size` elements of `whole` from `offset` on; `handle` is the device's. It keeps `whole` alive. */
export function joinArena(whole: Storage, offset: number, size: number, handle: unknown): Storage {
  whole.parts++;
  return createStorage(whole.device, whole.dtype, size, handle, { whole, offset });
}

/** Takes the memory from a part; gives back the arena if that was the last one. */
export function leaveArena(part: Storage): Storage | undefined {
  const { whole } = part.arena!;
  part.handle = null;
  part.arena = undefined;
  whole.parts--;
  return whole.parts === 0 ? whole : undefined;
}

/** A new storage over the same memory; the old one loses it. How a donated buffer gets its next owner. */
export function moveStorage(storage: Storage): Storage {
  const { device, dtype, arena, size, handle } = storage;
  if (!arena) return device.transfer(storage);
  storage.handle = null;
  storage.arena = undefined;
  return createStorage(device, dtype, size, handle, arena);
}
