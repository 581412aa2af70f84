// moe/groupedSizes.ts: the sizes of products over groups of rows, and what the operands must satisfy.
import { DTypeError, ShapeError, type TensorSpec } from "@mc/tensor";
import { formatShape } from "../check.ts";

/** y_r = w_e x_r for each row r of group e. */
export interface MatmulSizes {
  /** M, rows of all groups together. */
  readonly rows: number;
  /** E. */
  readonly groups: number;
  /** N, features of a row of y. */
  readonly columns: number;
  /** K, features of a row of x. */
  readonly inner: number;
}

/** y_e = sum over the rows r of group e of a_r b_r^T. */
export interface OuterSizes {
  /** M, rows of all groups together. */
  readonly rows: number;
  /** E. */
  readonly groups: number;
  /** P, features of a row of a. */
  readonly left: number;
  /** Q, features of a row of b. */
  readonly right: number;
}

/** Sizes of x [M, K], w [E, N, K], offsets i32 [E + 1]. */
export function matmulSizes(x: TensorSpec, w: TensorSpec, offsets: TensorSpec): MatmulSizes {
  const got = `got x ${formatShape(x.shape)}, w ${formatShape(w.shape)}, offsets ${formatShape(offsets.shape)}`;
  checkTypes("groupedMatmul", { x, w }, offsets);
  if (x.shape.length !== 2 || w.shape.length !== 3 || x.shape[1] !== w.shape[2])
    throw new ShapeError(`groupedMatmul: x must be [M, K] and w [E, N, K], ${got}`);
  if (offsets.shape.length !== 1 || offsets.shape[0] !== w.shape[0]! + 1)
    throw new ShapeError(`groupedMatmul: offsets must be [E + 1] for w [E, N, K], ${got}`);
  return { rows: x.shape[0]!, groups: w.shape[0]!, columns: w.shape[1]!, inner: x.shape[1]! };
}

/** Sizes of a [M, P], b [M, Q], offsets i32 [E + 1]. */
export function outerSizes(a: TensorSpec, b: TensorSpec, offsets: TensorSpec): OuterSizes {
  const got = `got a ${formatShape(a.shape)}, b ${formatShape(b.shape)}, offsets ${formatShape(offsets.shape)}`;
  checkTypes("groupedOuter", { a, b }, offsets);
  if (a.shape.length !== 2 || b.shape.length !== 2 || a.shape[0] !== b.shape[0])
    throw new ShapeError(`groupedOuter: a must be [M, P] and b [M, Q], ${got}`);
  if (offsets.shape.length !== 1 || offsets.shape[0]! < 2)
    throw new ShapeError(`groupedOuter: offsets must be [E + 1] for at least one group, ${got}`);
  return { rows: a.shape[0]!, groups: offsets.shape[0]! - 1, left: a.shape[1]!, right: b.shape[1]! };
}

function checkTypes(op: string, operands: Readonly<Record<string, TensorSpec>>, offsets: TensorSpec): void {
  for (const [name, { dtype }] of Object.entries(operands))
    if (dtype !== "f32") throw new DTypeError(`${op}: ${name} must be f32, got ${dtype}`);
  if (offsets.dtype !== "i32") throw new DTypeError(`${op}: offsets must be i32, got ${offsets.dtype}`);
}
