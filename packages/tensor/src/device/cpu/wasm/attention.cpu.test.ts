import { describe, expect, test } from "vitest";
import { type AttentionInputs, type AttentionOperand, attentionBackward, attentionForward } from "./index.ts";

interface Case {
  readonly batch?: number;
  readonly heads?: number;
  readonly groups?: number;
  readonly queries: number;
  readonly keys?: number;
  readonly size?: number;
  readonly valueSize?: number;
  readonly causal?: boolean;
  /** Runs of four tokens, every second token, or runs with padding that nobody sees. */
  readonly documents?: "runs" | "mixed" | "padded";
  readonly window?: number;
  readonly softCap?: number;
  readonly slopes?: boolean;
  /** Layout of q, k, v and their gradients: [B, H, T, D], [B, T, H, D], or that as columns of one array. */
  readonly layout?: "heads first" | "time first" | "packed";
}

const cases: Case[] = [
  ...[1, 3, 4, 7, 63, 64, 65, 127].map((queries) => ({ queries, causal: true })),
  ...[1, 5, 64, 65].map((queries) => ({ queries, causal: false })),
  { queries: 66, causal: true, documents: "runs", batch: 3 },
  { queries: 9, causal: false, documents: "runs" },
  { queries: 70, heads: 6, groups: 2, causal: true, batch: 2 },
  { queries: 70, heads: 3, groups: 1, causal: true, layout: "time first", batch: 2 },
  { queries: 1, keys: 33, causal: true },
  { queries: 5, keys: 130, causal: true },
  { queries: 70, keys: 6, causal: true }, // most rows see nothing
  { queries: 12, size: 7, valueSize: 3, causal: true },
  { queries: 130, size: 32, valueSize: 64, causal: true, layout: "time first" },
  { queries: 21, heads: 4, groups: 2, causal: true, layout: "packed", batch: 2 },
  { queries: 21, size: 6, valueSize: 10, causal: true, layout: "packed", batch: 2 },
  { queries: 67, causal: true, documents: "mixed" },
  { queries: 37, causal: false, documents: "mixed" },
  { queries: 70, causal: true, documents: "padded", batch: 2 },
  { queries: 70, causal: false, documents: "padded" },
  ...[1, 3, 4, 8, 33, 100].map((window) => ({ queries: 70, causal: true, window })),
  { queries: 5, keys: 40, causal: true, window: 9 },
  { queries: 40, keys: 5, causal: true, window: 3 },
  { queries: 66, causal: true, softCap: 0.7 },
  { queries: 33, causal: false, softCap: 5 },
  { queries: 66, heads: 4, groups: 2, causal: true, slopes: true },
  { queries: 5, keys: 40, causal: true, slopes: true },
  {
    queries: 67,
    heads: 4,
    groups: 2,
    causal: true,
    window: 20,
    softCap: 1,
    slopes: true,
    documents: "padded",
    batch: 2,
  },
  { queries: 67, causal: true, window: 6, softCap: 1, slopes: true, documents: "mixed" },
  { queries: 40, size: 192, valueSize: 128, causal: true, window: 20, softCap: 1, slopes: true, layout: "time first" },
];

const title = (c: Case) =>
  Object.entries(c)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");

describe("attentionForward and attentionBackward equal the f64 formulas", () => {
  test.each(cases.map((c) => [title(c), c] as const))("%s", (_, c) => {
    const { inputs, output, rowMax, logSumExp, dOutput, dq, dk, dv } = operands(c);
    attentionForward({ ...inputs, output, rowMax, logSumExp });
    attentionBackward({ ...inputs, logSumExp, delta: deltaOf(dOutput, output), dOutput, dq, dk, dv });
    const exact = formulas(inputs, dOutput);
    for (const [name, operand] of Object.entries({ output, rowMax, logSumExp, dq, dk, dv })) {
      const expected = exact[name as keyof typeof exact];
      let worst = 0;
      const scale = Math.max(1, ...expected.filter(Number.isFinite).map(Math.abs));
      values(operand).forEach((value, i) => {
        if (value !== expected[i]) worst = Math.max(worst, Math.abs(value - expected[i]) / scale);
      });
      expect(worst, name).toBeLessThan(2e-6);
    }
  });
});

test("the f64 formulas of this test have the gradient that differences show", () => {
  const { inputs, dOutput } = operands({
    queries: 5,
    heads: 2,
    groups: 1,
    size: 3,
    valueSize: 2,
    causal: true,
    documents: "runs",
    window: 3,
    softCap: 1,
    slopes: true,
  });
  const loss = (at: AttentionInputs) =>
    formulas(at, dOutput).output.reduce((sum, o, i) => sum + o * values(dOutput)[i], 0);
  const exact = formulas(inputs, dOutput);
  for (const [name, gradient] of [
    ["q", exact.dq],
    ["k", exact.dk],
    ["v", exact.dv],
  ] as const) {
    const [up, down] = [1, -1].map((sign) => {
      const data = inputs[name].data.map((x, i) => x + sign * 2 ** -8 * Math.sin(i));
      return { value: loss({ ...inputs, [name]: { ...inputs[name], data } }), data };
    });
    const slope = gradient.reduce((sum, g, i) => sum + g * (up.data[i] - down.data[i]), 0);
    expect(up.value - down.value).toBeCloseTo(slope, 5);
  }
});

test("delta carries the gradient of the log-sum-exp", () => {
  const { inputs, output, rowMax, logSumExp, dOutput, dq, dk, dv } = operands({ queries: 7, heads: 1, causal: true });
  attentionForward({ ...inputs, output, rowMax, logSumExp });
  const minusOne = { ...logSumExp, data: new Float32Array(7).fill(-1) }; // of sum(logSumExp), for no dOutput
  const nothing = { ...dOutput, data: new Float32Array(dOutput.data.length) };
  attentionBackward({ ...inputs, logSumExp, delta: minusOne, dOutput: nothing, dq, dk, dv });
  const total = (q: Float32Array) => {
    const out = { ...logSumExp, data: new Float32Array(7) };
    attentionForward({ ...inputs, q: { ...inputs.q, data: q }, output, rowMax, logSumExp: out });
    return out.data.reduce((sum, x) => sum + x, 0);
  };
  const step = inputs.q.data.map((_, i) => 2 ** -6 * Math.sin(i));
  const slope = step.reduce((sum, s, i) => sum + s * dq.data[i], 0);
  const difference =
    (total(inputs.q.data.map((x, i) => x + step[i])) - total(inputs.q.data.map((x, i) => x - step[i]))) / 2;
  expect(difference).toBeCloseTo(slope, 5);
  expect(dv.data.every((value) => value === 0)).toBe(true);
});

test("rows that see nothing give zeros, a maximum and log-sum-exp of -Infinity, and no gradient", () => {
  const { inputs, output, rowMax, logSumExp, dOutput, dq, dk, dv } = operands({ queries: 4, keys: 2, causal: true });
  attentionForward({ ...inputs, output, rowMax, logSumExp });
  attentionBackward({ ...inputs, logSumExp, delta: deltaOf(dOutput, output), dOutput, dq, dk, dv });
  const size = inputs.q.shape[3];
  for (const heads of [0, 1]) {
    const row = heads * 4;
    expect([...rowMax.data.subarray(row, row + 2), ...logSumExp.data.subarray(row, row + 2)]).toEqual(
      new Array(4).fill(-Infinity),
    );
    expect(output.data.subarray(row * size, (row + 2) * size).every((value) => value === 0)).toBe(true);
    expect(dq.data.subarray(row * size, (row + 2) * size).every((value) => value === 0)).toBe(true);
  }
  expect(dk.data.every(Number.isFinite) && dv.data.every(Number.isFinite)).toBe(true);
});

test("a NaN in a visible score shows in the maximum, the log-sum-exp and the output of its row, and in no other", () => {
  const { inputs, output, rowMax, logSumExp } = operands({ queries: 9, heads: 1, groups: 1, size: 4, causal: true });
  inputs.q.data[3 * 4] = Number.NaN;
  attentionForward({ ...inputs, output, rowMax, logSumExp });
  expect([...rowMax.data].map(Number.isNaN).indexOf(true)).toBe(3);
  expect([...rowMax.data].filter(Number.isNaN)).toHaveLength(1);
  expect([...logSumExp.data].filter(Number.isNaN)).toHaveLength(1);
  expect([...output.data].filter(Number.isNaN)).toHaveLength(4);
});

test("scores of a thousand overflow nowhere", () => {
  const { inputs, output, rowMax, logSumExp } = operands({ queries: 8, causal: true });
  attentionForward({ ...inputs, scale: 4000, output, rowMax, logSumExp });
  expect(output.data.every(Number.isFinite) && logSumExp.data.every(Number.isFinite)).toBe(true);
});

test("two runs give the same bits", () => {
  const [first, second] = [1, 2].map(() => {
    const { inputs, output, rowMax, logSumExp, dOutput, dq, dk, dv } = operands({
      queries: 100,
      causal: true,
      heads: 4,
      groups: 2,
    });
    attentionForward({ ...inputs, output, rowMax, logSumExp });
    attentionBackward({ ...inputs, logSumExp, delta: deltaOf(dOutput, output), dOutput, dq, dk, dv });
    return [output, dq, dk, dv].map((operand) => operand.data);
  });
  expect(first).toEqual(second);
});

describe("values of other documents", () => {
  /** Documents of 11 tokens: the middle one's results when the others hold their numbers times `factor`. */
  const middle = (factor: number, rest: Partial<Case> = {}): number[] => {
    const { inputs, output, rowMax, logSumExp, dOutput, dq, dk, dv } = operands({ queries: 33, causal: true, ...rest });
    const mine = (t: number): boolean => t >= 11 && t < 22;
    const ids = { ...rowMax, data: Int32Array.from({ length: 33 }, (_, t) => Math.floor(t / 11)), shape: [1, 33] };
    const documents = { query: { ...ids, strides: [33, 1] }, key: { ...ids, strides: [33, 1] } };
    for (const { data, shape } of [inputs.q, inputs.k, inputs.v, dOutput]) {
      for (const [at] of data.entries()) if (!mine(Math.floor(at / shape[3]) % 33)) data[at] *= factor;
    }
    attentionForward({ ...inputs, documents, output, rowMax, logSumExp });
    attentionBackward({ ...inputs, documents, logSumExp, delta: deltaOf(dOutput, output), dOutput, dq, dk, dv });
    return [output, rowMax, logSumExp, dq, dk, dv].flatMap((operand) => {
      const row = operand.shape[3] ?? 1;
      return [...operand.data].filter((_, at) => mine(Math.floor(at / row) % 33));
    });
  };

  test.each([0, -3, 1e30, Number.POSITIVE_INFINITY, Number.NaN])(
    "times %d change no bit of a document's results",
    (factor) => {
      expect(middle(factor)).toEqual(middle(1));
      const options = { window: 7, softCap: 2, slopes: true };
      expect(middle(factor, options)).toEqual(middle(1, options));
    },
  );

  test("and their lengths neither", () => {
    const { inputs, output, rowMax, logSumExp } = operands({ queries: 33, causal: true });
    const results = [(t: number) => Math.floor(t / 11), (t: number) => (t < 11 ? t % 3 : t < 22 ? 9 : 10 + t)].map(
      (id) => {
        const data = Int32Array.from({ length: 33 }, (_, t) => id(t));
        const ids = { data, offset: 0, shape: [1, 33], strides: [33, 1] };
        attentionForward({ ...inputs, documents: { query: ids, key: ids }, output, rowMax, logSumExp });
        return output.data.slice(11 * 16, 22 * 16);
      },
    );
    expect(results[0]).toEqual(results[1]);
  });
});

test("keys outside the window cost nothing", () => {
  const seconds = (window: number): number => {
    const { inputs, output, rowMax, logSumExp } = operands({ queries: 1024, heads: 1, causal: true });
    const times = Array.from({ length: 9 }, () => {
      const start = performance.now();
      attentionForward({ ...inputs, window, output, rowMax, logSumExp });
      return performance.now() - start;
    });
    return Math.min(...times);
  };
  expect(seconds(1024) / seconds(32)).toBeGreaterThan(3); // 16 times fewer pairs; 10 or so measured
});

test("no batch and no queries are no work", () => {
  for (const c of [
    { queries: 3, batch: 0 },
    { queries: 0, keys: 3 },
  ]) {
    const { inputs, output, rowMax, logSumExp, dOutput, dq, dk, dv } = operands(c);
    attentionForward({ ...inputs, output, rowMax, logSumExp });
    attentionBackward({ ...inputs, logSumExp, delta: deltaOf(dOutput, output), dOutput, dq, dk, dv });
    expect(dk.data.every((value) => value === 0)).toBe(true);
  }
});

function operands(c: Case) {
  const { batch = 1, heads = 2, groups = heads, queries, keys = queries, size = 16, valueSize = size } = c;
  let seed = 1;
  const noise = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 31 - 1;
  };
  const dense = (shape: number[]): AttentionOperand => {
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((x, y) => x * y, 1));
    return { data: new Float32Array(shape.reduce((x, y) => x * y, 1)).map(noise), offset: 0, shape, strides };
  };
  const matrix = (h: number, t: number, d: number): AttentionOperand => {
    if (c.layout !== "time first") return dense([batch, h, t, d]);
    return { ...dense([batch, t, h, d]), shape: [batch, h, t, d], strides: [t * h * d, d, h * d, 1] };
  };
  const packed = (t: number): AttentionOperand[] => {
    const widths = [heads * size, groups * size, groups * valueSize];
    const row = widths[0] + widths[1] + widths[2];
    const { data } = dense([batch, t, row]);
    return [heads, groups, groups].map((h, part) => {
      const d = part === 2 ? valueSize : size;
      const offset = widths.slice(0, part).reduce((x, y) => x + y, 0);
      return { data, offset, shape: [batch, h, t, d], strides: [t * row, d, row, 1] };
    });
  };
  const three = (): AttentionOperand[] =>
    c.layout === "packed"
      ? packed(queries)
      : [matrix(heads, queries, size), matrix(groups, keys, size), matrix(groups, keys, valueSize)];
  const ids = (t: number, padding: number): AttentionOperand<Int32Array> => {
    const data = Int32Array.from({ length: batch * t }, (_, i) => {
      if (c.documents === "mixed") return i % 2;
      const run = Math.floor((i % t) / (c.documents === "padded" ? 7 : 4));
      return c.documents === "padded" && run % 3 === 1 ? padding : run + Math.floor(i / t);
    });
    return { data, offset: 0, shape: [batch, t], strides: [t, 1] };
  };
  const [q, k, v] = three();
  const [dq, dk, dv] = three();
  const inputs: AttentionInputs = {
    q,
    k,
    v,
    ...(c.documents && { documents: { query: ids(queries, -1), key: ids(keys, -2) } }),
    scale: 1 / Math.sqrt(size),
    causal: c.causal ?? false,
    ...(c.window && { window: c.window }),
    ...(c.softCap && { softCap: c.softCap }),
    ...(c.slopes && { slopes: Array.from({ length: heads }, (_, h) => 2 ** -(h + 1)) }),
  };
  return {
    inputs,
    output: dense([batch, heads, queries, valueSize]),
    rowMax: dense([batch, heads, queries]),
    logSumExp: dense([batch, heads, queries]),
    dOutput: matrix(heads, queries, valueSize),
    dq,
    dk,
    dv,
  };
}

/** rowsum(dOutput * output) of each row. */
function deltaOf(dOutput: AttentionOperand, output: AttentionOperand): AttentionOperand {
  const [batch, heads, queries, size] = output.shape;
  const [dO, o] = [values(dOutput), values(output)];
  const data = new Float32Array(batch * heads * queries);
  o.forEach((x, i) => {
    data[Math.floor(i / size)] += x * dO[i];
  });
  return { data, offset: 0, shape: [batch, heads, queries], strides: [heads * queries, queries, 1] };
}

/** The values of an operand in row-major order of its shape. */
function values({ data, offset, shape, strides }: AttentionOperand): number[] {
  let positions = [offset];
  for (const [axis, size] of shape.entries()) {
    positions = positions.flatMap((at) => Array.from({ length: size }, (_, i) => at + i * strides[axis]));
  }
  return positions.map((at) => data[at]);
}

/** Attention and its gradients straight from the formulas, in f64; results in row-major order of the operands' shapes. */
function formulas(
  { q, k, v, documents, scale, causal, window = Infinity, softCap, slopes }: AttentionInputs,
  dOutput: AttentionOperand,
) {
  const [batch, heads, queries, size] = q.shape;
  const [, groups, keys] = k.shape;
  const valueSize = v.shape[3];
  const [Q, K, V, dO] = [q, k, v, dOutput].map(values);
  const zeros = (n: number) => new Array<number>(n).fill(0);
  const output = zeros(batch * heads * queries * valueSize);
  const rowMax = zeros(batch * heads * queries);
  const logSumExp = zeros(batch * heads * queries);
  const [dq, dk, dv] = [zeros(Q.length), zeros(K.length), zeros(V.length)];
  for (let row = 0; row < batch * heads * queries; row++) {
    const i = row % queries;
    const b = Math.floor(row / queries / heads);
    const h = Math.floor(row / queries) % heads;
    const firstKey = (b * groups + Math.floor(h / (heads / groups))) * keys;
    const visible = Array.from({ length: keys }, (_, j) => j).filter((j) => {
      const { query, key } = documents ?? {};
      const distance = i + keys - queries - j;
      return (
        (!causal || (distance >= 0 && distance < window)) &&
        (!query || query.data[b * queries + i] === key?.data[b * keys + j])
      );
    });
    const dot = (x: number[], y: number[], at: number, to: number, n: number) => {
      return Array.from({ length: n }, (_, d) => x[at * n + d] * y[to * n + d]).reduce((s, e) => s + e, 0);
    };
    const raw = visible.map((j) => scale * dot(Q, K, row, firstKey + j, size));
    const capped = raw.map((score) => (softCap ? Math.tanh(score / softCap) : score));
    const scores = visible.map((j, at) => (softCap ?? 1) * capped[at] - (slopes?.[h] ?? 0) * (i + keys - queries - j));
    rowMax[row] = Math.max(...raw);
    const shift = Math.max(...scores);
    const sum = scores.reduce((s, score) => s + Math.exp(score - shift), 0);
    logSumExp[row] = visible.length > 0 ? shift + Math.log(sum) : -Infinity;
    const p = scores.map((score) => Math.exp(score - logSumExp[row]));
    const dp = visible.map((j) => dot(dO, V, row, firstKey + j, valueSize));
    const mean = p.reduce((s, x, at) => s + x * dp[at], 0);
    visible.forEach((j, at) => {
      const ds = scale * p[at] * (dp[at] - mean) * (softCap ? 1 - capped[at] ** 2 : 1);
      for (let d = 0; d < valueSize; d++) {
        output[row * valueSize + d] += p[at] * V[(firstKey + j) * valueSize + d];
        dv[(firstKey + j) * valueSize + d] += p[at] * dO[row * valueSize + d];
      }
      for (let d = 0; d < size; d++) {
        dq[row * size + d] += ds * K[(firstKey + j) * size + d];
        dk[(firstKey + j) * size + d] += ds * Q[row * size + d];
      }
    });
  }
  return { output, rowMax, logSumExp, dq, dk, dv };
}
