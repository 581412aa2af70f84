// hostArray.ts: a plain array with a shape, for references that say in loops what an op means.

/** Numbers with a shape, on the host. */
export interface HostArray {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: ArrayLike<number>;
  /** The element at the coordinates. */
  at(...coordinates: number[]): number;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1);

/** Wraps row-major data. */
export function hostArray(shape: readonly number[], data: ArrayLike<number>): HostArray {
  if (data.length !== sizeOf(shape))
    throw new Error(`hostArray: shape [${shape.join(", ")}] needs ${sizeOf(shape)} elements, got ${data.length}`);
  return {
    shape,
    data,
    at: (...coordinates) => {
      let index = 0;
      for (let axis = 0; axis < shape.length; axis++) index = index * shape[axis]! + coordinates[axis]!;
      return data[index]!;
    },
  };
}

/**
 * The array whose element at (i, j, ...) is `element(i, j, ...)`.
 *
 * @example
 * build([2, 2], (i, j) => (i === j ? 1 : 0)); // the identity
 */
export function build(shape: readonly number[], element: (...coordinates: number[]) => number): HostArray {
  const data = new Float64Array(sizeOf(shape));
  const at = new Array<number>(shape.length).fill(0);
  for (let index = 0; index < data.length; index++) {
    data[index] = element(...at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at[axis]!++;
      if (at[axis]! < shape[axis]!) break;
      at[axis] = 0;
    }
  }
  return hostArray(shape, data);
}

/** Applies a scalar function element by element, broadcasting as NumPy does. */
export function elementwise(fn: (...values: number[]) => number): (...inputs: HostArray[]) => HostArray {
  return (...inputs) => {
    const rank = Math.max(...inputs.map((x) => x.shape.length));
    const padded = inputs.map((x) =>
      hostArray([...new Array<number>(rank - x.shape.length).fill(1), ...x.shape], x.data),
    );
    const shape = Array.from({ length: rank }, (_, axis) => Math.max(...padded.map((x) => x.shape[axis]!)));
    return build(shape, (...at) =>
      fn(...padded.map((x) => x.at(...at.map((c, axis) => (x.shape[axis] === 1 ? 0 : c))))),
    );
  };
}

/** 0, 1, ..., n - 1. */
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
