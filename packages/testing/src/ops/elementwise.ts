// ops/elementwise.ts: one row or more for each element-wise op.

import type { Tensor } from "@mc/tensor";
import * as t from "@mc/tensor";
import {
  anyNumber,
  awayFromIntegers,
  awayFromZero,
  bool,
  nonZeroIntegers,
  positive,
  smallIntegers,
  smallNaturals,
  words,
} from "../domains.ts";
import { elementwise } from "../hostArray.ts";
import type { OpTable } from "./table.ts";

/** [n, 1] and [1, 3]: both sides stretch. */
const outer = (n: number) => [
  [n, 1],
  [1, 3],
];
/** [n, 3] and [3]: a bias. */
const bias = (n: number) => [[n, 3], [3]];

const f64 = new Float64Array(1);
/** 2/sqrt(pi) exp(-x^2) sum of 2^k x^(2k+1) / (1 3 5 ... (2k+1)): all terms have the sign of x, so nothing cancels. */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  f64[0] = x;
  for (let k = 1; Math.abs(term) > 1e-18 * Math.abs(f64[0]!) && k < 400; k++) {
    term *= (2 * x * x) / (2 * k + 1);
    f64[0]! += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * f64[0]!;
}
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const geluTanh = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** Special values that kernels get wrong: signed zero, infinities, NaN. */
const special = {
  dtype: "f32",
  draw: (r: { integer(low: number, high: number): number }) =>
    [0, -0, 1, -1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN][r.integer(0, 7)]!,
} as const;

const arithmetic: OpTable = {
  add: {
    "add(x, y) adds element by element": {
      op: t.add,
      inputs: [anyNumber, anyNumber],
      reference: elementwise((x, y) => x! + y!),
      gradient: 2,
    },
    "add(x, y) stretches [n, 1] and [1, 3] against each other": {
      op: t.add,
      inputs: [anyNumber, anyNumber],
      shapes: outer,
      reference: elementwise((x, y) => x! + y!),
    },
    "add(x, y) of u32 wraps at 2^32": {
      op: t.add,
      inputs: [words, words],
      reference: elementwise((x, y) => (x! + y!) >>> 0),
    },
    "add(x, 2) takes a number beside i32": {
      op: (x: Tensor) => t.add(x, 2),
      inputs: [smallIntegers],
      reference: elementwise((x) => x! + 2),
    },
  },
  sub: {
    "sub(x, y) subtracts a bias from every row": {
      op: t.sub,
      inputs: [anyNumber, anyNumber],
      shapes: bias,
      reference: elementwise((x, y) => x! - y!),
      gradient: 2,
    },
    "sub(1, x) takes a number on the left": {
      op: (x: Tensor) => t.sub(1, x),
      inputs: [anyNumber],
      reference: elementwise((x) => 1 - x!),
    },
    "sub(x, y) of i32": {
      op: t.sub,
      inputs: [smallIntegers, smallIntegers],
      reference: elementwise((x, y) => x! - y!),
    },
  },
  mul: {
    "mul(x, y) multiplies element by element": {
      op: t.mul,
      inputs: [anyNumber, anyNumber],
      reference: elementwise((x, y) => x! * y!),
      gradient: 2,
    },
    "mul(x, y) stretches and sums its gradients back": {
      op: t.mul,
      inputs: [anyNumber, anyNumber],
      shapes: outer,
      reference: elementwise((x, y) => x! * y!),
      gradient: 2,
    },
    "mul(x, x) of one tensor used twice has gradient 2x": {
      op: (x: Tensor) => t.mul(x, x),
      inputs: [anyNumber],
      reference: elementwise((x) => x! * x!),
      gradient: 2,
    },
    "mul(x, y) of u32 keeps the low 32 bits": {
      op: t.mul,
      inputs: [words, words],
      reference: elementwise((x, y) => Math.imul(x!, y!) >>> 0),
    },
  },
  div: {
    "div(x, y) divides element by element": {
      op: t.div,
      inputs: [anyNumber, awayFromZero],
      reference: elementwise((x, y) => x! / y!),
      gradient: 2,
    },
    "div(x, y) of i32 truncates towards zero": {
      op: t.div,
      inputs: [smallIntegers, nonZeroIntegers],
      reference: elementwise((x, y) => Math.trunc(x! / y!) + 0),
    },
    "div(x, 4) of u32 truncates": {
      op: (x: Tensor) => t.div(x, 4),
      inputs: [words],
      reference: elementwise((x) => Math.floor(x! / 4)),
    },
  },
  mod: {
    "mod(x, y) keeps the sign of x": {
      op: (x: Tensor) => t.mod(x, 1),
      inputs: [awayFromIntegers],
      reference: elementwise((x) => x! % 1),
    },
    "mod(x, y) of i32 keeps the sign of x": {
      op: t.mod,
      inputs: [smallIntegers, nonZeroIntegers],
      reference: elementwise((x, y) => (x! % y!) + 0),
    },
    "mod(x, 7) of u32": { op: (x: Tensor) => t.mod(x, 7), inputs: [words], reference: elementwise((x) => x! % 7) },
  },
  pow: {
    "pow(x, y) of positive x": {
      op: t.pow,
      inputs: [positive, anyNumber],
      reference: elementwise((x, y) => x! ** y!),
      gradient: 2,
      tolerance: { rtol: 5e-5 },
    },
    "pow(x, 3) of any x": {
      op: (x: Tensor) => t.pow(x, 3),
      inputs: [anyNumber],
      reference: elementwise((x) => x! ** 3),
      gradient: 2,
    },
    "pow(x, -1.5) of positive x": {
      op: (x: Tensor) => t.pow(x, -1.5),
      inputs: [positive],
      reference: elementwise((x) => x! ** -1.5),
      tolerance: { rtol: 5e-5 },
    },
    "pow(0.9, x) takes a number as base": {
      op: (x: Tensor) => t.pow(0.9, x),
      inputs: [positive],
      reference: elementwise((x) => 0.9 ** x!),
      tolerance: { rtol: 5e-5 },
    },
  },
  minimum: {
    "minimum(x, y) takes the smaller": {
      op: t.minimum,
      inputs: [anyNumber, anyNumber],
      reference: elementwise((x, y) => Math.min(x!, y!)),
    },
    "minimum(x, y) keeps NaN of either side": {
      op: t.minimum,
      inputs: [special, anyNumber],
      reference: elementwise((x, y) => Math.min(x!, y!)),
      gradient: 0,
    },
    "minimum(x, y) of i32": {
      op: t.minimum,
      inputs: [smallIntegers, smallIntegers],
      reference: elementwise((x, y) => Math.min(x!, y!)),
    },
  },
  maximum: {
    "maximum(x, y) takes the larger": {
      op: t.maximum,
      inputs: [anyNumber, anyNumber],
      reference: elementwise((x, y) => Math.max(x!, y!)),
    },
    "maximum(x, y) keeps NaN of either side": {
      op: t.maximum,
      inputs: [anyNumber, special],
      reference: elementwise((x, y) => Math.max(x!, y!)),
      gradient: 0,
    },
    "maximum(x, 0) of i32": {
      op: (x: Tensor) => t.maximum(x, 0),
      inputs: [smallIntegers],
      reference: elementwise((x) => Math.max(x!, 0)),
    },
  },
};

const functions: OpTable = {
  neg: {
    "neg(x) is -x": { op: t.neg, inputs: [anyNumber], reference: elementwise((x) => -x!), gradient: 2 },
    "neg(x) of i32": { op: t.neg, inputs: [smallIntegers], reference: elementwise((x) => 0 - x!) },
  },
  abs: { "abs(x) is |x|": { op: t.abs, inputs: [awayFromZero], reference: elementwise((x) => Math.abs(x!)) } },
  sign: {
    "sign(x) is -1, 0 or 1, without a gradient": {
      op: t.sign,
      inputs: [awayFromZero],
      reference: elementwise((x) => Math.sign(x!)),
    },
  },
  exp: {
    "exp(x) is e to the x": {
      op: t.exp,
      inputs: [anyNumber],
      reference: elementwise((x) => Math.exp(x!)),
      gradient: 2,
    },
  },
  log: {
    "log(x) of positive x": { op: t.log, inputs: [positive], reference: elementwise((x) => Math.log(x!)), gradient: 2 },
  },
  sqrt: {
    "sqrt(x) of positive x": {
      op: t.sqrt,
      inputs: [positive],
      reference: elementwise((x) => Math.sqrt(x!)),
      gradient: 2,
    },
  },
  rsqrt: {
    "rsqrt(x) is 1 / sqrt(x)": {
      op: t.rsqrt,
      inputs: [positive],
      reference: elementwise((x) => 1 / Math.sqrt(x!)),
      gradient: 2,
    },
  },
  square: {
    "square(x) is x * x": { op: t.square, inputs: [anyNumber], reference: elementwise((x) => x! * x!), gradient: 2 },
  },
  reciprocal: {
    "reciprocal(x) is 1 / x": {
      op: t.reciprocal,
      inputs: [awayFromZero],
      reference: elementwise((x) => 1 / x!),
      gradient: 2,
    },
  },
  sin: { "sin(x)": { op: t.sin, inputs: [anyNumber], reference: elementwise((x) => Math.sin(x!)), gradient: 2 } },
  cos: { "cos(x)": { op: t.cos, inputs: [anyNumber], reference: elementwise((x) => Math.cos(x!)), gradient: 2 } },
  tanh: {
    "tanh(x)": { op: t.tanh, inputs: [anyNumber], reference: elementwise((x) => Math.tanh(x!)), gradient: 2 },
    "tanh(100 x) saturates without overflow": {
      op: (x: Tensor) => t.tanh(t.mul(x, 100)),
      inputs: [awayFromZero],
      reference: elementwise((x) => Math.tanh(100 * x!)),
    },
  },
  sigmoid: {
    "sigmoid(x) is 1 / (1 + exp(-x))": {
      op: t.sigmoid,
      inputs: [anyNumber],
      reference: elementwise((x) => sigmoid(x!)),
      gradient: 2,
    },
    "sigmoid(100 x) saturates without NaN": {
      op: (x: Tensor) => t.sigmoid(t.mul(x, 100)),
      inputs: [awayFromZero],
      reference: elementwise((x) => sigmoid(100 * x!)),
    },
  },
  silu: {
    "silu(x) is x sigmoid(x)": {
      op: t.silu,
      inputs: [anyNumber],
      reference: elementwise((x) => x! * sigmoid(x!)),
      gradient: 2,
    },
  },
  softplus: {
    "softplus(x) is log(1 + exp(x))": {
      op: t.softplus,
      inputs: [awayFromZero],
      reference: elementwise((x) => Math.log1p(Math.exp(x!))),
    },
  },
  relu: {
    "relu(x) is max(x, 0)": { op: t.relu, inputs: [awayFromZero], reference: elementwise((x) => Math.max(x!, 0)) },
  },
  gelu: {
    "gelu(x) is x/2 (1 + erf(x / sqrt 2))": {
      op: (x: Tensor) => t.gelu(x),
      inputs: [anyNumber],
      reference: elementwise((x) => 0.5 * x! * (1 + erf(x! * Math.SQRT1_2))),
      gradient: 2,
    },
    'gelu(x, { approximate: "tanh" }) is the approximation of GPT-2': {
      op: (x: Tensor) => t.gelu(x, { approximate: "tanh" }),
      inputs: [anyNumber],
      reference: elementwise((x) => geluTanh(x!)),
      gradient: 2,
    },
  },
  erf: { "erf(x)": { op: t.erf, inputs: [anyNumber], reference: elementwise((x) => erf(x!)), gradient: 2 } },
  floor: {
    "floor(x) rounds down, without a gradient": {
      op: t.floor,
      inputs: [awayFromIntegers],
      reference: elementwise((x) => Math.floor(x!)),
    },
  },
  ceil: {
    "ceil(x) rounds up, without a gradient": {
      op: t.ceil,
      inputs: [awayFromIntegers],
      reference: elementwise((x) => Math.ceil(x!) + 0),
    },
  },
  clamp: {
    "clamp(x, { min, max }) limits x": {
      op: (x: Tensor) => t.clamp(x, { min: -0.5, max: 0.75 }),
      inputs: [anyNumber],
      reference: elementwise((x) => Math.min(0.75, Math.max(-0.5, x!))),
    },
    "clamp(x, { min }) has no upper bound and keeps NaN": {
      op: (x: Tensor) => t.clamp(x, { min: -0.5 }),
      inputs: [special],
      reference: elementwise((x) => Math.max(-0.5, x!)),
      gradient: 0,
    },
  },
  stopGradient: {
    "stopGradient(x) is x": {
      op: (x: Tensor) => t.stopGradient(x),
      inputs: [anyNumber],
      reference: elementwise((x) => x!),
      gradient: 0,
    },
  },
};

const choices: OpTable = {
  where: {
    "where(c, x, y) picks element by element": {
      op: t.where,
      inputs: [bool, anyNumber, anyNumber],
      reference: elementwise((c, x, y) => (c ? x! : y!)),
      gradient: 1,
    },
    "where(c, x, 0) takes a number and stretches a row of conditions": {
      op: (c: Tensor, x: Tensor) => t.where(c, x, 0),
      inputs: [bool, anyNumber],
      shapes: (n) => [[3], [n, 3]],
      reference: elementwise((c, x) => (c ? x! : 0)),
      gradient: 1,
    },
    "where(c, x, -1) of i32": {
      op: (c: Tensor, x: Tensor) => t.where(c, x, -1),
      inputs: [bool, smallIntegers],
      reference: elementwise((c, x) => (c ? x! : -1)),
    },
    "where(c, x, y) does not let an infinity of the other side through": {
      op: t.where,
      inputs: [bool, special, anyNumber],
      reference: elementwise((c, x, y) => (c ? x! : y!)),
      gradient: 0,
    },
  },
  equal: {
    "equal(x, y) of i32": {
      op: t.equal,
      inputs: [smallIntegers, smallIntegers],
      reference: elementwise((x, y) => (x === y ? 1 : 0)),
    },
    "equal(x, y) of f32: 0 equals -0": {
      op: t.equal,
      inputs: [special, special],
      reference: elementwise((x, y) => (x === y ? 1 : 0)),
      gradient: 0,
    },
    "equal(x, y) of bool": { op: t.equal, inputs: [bool, bool], reference: elementwise((x, y) => (x === y ? 1 : 0)) },
  },
  notEqual: {
    "notEqual(x, y) of u32": {
      op: t.notEqual,
      inputs: [smallNaturals, smallNaturals],
      reference: elementwise((x, y) => (x !== y ? 1 : 0)),
    },
  },
  less: {
    "less(x, y) of f32": {
      op: t.less,
      inputs: [anyNumber, anyNumber],
      reference: elementwise((x, y) => (x! < y! ? 1 : 0)),
      gradient: 0,
    },
    "less(x, y) of u32 compares without sign": {
      op: t.less,
      inputs: [words, words],
      reference: elementwise((x, y) => (x! < y! ? 1 : 0)),
    },
  },
  lessEqual: {
    "lessEqual(x, 1) of i32": {
      op: (x: Tensor) => t.lessEqual(x, 1),
      inputs: [smallIntegers],
      reference: elementwise((x) => (x! <= 1 ? 1 : 0)),
    },
  },
  greater: {
    "greater(x, y) of i32": {
      op: t.greater,
      inputs: [smallIntegers, smallIntegers],
      reference: elementwise((x, y) => (x! > y! ? 1 : 0)),
    },
  },
  greaterEqual: {
    "greaterEqual(x, y) of f32": {
      op: t.greaterEqual,
      inputs: [anyNumber, anyNumber],
      reference: elementwise((x, y) => (x! >= y! ? 1 : 0)),
      gradient: 0,
    },
  },
  logicalAnd: {
    "logicalAnd(x, y)": { op: t.logicalAnd, inputs: [bool, bool], reference: elementwise((x, y) => x! & y!) },
  },
  logicalOr: {
    "logicalOr(x, y)": { op: t.logicalOr, inputs: [bool, bool], reference: elementwise((x, y) => x! | y!) },
  },
  logicalNot: { "logicalNot(x)": { op: t.logicalNot, inputs: [bool], reference: elementwise((x) => 1 - x!) } },
  isNaN: {
    "isNaN(x) tests the bits": {
      op: t.isNaN,
      inputs: [special],
      reference: elementwise((x) => (Number.isNaN(x) ? 1 : 0)),
      gradient: 0,
    },
  },
  isFinite: {
    "isFinite(x) tests the bits": {
      op: t.isFinite,
      inputs: [special],
      reference: elementwise((x) => (Number.isFinite(x) ? 1 : 0)),
      gradient: 0,
    },
  },
};

const integers: OpTable = {
  bitwiseAnd: {
    "bitwiseAnd(x, y) of u32": {
      op: t.bitwiseAnd,
      inputs: [words, words],
      reference: elementwise((x, y) => (x! & y!) >>> 0),
    },
  },
  bitwiseOr: {
    "bitwiseOr(x, y) of u32": {
      op: t.bitwiseOr,
      inputs: [words, words],
      reference: elementwise((x, y) => (x! | y!) >>> 0),
    },
  },
  bitwiseXor: {
    "bitwiseXor(x, y) of u32": {
      op: t.bitwiseXor,
      inputs: [words, words],
      reference: elementwise((x, y) => (x! ^ y!) >>> 0),
    },
    "bitwiseXor(x, -1) of i32": {
      op: (x: Tensor) => t.bitwiseXor(x, -1),
      inputs: [smallIntegers],
      reference: elementwise((x) => x! ^ -1),
    },
  },
  shiftLeft: {
    "shiftLeft(x, y) of u32": {
      op: t.shiftLeft,
      inputs: [words, smallNaturals],
      reference: elementwise((x, y) => (x! << y!) >>> 0),
    },
  },
  shiftRight: {
    "shiftRight(x, y) of u32 fills with zeros": {
      op: t.shiftRight,
      inputs: [words, smallNaturals],
      reference: elementwise((x, y) => x! >>> y!),
    },
    "shiftRight(x, 1) of i32 keeps the sign": {
      op: (x: Tensor) => t.shiftRight(x, 1),
      inputs: [smallIntegers],
      reference: elementwise((x) => x! >> 1),
    },
  },
  cast: {
    'cast(x, "i32") truncates towards zero': {
      op: (x: Tensor) => t.cast(x, "i32"),
      inputs: [awayFromIntegers],
      reference: elementwise((x) => Math.trunc(x!) + 0),
      gradient: 0,
    },
    'cast(x, "i32") saturates and sends NaN to 0': {
      op: (x: Tensor) => t.cast(t.mul(x, 3e9), "i32"),
      inputs: [special],
      reference: elementwise((x) => (Number.isNaN(x) || x === 0 ? 0 : x! > 0 ? 2147483647 : -2147483648)),
      gradient: 0,
    },
    'cast(x, "u32") of f32 saturates and sends NaN to 0': {
      op: (x: Tensor) => t.cast(t.mul(x, 3e9), "u32"),
      inputs: [special],
      reference: elementwise((x) => (x! > 0 ? (x! * 3e9 >= 2 ** 32 ? 2 ** 32 - 1 : x! * 3e9) : 0)),
      gradient: 0,
    },
    'cast(x, "i32") of large u32 wraps, and abs of the least i32 is itself': {
      op: (x: Tensor) => {
        const large = t.cast(t.bitwiseXor(x, 0x80000000), "i32"); // -2^31 + x
        const least = t.cast(t.bitwiseXor(t.mul(x, 0), 0x80000000), "i32");
        return t.add(large, t.cast(t.less(t.abs(least), 0), "i32"));
      },
      inputs: [smallNaturals],
      reference: elementwise((x) => x! - 2 ** 31 + 1),
    },
    'cast(x, "u32") of negative i32 wraps': {
      op: (x: Tensor) => t.cast(x, "u32"),
      inputs: [smallIntegers],
      reference: elementwise((x) => x! >>> 0),
    },
    'cast(x, "f32") of u32 and back': {
      op: (x: Tensor) => t.cast(x, "f32"),
      inputs: [smallNaturals],
      reference: elementwise((x) => x!),
    },
    'cast(x, "f32") of bool': {
      op: (x: Tensor) => t.cast(x, "f32"),
      inputs: [bool],
      reference: elementwise((x) => x!),
    },
    'cast(x, "bool") is x != 0': {
      op: (x: Tensor) => t.cast(x, "bool"),
      inputs: [smallIntegers],
      reference: elementwise((x) => (x === 0 ? 0 : 1)),
    },
  },
};

/** Every element-wise op. */
export const elementwiseOps: OpTable = { ...arithmetic, ...functions, ...choices, ...integers };
