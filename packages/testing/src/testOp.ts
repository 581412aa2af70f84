// testOp.ts: everything that is checked about one op, from one row.
import { checkGrads, grad } from "@mc/autograd";
import {
  add,
  broadcastTo,
  type Device,
  mul,
  realise,
  sliceAxis,
  squeeze,
  sum,
  type Tensor,
  tensor,
  transpose,
} from "@mc/tensor";
import { beforeAll, describe, expect, test } from "vitest";
import type { Tolerance } from "./compare.ts";
import type { Domain } from "./domains.ts";
import { oracleDevice, sharedTestDevice } from "./host.ts";
import { type HostArray, hostArray } from "./hostArray.ts";
import { type Random, random } from "./random.ts";
import "./matchers.ts";

/** What an op gives: one tensor or several. */
export type OpResult = Tensor | readonly Tensor[];

/** One row of the table of ops. */
export interface OpRow {
  /** The op, on tensors of the row's shapes. It must give equal results for equal values, whatever their layout. */
  readonly op: (...inputs: Tensor[]) => OpResult;
  /** Where each input is drawn from. */
  readonly inputs: readonly Domain[];
  /** Shape of each input at size n; default `[n, 3]` for all. */
  readonly shapes?: (n: number) => readonly (readonly number[])[];
  /** What the op means, in plain loops; several outputs as an array. */
  readonly reference?: (...inputs: HostArray[]) => HostArray | readonly HostArray[];
  /** Allowed difference of float64 from the reference; default 1e-12 relative and absolute. */
  readonly referenceTolerance?: Tolerance;
  /** Sizes to try; default 1, 63, 64, 65 and 3000. */
  readonly sizes?: readonly number[];
  /** Allowed difference of the host's device from float64; default 1e-5 relative, 1e-6 absolute. Integers must agree exactly. */
  readonly tolerance?: Tolerance;
  /** Order to which gradients are checked by central differences; default 1 when all inputs are f32 and the first output is, else 0. */
  readonly gradient?: 0 | 1 | 2;
  /** Which inputs to differentiate by; default all f32 ones. */
  readonly differentiate?: readonly number[];
  /** Allowed relative error of gradients on the host's device against float64; default 1e-4. */
  readonly gradientTolerance?: number;
}

interface Case {
  readonly shape: readonly number[];
  readonly dtype: Domain["dtype"];
  readonly data: number[];
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1);

const draw = (row: OpRow, n: number, r: Random): Case[] => {
  const shapes = row.shapes?.(n) ?? row.inputs.map(() => [n, 3]);
  return row.inputs.map((domain, i) => {
    const shape = shapes[i]!;
    return { shape, dtype: domain.dtype, data: Array.from({ length: sizeOf(shape) }, () => domain.draw(r)) };
  });
};

const contiguous = ({ shape, dtype, data }: Case, device: Device): Tensor => tensor(data, { shape, dtype, device });

/** The same values behind a view with other strides: the transpose of the transposed array, or a column of a wider one. */
function transposed({ shape, dtype, data }: Case, device: Device): Tensor {
  if (shape.length === 0) return tensor(data, { shape, dtype, device });
  if (shape.length === 1) {
    const wide = data.flatMap((v) => [0, v]);
    return squeeze(sliceAxis(tensor(wide, { shape: [shape[0]!, 2], dtype, device }), 1, 1, 2), 1);
  }
  const reversed = [...shape].reverse();
  const source = hostArray(shape, data);
  const moved: number[] = [];
  const at = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < data.length; i++) {
    moved.push(source.at(...[...at].reverse()));
    for (let axis = reversed.length - 1; axis >= 0; axis--) {
      at[axis]!++;
      if (at[axis]! < reversed[axis]!) break;
      at[axis] = 0;
    }
  }
  return transpose(tensor(moved, { shape: reversed, dtype, device }));
}

/** The first row in every row, stored once. */
const firstRow = ({ shape, dtype, data }: Case): Case => {
  const row = shape.length === 0 ? data : data.slice(0, data.length / shape[0]!);
  return { shape, dtype, data: Array.from({ length: sizeOf(shape) }, (_, i) => row[i % row.length]!) };
};
const broadcast = ({ shape, dtype, data }: Case, device: Device): Tensor =>
  shape.length === 0
    ? tensor(data, { shape, dtype, device })
    : broadcastTo(
        tensor(data.slice(0, data.length / shape[0]!), { shape: [1, ...shape.slice(1)], dtype, device }),
        shape,
      );

const asArray = (result: OpResult): readonly Tensor[] => (Array.isArray(result) ? result : [result as Tensor]);

async function compare(actual: OpResult, expected: OpResult, what: string, tolerance?: Tolerance): Promise<void> {
  const a = asArray(actual);
  const e = asArray(expected);
  expect(a.length, `${what}: outputs`).toBe(e.length);
  for (let i = 0; i < a.length; i++) {
    expect(a[i]!.dtype, `${what}: dtype of output ${i}`).toBe(e[i]!.dtype);
    const exact = a[i]!.dtype === "f32" ? tolerance : { rtol: 0, atol: 0 };
    await expect(a[i]!, `${what}, output ${i}`).toBeAllClose(e[i]!, exact);
  }
}

/**
 * Registers the tests of one op: its values on the host's device at sizes 1, 63, 64, 65 and a large one against the float64
 * CPU device, and those against the row's reference; transposed and broadcast inputs; gradients by central differences along
 * random directions in float64; gradients on the host's device against float64.
 *
 * @param title a sentence: signature and promise
 * @example
 * testOp("exp(x) is e to the x", { op: exp, inputs: [anyNumber], reference: elementwise(Math.exp), gradient: 2 });
 */
export function testOp(title: string, row: OpRow): void {
  const sizes = row.sizes ?? [1, 63, 64, 65, 3000];
  describe(title, () => {
    let device: Device;
    let oracle: Device;
    beforeAll(async () => {
      device = await sharedTestDevice();
      oracle = await oracleDevice();
    });

    test(`has the same values as float64 at sizes ${sizes.join(", ")}`, async () => {
      const cases = sizes.map((n) => draw(row, n, random(n)));
      const actual = cases.map((inputs) => row.op(...inputs.map((c) => contiguous(c, device))));
      const expected = cases.map((inputs) => row.op(...inputs.map((c) => contiguous(c, oracle))));
      await realise(actual.map((a) => [...asArray(a)]));
      for (let i = 0; i < sizes.length; i++) {
        await compare(actual[i]!, expected[i]!, `size ${sizes[i]}`, row.tolerance);
        if (!row.reference) continue;
        const reference = row.reference(...cases[i]!.map((c) => hostArray(c.shape, c.data)));
        const wanted = Array.isArray(reference) ? (reference as readonly HostArray[]) : [reference as HostArray];
        const got = asArray(expected[i]!);
        for (let output = 0; output < wanted.length; output++) {
          expect(got[output]!.shape, `size ${sizes[i]}: shape of output ${output}`).toEqual(wanted[output]!.shape);
          await expect(got[output]!, `size ${sizes[i]}, float64 against the reference, output ${output}`).toBeAllClose(
            wanted[output]!.data as Float64Array,
            row.referenceTolerance ?? { rtol: 1e-12, atol: 1e-12 },
          );
        }
      }
    });

    if (row.inputs.length > 0) {
      test("reads transposed and broadcast inputs like contiguous ones", async () => {
        const n = sizes.includes(65) ? 65 : sizes[sizes.length - 1]!;
        const inputs = draw(row, n, random(n + 1));
        const repeated = inputs.map(firstRow);
        const actual = [
          row.op(...inputs.map((c) => transposed(c, device))),
          row.op(...repeated.map((c) => broadcast(c, device))),
        ];
        await realise(actual.map((a) => [...asArray(a)]));
        await compare(actual[0]!, row.op(...inputs.map((c) => contiguous(c, oracle))), "transposed", row.tolerance);
        await compare(actual[1]!, row.op(...repeated.map((c) => contiguous(c, oracle))), "broadcast", row.tolerance);
      });
    }

    const floats = row.differentiate ?? row.inputs.flatMap((domain, i) => (domain.dtype === "f32" ? [i] : []));
    const order = row.gradient ?? (row.inputs.length > 0 && floats.length === row.inputs.length ? 1 : 0);
    if (order === 0) return;

    /** sum of outputs times fixed weights, as a function of the inputs to differentiate by */
    const weighted = (inputs: readonly Case[], on: Device) => (variables: Tensor[]) => {
      const all = inputs.map((c, i) => (floats.includes(i) ? variables[floats.indexOf(i)]! : contiguous(c, on)));
      const r = random(99);
      const terms = asArray(row.op(...all)).flatMap((out) => {
        const weights = Array.from({ length: out.size }, () => Math.fround(r.normal()));
        return out.dtype === "f32" ? [sum(mul(out, tensor(weights, { shape: out.shape, device: on })))] : [];
      });
      return terms.reduce((a, b) => add(a, b));
    };

    test(`has the gradient that central differences give in float64${order === 2 ? ", to second order" : ""}`, async () => {
      const inputs = draw(row, 5, random(5));
      const loss = weighted(inputs, oracle);
      await checkGrads(
        (...variables) => loss(variables),
        floats.map((i) => contiguous(inputs[i]!, oracle)),
        { order },
      );
    });

    test("has the same gradient on the host's device as in float64", async () => {
      const inputs = draw(row, 65, random(6));
      const actual = grad(weighted(inputs, device))(floats.map((i) => transposed(inputs[i]!, device)));
      const expected = grad(weighted(inputs, oracle))(floats.map((i) => contiguous(inputs[i]!, oracle)));
      await realise(actual);
      const tolerance = row.gradientTolerance ?? 1e-4;
      for (let i = 0; i < floats.length; i++) {
        await expect(actual[i]!, `gradient of input ${floats[i]}`).toBeAllClose(expected[i]!, {
          rtol: tolerance,
          atol: tolerance,
        });
      }
    });
  });
}
