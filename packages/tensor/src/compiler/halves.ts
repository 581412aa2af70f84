// compiler/halves.ts: operands of large products on a matrix unit are stored in f16.
//
// A matrix unit rounds what it multiplies. Instead of by each product on its way in, a value is rounded once, by the kernel that
// makes it, and kept so for all products that read it: half the bytes to write, to hold until the backward pass, and to read.
// The same numbers are rounded in the same way, so that no bit of a result depends on it. Others of its readers read it in f32.
import type { Device } from "../device/device.ts";
import { createNode, type Node } from "../node.ts";
import { sizeOf } from "../shape.ts";
import type { SchedulerSettings } from "./schedule.ts";
import { affineView, storedType } from "./store.ts";

// f16 that a thread loads together: 16 bytes.
const GROUP = 8;
// A value may be so many times as large as what a product reads of it.
const WASTE = 2;

/** The operands of a lowered product: the same numbers, those that are worth it in f16. */
export function halfOperands(
  product: Node,
  operands: readonly Node[],
  { traits }: Device,
  { halfFlops }: SchedulerSettings,
  intern: (node: Node) => Node,
): readonly Node[] {
  const k = operands[0]!.shape.at(-1)!;
  const [m, n] = product.shape.slice(-2) as [number, number];
  const runsThere =
    traits.leastHalf !== undefined &&
    product.kind.kind === "matmul" &&
    product.kind.precision === "default" &&
    Math.min(m, n, k) >= traits.leastHalf;
  if (!runsThere || 2 * sizeOf(product.shape) * k < halfFlops) return operands;
  return operands.map((x) => halfOf(x, intern));
}

function halfOf(operand: Node, intern: (node: Node) => Node): Node {
  // views of a value become views of the rounded value; what reads through a barrier is rounded behind it
  const views: Node[] = [];
  let base = operand;
  while (isIndexing(base)) {
    views.push(base);
    base = base.inputs[0]!;
  }
  let view = affineView(operand, (node) => node === base);
  if (!view) {
    views.length = 0;
    base = operand;
    view = affineView(operand, (node) => node === base)!;
  }
  const { strides, offset } = view;
  const read = operand.shape.reduce((size, d, i) => (strides[i] === 0 ? size : size * d), 1);
  if (storedType(base) === "f16" || sizeOf(base.shape) > WASTE * read || !inGroups(operand.shape, strides, offset))
    return operand;
  return views.reduceRight(
    (of, { kind, shape, dtype, device }) => intern(createNode(kind, [of], shape, dtype, device)),
    rounded(base, intern),
  );
}

const isIndexing = ({ kind }: Node): boolean => ["reshape", "permute", "expand", "slice", "flip"].includes(kind.kind);

/** Whether groups of eight neighbours along rows or columns of a matrix lie side by side, aligned, none cut by an edge. */
function inGroups(shape: readonly number[], strides: readonly number[], offset: number): boolean {
  const last = shape.length - 1;
  const along = strides[last] === 1 ? last : last - 1;
  return (
    strides[along] === 1 &&
    offset % GROUP === 0 &&
    shape[along]! % GROUP === 0 &&
    strides.every((stride, i) => i === along || stride % GROUP === 0)
  );
}

/** A value in f16. Pieces of a concat that lie in it one after the other are rounded where they are made. */
function rounded(node: Node, intern: (node: Node) => Node): Node {
  const { kind, inputs, shape, dtype, device } = node;
  return kind.kind === "concat" && sizeOf(shape.slice(0, kind.axis)) === 1
    ? intern(
        createNode(
          kind,
          inputs.map((piece) => rounded(piece, intern)),
          shape,
          dtype,
          device,
        ),
      )
    : intern(createNode({ kind: "half" }, [node], shape, dtype, device));
}
