// stage.ts: copies strided views between ordinary arrays and the memory of the module.
//
// WebAssembly reads its own memory only, and tensors live outside it. A view whose values lie close together is
// copied as one span, a memcpy, and keeps its strides; one whose values are far apart is gathered.

/** Where the values of an array of some shape lie: value [i, j, ..] is `data[offset + i * strides[0] + j * strides[1] + ..]`. */
export interface Layout {
  readonly data: Float32Array;
  readonly offset: number;
  readonly strides: readonly number[];
}

/** How a view will lie in the memory of the module. */
export interface StagePlan {
  /** Elements it takes there. */
  readonly size: number;
  /** Position of its value [0, 0, ..] within those. */
  readonly origin: number;
  /** Its strides there, in elements. */
  readonly strides: readonly number[];
  /** Whether the whole span is copied as it lies. */
  readonly asSpan: boolean;
}

/**
 * Decides between copying the span of a view and gathering its values. Sizes are at least 1.
 *
 * @param slack spans of up to so many times the values are copied; a memcpy of twice the values beats a gather of them
 */
export function planStage(shape: readonly number[], strides: readonly number[], slack = 2): StagePlan {
  let below = 0;
  let above = 0;
  let elements = 1;
  for (let axis = 0; axis < shape.length; axis++) {
    const size = shape[axis];
    const reach = (size - 1) * strides[axis];
    if (reach < 0) below -= reach;
    else above += reach;
    if (strides[axis] !== 0) elements *= size;
  }
  const span = below + above + 1;
  if (span <= slack * elements) return { size: span, origin: below, strides, asSpan: true };

  // Gathered: the axis with the closest neighbours stays innermost, broadcast axes stay broadcast.
  const dense = new Array<number>(shape.length).fill(0);
  let size = 1;
  for (const axis of outermostFirst(strides).reverse()) {
    if (strides[axis] === 0) continue;
    dense[axis] = size;
    size *= shape[axis];
  }
  return { size, origin: 0, strides: dense, asSpan: false };
}

/** Copies a view of the given shape to `memory[at..]` as its plan says. */
export function copyIn(
  shape: readonly number[],
  from: Layout,
  plan: StagePlan,
  memory: Float32Array,
  at: number,
): void {
  if (plan.asSpan) {
    const start = from.offset - plan.origin;
    memory.set(from.data.subarray(start, start + plan.size), at);
    return;
  }
  const order = outermostFirst(from.strides).filter((axis) => from.strides[axis] !== 0);
  const pick = (values: readonly number[]) => order.map((axis) => values[axis]);
  copyStrided(
    pick(shape),
    { ...from, strides: pick(from.strides) },
    { data: memory, offset: at, strides: pick(plan.strides) },
  );
}

function outermostFirst(strides: readonly number[]): number[] {
  return strides.map((_, axis) => axis).sort((x, y) => Math.abs(strides[y]) - Math.abs(strides[x]));
}

/** Copies every value of one layout to its place in another. The last axis should be the one with close neighbours. */
export function copyStrided(shape: readonly number[], from: Layout, to: Layout): void {
  const sizes: number[] = [];
  const fromStrides: number[] = [];
  const toStrides: number[] = [];
  // Neighbouring axes that both layouts walk without a gap are one axis; axes of size 1 are none.
  for (let axis = 0; axis < shape.length; axis++) {
    const size = shape[axis];
    const last = sizes.length - 1;
    if (size === 1) continue;
    if (last >= 0 && fromStrides[last] === size * from.strides[axis] && toStrides[last] === size * to.strides[axis]) {
      sizes[last] *= size;
      fromStrides[last] = from.strides[axis];
      toStrides[last] = to.strides[axis];
    } else {
      sizes.push(size);
      fromStrides.push(from.strides[axis]);
      toStrides.push(to.strides[axis]);
    }
  }
  copyAxis(0, sizes, from.data, from.offset, fromStrides, to.data, to.offset, toStrides);
}

function copyAxis(
  axis: number,
  sizes: readonly number[],
  from: Float32Array,
  fromAt: number,
  fromStrides: readonly number[],
  to: Float32Array,
  toAt: number,
  toStrides: readonly number[],
): void {
  if (axis === sizes.length) {
    to[toAt] = from[fromAt];
    return;
  }
  const size = sizes[axis];
  const fromStride = fromStrides[axis];
  const toStride = toStrides[axis];
  if (axis < sizes.length - 1) {
    for (let i = 0; i < size; i++) {
      copyAxis(axis + 1, sizes, from, fromAt + i * fromStride, fromStrides, to, toAt + i * toStride, toStrides);
    }
  } else if (fromStride === 1 && toStride === 1 && size > 24) {
    // subarray and set together cost as much as some twenty elements one by one
    to.set(from.subarray(fromAt, fromAt + size), toAt);
  } else {
    for (let i = 0; i < size; i++) to[toAt + i * toStride] = from[fromAt + i * fromStride];
  }
}
