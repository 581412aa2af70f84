// The WebGPU device itself: order, reuse, errors, memory.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FusedKernel, LoopKernel, Value } from "../../compiler/kernel.ts";
import { DeviceError } from "../../errors.ts";
import type { FusedOp } from "../../fused.ts";
import type { Storage } from "../storage.ts";
import { connectWebGpu } from "./connect.ts";
import type { WebGpuDevice } from "./device.ts";
import { affine } from "./fixtures/kernels.ts";
import { runKernel } from "./fixtures/run.ts";
import type { WebGpuFusedKernel } from "./fused.ts";

const n = 100;
const at = affine(0, [0, n, 1]);
const load = (id: number, source: number): Value<number> => ({
  kind: "load",
  id,
  dtype: "f32",
  source,
  index: at,
  mask: undefined,
});
const constant = (id: number, value: number): Value<number> => ({ kind: "constant", id, dtype: "f32", value });

/** out = in * factor, or in place on one binding. */
function scale(factor: number, inPlace = false): LoopKernel {
  const value: Value<number> = { kind: "op", id: 3, dtype: "f32", op: "mul", args: [load(1, 0), constant(2, factor)] };
  const bindings = inPlace
    ? [{ dtype: "f32", size: n, access: "readwrite" } as const]
    : [{ dtype: "f32", size: n, access: "read" } as const, { dtype: "f32", size: n, access: "write" } as const];
  return {
    kind: "loop",
    label: `scale by ${factor}`,
    shape: [n],
    reductions: [],
    stores: [{ target: inPlace ? 0 : 1, index: at, value }],
    bindings,
  };
}

function fusedKernel(kernel: WebGpuFusedKernel): FusedKernel {
  const spec = { shape: [n], dtype: "f32" as const };
  const op: FusedOp<unknown> = { name: "doubled", outputs: () => [spec], reference: (x) => x, webgpu: () => kernel };
  const operand = (binding: number) => ({ binding, offset: 0, strides: [1], shape: [n] });
  return {
    kind: "fused",
    label: "doubled",
    op,
    params: {},
    inputSpecs: [spec],
    inputs: [operand(0)],
    outputs: [operand(1)],
    bindings: [
      { dtype: "f32", size: n, access: "read" },
      { dtype: "f32", size: n, access: "write" },
    ],
  };
}

describe("the WebGPU device", () => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await connectWebGpu();
  });
  afterAll(() => device.destroy());

  const filled = (value: number, size = n): Storage => {
    const storage = device.allocate("f32", size);
    device.upload(storage, new Float32Array(size).fill(value));
    return storage;
  };
  const first = async (storage: Storage): Promise<number> => (await device.download(storage))[0]!;

  test("says what it is", () => {
    expect(device.kind).toBe("webgpu");
    expect(device.description).toMatch(/^webgpu \(.+\)$/);
  });

  test("every dtype goes up and comes back in its host type", async () => {
    const arrays = {
      f32: Float32Array.of(1.5, -2),
      i32: Int32Array.of(-1, 7),
      u32: Uint32Array.of(4294967295, 2),
      bool: Uint8Array.of(1, 0),
    } as const;
    for (const [dtype, data] of Object.entries(arrays) as ["f32", Float32Array][]) {
      const storage = device.allocate(dtype, 2);
      device.upload(storage, data);
      const back = await device.download(storage);
      expect(back).toEqual(data);
      expect(back.constructor).toBe(data.constructor);
    }
  });

  test("empty tensors can be made, sent, run over and read", async () => {
    const empty = device.allocate("f32", 0);
    device.upload(empty, new Float32Array(0));
    device.copy(empty, device.allocate("f32", 0));
    expect((await device.download(empty)).length).toBe(0);
  });

  test("nothing overtakes a kernel that is still compiling, and uploaded arrays may change at once", async () => {
    const [x, y, z] = [filled(1), filled(0), filled(0)];
    const data = new Float32Array(n).fill(2);
    device.execute([{ executable: device.prepare(scale(3.25)), slots: [0, 1] }], [x, y]);
    device.upload(x, data);
    data.fill(9);
    device.execute([{ executable: device.prepare(scale(5.5)), slots: [0, 1] }], [x, z]);
    const before = first(x);
    device.upload(x, new Float32Array(n).fill(4));
    device.copy(x, y);
    expect([await before, await first(x), await first(y), await first(z)]).toEqual([2, 4, 4, 11]);
  });

  test("a read-back is what the tensor held at the call", async () => {
    const x = filled(1);
    const step = [{ executable: device.prepare(scale(2, true)), slots: [0] }];
    const reads: Promise<number>[] = [];
    for (let i = 0; i < 5; i++) {
      device.execute(step, [x]);
      reads.push(first(x));
    }
    expect(await Promise.all(reads)).toEqual([2, 4, 8, 16, 32]);
  });

  test("released buffers are used again, and what was encoded before still sees them", async () => {
    const before = device.stats().buffersCreated;
    const x = filled(3);
    const y = filled(0);
    device.execute([{ executable: device.prepare(scale(7)), slots: [0, 1] }], [x, y]);
    device.release(x);
    const again = filled(100);
    expect(await first(y)).toBe(21);
    expect(await first(again)).toBe(100);
    device.release(again);
    device.release(y);
    for (let i = 0; i < 50; i++) device.release(filled(i));
    expect(device.stats().buffersCreated - before).toBeLessThanOrEqual(2);
  });

  test("no more than 256 MiB wait for reuse", async () => {
    const storages = Array.from({ length: 8 }, () => device.allocate("f32", 10 * 2 ** 20));
    for (const s of storages) device.release(s);
    expect(device.memory().pooledBytes).toBeLessThanOrEqual(256 * 2 ** 20);
    expect(device.memory().pooledBytes).toBeGreaterThan(200 * 2 ** 20);
    await device.settle();
  });

  test("a transferred buffer belongs to its new storage alone", async () => {
    const x = filled(6);
    const y = device.transfer(x);
    expect(x.handle).toBeNull();
    expect(await first(y)).toBe(6);
    device.release(x); // has nothing left to give
    expect(await first(y)).toBe(6);
  });

  test("a replayed plan makes its bind groups once, twice where two buffers take turns", async () => {
    const replay = {};
    const launches = [2, 3, 5].map((f) => ({ executable: device.prepare(scale(f)), slots: [0, 1] }));
    const [x, y] = [filled(1), filled(1)];
    const before = device.stats();
    for (let i = 0; i < 10; i++) device.execute(launches, [x, y], replay);
    await device.settle();
    expect(device.stats().bindGroups - before.bindGroups).toBe(3);
    for (let i = 0; i < 10; i++) device.execute(launches, i % 2 ? [x, y] : [y, x], replay);
    await device.settle();
    expect(device.stats().bindGroups - before.bindGroups).toBe(6);
    expect(device.stats().dispatches - before.dispatches).toBe(60);
    expect(device.stats().pipelines - before.pipelines).toBeLessThanOrEqual(3);
  });

  test("one step is one submit", async () => {
    const [x, y] = [filled(1), filled(1)];
    await device.settle();
    const launches = Array.from({ length: 20 }, () => ({ executable: device.prepare(scale(2)), slots: [0, 1] }));
    device.execute(launches, [x, y]);
    await device.settle();
    const before = device.stats().submits;
    device.execute(launches, [x, y]);
    device.copy(y, x);
    await device.settle();
    expect(device.stats().submits - before).toBe(1);
  });

  test("a fused kernel with two passes and scratch memory runs", async () => {
    const kernel: WebGpuFusedKernel = {
      scratch: [n, 3],
      wgsl: ([x], [y], [s, t]) => `
@compute @workgroup_size(1) fn before(@builtin(workgroup_id) id: vec3<u32>) { ${s}[id.x] = ${x!.name}[id.x]; ${t}[id.x % 3u] = 1.0; }
@compute @workgroup_size(1) fn after(@builtin(workgroup_id) id: vec3<u32>) { ${y!.name}[id.x] = mc_max(2.0 * ${s}[id.x], ${t}[0]); }`,
      passes: [
        { entry: "before", workgroups: [n, 1, 1] },
        { entry: "after", workgroups: [n, 1, 1] },
      ],
    };
    const x = Array.from({ length: n }, (_, i) => i);
    expect((await runKernel(device, fusedKernel(kernel), [x, new Array(n).fill(0)]))[1]).toEqual(
      x.map((v) => Math.max(2 * v, 1)),
    );
  });
});

describe("errors of the WebGPU device", () => {
  const rejection = (promise: Promise<unknown>): Promise<DeviceError> =>
    promise.then(
      () => expect.fail("should reject"),
      (error: DeviceError) => error,
    );

  test("a kernel that does not compile is reported where its results are read, with its label, and only there", async () => {
    const device = await connectWebGpu();
    const [x, y, z, ok] = [0, 1, 2, 3].map(() => device.allocate("f32", n)) as [Storage, Storage, Storage, Storage];
    for (const s of [x, y, z, ok]) device.upload(s, new Float32Array(n).fill(1));
    const broken = device.prepare(
      fusedKernel({ wgsl: () => "fn main() { nonsense }", passes: [{ entry: "main", workgroups: [1, 1, 1] }] }),
    );
    device.execute([{ executable: broken, slots: [0, 1] }], [x, y]);
    device.execute([{ executable: device.prepare(scale(2)), slots: [0, 1] }], [y, z]);
    const error = await rejection(device.download(z));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.code).toBe("kernel");
    expect(error.message).toMatch(/^doubled: the GPU kernel could not be compiled: line \d+: /);
    expect((await rejection(device.download(y))).code).toBe("kernel");
    expect((await device.download(ok))[0]).toBe(1);
    device.execute([{ executable: device.prepare(scale(2)), slots: [0, 1] }], [x, ok]);
    expect((await device.download(ok))[0]).toBe(2);
    device.destroy();
  });

  test("a buffer over the limit is refused at the call, with the limit", async () => {
    const device = await connectWebGpu();
    expect(() => device.allocate("f32", 2 ** 40)).toThrow(
      /^allocate: a tensor of 4398046511104 bytes is over this device's limit of \d+ bytes a buffer; use a smaller batch/,
    );
    try {
      device.allocate("f32", 2 ** 40);
    } catch (error) {
      expect((error as DeviceError).code).toBe("limit");
    }
    device.destroy();
  });

  test("running out of memory is reported by the next read", async () => {
    const device = await connectWebGpu();
    const { gpu } = device;
    const pop = gpu.popErrorScope;
    gpu.popErrorScope = () => pop.call(gpu).then(() => ({ message: "no room" }) as GPUError);
    const x = device.allocate("f32", n);
    gpu.popErrorScope = pop;
    const error = await rejection(device.download(x));
    expect(error.code).toBe("out-of-memory");
    expect(error.message).toMatch(
      /^allocate: the GPU has no room for 416 bytes \(416 bytes are in use, 0 wait for reuse\); use a smaller batch or model/,
    );
    expect((await device.download(device.allocate("f32", n))).length).toBe(n);
    device.destroy();
  });

  test("what WebGPU finds wrong on its own is reported by settle, not printed", async () => {
    const device = await connectWebGpu();
    device.gpu.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.MAP_WRITE });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await rejection(device.settle())).code).toBe("kernel");
    await device.settle();
    device.destroy();
  });

  test("a lost device says so at every call", async () => {
    const device = await connectWebGpu();
    const x = device.allocate("f32", n);
    const pending = rejection(device.download(x));
    device.destroy();
    const error = await pending;
    expect(error.code).toBe("lost");
    expect(error.message).toMatch(/^webgpu: the device was lost .*connect again and load the last checkpoint$/);
    await device.gpu.lost;
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect((await rejection(device.download(x))).code).toBe("lost");
    expect((await rejection(device.settle())).code).toBe("lost");
    expect(() => device.allocate("f32", 1)).toThrow(DeviceError);
    expect(() => device.execute([], [])).toThrow(DeviceError);
  });

  test("a software GPU is refused where hardware is asked for", async () => {
    const device = await connectWebGpu();
    if (device.software)
      await expect(connectWebGpu({ hardwareOnly: true })).rejects.toMatchObject({ code: "not-found" });
    else expect((await connectWebGpu({ hardwareOnly: true })).software).toBe(false);
    expect((await connectWebGpu({ gpu: device.gpu })).software).toBe(device.software);
    device.destroy();
  });
});
