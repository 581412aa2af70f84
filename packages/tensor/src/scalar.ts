// scalar.ts: the scalar language. Element-wise ops are written once in it; it renders to JavaScript and to WGSL and
// differentiates itself.
import type { DType } from "./dtype.ts";
import { DTypeError, invariant } from "./errors.ts";

/** Name of a scalar operation. */
export type ScalarOp =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "mod"
  | "pow"
  | "min"
  | "max"
  | "neg"
  | "abs"
  | "sign"
  | "floor"
  | "ceil"
  | "trunc"
  | "exp"
  | "log"
  | "sqrt"
  | "rsqrt"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "erf"
  | "eq"
  | "ne"
  | "lt"
  | "le"
  | "gt"
  | "ge"
  | "and"
  | "or"
  | "not"
  | "isNaN"
  | "isFinite"
  | "select"
  | "bitAnd"
  | "bitOr"
  | "bitXor"
  | "shiftLeft"
  | "shiftRight"
  | "toF32"
  | "toI32"
  | "toU32"
  | "toBool";

/** A typed scalar expression over the elements of a map's inputs. Expressions are immutable and may share parts. */
export interface Expr {
  readonly op: ScalarOp | "const" | "arg";
  readonly dtype: DType;
  readonly args: readonly Expr[];
  /** of "const" */
  readonly value?: number;
  /** of "arg": which input */
  readonly index?: number;
}

/** How one scalar operation is typed, rendered and differentiated. */
interface Row {
  /** Result type from argument types; throws by returning undefined. */
  readonly type: (args: readonly DType[]) => DType | undefined;
  /** JavaScript source; the emitter adds the rounding of f32 results where `rounds`. */
  readonly js: (args: readonly string[], dtype: DType, argTypes: readonly DType[]) => string;
  readonly wgsl: (args: readonly string[], dtype: DType) => string;
  /** False where an f32 result of f32 arguments needs no rounding. */
  readonly rounds?: boolean;
  /** dL/darg_i = g * partial_i(args, y); undefined entries have no gradient. */
  readonly partials?: (args: readonly Expr[], y: Expr) => readonly (Expr | undefined)[];
}

const isNumeric = (t: DType) => t !== "bool";
const isInteger = (t: DType) => t === "i32" || t === "u32";
const same = (ok: (t: DType) => boolean) => (args: readonly DType[]) =>
  args.every((t) => t === args[0] && ok(t)) ? args[0] : undefined;
const float = same((t) => t === "f32");
const numeric = same(isNumeric);
const integer = same(isInteger);
const compare = (args: readonly DType[]): DType | undefined => (args[0] === args[1] ? "bool" : undefined);
const ordered = (args: readonly DType[]): DType | undefined =>
  args[0] === args[1] && isNumeric(args[0]!) ? "bool" : undefined;
const logical = same((t) => t === "bool");

/** JavaScript integers wrap to 32 bits like WGSL's. */
const wrap = (dtype: DType, code: string) =>
  dtype === "i32" ? `((${code}) | 0)` : dtype === "u32" ? `((${code}) >>> 0)` : `(${code})`;
const infix = (sign: string) => ({
  js: ([a, b]: readonly string[], dtype: DType) => wrap(dtype, `${a} ${sign} ${b}`),
  wgsl: ([a, b]: readonly string[]) => `(${a} ${sign} ${b})`,
});
const test = (sign: string) => ({
  js: ([a, b]: readonly string[]) => `(${a} ${sign === "==" ? "===" : sign === "!=" ? "!==" : sign} ${b})`,
  wgsl: ([a, b]: readonly string[]) => `(${a} ${sign} ${b})`,
});
const call = (js: string, wgsl: string) => ({
  js: (args: readonly string[]) => `${js}(${args.join(", ")})`,
  wgsl: (args: readonly string[]) => `${wgsl}(${args.join(", ")})`,
});
const zeroGradient = () => [];

/** Every scalar operation; `mc_*` names are helpers that the emitters define (see `device/*`/helpers). */
const table: { readonly [Op in ScalarOp]: Row } = {
  add: { type: numeric, ...infix("+"), partials: ([a]) => [scalar.like(a!, 1), scalar.like(a!, 1)] },
  sub: { type: numeric, ...infix("-"), partials: ([a]) => [scalar.like(a!, 1), scalar.like(a!, -1)] },
  mul: {
    type: numeric,
    js: ([a, b], dtype) => (isInteger(dtype) ? wrap(dtype, `Math.imul(${a}, ${b})`) : `(${a} * ${b})`),
    wgsl: ([a, b]) => `(${a} * ${b})`,
    partials: ([a, b]) => [b!, a!],
  },
  // d(a/b) = da/b - y/b db
  div: {
    type: numeric,
    ...infix("/"),
    partials: ([, b], y) => [scalar.div(scalar.like(b!, 1), b!), scalar.neg(scalar.div(y, b!))],
  },
  // remainder with the sign of the dividend, as C, JavaScript and WGSL define %
  mod: {
    type: numeric,
    ...infix("%"),
    partials: ([a, b]) => [scalar.like(a!, 1), scalar.neg(scalar.trunc(scalar.div(a!, b!)))],
  },
  // d(a^b) = b a^(b-1) da + y ln(a) db; where the exponent is a literal the second term never appears
  pow: {
    type: float,
    ...call("Math.pow", "mc_pow"),
    partials: ([a, b], y) => [
      scalar.mul(b!, scalar.pow(a!, scalar.sub(b!, 1))),
      scalar.select(scalar.gt(a!, 0), scalar.mul(y, scalar.log(scalar.max(a!, 1.1754943508222875e-38))), 0),
    ],
  },
  // at a tie the first argument takes the gradient
  min: {
    type: numeric,
    js: ([a, b]) => `Math.min(${a}, ${b})`,
    wgsl: ([a, b], dtype) => (dtype === "f32" ? `mc_min(${a}, ${b})` : `min(${a}, ${b})`),
    rounds: false,
    partials: ([a, b]) => [scalar.cast(scalar.le(a!, b!), a!.dtype), scalar.cast(scalar.gt(a!, b!), a!.dtype)],
  },
  max: {
    type: numeric,
    js: ([a, b]) => `Math.max(${a}, ${b})`,
    wgsl: ([a, b], dtype) => (dtype === "f32" ? `mc_max(${a}, ${b})` : `max(${a}, ${b})`),
    rounds: false,
    partials: ([a, b]) => [scalar.cast(scalar.ge(a!, b!), a!.dtype), scalar.cast(scalar.lt(a!, b!), a!.dtype)],
  },
  neg: {
    type: same((t) => t === "f32" || t === "i32"),
    js: ([a], dtype) => wrap(dtype, `-${a}`),
    wgsl: ([a]) => `(-${a})`,
    rounds: false,
    partials: ([a]) => [scalar.like(a!, -1)],
  },
  abs: {
    type: same((t) => t === "f32" || t === "i32"),
    js: ([a], dtype) => wrap(dtype, `Math.abs(${a})`), // that of the least i32 is itself
    wgsl: ([a]) => `abs(${a})`,
    rounds: false,
    partials: ([a]) => [scalar.sign(a!)],
  },
  sign: {
    type: same((t) => t === "f32" || t === "i32"),
    ...call("Math.sign", "sign"),
    rounds: false,
    partials: zeroGradient,
  },
  floor: { type: float, ...call("Math.floor", "floor"), rounds: false, partials: zeroGradient },
  ceil: { type: float, ...call("Math.ceil", "ceil"), rounds: false, partials: zeroGradient },
  trunc: { type: float, ...call("Math.trunc", "trunc"), rounds: false, partials: zeroGradient },
  exp: { type: float, ...call("Math.exp", "exp"), partials: (_, y) => [y] },
  log: { type: float, ...call("Math.log", "log"), partials: ([a]) => [scalar.div(1, a!)] },
  sqrt: { type: float, ...call("Math.sqrt", "sqrt"), partials: (_, y) => [scalar.div(0.5, y)] },
  // d(a^-1/2) = -1/2 y^3
  rsqrt: {
    type: float,
    js: ([a]) => `(1 / Math.sqrt(${a}))`,
    wgsl: ([a]) => `inverseSqrt(${a})`,
    partials: (_, y) => [scalar.mul(-0.5, scalar.mul(y, scalar.mul(y, y)))],
  },
  sin: { type: float, ...call("Math.sin", "sin"), partials: ([a]) => [scalar.cos(a!)] },
  cos: { type: float, ...call("Math.cos", "cos"), partials: ([a]) => [scalar.neg(scalar.sin(a!))] },
  tanh: { type: float, ...call("Math.tanh", "mc_tanh"), partials: (_, y) => [scalar.sub(1, scalar.mul(y, y))] },
  sigmoid: {
    type: float,
    js: ([a]) => `(1 / (1 + Math.exp(-${a})))`,
    wgsl: ([a]) => `(1.0 / (1.0 + exp(-${a})))`,
    partials: (_, y) => [scalar.mul(y, scalar.sub(1, y))],
  },
  // d erf(a) = 2/sqrt(pi) exp(-a^2)
  erf: {
    type: float,
    ...call("mc_erf", "mc_erf"),
    partials: ([a]) => [scalar.mul(1.1283791670955126, scalar.exp(scalar.neg(scalar.mul(a!, a!))))],
  },
  eq: { type: compare, ...test("==") },
  ne: { type: compare, ...test("!=") },
  lt: { type: ordered, ...test("<") },
  le: { type: ordered, ...test("<=") },
  gt: { type: ordered, ...test(">") },
  ge: { type: ordered, ...test(">=") },
  and: { type: logical, ...test("&&") },
  or: { type: logical, ...test("||") },
  not: { type: logical, js: ([a]) => `(!${a})`, wgsl: ([a]) => `(!${a})` },
  isNaN: {
    type: ([a]) => (a === "f32" ? "bool" : undefined),
    js: ([a]) => `(${a} !== ${a})`,
    wgsl: ([a]) => `mc_isNaN(${a})`,
  },
  isFinite: {
    type: ([a]) => (a === "f32" ? "bool" : undefined),
    js: ([a]) => `Number.isFinite(${a})`,
    wgsl: ([a]) => `mc_isFinite(${a})`,
  },
  select: {
    type: ([c, a, b]) => (c === "bool" && a === b ? a : undefined),
    js: ([c, a, b]) => `(${c} ? ${a} : ${b})`,
    wgsl: ([c, a, b]) => `select(${b}, ${a}, ${c})`,
    rounds: false,
    partials: ([c, a]) =>
      a!.dtype === "f32" ? [undefined, scalar.cast(c!, "f32"), scalar.cast(scalar.not(c!), "f32")] : [],
  },
  bitAnd: { type: integer, ...infix("&") },
  bitOr: { type: integer, ...infix("|") },
  bitXor: { type: integer, ...infix("^") },
  shiftLeft: {
    type: integer,
    js: ([a, b], dtype) => wrap(dtype, `${a} << ${b}`),
    wgsl: ([a, b]) => `(${a} << (u32(${b}) & 31u))`,
  },
  shiftRight: {
    type: integer,
    js: ([a, b], dtype) => (dtype === "u32" ? `(${a} >>> ${b})` : `(${a} >> ${b})`),
    wgsl: ([a, b]) => `(${a} >> (u32(${b}) & 31u))`,
  },
  toF32: {
    type: () => "f32",
    js: ([a]) => `(+${a})`,
    wgsl: ([a]) => `f32(${a})`,
  },
  // integers keep their bits; out-of-range floats saturate and NaN gives 0, as WGSL's conversion does
  toI32: {
    type: () => "i32",
    js: ([a], dtype, [from]) => (from === "f32" ? `mc_toI32(${a})` : wrap(dtype, a!)),
    wgsl: ([a]) => `i32(${a})`,
  },
  toU32: {
    type: () => "u32",
    js: ([a], dtype, [from]) => (from === "f32" ? `mc_toU32(${a})` : wrap(dtype, a!)),
    wgsl: ([a]) => `u32(${a})`,
  },
  toBool: {
    type: () => "bool",
    js: ([a]) => `(${a} !== 0)`,
    wgsl: ([a]) => `bool(${a})`,
  },
};

/** The row of a scalar operation. */
export const scalarRow = (op: ScalarOp): Row => table[op];

function make(op: ScalarOp, args: readonly Expr[]): Expr {
  const types = args.map((a) => a.dtype);
  const dtype = scalarRow(op).type(types);
  if (dtype === undefined) {
    throw new DTypeError(`${op}: cannot combine ${types.join(" and ")}; cast one side, as in cast(x, "f32")`);
  }
  return { op, dtype, args };
}

/** An expression, or a number that takes the type of the expressions beside it. */
export type Operand = Expr | number;
/** Literals are weak: they take the type of the other operand. */
function lift(operands: readonly Operand[]): Expr[] {
  const typed = operands.find((o) => typeof o !== "number");
  const dtype = typed === undefined ? "f32" : (typed as Expr).dtype;
  return operands.map((o) => (typeof o === "number" ? scalar.constant(o, dtype) : o));
}

const isConst = (e: Expr, value?: number): boolean =>
  e.op === "const" && (value === undefined || Object.is(e.value, value));

/** Builders of scalar expressions, with the simplifications that keep derivatives short. */
export const scalar = {
  /** A literal of the given type. */
  constant: (value: number, dtype: DType): Expr => ({ op: "const", dtype, args: [], value }),
  /** A literal of the type of another expression. */
  like: (e: Expr, value: number): Expr => scalar.constant(value, e.dtype),
  /** The element of input `index`. */
  arg: (index: number, dtype: DType): Expr => ({ op: "arg", dtype, args: [], index }),
  /** Any scalar operation by its name. */
  apply: (op: ScalarOp, ...operands: Operand[]): Expr => make(op, lift(operands)),
  /** `x + y` */
  add: (x: Operand, y: Operand): Expr => {
    const [a, b] = lift([x, y]) as [Expr, Expr];
    return isConst(a, 0) ? b : isConst(b, 0) ? a : make("add", [a, b]);
  },
  /** `x - y` */
  sub: (x: Operand, y: Operand): Expr => {
    const [a, b] = lift([x, y]) as [Expr, Expr];
    return isConst(b, 0) ? a : make("sub", [a, b]);
  },
  /** `x * y` */
  mul: (x: Operand, y: Operand): Expr => {
    const [a, b] = lift([x, y]) as [Expr, Expr];
    if (isConst(a, 1)) return b;
    if (isConst(b, 1)) return a;
    if (isConst(a) && isConst(b) && a.dtype === "f32") return scalar.like(a, a.value! * b.value!);
    if (isConst(b, -1) && a.dtype === "f32") return scalar.neg(a);
    return make("mul", [a, b]);
  },
  /** `x / y` */
  div: (x: Operand, y: Operand): Expr => {
    const [a, b] = lift([x, y]) as [Expr, Expr];
    return isConst(b, 1) ? a : make("div", [a, b]);
  },
  /** `x ** y`; small literal exponents become products. */
  pow: (x: Operand, y: Operand): Expr => {
    const [a, b] = lift([x, y]) as [Expr, Expr];
    if (isConst(b, 1)) return a;
    if (isConst(b, 2)) return make("mul", [a, a]);
    if (isConst(b, 3)) return make("mul", [a, make("mul", [a, a])]);
    if (isConst(b, 0)) return scalar.like(a, 1);
    if (isConst(b, 0.5)) return make("sqrt", [a]);
    if (isConst(b, -1)) return make("div", [scalar.like(a, 1), a]);
    return make("pow", [a, b]);
  },
  /** `-a` */
  neg: (a: Expr): Expr =>
    a.op === "neg" ? a.args[0]! : isConst(a) && a.dtype === "f32" ? scalar.like(a, -a.value!) : make("neg", [a]),
  /** `c ? x : y` */
  select: (c: Expr, x: Operand, y: Operand): Expr => make("select", [c, ...lift([x, y])]),
  /** The smaller; NaN wins. */
  min: (x: Operand, y: Operand): Expr => make("min", lift([x, y])),
  /** The larger; NaN wins. */
  max: (x: Operand, y: Operand): Expr => make("max", lift([x, y])),
  /** `x <= y` */
  le: (x: Operand, y: Operand): Expr => make("le", lift([x, y])),
  /** `x < y` */
  lt: (x: Operand, y: Operand): Expr => make("lt", lift([x, y])),
  /** `x >= y` */
  ge: (x: Operand, y: Operand): Expr => make("ge", lift([x, y])),
  /** `x > y` */
  gt: (x: Operand, y: Operand): Expr => make("gt", lift([x, y])),
  /** `x == y` */
  eq: (x: Operand, y: Operand): Expr => make("eq", lift([x, y])),
  /** `!a` */
  not: (a: Expr): Expr => make("not", [a]),
  /** `a && b` */
  and: (a: Expr, b: Expr): Expr => make("and", [a, b]),
  /** `|a|` */
  abs: (a: Expr): Expr => make("abs", [a]),
  /** -1, 0 or 1. */
  sign: (a: Expr): Expr => make("sign", [a]),
  /** Towards zero. */
  trunc: (a: Expr): Expr => make("trunc", [a]),
  /** `e ** a` */
  exp: (a: Expr): Expr => make("exp", [a]),
  /** Natural logarithm. */
  log: (a: Expr): Expr => make("log", [a]),
  /** Square root. */
  sqrt: (a: Expr): Expr => make("sqrt", [a]),
  /** `1 / sqrt(a)` */
  rsqrt: (a: Expr): Expr => make("rsqrt", [a]),
  /** Sine of radians. */
  sin: (a: Expr): Expr => make("sin", [a]),
  /** Cosine of radians. */
  cos: (a: Expr): Expr => make("cos", [a]),
  /** Hyperbolic tangent. */
  tanh: (a: Expr): Expr => make("tanh", [a]),
  /** `1 / (1 + exp(-a))` */
  sigmoid: (a: Expr): Expr => make("sigmoid", [a]),
  /** Error function. */
  erf: (a: Expr): Expr => make("erf", [a]),
  /** Conversion to another type. */
  cast: (a: Expr, dtype: DType): Expr => {
    if (a.dtype === dtype) return a;
    return make(dtype === "f32" ? "toF32" : dtype === "i32" ? "toI32" : dtype === "u32" ? "toU32" : "toBool", [a]);
  },
} as const;

/** Structural text of an expression: equal text, equal meaning. */
export function exprKey(root: Expr): string {
  const seen = new Map<Expr, number>();
  const parts: string[] = [];
  const visit = (e: Expr): number => {
    const known = seen.get(e);
    if (known !== undefined) return known;
    const args = e.args.map(visit);
    const head =
      e.op === "const"
        ? `${e.dtype}:${Object.is(e.value, -0) ? "-0" : e.value}`
        : e.op === "arg"
          ? `${e.dtype}@${e.index}`
          : `${e.op}(${args.join(",")})`;
    parts.push(head);
    seen.set(e, parts.length - 1);
    return parts.length - 1;
  };
  visit(root);
  return parts.join(";");
}

/** Number of operations, shared parts counted once. */
export function exprCost(root: Expr): number {
  const seen = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    e.args.forEach(visit);
  };
  visit(root);
  return [...seen].filter((e) => e.op !== "const" && e.op !== "arg").length;
}

/** `root` with every "arg" replaced by `replace(arg)`; shared parts stay shared. */
export function substitute(root: Expr, replace: (arg: Expr) => Expr): Expr {
  const memo = new Map<Expr, Expr>();
  const visit = (e: Expr): Expr => {
    const known = memo.get(e);
    if (known) return known;
    const args = e.args.map(visit);
    const out = e.op === "arg" ? replace(e) : args.every((a, i) => a === e.args[i]) ? e : { ...e, args };
    memo.set(e, out);
    return out;
  };
  return visit(root);
}

/**
 * Partial derivative of `root` with respect to each "arg", by reverse accumulation over the expression:
 *   bar(root) = 1,  bar(a_i) += bar(e) * de/da_i  for every e = op(a_1, ...).
 * `output` stands for the value of `root` itself where a rule wants it (exp' = y), so that nothing is computed twice.
 * Returns one expression per argument index, undefined where the derivative is zero.
 */
export function derivatives(root: Expr, numArgs: number, output: Expr): (Expr | undefined)[] {
  const order: Expr[] = [];
  const seen = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    e.args.forEach(visit);
    order.push(e);
  };
  visit(root);
  const bars = new Map<Expr, Expr>([[root, scalar.constant(1, "f32")]]);
  const result = new Array<Expr | undefined>(numArgs).fill(undefined);
  for (let i = order.length - 1; i >= 0; i--) {
    const e = order[i]!;
    const bar = bars.get(e);
    if (!bar || e.dtype !== "f32" || e.op === "const") continue;
    if (e.op === "arg") {
      const known = result[e.index!];
      result[e.index!] = known ? scalar.add(known, bar) : bar;
      continue;
    }
    const row = scalarRow(e.op);
    if (!row.partials) continue;
    const partials = row.partials(e.args, e === root ? output : e);
    e.args.forEach((a, k) => {
      const partial = partials[k];
      if (!partial || a.dtype !== "f32" || a.op === "const") return;
      const term = scalar.mul(bar, partial);
      const known = bars.get(a);
      bars.set(a, known ? scalar.add(known, term) : term);
    });
  }
  invariant(root.dtype === "f32", "only f32 expressions have derivatives");
  return result;
}
