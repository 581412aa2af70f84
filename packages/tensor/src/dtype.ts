// dtype.ts: the element types of tensors and the arrays that hold them on the host.

/** Element type of a tensor. `bool` reads back as 0 and 1. */
export type DType = "f32" | "i32" | "u32" | "bool";

/** How a device stores elements: f16 holds f32 that only products on a matrix unit read. */
export type StoredType = DType | "f16";

/** What `await tensor.data()` gives: Float32Array (Float64Array on an f64 CPU device), Int32Array, Uint32Array, Uint8Array. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;

/** Arithmetic of a device's `f32` tensors: "f64" exists on the CPU device, as the oracle of tests. */
export type Precision = "f32" | "f64";

/** The host array type for a dtype. */
export function arrayType(dtype: DType, precision: Precision) {
  switch (dtype) {
    case "f32":
      return precision === "f64" ? Float64Array : Float32Array;
    case "i32":
      return Int32Array;
    case "u32":
      return Uint32Array;
    case "bool":
      return Uint8Array;
  }
}

/** Bytes of one element in a host array of the given dtype. */
export function hostBytes(dtype: DType, precision: Precision): number {
  return arrayType(dtype, precision).BYTES_PER_ELEMENT;
}

/** Bytes of one element in a device's memory: on a GPU four, of a bool too, and two of an f16. */
export function deviceBytes(
  dtype: StoredType,
  device: { readonly kind: "cpu" | "webgpu"; readonly precision: Precision },
): number {
  if (dtype === "f16") return 2;
  return device.kind === "webgpu" ? 4 : hostBytes(dtype, device.precision);
}
