// ops/elementwise.ts: element-wise ops. Each is a row over the scalar language; gradients come from there.
import type { DType } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { createNode, type Node } from "../node.ts";
import { type Expr, type ScalarOp, scalar } from "../scalar.ts";
import { broadcastShapes } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { broadcastTo } from "./view.ts";

/** A tensor or a number. Numbers are weak: they take the dtype of the tensors beside them and become literals of the kernel. */
export type TensorLike = Tensor | number;

/**
 * An element-wise op from a scalar expression. Inputs broadcast against each other; numbers become literals.
 *
 * @param name - the op's name, for error messages
 * @param f - builds the expression from one argument per input
 * @throws ShapeError if shapes do not broadcast, DTypeError if the expression cannot be typed
 * @example
 * const hypot = (x: Tensor, y: Tensor) => elementwise("hypot", [x, y], (a, b) => scalar.sqrt(scalar.add(scalar.mul(a, a), scalar.mul(b, b))));
 */
export function elementwise(name: string, inputs: readonly TensorLike[], f: (...args: Expr[]) => Expr): Tensor {
  const tensors = inputs.filter((x) => typeof x !== "number");
  const weak = tensors.find((t) => t.dtype !== "bool")?.dtype ?? tensors[0]?.dtype ?? "f32";
  const shape = broadcastShapes(name, ...tensors.map((t) => t.shape));
  const nodes: Node[] = [];
  const args = inputs.map((x) => {
    if (typeof x === "number") return literal(name, x, weak);
    nodes.push(broadcastTo(x, shape).node);
    return scalar.arg(nodes.length - 1, x.dtype);
  });
  let expr: Expr;
  try {
    expr = f(...args);
  } catch (error) {
    if (error instanceof DTypeError) throw new DTypeError(error.message.replace(/^\w+:/, `${name}:`));
    throw error;
  }
  if (expr.op === "arg") return new Tensor(nodes[expr.index!]!);
  return new Tensor(createNode({ kind: "map", expr }, nodes, shape, expr.dtype));
}

function literal(name: string, value: number, dtype: DType): Expr {
  if (dtype === "bool") return scalar.constant(value ? 1 : 0, "bool");
  if (dtype !== "f32" && !Number.isInteger(value)) {
    throw new DTypeError(
      `${name}: a number beside ${dtype} tensors must be an integer, got ${value}; cast the tensor to "f32" first`,
    );
  }
  return scalar.constant(value, dtype);
}

const unary =
  (op: ScalarOp) =>
  (x: Tensor): Tensor =>
    elementwise(op, [x], (a) => scalar.apply(op, a));
const binary =
  (op: ScalarOp, name: string = op, build?: (a: Expr, b: Expr) => Expr) =>
  (x: TensorLike, y: TensorLike): Tensor =>
    elementwise(name, [x, y], build ?? ((a, b) => scalar.apply(op, a, b)));

/** `x + y`, broadcasting. f32, i32, u32 of one dtype. @example add(tensor([1, 2]), 1) // [2, 3] */
export const add = binary("add", "add", scalar.add);
/** `x - y`, broadcasting. @example sub(tensor([1, 2]), 1) // [0, 1] */
export const sub = binary("sub", "sub", scalar.sub);
/** `x * y`, broadcasting; integers wrap to 32 bits. @example mul(tensor([1, 2]), 3) // [3, 6] */
export const mul = binary("mul", "mul", scalar.mul);
/** `x / y`, broadcasting; integers truncate towards zero. @example div(tensor([1, 2]), 2) // [0.5, 1] */
export const div = binary("div", "div", scalar.div);
/** Remainder with the sign of `x` (C's `%`). @example mod(tensor([5, -5]), 3) // [2, -2] */
export const mod = binary("mod");
/** `x ** y` of f32; NaN for negative `x` and fractional `y`. @example pow(tensor([2, 3]), 2) // [4, 9] */
export const pow = binary("pow", "pow", scalar.pow);
/** Element-wise smaller value; NaN wins. At a tie the gradient goes to `x`. @example minimum(tensor([1, 5]), 3) // [1, 3] */
export const minimum = binary("min", "minimum");
/** Element-wise larger value; NaN wins. At a tie the gradient goes to `x`. @example maximum(tensor([1, 5]), 3) // [3, 5] */
export const maximum = binary("max", "maximum");

/** `-x`. @example neg(tensor([1])) // [-1] */
export const neg = unary("neg");
/** `|x|`. @example abs(tensor([-1])) // [1] */
export const abs = unary("abs");
/** -1, 0 or 1; NaN stays NaN on the CPU and is unspecified elsewhere. No gradient. @example sign(tensor([-3, 0])) // [-1, 0] */
export const sign = unary("sign");
/** `e ** x`. @example exp(tensor([0])) // [1] */
export const exp = unary("exp");
/** Natural logarithm. @example log(tensor([1])) // [0] */
export const log = unary("log");
/** Square root; NaN below zero. @example sqrt(tensor([4])) // [2] */
export const sqrt = unary("sqrt");
/** `1 / sqrt(x)`. @example rsqrt(tensor([4])) // [0.5] */
export const rsqrt = unary("rsqrt");
/** Sine of radians. @example sin(tensor([0])) // [0] */
export const sin = unary("sin");
/** Cosine of radians. @example cos(tensor([0])) // [1] */
export const cos = unary("cos");
/** Hyperbolic tangent. @example tanh(tensor([0])) // [0] */
export const tanh = unary("tanh");
/** Error function, `2/sqrt(pi) * integral of exp(-t^2) from 0 to x`. @example erf(tensor([0])) // [0] */
export const erf = unary("erf");
/** Largest integer not above `x`. No gradient. @example floor(tensor([1.5])) // [1] */
export const floor = unary("floor");
/** Smallest integer not below `x`. No gradient. @example ceil(tensor([1.5])) // [2] */
export const ceil = unary("ceil");
/** `x * x`. @example square(tensor([3])) // [9] */
export const square = (x: Tensor): Tensor => elementwise("square", [x], (a) => scalar.mul(a, a));
/** `1 / x`. @example reciprocal(tensor([4])) // [0.25] */
export const reciprocal = (x: Tensor): Tensor => elementwise("reciprocal", [x], (a) => scalar.div(1, a));

/** `1 / (1 + exp(-x))`. @example sigmoid(tensor([0])) // [0.5] */
export const sigmoid = unary("sigmoid");
/** `x * sigmoid(x)` (Elfwing et al. 2017), also called swish. @example silu(tensor([0])) // [0] */
export const silu = (x: Tensor): Tensor => elementwise("silu", [x], (a) => scalar.mul(a, scalar.sigmoid(a)));
/** `max(x, 0)`; the gradient at 0 is 0. @example relu(tensor([-1, 2])) // [0, 2] */
export const relu = (x: Tensor): Tensor => elementwise("relu", [x], (a) => scalar.max(scalar.like(a, 0), a));
/** `log(1 + exp(x))` without overflow. @example softplus(tensor([0])) // [0.6931] */
export const softplus = (x: Tensor): Tensor =>
  elementwise("softplus", [x], (a) =>
    scalar.add(scalar.max(a, 0), scalar.log(scalar.add(scalar.exp(scalar.neg(scalar.abs(a))), 1))),
  );

/** Options of `gelu`. */
export interface GeluOptions {
  /** "none": `x/2 * (1 + erf(x/sqrt 2))`, the default; "tanh": the approximation GPT-2 uses. */
  readonly approximate?: "none" | "tanh";
}
/**
 * Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415).
 * @example gelu(tensor([1]), { approximate: "tanh" }) // [0.8412]
 */
export function gelu(x: Tensor, { approximate = "none" }: GeluOptions = {}): Tensor {
  if (approximate === "none") {
    // x/2 (1 + erf(x / sqrt 2))
    return elementwise("gelu", [x], (a) =>
      scalar.mul(scalar.mul(a, 0.5), scalar.add(scalar.erf(scalar.mul(a, Math.SQRT1_2)), 1)),
    );
  }
  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  return elementwise("gelu", [x], (a) => {
    const cubic = scalar.add(a, scalar.mul(0.044715, scalar.pow(a, 3)));
    return scalar.mul(scalar.mul(a, 0.5), scalar.add(scalar.tanh(scalar.mul(Math.sqrt(2 / Math.PI), cubic)), 1));
  });
}

/** Bounds of `clamp`; a missing one does not bind. */
export interface ClampOptions {
  readonly min?: number;
  readonly max?: number;
}
/** `x` limited to [min, max]; NaN stays NaN; the gradient is zero outside. @example clamp(tensor([-1, 2]), { min: 0, max: 1 }) // [0, 1] */
export function clamp(x: Tensor, { min, max }: ClampOptions): Tensor {
  return elementwise("clamp", [x], (a) => {
    const low = min === undefined ? a : scalar.max(a, min);
    return max === undefined ? low : scalar.min(low, max);
  });
}

/** `a` where `condition` (bool) holds, else `b`, broadcasting. @example where(less(x, 0), 0, x) */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  if (condition.dtype !== "bool")
    throw new DTypeError(`where: the condition must be bool, got ${condition.dtype}; compare, as in notEqual(c, 0)`);
  if (typeof a === "number" && typeof b === "number") {
    return elementwise("where", [condition], (c) =>
      scalar.select(c, scalar.constant(a, "f32"), scalar.constant(b, "f32")),
    );
  }
  return elementwise("where", [condition, a, b], (c, x, y) => scalar.select(c, x, y));
}

/** `x == y` as bool, broadcasting. @example equal(tensor([1, 2]), 2) // [false, true] */
export const equal = binary("eq", "equal");
/** `x != y` as bool. @example notEqual(tensor([1, 2]), 2) // [true, false] */
export const notEqual = binary("ne", "notEqual");
/** `x < y` as bool. @example less(tensor([1, 2]), 2) // [true, false] */
export const less = binary("lt", "less");
/** `x <= y` as bool. @example lessEqual(tensor([1, 2]), 1) // [true, false] */
export const lessEqual = binary("le", "lessEqual");
/** `x > y` as bool. @example greater(tensor([1, 2]), 1) // [false, true] */
export const greater = binary("gt", "greater");
/** `x >= y` as bool. @example greaterEqual(tensor([1, 2]), 2) // [false, true] */
export const greaterEqual = binary("ge", "greaterEqual");
/** Both, of bool. @example logicalAnd(less(x, 1), greater(x, 0)) */
export const logicalAnd = binary("and", "logicalAnd");
/** Either, of bool. @example logicalOr(less(x, 0), greater(x, 1)) */
export const logicalOr = binary("or", "logicalOr");
/** Negation of bool. @example logicalNot(less(x, 0)) */
export const logicalNot = unary("not");
/** Whether each f32 is NaN, tested by bits. @example isNaN(log(tensor([-1]))) // [true] */
export const isNaN = unary("isNaN");
/** Whether each f32 is neither infinite nor NaN, tested by bits. @example isFinite(tensor([1])) // [true] */
export const isFinite = unary("isFinite");
/** Bits set in both, of i32 or u32. @example bitwiseAnd(x, 255) */
export const bitwiseAnd = binary("bitAnd", "bitwiseAnd");
/** Bits set in either. @example bitwiseOr(x, 1) */
export const bitwiseOr = binary("bitOr", "bitwiseOr");
/** Bits set in exactly one. @example bitwiseXor(x, y) */
export const bitwiseXor = binary("bitXor", "bitwiseXor");
/** `x << y`, y in [0, 31]. @example shiftLeft(x, 1) */
export const shiftLeft = binary("shiftLeft");
/** `x >> y`, filling with the sign bit for i32 and zeros for u32. @example shiftRight(x, 1) */
export const shiftRight = binary("shiftRight");

/**
 * Changes the dtype. f32 to integers truncates, saturates and sends NaN to 0; anything to bool is `x != 0`. No gradient except f32 to f32.
 * @example cast(tensor([1.7]), "i32") // [1]
 */
export const cast = (x: Tensor, dtype: DType): Tensor => elementwise("cast", [x], (a) => scalar.cast(a, dtype));

/** The same value, through which no gradient flows. @example mul(x, stopGradient(x)) // gradient x instead of 2x */
export const stopGradient = (x: Tensor): Tensor => new Tensor(createNode({ kind: "stop" }, [x.node], x.shape, x.dtype));

/** @internal */
export function expectDType(op: string, x: Tensor, ...allowed: DType[]): void {
  if (!allowed.includes(x.dtype))
    throw new DTypeError(`${op}: needs ${allowed.join(" or ")}, got ${x.dtype}; use cast(x, "${allowed[0]}")`);
}

/** @internal */
export function expectRank(op: string, x: Tensor, atLeast: number): void {
  if (x.ndim < atLeast)
    throw new ShapeError(
      `${op}: needs at least ${atLeast} dimension${atLeast === 1 ? "" : "s"}, got shape [${x.shape.join(", ")}]`,
    );
}
