// errors.ts: one class per kind of mistake, so that callers can tell them apart.

/** Base of every error that the framework throws on purpose. */
export class McError extends Error {
  override name = "McError";
}

/** Shapes do not fit: wrong rank, sizes that do not broadcast, an axis out of range. */
export class ShapeError extends McError {
  override name = "ShapeError";
}

/** Data types do not fit. Tensors are never promoted silently: use `cast`. */
export class DTypeError extends McError {
  override name = "DTypeError";
}

/** An argument has a value that the operation cannot work with, or a tensor is used after its end. */
export class ValueError extends McError {
  override name = "ValueError";
}

/** What went wrong with a device; "unsupported": it lacks a feature that was asked for. */
export type DeviceErrorCode = "not-found" | "out-of-memory" | "limit" | "lost" | "kernel" | "mismatch" | "unsupported";

/** A device is missing, lost, out of memory, or asked for something over one of its limits; `code` says which. */
export class DeviceError extends McError {
  override name = "DeviceError";
  readonly code: DeviceErrorCode;
  constructor(code: DeviceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A safetensors file is damaged or holds something that cannot be read. */
export class SafetensorsError extends McError {
  override name = "SafetensorsError";
}

/** Throw for a promise of our own that was broken; a user should never see it. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal: ${message}; please report this`);
}
