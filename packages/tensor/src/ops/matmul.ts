// ops/matmul.ts: matrix products. Transposed operands are views (`mT`), read in place.
import { ShapeError } from "../errors.ts";
import { createNode } from "../node.ts";
import { broadcastShapes, formatShape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { expectDType } from "./elementwise.ts";
import { broadcastTo } from "./view.ts";

/**
 * Matrix product over the last two axes, f32 with f32 accumulation; leading axes broadcast as batches.
 *
 * @param a - [..., M, K]
 * @param b - [..., K, N]
 * @returns [..., M, N]
 * @throws ShapeError if the inner dimensions differ or the batches do not broadcast
 * @example matmul(x, mT(w)) // a linear layer: [B, in] and [out, in] give [B, out]
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
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
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = broadcastTo(a, [...batch, m, k]);
  const right = broadcastTo(b, [...batch, k, n]);
  return new Tensor(createNode({ kind: "matmul" }, [left.node, right.node], [...batch, m, n], "f32"));
}
