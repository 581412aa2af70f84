// ops/matmul.ts: matrix products. Transposed operands are views (`mT`), read in place.
import { ShapeError } from "../errors.ts";
import { createNode } from "../node.ts";
import { broadcastShapes, formatShape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { expectDType } from "./elementwise.ts";
import { broadcastTo } from "./view.ts";

/** Options of `matmul`. */
export interface MatmulOptions {
  /** "f32": operands are never rounded to less, whatever the device was connected with. Default: as the device does. */
  readonly precision?: "f32";
  /**
   * A promise that the product is a symmetric matrix, as X X^T and polynomials of one symmetric matrix are. The result is
   * then exactly symmetric, for about half the work: one of each pair of elements is computed and stored in both places.
   * A broken promise is not noticed: elements below the diagonal are those above it. Default false.
   */
  readonly symmetric?: boolean;
}

/**
 * Matrix product over the last two axes, f32 with f32 accumulation; leading axes broadcast as batches.
 *
 * @param a - [..., M, K]
 * @param b - [..., K, N]
 * @returns [..., M, N]
 * @throws ShapeError if the inner dimensions differ, the batches do not broadcast, or a symmetric product is not square
 * @example matmul(x, mT(w)) // a linear layer: [B, in] and [out, in] give [B, out]
 * @example matmul(x, mT(x), { symmetric: true }) // a Gram matrix, for half the work
 */
export function matmul(a: Tensor, b: Tensor, { precision, symmetric = false }: MatmulOptions = {}): Tensor {
  expectDType("matmul", a, "f32");
  expectDType("matmul", b, "f32");
  if (a.ndim < 2 || b.ndim < 2)
    throw new ShapeError(
      `matmul: operands must have at least 2 dimensions, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  const [m, k] = a.shape.slice(-2) as [number, number];
  const [k2, n] = b.shape.slice(-2) as [number, number];
  if (k !== k2)
    throw new ShapeError(
      `matmul: inner dimensions must match, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  if (symmetric && m !== n)
    throw new ShapeError(
      `matmul: a symmetric product must be square, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = broadcastTo(a, [...batch, m, k]);
  const right = broadcastTo(b, [...batch, k, n]);
  const kind = { kind: "matmul", precision: precision ?? "default", symmetric } as const;
  return new Tensor(createNode(kind, [left.node, right.node], [...batch, m, n], "f32"));
}
