// run/hooks.ts: what a tensor asks of the runtime. The runtime (run/realise.ts) fills it in; this breaks the import circle
// between the handle and the machinery behind it.

import type { Device } from "../device/device.ts";
import type { TypedArray } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";

interface Hooks {
  read: (tensor: Tensor) => Promise<TypedArray>;
  dispose: (tensor: Tensor) => void;
  defaultDevice: () => Device;
  created?: (tensor: Tensor) => void;
}

const missing = (): never => {
  throw new Error("internal: the runtime is not loaded");
};

export const hooks: Hooks = { read: missing, dispose: missing, defaultDevice: missing };
