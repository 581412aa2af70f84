import { describe, expect, it } from "vitest";
import { derivatives, type Expr, exprCost, exprKey, scalar, scalarRow } from "./scalar.ts";

/** Value of an expression in doubles. */
function evaluate(e: Expr, args: readonly number[]): number {
  if (e.op === "const") return e.value!;
  if (e.op === "arg") return args[e.index!]!;
  const code = scalarRow(e.op).js(
    e.args.map((_, i) => `a${i}`),
    e.dtype,
    e.args.map((a) => a.dtype),
  );
  const values = e.args.map((a) => evaluate(a, args));
  return Number(
    new Function(...values.map((_, i) => `a${i}`), "mc_erf", `return ${code}`)(...values, (x: number) => x),
  );
}

const x = scalar.arg(0, "f32");
const y = scalar.arg(1, "f32");

describe("the scalar language", () => {
  it.each([
    ["x * y", scalar.mul(x, y)],
    ["x / y", scalar.div(x, y)],
    ["x ** 3", scalar.pow(x, 3)],
    ["x ** y", scalar.pow(x, y)],
    ["exp(-x) + log(y)", scalar.add(scalar.exp(scalar.neg(x)), scalar.log(y))],
    ["tanh(x * y) / sqrt(y)", scalar.div(scalar.tanh(scalar.mul(x, y)), scalar.sqrt(y))],
    ["rsqrt(y) * sin(x) - cos(y)", scalar.sub(scalar.mul(scalar.rsqrt(y), scalar.sin(x)), scalar.cos(y))],
    ["max(x, y) * min(x, 1)", scalar.mul(scalar.max(x, y), scalar.min(x, 1))],
    ["abs(x - y)", scalar.abs(scalar.sub(x, y))],
    ["select(x < y, x * x, y)", scalar.select(scalar.lt(x, y), scalar.mul(x, x), y)],
  ])("differentiates %s as central differences do", (_, e) => {
    const at = [0.7, 1.3];
    derivatives(e, 2, e).forEach((d, i) => {
      const moved = (s: number): number[] => at.map((v, k) => (k === i ? v + s * 1e-6 : v));
      const numeric = (evaluate(e, moved(1)) - evaluate(e, moved(-1))) / 2e-6;
      expect(d ? evaluate(d, at) : 0).toBeCloseTo(numeric, 7);
    });
  });

  it("uses the value itself in derivatives that want it: exp' = y", () => {
    const output = scalar.arg(1, "f32");
    expect(derivatives(scalar.exp(x), 1, output)[0]).toBe(output);
  });

  it("counts shared parts once", () => {
    const square = scalar.mul(x, x);
    expect(exprCost(scalar.add(square, square))).toBe(2);
  });

  it("has equal keys for equal expressions only, down to the sign of zero", () => {
    expect(exprKey(scalar.add(x, 1))).toBe(exprKey(scalar.add(x, 1)));
    expect(exprKey(scalar.mul(x, 0))).not.toBe(exprKey(scalar.mul(x, -0)));
    expect(exprKey(scalar.add(x, 1))).not.toBe(exprKey(scalar.add(scalar.arg(0, "i32"), 1)));
  });

  it("refuses to combine different types and says what to do", () => {
    expect(() => scalar.add(x, scalar.arg(1, "i32"))).toThrow(/add: cannot combine f32 and i32; cast/);
  });
});
