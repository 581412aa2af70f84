// dtype.ts: the element types of tensors and the arrays that hold them on the host.

/** Element type of a tensor. `bool` reads back as 0 and 1. */
export type DType = "f32" | "i32" | "u32" | "bool";

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

/** Bytes of one element in a device's memory: on a GPU four, of a bool too. */
export function deviceBytes(
  dtype: DType,
  device: { readonly kind: "cpu" | "webgpu"; readonly precision: Precision },
): number {
  return device.kind === "webgpu" ? 4 : hostBytes(dtype, device.precision);
}
