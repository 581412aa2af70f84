import { describe, expect, it } from "vitest";
import {
  connect,
  loadSafetensors,
  readSafetensors,
  SafetensorsError,
  saveSafetensors,
  tensor,
  writeSafetensors,
} from "./index.ts";

const example = () =>
  writeSafetensors(
    {
      weight: { shape: [2, 3], data: new Float32Array([1, -2, 3.5, 0, Number.NaN, Number.POSITIVE_INFINITY]) },
      ids: { shape: [4], data: new Int32Array([1, 2, -3, 4]) },
      mask: { shape: [2], data: new Uint8Array([1, 0]) },
      empty: { shape: [0, 5], data: new Float32Array() },
    },
    { format: "pt" },
  );

/** A file from a header and data bytes. */
function file(header: unknown, data: readonly number[] = []): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + data.length);
  new DataView(out.buffer).setUint32(0, json.length, true);
  out.set(json, 8);
  out.set(data, 8 + json.length);
  return out;
}

describe("safetensors", () => {
  it("reads back what was written, bit for bit", () => {
    const { tensors, metadata } = readSafetensors(example());
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.weight).toEqual({
      dtype: "F32",
      shape: [2, 3],
      data: new Float32Array([1, -2, 3.5, 0, Number.NaN, Number.POSITIVE_INFINITY]),
    });
    expect(tensors.ids!.data).toEqual(new Int32Array([1, 2, -3, 4]));
    expect(tensors.mask!.data).toEqual(new Uint8Array([1, 0]));
    expect(tensors.empty!.shape).toEqual([0, 5]);
  });

  it("begins the data at a multiple of 8 bytes and gives equal bytes for equal content", () => {
    const bytes = example();
    expect(new DataView(bytes.buffer).getUint32(0, true) % 8).toBe(0);
    expect(bytes).toEqual(example());
  });

  it("widens F16 and BF16, subnormals and infinities too", () => {
    const half = readSafetensors(
      file(
        { h: { dtype: "F16", shape: [5], data_offsets: [0, 10] } },
        [0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c, 0xff, 0x7b],
      ),
    );
    expect([...half.tensors.h!.data]).toEqual([1, -2, 2 ** -24, Number.POSITIVE_INFINITY, 65504]);
    const brain = readSafetensors(
      file({ b: { dtype: "BF16", shape: [2], data_offsets: [0, 4] } }, [0x80, 0x3f, 0x49, 0xc0]),
    );
    expect([...brain.tensors.b!.data]).toEqual([1, -3.140625]);
  });

  describe.each([
    ["F16", { largest: 65504, smallest: 2 ** -24, epsilon: 2 ** -10, infinity: 0x7c00 }],
    ["BF16", { largest: (2 - 2 ** -7) * 2 ** 127, smallest: 2 ** -133, epsilon: 2 ** -7, infinity: 0x7f80 }],
  ] as const)("%s", (dtype, { largest, smallest, epsilon, infinity }) => {
    const patternsOf = (data: Float32Array | Float64Array): number[] => {
      const bytes = writeSafetensors({ x: { shape: [data.length], data, dtype } });
      const view = new DataView(bytes.buffer, bytes.length - 2 * data.length);
      return Array.from(data, (_, i) => view.getUint16(2 * i, true));
    };
    const readBack = (patterns: readonly number[]) =>
      readSafetensors(
        file(
          { x: { dtype, shape: [patterns.length], data_offsets: [0, 2 * patterns.length] } },
          patterns.flatMap((p) => [p & 255, p >> 8]),
        ),
      ).tensors.x!.data as Float32Array;
    const isNumber = (pattern: number): boolean => (pattern & 0x7fff) <= infinity;

    it("goes back to the same bits from each of its values", () => {
      const patterns = Array.from({ length: 2 ** 16 }, (_, i) => i).filter(isNumber);
      expect(patternsOf(readBack(patterns))).toEqual(patterns);
      expect(patternsOf(Float64Array.from(readBack(patterns)))).toEqual(patterns);
      const nan = patternsOf(new Float32Array([Number.NaN]))[0]!;
      expect(isNumber(nan)).toBe(false);
    });

    it("takes the nearest of two neighbours, and the even one half-way, from single and double precision", () => {
      const patterns = Array.from({ length: infinity - 1 }, (_, i) => i);
      const values = Float64Array.from(readBack([...patterns, infinity - 1]));
      const between = (share: number) =>
        Float64Array.from(patterns, (p) => values[p]! + share * (values[p + 1]! - values[p]!));
      const even = patterns.map((p) => p + (p % 2));
      expect(patternsOf(between(0.5))).toEqual(even);
      expect(patternsOf(between(0.5 - 2 ** -40))).toEqual(patterns);
      expect(patternsOf(between(0.5 + 2 ** -40))).toEqual(patterns.map((p) => p + 1));
      if (dtype === "BF16") return; // halves of its subnormals are below single precision's
      expect(patternsOf(Float32Array.from(between(0.5)))).toEqual(even);
    });

    it("overflows to infinity, underflows to zero, and keeps the sign", () => {
      const past = largest * (1 + epsilon / 4);
      const half = largest * (1 + epsilon / 2 / (2 - epsilon)); // half-way to the next power of two
      expect(patternsOf(new Float64Array([largest, past, half, Number.MAX_VALUE, Number.NEGATIVE_INFINITY]))).toEqual([
        infinity - 1,
        infinity - 1,
        infinity,
        infinity,
        infinity + 0x8000,
      ]);
      expect(patternsOf(new Float64Array([smallest, smallest / 2, smallest * 0.51, -0, -Number.MIN_VALUE]))).toEqual([
        1, 0, 1, 0x8000, 0x8000,
      ]);
    });
  });

  it("writes the element types that were read", () => {
    const original = writeSafetensors({
      brain: { shape: [2], data: new Float32Array([1, -3.140625]), dtype: "BF16" },
      half: { shape: [2], data: new Float32Array([0.5, 65504]), dtype: "F16" },
      double: { shape: [1], data: new Float64Array([Math.PI]) },
      long: { shape: [2], data: new Int32Array([-5, 7]), dtype: "I64" },
      flags: { shape: [3], data: new Uint8Array([1, 0, 1]) },
    });
    const { tensors } = readSafetensors(original);
    expect(Object.values(tensors).map((t) => t.dtype)).toEqual(["BF16", "F64", "BOOL", "F16", "I64"]);
    expect(writeSafetensors(tensors)).toEqual(original);
    expect(() => writeSafetensors({ x: { shape: [1], data: new Float64Array([0.5]), dtype: "I64" } })).toThrow(
      'safetensors: "x" of F64 cannot be written as I64',
    );
    expect(() => writeSafetensors({ x: { shape: [1], data: new Int32Array([1]), dtype: "F32" } })).toThrow(
      SafetensorsError,
    );
  });

  it("reads from any place in a larger buffer", () => {
    const bytes = example();
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    expect(readSafetensors(shifted.subarray(3))).toEqual(readSafetensors(bytes));
  });

  it("reads I64 as exact integers and refuses what does not fit", () => {
    const small = file(
      { i: { dtype: "I64", shape: [1], data_offsets: [0, 8] } },
      [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    );
    expect([...readSafetensors(small).tensors.i!.data]).toEqual([-2]);
    const large = file({ i: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, [0, 0, 0, 0, 0, 0, 0, 0x40]);
    expect(() => readSafetensors(large)).toThrow(SafetensorsError);
  });

  it.each([
    ["a length past the end", new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0])],
    ["too few bytes", new Uint8Array(3)],
    ["a gap", file({ a: { dtype: "BOOL", shape: [1], data_offsets: [1, 2] } }, [0, 1])],
    [
      "an overlap",
      file(
        {
          a: { dtype: "BOOL", shape: [2], data_offsets: [0, 2] },
          b: { dtype: "BOOL", shape: [1], data_offsets: [1, 2] },
        },
        [0, 1],
      ),
    ],
    ["bytes left over", file({ a: { dtype: "BOOL", shape: [1], data_offsets: [0, 1] } }, [0, 1])],
    ["an unknown dtype", file({ a: { dtype: "F8_E4M3", shape: [1], data_offsets: [0, 1] } }, [0])],
    [
      "a dtype named like a property of objects",
      file({ a: { dtype: "toString", shape: [1], data_offsets: [0, 1] } }, [0]),
    ],
    ["a shape that does not fit", file({ a: { dtype: "F32", shape: [2], data_offsets: [0, 4] } }, [0, 0, 0, 0])],
    ["a header that is a list", file([])],
  ])("refuses %s with its own error", (_, bytes) => {
    expect(() => readSafetensors(bytes)).toThrow(SafetensorsError);
  });

  it("ends a thousand mutated files in SafetensorsError or a valid reading, never in anything else", () => {
    const original = example();
    let seed = 1;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * n);
    };
    let refused = 0;
    for (let i = 0; i < 1000; i++) {
      let bytes = original.slice();
      for (let k = 0; k <= random(4); k++) bytes[random(i % 2 ? bytes.length : 8 + 200)] = random(256);
      if (i % 3 === 0) bytes = bytes.slice(0, random(bytes.length));
      try {
        readSafetensors(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(SafetensorsError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(500);
  });

  it("saves and loads tensors", async () => {
    await connect({ device: "cpu" });
    const bytes = await saveSafetensors({ "a.b": tensor([[1, 2]]), n: tensor([7], { dtype: "i32" }) });
    const { tensors } = loadSafetensors(bytes);
    expect(await tensors["a.b"]!.toArray()).toEqual([[1, 2]]);
    expect(tensors.n!.dtype).toBe("i32");
  });
});
