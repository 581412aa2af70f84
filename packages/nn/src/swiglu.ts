// swiglu.ts: the gated activation of SwiGLU MLPs (Shazeer 2020, arXiv:2002.05202) as one op: on the CPU a kernel in WebAssembly
// SIMD, elsewhere plain ops, which fuse with what is around them.
import {
  add,
  type CpuFusedKernel,
  type CpuOperand,
  concat,
  type Device,
  defineFused,
  type FusedOp,
  mul,
  ShapeError,
  sigmoid,
  silu,
  split,
  sub,
  type Tensor,
  type TensorSpec,
} from "@mc/tensor";
import { type RowsOperand, swigluBackward as swigluBackwardKernel, swiglu as swigluKernel } from "@mc/tensor/cpu";
import { formatShape } from "./check.ts";

const halves = (x: Tensor): [Tensor, Tensor] => split(x, 2, -1) as [Tensor, Tensor];
const halved = ({ shape }: TensorSpec): number[] => [...shape.slice(0, -1), shape.at(-1)! / 2];

/** [..., 2F] -> [..., F]. */
const swigluFused: FusedOp<null> = {
  name: "swiglu",
  outputs: ([x]) => [{ shape: halved(x!), dtype: "f32" }],
  reference: ([x]) => {
    const [gate, up] = halves(x!);
    return [mul(silu(gate), up)];
  },
  vjp: ({ inputs: [x], cotangents: [dy] }) => [dy && swigluBackwardOp([x!, dy], null)[0]],
  cpu: (_, __, device) => onCpu(device, ([x], [y]) => swigluKernel(rowsOf(x!), rowsOf(y!), rowCount(y!))),
};

/** x [..., 2F] and dy [..., F] -> dx [..., 2F]: dg = dy u s (1 + g (1 - s)), du = dy g s, where s = sigmoid(g). */
const swigluBackwardFused: FusedOp<null> = {
  name: "swigluBackward",
  outputs: ([x]) => [{ shape: x!.shape, dtype: "f32" }],
  reference: ([x, dy]) => {
    const [gate, up] = halves(x!);
    const s = sigmoid(gate);
    const ds = mul(dy!, s);
    return [concat([mul(mul(ds, up), add(1, mul(gate, sub(1, s)))), mul(ds, gate)], -1)];
  },
  cpu: (_, __, device) =>
    onCpu(device, ([x, dy], [dx]) => swigluBackwardKernel(rowsOf(x!), rowsOf(dy!), rowsOf(dx!), rowCount(dy!))),
};

const onCpu = (device: Device, run: CpuFusedKernel["run"]): CpuFusedKernel | undefined =>
  device.precision === "f64" ? undefined : { contiguous: true, run };

const rowsOf = ({ data, offset, shape }: CpuOperand): RowsOperand => ({
  data: data as Float32Array,
  offset,
  width: shape.at(-1)!,
});

const rowCount = ({ shape }: CpuOperand): number => shape.slice(0, -1).reduce((product, size) => product * size, 1);

const swigluOp = defineFused(swigluFused);
const swigluBackwardOp = defineFused(swigluBackwardFused);

/**
 * `silu(g) * u` for x = [g, u] along the last axis.
 *
 * @param x - f32 [..., 2F]: F gates, then F linear values
 * @throws ShapeError if the last axis is odd
 * @example swiglu(tensor([[0, 1, 5, 7]])) // shape [1, 2]
 */
export function swiglu(x: Tensor): Tensor {
  if (x.ndim === 0 || x.shape.at(-1)! % 2 !== 0)
    throw new ShapeError(
      `swiglu: the last axis must hold gates and as many linear values, got ${formatShape(x.shape)}`,
    );
  return swigluOp([x], null)[0]!;
}
