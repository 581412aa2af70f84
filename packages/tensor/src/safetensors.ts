// safetensors.ts: the file format of Hugging Face (github.com/huggingface/safetensors): 8 bytes of header length, a JSON
// header, then the tensors' bytes without gaps.
import type { Device } from "./device/device.ts";
import type { DType, TypedArray } from "./dtype.ts";
import { SafetensorsError } from "./errors.ts";
import { tensor } from "./ops/create.ts";
import { formatShape, type Shape, sizeOf } from "./shape.ts";
import { narrow, widen } from "./smallFloats.ts";
import type { Tensor } from "./tensor.ts";

/** Element types of a file. F16 and BF16 are widened to f32 when read; I64 must fit 53 bits. */
export type SafetensorsDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "U32" | "BOOL";

/** A tensor of a file, on the host. */
export interface SafetensorsEntry {
  readonly dtype: SafetensorsDType;
  readonly shape: Shape;
  /** F16 and BF16 as Float32Array, I64 as Float64Array of integers, BOOL as Uint8Array. */
  readonly data: TypedArray;
}

/** What a file holds. */
export interface SafetensorsFile {
  readonly tensors: Readonly<Record<string, SafetensorsEntry>>;
  readonly metadata: Readonly<Record<string, string>>;
}

const BYTES: Readonly<Record<SafetensorsDType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  U32: 4,
  BOOL: 1,
};
// the reference implementation's bound on the header
const MAX_HEADER = 100_000_000;

/**
 * Reads a safetensors file from memory.
 *
 * @throws SafetensorsError if anything about the file is not as the format demands; nothing else is thrown
 * @example const { tensors, metadata } = readSafetensors(await readFile("model.safetensors"));
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const fail = (reason: string): never => {
    throw new SafetensorsError(`safetensors: ${reason}`);
  };
  if (bytes.length < 8) fail(`the file must be at least 8 bytes long, got ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER || length > bytes.length - 8)
    fail(`the header must fit the file, got a length of ${length} bytes in a file of ${bytes.length}`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)));
  } catch (cause) {
    throw new SafetensorsError("safetensors: the header is not valid JSON", { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) fail("the header must be a JSON object");
  const start = 8 + length;
  const tensors: Record<string, SafetensorsEntry> = Object.create(null) as Record<string, SafetensorsEntry>;
  const metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  const spans: [number, number, string][] = [];
  for (const [name, value] of Object.entries(header as Record<string, unknown>)) {
    if (typeof value !== "object" || value === null) fail(`the entry "${name}" must be an object`);
    if (name === "__metadata__") {
      for (const [k, v] of Object.entries(value as Record<string, unknown>)) {
        if (typeof v !== "string") fail(`metadata must be strings, got ${typeof v} for "${k}"`);
        metadata[k] = v as string;
      }
      continue;
    }
    const {
      dtype,
      shape,
      data_offsets: offsets,
    } = value as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
    if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype))
      fail(`"${name}" has the dtype ${JSON.stringify(dtype)}; readable are ${Object.keys(BYTES).join(", ")}`);
    if (!isIntegers(shape)) fail(`"${name}" must have a shape of non-negative integers, got ${JSON.stringify(shape)}`);
    if (!isIntegers(offsets) || (offsets as number[]).length !== 2)
      fail(`"${name}" must have two data offsets, got ${JSON.stringify(offsets)}`);
    const [from, to] = offsets as [number, number];
    const type = dtype as SafetensorsDType;
    const size = sizeOf(shape as Shape);
    if (to < from || start + to > bytes.length)
      fail(`"${name}" lies at [${from}, ${to}) outside of the file's ${bytes.length - start} data bytes`);
    if (size * BYTES[type] !== to - from)
      fail(
        `"${name}" with shape ${formatShape(shape as Shape)} of ${type} needs ${size * BYTES[type]} bytes, got ${to - from}`,
      );
    spans.push([from, to, name]);
    tensors[name] = { dtype: type, shape: shape as Shape, data: decode(type, view, start + from, size, name) };
  }
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let end = 0;
  for (const [from, to, name] of spans) {
    if (from !== end)
      fail(
        `"${name}" begins at byte ${from}, expected ${end}: tensors must follow each other without gaps or overlaps`,
      );
    end = to;
  }
  if (start + end !== bytes.length) fail(`the tensors end at byte ${start + end} of a file of ${bytes.length}`);
  return { tensors, metadata };
}

const isIntegers = (x: unknown): x is number[] => Array.isArray(x) && x.every((v) => Number.isSafeInteger(v) && v >= 0);

function decode(dtype: SafetensorsDType, view: DataView, at: number, size: number, name: string): TypedArray {
  // a copy, which begins where a typed array may begin
  const start = view.byteOffset + at;
  const bytes = view.buffer.slice(start, start + size * BYTES[dtype]) as ArrayBuffer;
  switch (dtype) {
    case "F32":
      return new Float32Array(bytes);
    case "F64":
      return new Float64Array(bytes);
    case "I32":
      return new Int32Array(bytes);
    case "U32":
      return new Uint32Array(bytes);
    case "BOOL":
      return new Uint8Array(bytes).map((v) => (v === 0 ? 0 : 1));
    case "F16":
    case "BF16":
      return widen(new Uint16Array(bytes), dtype);
    case "I64":
      return Float64Array.from(new BigInt64Array(bytes), (v) => {
        const n = Number(v);
        if (!Number.isSafeInteger(n))
          throw new SafetensorsError(`safetensors: "${name}" holds the integer ${v}, which does not fit 53 bits`);
        return n;
      });
  }
}

/** A tensor to write. */
export interface SafetensorsInput {
  readonly shape: Shape;
  readonly data: TypedArray;
  /**
   * Element type in the file; default: Float32Array F32, Float64Array F64, Int32Array I32, Uint32Array U32, Uint8Array BOOL.
   * Floats may become F64, F32, F16 or BF16: values that came from such a file stay exact, others go to the nearest, ties to the
   * even one. Whole numbers in a Float64Array or Int32Array may become I64.
   */
  readonly dtype?: SafetensorsDType;
}

/**
 * Writes a safetensors file to memory. Names are sorted, so equal content gives equal bytes. What `readSafetensors` gave comes
 * back with the same element types and bytes.
 *
 * @throws SafetensorsError if a shape does not fit its data, or an element type does not
 * @example
 * const bytes = writeSafetensors({ w: { shape: [2], data: new Float32Array([1, 2]), dtype: "BF16" } });
 * readSafetensors(bytes).tensors.w; // { dtype: "BF16", shape: [2], data: Float32Array [1, 2] }
 */
export function writeSafetensors(
  tensors: Readonly<Record<string, SafetensorsInput>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  const names = Object.keys(tensors).sort();
  let offset = 0;
  for (const name of names) {
    const { shape, data, dtype = fileType(data) } = tensors[name]!;
    if (name === "__metadata__") throw new SafetensorsError('safetensors: "__metadata__" cannot be a tensor\'s name');
    if (sizeOf(shape) !== data.length)
      throw new SafetensorsError(
        `safetensors: "${name}" has ${data.length} elements for the shape ${formatShape(shape)}`,
      );
    const end = offset + data.length * BYTES[dtype];
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  // the data begins at a multiple of 8 bytes
  const json = JSON.stringify(header);
  const encoded = new TextEncoder().encode(json);
  const length = Math.ceil(encoded.length / 8) * 8;
  const out = new Uint8Array(8 + length + offset);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.fill(0x20, 8, 8 + length);
  out.set(encoded, 8);
  let at = 8 + length;
  for (const name of names) {
    const { data, dtype = fileType(data) } = tensors[name]!;
    const { buffer, byteOffset, byteLength } = encode(data, dtype, name);
    out.set(new Uint8Array(buffer, byteOffset, byteLength), at); // WebAssembly and every host of WebGPU are little-endian
    at += byteLength;
  }
  return out;
}

function fileType(data: TypedArray): SafetensorsDType {
  if (data instanceof Float64Array) return "F64";
  if (data instanceof Float32Array) return "F32";
  if (data instanceof Int32Array) return "I32";
  return data instanceof Uint32Array ? "U32" : "BOOL";
}

/** The array whose bytes stand in the file. */
function encode(data: TypedArray, dtype: SafetensorsDType, name: string): ArrayBufferView {
  const natural = fileType(data);
  if (natural === dtype) return data;
  if (data instanceof Float32Array || data instanceof Float64Array) {
    if (dtype === "F16" || dtype === "BF16") return narrow(data, dtype);
    if (dtype === "F32") return Float32Array.from(data);
    if (dtype === "F64") return Float64Array.from(data);
  }
  if (
    dtype === "I64" &&
    (data instanceof Float64Array || data instanceof Int32Array) &&
    data.every(Number.isSafeInteger)
  )
    return BigInt64Array.from(data as Float64Array, BigInt);
  throw new SafetensorsError(`safetensors: "${name}" of ${natural} cannot be written as ${dtype}`);
}

const TENSOR_TYPE: Readonly<Record<SafetensorsDType, DType>> = {
  F64: "f32",
  F32: "f32",
  F16: "f32",
  BF16: "f32",
  I64: "i32",
  I32: "i32",
  U32: "u32",
  BOOL: "bool",
};

/**
 * Reads a safetensors file into tensors: all floats become f32, I64 becomes i32.
 *
 * @throws SafetensorsError for a damaged file, or an I64 that does not fit 32 bits
 * @example const { tensors } = loadSafetensors(await readFile("model.safetensors"));
 */
export function loadSafetensors(
  bytes: Uint8Array,
  { device }: { readonly device?: Device } = {},
): { tensors: Record<string, Tensor>; metadata: Readonly<Record<string, string>> } {
  const { tensors, metadata } = readSafetensors(bytes);
  const out: Record<string, Tensor> = {};
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    if (dtype === "I64" && data.some((v) => v !== (v | 0)))
      throw new SafetensorsError(`safetensors: "${name}" holds integers that do not fit 32 bits`);
    out[name] = tensor(data, { shape, dtype: TENSOR_TYPE[dtype], ...(device && { device }) });
  }
  return { tensors: out, metadata };
}

/**
 * Reads tensors back and writes them as a safetensors file (on an f64 device as F64).
 * @example await writeFile("model.safetensors", await saveSafetensors(Object.fromEntries(treePaths(params))));
 */
export async function saveSafetensors(
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<Uint8Array> {
  const entries = await Promise.all(
    Object.entries(tensors).map(async ([name, t]) => [name, { shape: t.shape, data: await t.data() }] as const),
  );
  return writeSafetensors(Object.fromEntries(entries), metadata);
}
