// tensor.ts: the user's handle on a value.

import type { Device } from "./device/device.ts";
import type { DType, TypedArray } from "./dtype.ts";
import { ValueError } from "./errors.ts";
import { checkTrace, type Node } from "./node.ts";
import { hooks } from "./run/hooks.ts";
import { formatShape, type Shape, sizeOf } from "./shape.ts";

/** Nested arrays of numbers, as `tensor` takes and `toArray` gives them. */
export type NestedArray = number | NestedArray[];

/**
 * An immutable value: shape, dtype, device. Calling an op checks shapes at once and computes nothing; reading the numbers
 * (`data`, `item`, `toArray`) runs what they need. There is nothing to dispose: memory goes back when a tensor is donated to
 * a compiled step, or collected. `dispose()` and `using` release it at once where that matters.
 *
 * @example
 * const x = tensor([[1, 2], [3, 4]]);
 * await sum(mul(x, x)).item(); // 30
 */
export class Tensor {
  /** The graph node; for the compiler and for authors of transformations. */
  readonly node: Node;

  constructor(node: Node) {
    this.node = node;
    hooks.created?.(this);
  }

  /** Sizes, outermost first. */
  get shape(): Shape {
    if (this.node.trace) checkTrace(this.node.trace);
    return this.node.shape;
  }

  /** Element type. */
  get dtype(): DType {
    return this.node.dtype;
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** The device that holds or will compute the value. Throws DeviceError while only literals are involved and no device is connected. */
  get device(): Device {
    return this.node.device ?? hooks.defaultDevice();
  }

  /**
   * The elements in row-major order. Checks run at the call (a ValueError inside `compile` or while a gradient is recorded);
   * device errors arrive with the promise.
   */
  data(): Promise<TypedArray> {
    return hooks.read(this);
  }

  /** The only element as a number. Throws ValueError unless the tensor has exactly one. */
  item(): Promise<number> {
    if (this.size !== 1)
      throw new ValueError(`item: the tensor must have one element, got shape ${formatShape(this.shape)}`);
    return this.data().then((d) => Number(d[0]));
  }

  /** The elements as nested arrays. */
  toArray(): Promise<NestedArray> {
    const { shape } = this;
    return this.data().then((flat) => {
      const nest = (axis: number, offset: number, step: number): NestedArray => {
        if (axis === shape.length) return Number(flat[offset]);
        const inner = step / (shape[axis] || 1);
        return Array.from({ length: shape[axis]! }, (_, i) => nest(axis + 1, offset + i * inner, inner));
      };
      return nest(0, 0, flat.length);
    });
  }

  /** Releases the memory at once. Using the tensor, or a lazy value that needs it, throws afterwards. */
  dispose(): void {
    hooks.dispose(this);
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Dtype and shape, as in `Tensor(f32[2, 3])`. */
  toString(): string {
    return `Tensor(${this.dtype}${formatShape(this.shape)})`;
  }
}
