// device/current.ts: the default device: the last one connected.
import { ValueError } from "../errors.ts";
import { hooks } from "../run/hooks.ts";
import type { Device } from "./device.ts";

let current: Device | undefined;

/** The default device for new tensors. Throws ValueError before the first `connect()`. */
export function connectedDevice(): Device {
  if (!current)
    throw new ValueError("tensor: no device is connected; call `await connect()` first, or pass { device }");
  return current;
}

/** Makes a device the default for new tensors. */
export function setDefaultDevice(device: Device): void {
  current = device;
}

hooks.defaultDevice = connectedDevice;
