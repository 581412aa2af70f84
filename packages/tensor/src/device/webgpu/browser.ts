// device/webgpu/browser.ts: WebGPU as browsers offer it.
import { DeviceError } from "../../errors.ts";

/** The page's `navigator.gpu`, where there is one. */
export const browserGpu = (): GPU | undefined => (typeof navigator === "undefined" ? undefined : navigator.gpu);

/** Why a browser has no adapter, and what helps. */
export const noBrowserAdapter = (): DeviceError =>
  new DeviceError(
    "not-found",
    'connect: this browser offers no GPU adapter; update the browser or its graphics driver, or see chrome://gpu (headless Chromium needs --enable-unsafe-webgpu), or connect({ device: "cpu" })',
  );
