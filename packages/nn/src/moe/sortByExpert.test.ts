// The counting sort of the host's device, and every kernel that a WebGPU device could choose, against a sort on the host.
import { DTypeError, defineFused, realise, ShapeError, stopGradient, type Tensor, tensor } from "@mc/tensor";
import { hostDevice, oracleDevice, random, range, sharedTestDevice } from "@mc/testing";
import { beforeAll, describe, expect, test } from "vitest";
import { sortByExpert, sortFused } from "./sortByExpert.ts";
import { sortThreads, sortWorkgroups } from "./sortKernels.ts";

beforeAll(sharedTestDevice);

type Sort = (experts: Tensor, numExperts: number) => readonly Tensor[];
const withKernel =
  (kernel: typeof sortThreads | undefined): Sort =>
  (experts, numExperts) =>
    defineFused({ ...sortFused, cpu: undefined, webgpu: kernel && (() => kernel(experts.size, numExperts)) })(
      [experts],
      { numExperts },
    );
const variants: Record<string, Sort> = {
  "the chosen kernel": (experts, numExperts) => {
    const { offsets, order, place } = sortByExpert(experts, numExperts);
    return [offsets, order, place];
  },
  "plain ops": withKernel(undefined),
  ...(hostDevice === "webgpu" && {
    "a thread an expert": withKernel(sortThreads),
    "a workgroup an expert": withKernel(sortWorkgroups),
  }),
};

const draw = random(3);
const cases: [name: string, experts: number[][], numExperts: number][] = [
  ["one assignment", [[0]], 1],
  [
    "experts without tokens",
    [
      [5, 1],
      [1, 5],
      [5, 3],
    ],
    8,
  ],
  ["all tokens on one expert", range(70).map(() => [2]), 4],
  ["every token on every expert", range(9).map(() => [2, 0, 1]), 3],
  ["more assignments than threads", range(130).map(() => range(3).map(() => draw.integer(0, 7))), 7],
  ["more experts than assignments", [[80, 3]], 90],
  [
    "experts out of range",
    [
      [-4, 9],
      [1, 2],
    ],
    3,
  ],
];

describe.each(Object.entries(variants))("sortByExpert by %s", (name, sort) => {
  test.each(cases)("sorts %s, keeping the order within an expert", async (_, experts, numExperts) => {
    const ids = experts.flat().map((e) => Math.min(Math.max(e, 0), numExperts - 1));
    const order = range(ids.length).sort((a, b) => ids[a]! - ids[b]! || a - b);
    const [offsets, ...rest] = await realise([...sort(tensor(experts, { dtype: "i32" }), numExperts)]);
    expect([...(await offsets!.data())]).toEqual(range(numExperts + 1).map((e) => ids.filter((x) => x < e).length));
    expect([...(await rest[0]!.data())]).toEqual(order);
    expect([...(await rest[1]!.data())]).toEqual(range(ids.length).map((n) => order.indexOf(n)));
  });

  if (name !== "plain ops")
    test("sorts no tokens at all, and strided ids", async () => {
      const [offsets] = sort(tensor(new Int32Array(0), { shape: [0, 2] }), 3);
      expect([...(await offsets!.data())]).toEqual([0, 0, 0, 0]);
    });
});

test("sortByExpert may be asked for one of its outputs only", async () => {
  const { place } = sortByExpert(stopGradient(tensor([[2, 0]], { dtype: "i32", device: await oracleDevice() })), 3);
  expect([...(await place.data())]).toEqual([1, 0]);
});

test("sortByExpert says what is wrong with its arguments", () => {
  expect(() => sortByExpert(tensor([[1, 2]]), 3)).toThrow(DTypeError);
  expect(() => sortByExpert(tensor([1, 2], { dtype: "i32" }), 3)).toThrow(ShapeError);
  expect(() => sortByExpert(tensor([[1, 2]], { dtype: "i32" }), 0)).toThrow(
    "sortByExpert: numExperts must be a positive integer, got 0",
  );
});
