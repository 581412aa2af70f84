import { add, concat, mul, reshape, sliceAxis, type Tensor, tensor, zeros } from "@mc/tensor";
import { oracleDevice, testDevice } from "@mc/testing";
import { describe, expect, test } from "vitest";
import { muon } from "./muon.ts";
import { newtonSchulz } from "./newtonSchulz.ts";
import type { Block, Roles } from "./roles.ts";
import { type ScaleByMuonOptions, scaleByMuon } from "./scaleByMuon.ts";

const tested = await testDevice();
const f64 = await oracleDevice();

/** Deterministic numbers without structure. */
const noise = (shape: readonly number[], seed: number, device = f64): Tensor => {
  const size = shape.reduce((p, d) => p * d, 1);
  const values = Float64Array.from(
    { length: size },
    (_, i) => Math.sin((i + 1) * (seed + 1) * 12.9898 + seed) * 43758.5453,
  );
  return tensor(
    values.map((v) => v - Math.floor(v) - 0.5),
    { shape, device },
  );
};
/** The direction after feeding the gradients one after the other. */
function direction(options: ScaleByMuonOptions, ...gradients: Record<string, Tensor>[]): Record<string, Tensor> {
  const transform = scaleByMuon(options);
  const params = gradients[0] as Record<string, Tensor>;
  let state = transform.init(params);
  let updates: ReturnType<typeof transform.update>["updates"] = params;
  for (const g of gradients)
    ({ updates, state } = transform.update(g, state, params, {
      step: tensor(1, { device: g[Object.keys(g)[0] as string]!.device }),
    }));
  return updates as Record<string, Tensor>;
}
const evenBlocks = (count: number, rows: number): Block[] =>
  Array.from({ length: count }, (_, i) => ({ start: i * rows, rows }));
const rms = async (x: Tensor): Promise<number> =>
  Math.sqrt(Array.from(await x.data()).reduce((s, v) => s + v * v, 0) / x.size);
const exact = { rtol: 1e-10, atol: 1e-12 };

describe("scaleByMuon", () => {
  test("accumulates M = mu*M + G and feeds mu*M + G, or M as heavy-ball", async () => {
    const [g1, g2] = [noise([4, 6], 1), noise([4, 6], 2)];
    const M = add(mul(g1, 0.9), g2);
    const scale = 0.2 * Math.sqrt(6);
    const expected = (X: Tensor) => mul(newtonSchulz(X), scale);
    await expect(direction({ momentum: 0.9 }, { w: g1 }, { w: g2 }).w).toBeAllClose(
      expected(add(mul(M, 0.9), g2)),
      exact,
    );
    await expect(direction({ momentum: 0.9, nesterov: false }, { w: g1 }, { w: g2 }).w).toBeAllClose(
      expected(M),
      exact,
    );
  });

  test("gives the direction of momentum as an average: only the length of M differs", async () => {
    const gradients = [1, 2, 3, 4].map((seed) => noise([5, 7], seed));
    const mu = 0.95;
    let average = zeros([5, 7], { device: f64 });
    for (const g of gradients) average = add(mul(average, mu), mul(g, 1 - mu));
    const lookahead = add(mul(average, mu), mul(gradients[3] as Tensor, 1 - mu));
    const found = direction({ momentum: mu }, ...gradients.map((w) => ({ w })));
    await expect(found.w).toBeAllClose(mul(newtonSchulz(lookahead), 0.2 * Math.sqrt(7)), exact);
  });

  test("treats each logical block like a parameter of its own, with the scale of its own size", async () => {
    const g = noise([12, 8], 3);
    const roles: Roles = { w: { role: "matrix", blocks: evenBlocks(3, 4) } };
    for (const scale of ["match-rms-adamw", "original"] as const) {
      const parts = Object.fromEntries([0, 1, 2].map((i) => [`part${i}`, sliceAxis(g, 0, 4 * i, 4 * i + 4)]));
      const separate = direction({ scale }, parts);
      const whole = direction({ scale, roles }, { w: g });
      await expect(whole.w).toBeAllClose(concat(Object.values(separate)), exact);
    }
  });

  test("takes blocks of different sizes in one parameter", async () => {
    const g = noise([12, 6], 4);
    const roles: Roles = { w: { role: "matrix", blocks: [...evenBlocks(2, 2), { start: 4, rows: 8 }] } };
    const pieces = [
      [0, 2],
      [2, 4],
      [4, 12],
    ].map(([from, to]) => direction({}, { p: sliceAxis(g, 0, from as number, to) }).p as Tensor);
    await expect(direction({ roles }, { w: g }).w).toBeAllClose(concat(pieces), exact);
  });

  test("treats stacked experts as matrices of their own, with blocks within each", async () => {
    const g = noise([3, 8, 4], 5);
    const expert = (i: number) => reshape(sliceAxis(g, 0, i, i + 1), [8, 4]);
    const alone = [0, 1, 2].map((i) => reshape(direction({}, { p: expert(i) }).p as Tensor, [1, 8, 4]));
    await expect(direction({}, { w: g }).w).toBeAllClose(concat(alone), exact);
    const halves = [0, 1, 2].flatMap((i) =>
      [0, 4].map((from) => direction({}, { p: sliceAxis(expert(i), 0, from, from + 4) }).p as Tensor),
    );
    const roles: Roles = { w: { role: "experts", blocks: evenBlocks(2, 4) } };
    await expect(direction({ roles }, { w: g }).w).toBeAllClose(reshape(concat(halves), [3, 8, 4]), exact);
  });

  test("puts wide and tall blocks of equal sides into one batch without mixing them", async () => {
    const gradients = (device = f64) => ({
      wide: noise([4, 9], 6, device),
      tall: noise([9, 4], 7, device),
      taller: noise([9, 4], 8, device),
      other: noise([4, 4], 9, device),
    });
    const together = direction({ scale: "original" }, gradients());
    const onDevice = direction({ scale: "original" }, gradients(tested));
    for (const [name, g] of Object.entries(gradients())) {
      const alone = direction({ scale: "original" }, { [name]: g })[name] as Tensor;
      await expect(together[name], name).toBeAllClose(alone, exact);
      await expect(onDevice[name], name).toBeAllClose(alone, { rtol: 1e-3, atol: 1e-4 });
    }
    const { rows } = muon({ learningRate: 1 }).plan(gradients());
    expect(rows.map((row) => row.blocks[0]?.batch)).toEqual(["4x9", "4x9", "4x9", "4x4"]);
  });

  test("makes updates of RMS 0.2 whatever the shape", async () => {
    for (const shape of [
      [16, 16],
      [8, 40],
      [40, 8],
    ]) {
      const { w } = direction({ newtonSchulz: "hybrid" }, { w: noise(shape, 9) });
      expect(await rms(w as Tensor), `[${shape}]`).toBeCloseTo(0.2, 3);
      const keller = direction({}, { w: noise(shape, 9) }).w as Tensor;
      expect(Math.abs((await rms(keller)) / 0.2 - 0.9), `[${shape}] with keller`).toBeLessThan(0.15);
    }
  });

  test("leaves a parameter without a gradient where it is", async () => {
    const found = direction({}, { w: zeros([3, 5]), v: noise([3, 5], 10, tested) });
    await expect(found.w).toBeAllClose(zeros([3, 5]), { atol: 0, rtol: 0 });
    expect(await rms(found.v as Tensor)).toBeGreaterThan(0.1);
  });

  test("refuses vectors, blocks with gaps, and unknown scales", () => {
    const w = zeros([6, 4]);
    const init = (blocks: Block[]) => () => scaleByMuon({ roles: { w: { role: "matrix", blocks } } }).init({ w });
    expect(() => scaleByMuon().init({ norm: { weight: zeros([512]) } })).toThrow(
      'scaleByMuon: parameters must have rank >= 2, got [512] at "norm.weight"',
    );
    expect(
      init([
        { start: 0, rows: 2 },
        { start: 3, rows: 3 },
      ]),
    ).toThrow('the blocks of "w" must follow one another without gaps, got one of 3 rows at row 3, expected at row 2');
    expect(init([{ start: 0, rows: 2 }])).toThrow('the blocks of "w" must cover its 6 rows, got 2');
    expect(() => scaleByMuon({ scale: "rms" as "original" })).toThrow(
      'scale must be match-rms-adamw, original or a function, got "rms"',
    );
    expect(() => scaleByMuon({ momentum: 1 })).toThrow("momentum must be at least 0 and less than 1, got 1");
    expect(() => scaleByMuon({ newtonSchulz: [] })).toThrow("at least one triple");
  });
});
