// run/roofline.ts: what a machine can do at best: the two rates behind every floor.
import { leavesOf, makePlan } from "../compiler/plan.ts";
import { connectedDevice } from "../device/current.ts";
import type { Device } from "../device/device.ts";
import { deviceBytes } from "../dtype.ts";
import { arange } from "../ops/create.ts";
import { cast, neg } from "../ops/elementwise.ts";
import { matmul } from "../ops/matmul.ts";
import { key, splitKey, uniform } from "../ops/random.ts";
import type { Tensor } from "../tensor.ts";
import { realise, storageOf } from "./realise.ts";

/** Rates that a machine reaches: the roofline of Williams, Waterman and Patterson (2009). */
export interface Roofline {
  /** f32 arithmetic, 10^9 operations a second. */
  readonly gflops: number;
  /** Memory traffic, reads and writes together, 10^9 bytes a second. */
  readonly gbs: number;
  /** Matrix products in f16 on matrix units, 10^9 operations a second; default `gflops`. */
  readonly tensorGflops?: number;
}

// Probes grow until one takes this long: long enough to measure, short enough to wait for.
const LONG_MS = 20;
// 4096^3: the size at which products are compared everywhere. 128 MiB: more than caches hold, and what every GPU binds.
const LARGEST_PRODUCT = 4096;
const LARGEST_COPY = 2 ** 25;

/**
 * Measures a device's roofline with two small probes: the fastest square f32 product of up to 4096^3, and the faster of the device's
 * own copy and an element-wise kernel over up to 128 MiB; with `matmulPrecision: "f16"` the fastest such product as well. So a floor says what this machine was seen to do, not what a data sheet
 * promises; where better figures are known (another library's, a specification's), pass those to `profile` instead.
 *
 * @param device - default: the connected one
 * @throws DeviceError "unsupported" on a GPU without timestamps
 * @example const { gflops, gbs } = await measureRoofline(); // { gflops: 34100, gbs: 2700 } on a large GPU
 */
export async function measureRoofline(device: Device = connectedDevice()): Promise<Roofline> {
  return {
    gflops: await productRate(device, "f32"),
    gbs: await copyRate(device),
    ...(device.matmulPrecision === "f16" && { tensorGflops: await productRate(device) }),
  };
}

/** 2 n^3 operations over the time of an n^3 product, the best n. */
async function productRate(device: Device, precision?: "f32"): Promise<number> {
  let best = 0;
  for (let n = 256; n <= LARGEST_PRODUCT; n *= 2) {
    const [a, b] = splitKey(key(n, { device }), 2).map((k) => uniform(k, [n, n], { low: -1 })) as [Tensor, Tensor];
    await realise([a, b]);
    const ms = await leastTime(device, matmul(a, b, { precision }));
    for (const t of [a, b]) t.dispose();
    best = Math.max(best, (2 * n ** 3) / ms / 1e6);
    if (ms > LONG_MS) break;
  }
  return best;
}

/** Two times the bytes of a copy over its time, at the largest size. */
async function copyRate(device: Device): Promise<number> {
  let rate = 0;
  for (let n = 2 ** 20; n <= LARGEST_COPY; n *= 2) {
    const x = cast(arange(n, { device }), "f32");
    await realise(x);
    const ms = Math.min(await leastTime(device, neg(x)), await copyTime(device, x));
    x.dispose();
    rate = (2 * n * deviceBytes("f32", device)) / ms / 1e6;
    if (ms > LONG_MS / 4) break;
  }
  return rate;
}

/** Least time of the kernels behind a lazy value, milliseconds. */
async function leastTime(device: Device, wanted: Tensor): Promise<number> {
  const leaves = leavesOf([wanted.node]);
  const plan = makePlan({ device, leaves, outputs: [wanted.node] });
  const buffers = plan.slots.map(({ role, dtype, size }, i) =>
    role === "leaf" ? storageOf(leaves[i]!) : device.allocate(dtype, size),
  );
  let least = Infinity;
  try {
    for (let run = 0; run < 4; run++) {
      const { milliseconds, step } = await device.time(plan.launches, buffers, { apart: false });
      least = Math.min(least, Math.max(milliseconds[0]!, step));
    }
  } finally {
    buffers.forEach((buffer, i) => {
      if (plan.slots[i]!.role !== "leaf") device.release(buffer);
    });
  }
  return least;
}

/** Time of the device's own copy, milliseconds: of many in a row, because waiting for the device takes time as well. */
async function copyTime(device: Device, x: Tensor): Promise<number> {
  const from = storageOf(x.node);
  const to = device.allocate(from.dtype, from.size);
  const time = async (copies: number): Promise<number> => {
    await device.settle();
    const start = performance.now();
    for (let i = 0; i < copies; i++) device.copy(from, to);
    await device.settle();
    return (performance.now() - start) / copies;
  };
  try {
    const alone = await time(1);
    return await time(Math.max(1, Math.min(64, Math.floor(LONG_MS / alone))));
  } finally {
    device.release(to);
  }
}
