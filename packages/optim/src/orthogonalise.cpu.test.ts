// What rounding does to each form of Newton-Schulz, and how many operations they take. On the CPU, which rounds each f32
// operation as it is written: the products of a device whose operands are f16 can be played by rounding those first.
import { explain, matmul, mul, sub, type Tensor, tensor, zeros } from "@mc/tensor";
import { oracleDevice, random, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { type NewtonSchulzSchedule, resolveSchedule } from "./newtonSchulz.ts";
import { formFor, orthogonalise, runsOfSteps } from "./orthogonalise.ts";
import type { Roles } from "./roles.ts";
import { scaleByMuon } from "./scaleByMuon.ts";

await testDevice();

describe("singular values with operands rounded to f16", () => {
  // Veltkamp: (2^13 + 1) x - ((2^13 + 1) x - x) is x with 11 bits
  const rounded = (x: Tensor): Tensor => sub(mul(x, 8193), sub(mul(x, 8193), x));
  const halfProduct: typeof matmul = (a, b, options) => matmul(rounded(a), rounded(b), options);

  test.each([
    ["keller", [0.68, 1.21]],
    ["polar-express", [0.855, 1.145]],
    ["hybrid", [0.997, 1.003]],
  ] as const)("%s ends in its range in both forms, from singular values over two decades", async (schedule, range) => {
    const [n, m] = [32, 128];
    const x = await matrix(n, m, (i) => 0.01 ** (1 - i / (n - 1)));
    for (const form of ["plain", "gram"] as const) {
      const options = { ...resolveSchedule(schedule), form, product: halfProduct };
      const values = singularValues(await orthogonalise([x], options)[0]!.data(), n, m);
      expect(Math.min(...values), form).toBeGreaterThan(range[0]);
      expect(Math.max(...values), form).toBeLessThan(range[1]);
    }
  });

  test("restarts are after the third step of five, and before the growth of R is large", () => {
    const lengths = (schedule: NewtonSchulzSchedule) =>
      runsOfSteps(resolveSchedule(schedule).steps, "gram").map((run) => run.length);
    expect(lengths("keller")).toEqual([3, 2]);
    expect(lengths("polar-express")).toEqual([3, 2]);
    expect(lengths("hybrid")).toEqual([3, 3, 4]);
    expect(runsOfSteps(resolveSchedule("keller").steps, "plain").map((run) => run.length)).toEqual([1, 1, 1, 1, 1]);
    expect([formFor(768, 3072), formFor(64, 96), formFor(64, 90), formFor(5, 5)]).toEqual([
      "gram",
      "gram",
      "plain",
      "plain",
    ]);
  });
});

describe("operations of Muon for the 72 hidden matrices of GPT-2 124M, by explain", () => {
  const layers = Array.from({ length: 12 }, (_, l) => l);
  const shapes = { qkv: [2304, 768], output: [768, 768], up: [3072, 768], down: [768, 3072] };
  const params = Object.fromEntries(
    layers.flatMap((l) => Object.entries(shapes).map(([name, shape]) => [`${l}.${name}`, zeros(shape)])),
  );
  const rolesFor = (rows: number): Roles =>
    Object.fromEntries(
      Object.keys(params).map((path) => [
        path,
        {
          role: "matrix",
          ...(path.endsWith("qkv") && {
            blocks: Array.from({ length: 2304 / rows }, (_, i) => ({ start: i * rows, rows })),
          }),
        },
      ]),
    );
  const plan = (rows: number) => {
    const muon = scaleByMuon({ roles: rolesFor(rows) });
    const step = (gradients: typeof params, state: ReturnType<typeof muon.init>) =>
      muon.update(gradients, state, params, { step: tensor(1) });
    return explain(step, params, muon.init(params));
  };
  const teraflop = (explanation: ReturnType<typeof plan>): number =>
    explanation.kernels.filter((k) => k.kind === "matmul").reduce((sum, k) => sum + k.flops, 0) / 1e12;

  test("0.85 TFLOP with whole matrices, 0.53 with a block for each head, where dense products take 1.63", () => {
    const whole = plan(768);
    expect(teraflop(whole)).toBeCloseTo(0.85, 2);
    expect(teraflop(plan(64))).toBeCloseTo(0.53, 2);
    // 15 of squares; of wide and tall together 14 of the short side, and two each of either side at every restart
    expect(whole.kernels.filter((k) => k.kind === "matmul").length).toBe(15 + 14 + 8);
  });
});

/** A matrix [rows, cols] with the given singular values and random singular vectors. */
async function matrix(rows: number, cols: number, value: (i: number) => number): Promise<Tensor> {
  const f64 = await oracleDevice();
  const draw = random(7);
  const basis = (count: number, size: number): Tensor => {
    const vectors: number[][] = [];
    for (let i = 0; i < count; i++) {
      let v = Array.from({ length: size }, () => draw.normal());
      for (const u of [...vectors, ...vectors]) {
        const along = u.reduce((s, x, k) => s + x * v[k]!, 0);
        v = v.map((x, k) => x - along * u[k]!);
      }
      const length = Math.hypot(...v);
      vectors.push(v.map((x) => x / length));
    }
    return tensor(vectors, { device: f64 });
  };
  const values = tensor(
    Array.from({ length: rows }, (_, i) => value(i)),
    { device: f64 },
  );
  return tensor(await matmul(mul(basis(rows, rows), values), basis(rows, cols)).data(), { shape: [rows, cols] });
}

/** Roots of the eigenvalues of Y Y^T, by Jacobi's rotations. */
function singularValues(y: ArrayLike<number>, rows: number, cols: number): number[] {
  const a = Array.from({ length: rows }, (_, i) =>
    Array.from({ length: rows }, (_, j) => {
      let sum = 0;
      for (let k = 0; k < cols; k++) sum += y[i * cols + k]! * y[j * cols + k]!;
      return sum;
    }),
  );
  for (let sweep = 0; sweep < 8; sweep++) {
    for (let p = 0; p < rows; p++) {
      for (let q = p + 1; q < rows; q++) {
        const angle = 0.5 * Math.atan2(2 * a[p]![q]!, a[q]![q]! - a[p]![p]!);
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (const row of a) [row[p], row[q]] = [c * row[p]! - s * row[q]!, s * row[p]! + c * row[q]!];
        for (let k = 0; k < rows; k++) {
          const [x, z] = [a[p]![k]!, a[q]![k]!];
          [a[p]![k], a[q]![k]] = [c * x - s * z, s * x + c * z];
        }
      }
    }
  }
  return a.map((row, i) => Math.sqrt(Math.max(0, row[i]!)));
}
