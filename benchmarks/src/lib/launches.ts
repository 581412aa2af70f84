// lib/launches.ts: the kernels of a compiled call, to run again by themselves: what they cost inside a larger plan, without the
// copies in and out that a call of their own makes.
import type { Device } from "@mc/tensor";

/** The kernels that one call ran. */
export interface Launches<R> {
  /** What the call returned; on some devices its tensors own the buffers that `run` writes, so they must live. */
  readonly result: R;
  /** Runs the same kernels on the same buffers. */
  readonly run: () => void;
  /** The variants that ran, each once, in order. */
  readonly kernels: readonly string[];
}

/** Calls `call` and remembers every list of kernels that it hands to the device. Its arguments must not be donated. */
export function captureLaunches<R>(device: Device, call: () => R): Launches<R> {
  const seen: Parameters<Device["execute"]>[] = [];
  const execute = device.execute.bind(device);
  device.execute = (...args) => {
    seen.push(args);
    execute(...args);
  };
  try {
    const result = call();
    return {
      result,
      run: () => {
        for (const args of seen) execute(...args);
      },
      kernels: [...new Set(seen.flatMap(([launches]) => launches.map(({ executable }) => executable.variant)))],
    };
  } finally {
    Reflect.deleteProperty(device, "execute"); // the method of the class shows again
  }
}
